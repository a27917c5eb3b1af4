"""The environment of the peers, built on first use in `benchmarks/.venv`; and the description of the machine."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS, REQUIREMENTS = HERE.parent / "constraints.txt", HERE / "requirements.txt"
FASTAI = "fastai==2.8.12"
PACKAGES = ("torch", "numpy", "keras", "jax", "jaxlib", "lightning", "fastai", "thalweg")


def set_up() -> None:
    """Build the environment, unless it exists and its lists have not changed; after that no network is used."""
    stamp = FOLDER / "installed"
    listed = [REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes(), FASTAI.encode()]
    expected = hashlib.sha256(b"".join(listed)).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == expected:
        return
    print(f"Setting up {FOLDER.relative_to(HERE.parent)}; this takes some minutes, once.", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    # torch comes first and pinned, so that later packages bring no other build
    torch = next(line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    _install(torch)
    _install("-r", str(REQUIREMENTS))
    _install("--no-deps", FASTAI)
    _install("-e", str(HERE.parent))
    stamp.write_text(expected, encoding="utf-8")


def _install(*what: str) -> None:
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(CONSTRAINTS), *what], check=True, stdout=sys.stderr)


def pin(threads: int) -> None:
    """Keep this process and its children on the first `threads` processors, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def describe(threads: int) -> dict[str, object]:
    """Return processor, threads, load, versions, commit and date of a measurement."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": describe_processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": get_versions(),
        "commit": get_commit(),
    }


def describe_processor() -> str:
    """Return the processor's name, with family, model and stepping, because clouds hide the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    numbers = "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{fields.get('model name', platform.machine())} ({numbers})"


def get_versions() -> dict[str, str]:
    """Return the versions of the packages that are compared."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PACKAGES!r}}}))"
    return json.loads(subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout)


def get_commit() -> str:
    """Return the repository's commit, with a + if files differ from it; empty outside of one."""
    result = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HERE, capture_output=True, text=True)
    return result.stdout.strip()
