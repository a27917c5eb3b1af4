"""Runs of a second on made-up images, and ways to stop them at an exact step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from thalweg import api
from thalweg.errors import InterruptedTrainingError
from thalweg.tasks.classify import Classify
from thalweg.training.build import TrainingParts
from thalweg.training.run import TrainingRun

BARS = Classify().toy_dataset()
#: ten steps per epoch, a report every other step; everything random that a resume could lose
SETTINGS = {
    "model": "mlp",
    "model_kwargs": {"widths": 16, "dropout": 0.2},
    "batch_size": 16,
    "augment": "shift",
    "ema_decay": 0.9,
}


def plan_toy(out: Path, *, resume: bool = False, data: Any = BARS, **options: Any) -> TrainingRun:
    """Plan a run of two epochs."""
    defaults: dict[str, Any] = {"report": False}
    if not resume:
        defaults |= {"epochs": 2, **SETTINGS}
    return api.plan_training("classify", data, out=out, resume=resume, **{**defaults, **options})


def finish(training: TrainingRun) -> Path:
    """Train to the end; return the folder."""
    for _ in training:
        pass
    return training.path


def parts_of(training: TrainingRun) -> TrainingParts:
    """Return the parts of a run that is not finished yet."""
    assert training.parts is not None
    return training.parts


def at_step(training: TrainingRun, step: int, action: Callable[[], None]) -> TrainingRun:
    """Return the same training, in which `action` happens within the update that ends with `step`."""
    trainer = parts_of(training).trainer
    run_phase = trainer.run_phase

    def run_phase_with_action(*arguments):
        if trainer.step + 1 == step:
            action()
        return run_phase(*arguments)

    vars(trainer)["run_phase"] = run_phase_with_action
    return training


def send_to_self(number: int) -> Callable[[], None]:
    """Return a function that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def stop_at(training: TrainingRun, step: int, number: int = signal.SIGTERM) -> InterruptedTrainingError:
    """Train until a signal that comes within that update; return the error that ends the run."""
    with pytest.raises(InterruptedTrainingError) as error:
        finish(at_step(training, step, send_to_self(number)))
    return error.value


def break_at(training: TrainingRun, step: int) -> Path:
    """Train until the first report from that step on, and leave the loop; return the folder."""
    for progress in training:
        if progress.step >= step:
            break
    return training.path


def release(training: TrainingRun) -> None:
    """Give back the folder of a run that is only planned."""
    training.run_dir.unlock()


def load_weights(out: Path) -> dict[str, Tensor]:
    """Return the tensors of weights.safetensors by name."""
    return safetensors.torch.load_file(out / "weights.safetensors")


def assert_equal_tensors(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Assert the same names and the same bits."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
