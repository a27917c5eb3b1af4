"""Two processes started by torchrun itself give what one gives; killed together, they go on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.helpers.run_dirs import comparable_state

TRAIN = "train classify digits --model mlp --epochs 3 --batch 32 --no-report".split()


def start(folder: Path, *words: str, processes: int = 2) -> subprocess.Popen:
    """In a session of its own, so that all of its processes can be killed at once."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *(torchrun if processes > 1 else []), "thalweg", *words, "--out", str(folder)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_two_processes_by_torchrun_equal_one(tmp_path):
    alone, together = start(tmp_path / "alone", *TRAIN, processes=1), start(tmp_path / "together", *TRAIN)
    assert alone.communicate(timeout=300)[0] and alone.returncode == 0
    told, notices = together.communicate(timeout=300)
    assert together.returncode == 0, notices
    assert told.splitlines()[-1] == str(tmp_path / "together")
    one, two = (safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "together"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)

    if os.name != "posix":
        pytest.skip("needs SIGKILL")
    out = tmp_path / "killed"
    process = start(out, *TRAIN, "--save-every", "0")
    while not (out / "state").is_dir() or not list((out / "state").glob("[0-9]*")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    again = start(out, "train", "--resume")
    notices = again.communicate(timeout=300)[1]
    assert again.returncode == 0, notices
    assert comparable_state(out) == comparable_state(tmp_path / "together")
