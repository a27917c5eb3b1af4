"""Runs one contender as a process of its own, and takes from the system what it cost."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from environment import HERE, PYTHON

THREADS = 2


class ContenderError(RuntimeError):
    """A contender that ended with an error or said nothing; the message is the end of what it wrote."""


@dataclass(frozen=True)
class Job:
    """One process to run: `facts` (at least "name") say what it stands for and become part of its entry."""

    facts: dict
    command: list[str]


def program(command: str, *more: object) -> list[str]:
    """A command of `contenders.py` as the system wants it, with `more` arguments at its end."""
    name, *words = shlex.split(command)
    return [str(PYTHON), str(HERE / "programs" / name), *words, *map(str, more)]


def surroundings() -> dict[str, str]:
    """The same for everyone: two threads, the processor only, and the moment of the start."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    device = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}
    return {**os.environ, **threads, **device, "THALWEG_BENCH_STARTED": repr(time.monotonic())}


def run(job: Job) -> dict:
    """Runs it in a folder that is thrown away.

    The entry: the job's facts, the contender's line, `process_seconds` of its whole life, `peak_bytes` of its resident
    memory. Raises ContenderError.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            job.command, cwd=folder, env=surroundings(), stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        )
        said = process.stdout.read()
        # wait4 tells the memory of this one child; getrusage would tell the largest of all children so far
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        figures = last_object(said)
        if process.returncode or figures is None:
            errors.seek(0)
            raise ContenderError(f"{job.facts['name']} ended with {process.returncode}:\n{(said + errors.read())[-2000:]}")
    peak = usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    return {**job.facts, **figures, "process_seconds": round(seconds, 3), "peak_bytes": peak}


def last_object(text: str) -> dict | None:
    """The last line of `text` that is a JSON object, or None."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue
    return None


def calibrate() -> float:
    """GFLOP/s of a large matrix product, now: two results compare only if this does."""
    return run(Job({"name": "calibration"}, program("sgemm.py")))["gflops"]


def save(name: str, result: dict) -> Path:
    """Writes results/NAME.json, whole or not at all; returns its path."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return draft.replace(path)
