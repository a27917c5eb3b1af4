"""Compare our models with torchvision's: `python3 benchmarks/parity/run.py [outputs|logits|weights]`; see README.md.

Builds an environment of its own in `benchmarks/parity/.venv` on first use and runs `compare.py` in it, on one thread.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = HERE / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS = HERE / "requirements.txt"


def set_up() -> None:
    """Build the environment, unless it exists and its lists have not changed; after that no network is used."""
    stamp = FOLDER / "installed"
    expected = hashlib.sha256(REQUIREMENTS.read_bytes() + CONSTRAINTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == expected:
        return
    print(f"Setting up {FOLDER.relative_to(ROOT)}; this takes a minute or two, once.", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    install("-c", str(CONSTRAINTS), "torch")
    install("-c", str(CONSTRAINTS), "--no-deps", "-r", str(REQUIREMENTS))
    stamp.write_text(expected, encoding="utf-8")


def install(*packages: str) -> None:
    """Run pip install in the environment."""
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    set_up()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run([str(PYTHON), str(HERE / "compare.py"), *sys.argv[1:]], env=environment)
    sys.exit(result.returncode)
