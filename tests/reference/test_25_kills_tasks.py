"""One training of each task on toy data, killed 25 times at random moments: the same bits as if nothing had happened.

pytest tests/reference/test_25_kills_tasks.py        three to five minutes per task
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.run_dirs import comparable_state, read_run_json
from tests.helpers.toy_tasks import TASK_OPTIONS, TASKS, write_toy

KILLS = 25
SETTINGS = "--steps 400 --batch-size 16 --cpu-threads 1 --ema-decay 0.99 --checkpoint-every 0 --no-report --offline"


def start(task: str, data: Path, out: Path) -> subprocess.Popen:
    words = [
        sys.executable,
        "-m",
        "thalweg",
        "train",
        task,
        str(data),
        *SETTINGS.split(),
        "--resume",
        "--out",
        str(out),
    ]
    for name, value in TASK_OPTIONS.get(task, {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen, has_happened: Callable[[], bool]) -> None:
    """Wait for an event, or for the end of the process."""
    while process.poll() is None and not has_happened():
        time.sleep(0.005)


def is_owner(process: subprocess.Popen, out: Path) -> bool:
    """Whether the process has begun; a kill before that would only hit the interpreter while it starts."""
    try:
        return (out / ".lock").read_text(encoding="utf-8").startswith(f"process {process.pid} ")
    except OSError:
        return False


def newest_step(out: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(path.name) for path in out.glob("state/[0-9]*")), default=0)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("task", TASKS)
def test_25_kills_at_random_moments_change_no_bit(task, tmp_path):
    data = write_toy(task, tmp_path)
    whole = tmp_path / "whole"
    process = start(task, data, whole)
    wait_until(process, lambda: is_owner(process, whole))
    begun = time.monotonic()
    wait_until(process, lambda: newest_step(whole) > 0)
    planning_seconds = time.monotonic() - begun
    assert process.wait(600) == 0
    training_seconds = time.monotonic() - begun - planning_seconds

    out = tmp_path / "killed"
    generator = random.Random()
    steps = []
    for index in range(KILLS):
        process = start(task, data, out)
        last = newest_step(out)
        wait_until(process, lambda process=process: is_owner(process, out))
        longest = planning_seconds
        if index % 2:  # in training and saving; else while it reads, restores and begins
            wait_until(process, lambda last=last: newest_step(out) > last)
            longest = training_seconds / KILLS
        time.sleep(generator.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        steps.append(newest_step(out))
    assert steps == sorted(steps) and len(set(steps)) > KILLS // 3, f"few kills were in the training: {steps}"
    assert read_run_json(out)["status"] == "running"

    process = start(task, data, out)
    assert process.wait(600) == 0
    assert comparable_state(out) == comparable_state(whole)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
