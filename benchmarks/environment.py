"""The environment of the peers, made on first use in `benchmarks/.venv`; and what a result must say of its machine."""

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
TOLD = ("torch", "numpy", "keras", "jax", "jaxlib", "lightning", "fastai", "thalweg")


def ready() -> None:
    """Makes the environment unless it is there and its lists have not changed; then uses no network."""
    stamp = FOLDER / "installed"
    listed = [REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes(), FASTAI.encode()]
    wanted = hashlib.sha256(b"".join(listed)).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"Setting up {FOLDER.relative_to(HERE.parent)}; this takes some minutes, once.", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    # torch first and pinned: whatever comes after finds it there and brings no other build
    torch = next(line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    _install(torch)
    _install("-r", str(REQUIREMENTS))
    _install("--no-deps", FASTAI)
    _install("-e", str(HERE.parent))
    stamp.write_text(wanted, encoding="utf-8")


def _install(*what: str) -> None:
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(CONSTRAINTS), *what], check=True, stdout=sys.stderr)


def pin(threads: int) -> None:
    """Keeps this process and all that it starts on the first `threads` processors, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def describe(threads: int) -> dict[str, object]:
    """Processor, threads, load, versions, commit, date: what a figure means nothing without."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
    }


def processor() -> str:
    """The processor's name, with family, model and stepping where the system tells: clouds hide the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    numbers = "/".join(facts.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{facts.get('model name', platform.machine())} ({numbers})"


def versions() -> dict[str, str]:
    """Of the packages compared."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {TOLD!r}}}))"
    return json.loads(subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout)


def commit() -> str:
    """Of the repository, with a + if files differ from it; empty outside of one."""
    told = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HERE, capture_output=True, text=True)
    return told.stdout.strip()
