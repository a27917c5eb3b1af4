"""Our networks beside torchvision's: `python3 benchmarks/parity/run.py [outputs|answers|weights]`; README.md says more.

Makes an environment of its own in `benchmarks/parity/.venv` on first use and runs `compare.py` in it, on one thread.
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
CONSTRAINTS, REQUIREMENTS = ROOT / "constraints.txt", HERE / "requirements.txt"


def ready() -> None:
    """Makes the environment unless it is there and its lists have not changed; then uses no network."""
    stamp = FOLDER / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + CONSTRAINTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"Setting up {FOLDER.relative_to(ROOT)}; this takes a minute or two, once.", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    install("-c", str(CONSTRAINTS), "torch")
    install("-c", str(CONSTRAINTS), "--no-deps", "-r", str(REQUIREMENTS))
    stamp.write_text(wanted, encoding="utf-8")


def install(*what: str) -> None:
    """pip install, in the environment."""
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *what], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    ready()
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(PYTHON), str(HERE / "compare.py"), *sys.argv[1:]], env=surroundings)
    sys.exit(done.returncode)
