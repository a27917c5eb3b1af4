"""A training of any task that is killed goes on to the same bits.

test_crash_recovery.py has more ways to end, for one task.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.run_dirs import comparable_state
from tests.helpers.subprocesses import run_thalweg
from tests.helpers.toy_tasks import TASK_OPTIONS, TASKS, write_toy

#: fractions of the lines of code of a whole training after which two processes are killed
KILLS = (0.6, 0.3)


def make_command(task: str, folder: Path) -> list[str]:
    """Return a training of toy data on disk with all that a resume could lose: an average, a best score, open sums."""
    words = ["train", task, str(write_toy(task, folder)), "--steps", "12", "--batch-size", "16", "--cpu-threads", "1"]
    words += ["--ema-decay", "0.9", "--patience", "5", "--checkpoint-every", "0", "--no-report", "--offline"]
    for name, value in TASK_OPTIONS.get(task, {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


@pytest.mark.parametrize("task", [task for task in TASKS if task != "classify"])
def test_a_run_that_is_killed_twice_ends_with_the_same_bits(task, tmp_path):
    command = make_command(task, tmp_path)
    whole = tmp_path / "whole"
    completed = run_thalweg(tmp_path / "output", *command, "--out", whole, die_after=0)
    assert completed.code == 0, completed.err
    out = tmp_path / "run"
    for fraction in KILLS:
        die_after = int(fraction * completed.lines)
        killed = run_thalweg(tmp_path / "output", *command, "--resume", "--out", out, die_after=die_after)
        assert killed.code == -signal.SIGKILL, killed.err
    assert run_thalweg(tmp_path / "output", "train", "--resume", "--out", out).code == 0
    assert comparable_state(out) == comparable_state(whole)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
