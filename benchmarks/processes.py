"""Run one contender as a process of its own, and measure its time and memory."""

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
    """A contender that failed or printed no result; the message is the end of its output."""


@dataclass(frozen=True)
class Job:
    """One process to run; `facts` (at least "name") become part of its entry."""

    facts: dict
    command: list[str]


def program_command(command: str, *more: object) -> list[str]:
    """Return a command of `contenders.py` as a list of words, with `more` arguments at its end."""
    name, *words = shlex.split(command)
    return [str(PYTHON), str(HERE / "programs" / name), *words, *map(str, more)]


def build_environment() -> dict[str, str]:
    """Return the environment of all contenders: two threads, no accelerator, and the time of the start."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    device = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}
    return {**os.environ, **threads, **device, "THALWEG_BENCH_STARTED": repr(time.monotonic())}


def run(job: Job) -> dict:
    """Run a job in a temporary folder; return its entry.

    The entry has the job's facts, the contender's line, `process_seconds` of its whole life, and `peak_bytes` of its
    resident memory. Raises ContenderError.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        start = time.monotonic()
        process = subprocess.Popen(
            job.command, cwd=folder, env=build_environment(), stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        )
        output = process.stdout.read()
        # wait4 measures this one child; getrusage would give the maximum of all children so far
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        numbers = find_last_object(output)
        if process.returncode or numbers is None:
            errors.seek(0)
            raise ContenderError(
                f"{job.facts['name']} ended with {process.returncode}:\n{(output + errors.read())[-2000:]}"
            )
    peak = usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    return {**job.facts, **numbers, "process_seconds": round(seconds, 3), "peak_bytes": peak}


def find_last_object(text: str) -> dict | None:
    """Return the last line of `text` that is a JSON object, or None."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue
    return None


def calibrate() -> float:
    """Return the GFLOP/s of a large matrix product now: two results compare only if this does."""
    return run(Job({"name": "calibration"}, program_command("sgemm.py")))["gflops"]


def save(name: str, result: dict) -> Path:
    """Write results/NAME.json atomically; return its path."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return draft.replace(path)
