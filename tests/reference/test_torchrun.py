"""Two processes started by torchrun itself give what one gives; killed together, they resume to the same bits."""

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

TRAIN = ["train", "classify", "digits", "--model", "mlp", "--epochs", "3", "--batch-size", "32", "--no-report"]


def start(out: Path, *words: str, num_processes: int = 2) -> subprocess.Popen:
    """Start processes in a session of their own, so that all of them can be killed at once."""
    torchrun = []
    if num_processes > 1:
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes), "-m"]
    command = [sys.executable, "-m", *torchrun, "thalweg", *words, "--out", str(out)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen) -> list[str]:
    """Wait for a process that succeeds; return its output in lines."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()


def test_two_processes_by_torchrun_equal_one(tmp_path):
    alone = start(tmp_path / "alone", *TRAIN, num_processes=1)
    together = start(tmp_path / "together", *TRAIN)
    finish(alone)
    assert finish(together)[-1] == str(tmp_path / "together")
    expected = safetensors.torch.load_file(tmp_path / "alone" / "weights.safetensors")
    weights = safetensors.torch.load_file(tmp_path / "together" / "weights.safetensors")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-4, rtol=1e-3)

    if os.name != "posix":
        pytest.skip("needs SIGKILL")
    out = tmp_path / "killed"
    process = start(out, *TRAIN, "--checkpoint-every", "0")
    while not list(out.glob("state/[0-9]*")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    finish(start(out, "train", "--resume"))
    assert comparable_state(out) == comparable_state(tmp_path / "together")
