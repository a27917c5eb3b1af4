"""One training of every task, killed 25 times at random moments: the same bits as if nothing had happened.

pytest tests/reference/test_25_kills.py        two to five minutes per task
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
from thalweg.runs.run_dir import RunDir

NUM_KILLS = 25
TOY_SETTINGS = ["--steps", "400", "--batch-size", "16"]
MNIST_SETTINGS = ["--model", "lenet", "--epochs", "4", "--augment", "shift", "--patience", "9"]
FLAGS = ["--ema-decay", "0.99", "--cpu-threads", "1", "--checkpoint-every", "0", "--no-report", "--offline", "--resume"]


def toy_words(task: str, folder: Path) -> list[str]:
    """Return task, data and settings of a training on toy data that is written into a folder."""
    words = [task, str(write_toy(task, folder)), *TOY_SETTINGS]
    for name, value in TASK_OPTIONS.get(task, {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def start(words: list[str], out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "thalweg", "train", *words, *FLAGS, "--out", str(out)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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


def check_25_kills(words: list[str], folder: Path) -> Path:
    """Train once in one piece and once with 25 kills, and compare; return the folder of the second run."""
    reference = folder / "reference"
    out = folder / "killed"
    process = start(words, reference)
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
        process = start(words, out)
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

    process = start(words, out)
    assert process.wait(600) == 0
    assert comparable_state(out) == comparable_state(reference)
    assert RunDir(out).verify() == []
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in reference.iterdir())
    return out


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("task", TASKS)
def test_25_kills_at_random_moments_change_no_bit(task, tmp_path):
    check_25_kills(toy_words(task, tmp_path), tmp_path)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_25_kills_at_random_moments_change_no_bit_on_mnist(real_data, tmp_path):
    out = check_25_kills(["classify", str(real_data / "mnist"), *MNIST_SETTINGS], tmp_path)
    assert read_run_json(out)["results"]["test"]["accuracy"] > 0.98
