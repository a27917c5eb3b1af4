"""One training on MNIST, killed 25 times at random moments: the same bits as if nothing had happened.

pytest tests/reference/test_25_kills.py        two to five minutes
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

KILLS = 25
TRAIN = "train classify mnist --model lenet --epochs 4 --augment shift --ema 0.99 --patience 9 --threads 1".split()
MORE = ["--save-every", "0", "--no-report", "--offline", "--resume"]


def start(out: Path, data: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "thalweg", *TRAIN, *MORE, "--out", str(out)]
    variables = {**os.environ, "THALWEG_DATA": str(data), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    while process.poll() is None and not happened():
        time.sleep(0.005)


def owned(process: subprocess.Popen, out: Path) -> bool:
    """Whether the process has begun; a kill before that would only hit the interpreter while it starts."""
    try:
        return (out / ".lock").read_text(encoding="utf-8").startswith(f"process {process.pid} ")
    except OSError:
        return False


def newest(out: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.name) for path in out.glob("state/[0-9]*")), default=0)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_25_kills_at_random_moments_change_no_bit(real_data, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    process = start(whole, real_data)
    wait_until(process, lambda: owned(process, whole))
    begun = time.monotonic()
    wait_until(process, lambda: newest(whole) > 0)
    before = time.monotonic() - begun
    assert process.wait(600) == 0
    lasted = time.monotonic() - begun - before

    draw, steps = random.Random(), []
    for number in range(KILLS):
        process, last = start(out, real_data), newest(out)
        wait_until(process, lambda process=process: owned(process, out))
        if number % 2:  # in training and saving; else while it reads, restores and begins
            wait_until(process, lambda last=last: newest(out) > last)
        time.sleep(draw.uniform(0, lasted / KILLS if number % 2 else before))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        steps.append(newest(out))
    assert steps == sorted(steps) and len(set(steps)) > KILLS // 3, f"the kills met too little of the training: {steps}"
    assert read_run_json(out)["status"] == "running"

    process = start(out, real_data)
    assert process.wait(600) == 0
    assert comparable_state(out) == comparable_state(whole)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert read_run_json(out)["results"]["test"]["accuracy"] > 0.98
