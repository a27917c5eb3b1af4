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
from thalweg.runs.run_dir import RunDir

NUM_KILLS = 25
TRAIN = ["train", "classify", "mnist", "--model", "lenet", "--epochs", "4", "--augment", "shift"]
SETTINGS = ["--ema-decay", "0.99", "--patience", "9", "--cpu-threads", "1"]
FLAGS = ["--checkpoint-every", "0", "--no-report", "--offline", "--resume"]


def start(out: Path, data: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "thalweg", *TRAIN, *SETTINGS, *FLAGS, "--out", str(out)]
    variables = {**os.environ, "THALWEG_DATA": str(data), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds or the process ends."""
    while process.poll() is None and not condition():
        time.sleep(0.005)


def owns_folder(process: subprocess.Popen, out: Path) -> bool:
    """Whether the process has locked the folder; a kill before that would only hit the starting interpreter."""
    try:
        return (out / ".lock").read_text(encoding="utf-8").startswith(f"process {process.pid} ")
    except OSError:
        return False


def newest_step(out: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(path.name) for path in out.glob("state/[0-9]*")), default=0)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_25_kills_at_random_moments_change_no_bit(real_data, tmp_path):
    reference = tmp_path / "reference"
    out = tmp_path / "killed"
    process = start(reference, real_data)
    wait_until(process, lambda: owns_folder(process, reference))
    started = time.monotonic()
    wait_until(process, lambda: newest_step(reference) > 0)
    startup_seconds = time.monotonic() - started
    assert process.wait(600) == 0
    training_seconds = time.monotonic() - started - startup_seconds

    generator = random.Random()
    steps = []
    for number in range(NUM_KILLS):
        last = newest_step(out)
        process = start(out, real_data)
        wait_until(process, lambda process=process: owns_folder(process, out))
        delay = startup_seconds  # while it reads, restores and begins
        if number % 2:  # while it trains and saves
            wait_until(process, lambda last=last: newest_step(out) > last)
            delay = training_seconds / NUM_KILLS
        time.sleep(generator.uniform(0, delay))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        steps.append(newest_step(out))
    assert steps == sorted(steps) and len(set(steps)) > NUM_KILLS // 3, f"the kills met too little training: {steps}"
    assert read_run_json(out)["status"] == "running"

    process = start(out, real_data)
    assert process.wait(600) == 0
    assert comparable_state(out) == comparable_state(reference)
    assert RunDir(out).verify() == []
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in reference.iterdir())
    assert read_run_json(out)["results"]["test"]["accuracy"] > 0.98
