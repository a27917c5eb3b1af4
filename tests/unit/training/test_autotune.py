"""What is measured before training: learning rate, batch size, seconds per step; trying changes nothing of the run."""

from __future__ import annotations

import math
import types
from dataclasses import replace

import pytest
import torch

from tests.helpers.toy_setup import make_setup
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import OptionError
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised
from thalweg.tasks.base import Setup
from thalweg.training import autotune


def copy_state(setup: Setup) -> dict:
    return {name: value.clone() for name, value in setup.objective.state_dict().items()}


def assert_unchanged(setup: Setup, before: dict, step: int) -> None:
    assert setup.batches.step == step
    for name, value in setup.objective.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_range_test_finds_a_learning_rate_that_trains(optimizer):
    setup = make_setup()
    before = copy_state(setup)
    config = TrainConfig(steps=60, optimizer=optimizer, report_every=10, schedule="constant")
    lr = autotune.lr_range_test(setup, config)
    assert 1e-4 < lr < 2 and lr == float(f"{lr:.2g}")
    assert_unchanged(setup, before, step=0)
    trainer = Trainer(setup.objective, setup.batches, replace(config, lr=lr), setup.transform)
    losses = [report.losses["loss"] for report in trainer]
    assert losses[-1] < 0.5 * losses[0] and math.isfinite(losses[-1])


def test_the_range_test_ends_at_a_loss_that_is_not_finite():
    setup = make_setup()
    broken = Supervised(setup.objective.model, lambda model, batch: Loss(model(batch["image"]).sum() * math.nan, 1))
    assert autotune.lr_range_test(replace(setup, objective=broken), TrainConfig()) == 1e-6


def test_timing_steps_changes_nothing():
    setup = make_setup()
    setup.batches.step = 5
    before = copy_state(setup)
    assert 0 < autotune.time_steps(setup, TrainConfig(steps=100), count=4) < 60
    assert_unchanged(setup, before, step=5)


def test_as_many_steps_as_fit_into_the_budget():
    config = autotune.steps_within_budget(
        TrainConfig(), budget=100.0, step_seconds=0.1, validation_seconds=4.0, steps_per_epoch=10
    )
    seconds = config.steps * 0.1 + config.steps / 10 * 4.0
    assert 85 < seconds <= 90


def test_a_budget_below_one_step_is_rejected():
    with pytest.raises(OptionError) as error:
        autotune.steps_within_budget(
            TrainConfig(), budget=1.0, step_seconds=2.0, validation_seconds=0.0, steps_per_epoch=10
        )
    assert (error.value.option, error.value.value) == ("time_budget", 1.0)


def find_batch_size(num_examples: int) -> int:
    """Search with setups that only know how many batches there are."""

    def make_batches(batch_size: int) -> types.SimpleNamespace:
        batches = types.SimpleNamespace(batch_size=batch_size, steps_per_epoch=num_examples // batch_size)
        return types.SimpleNamespace(batches=batches)

    return autotune.find_batch_size(make_batches, lambda setup: TrainConfig())


def test_the_smallest_batch_near_the_best_speed_wins(monkeypatch):
    speeds = {32: 100.0, 64: 180.0, 128: 191.0, 256: 199.0, 512: 200.0, 1024: 150.0}

    def time_steps(setup, config, count):
        return setup.batches.batch_size / speeds[setup.batches.batch_size]

    monkeypatch.setattr(autotune, "time_steps", time_steps)
    assert find_batch_size(100_000) == 64


def test_the_batch_search_ends_where_memory_or_data_do(monkeypatch):
    def time_steps(setup, config, count):
        if setup.batches.batch_size > 64:
            raise MemoryError
        return 1.0

    monkeypatch.setattr(autotune, "time_steps", time_steps)
    assert find_batch_size(100_000) == 64
    assert find_batch_size(320) == 32


def test_a_batch_of_32_that_memory_cannot_hold_is_an_error(monkeypatch):
    def time_steps(setup, config, count):
        raise MemoryError

    monkeypatch.setattr(autotune, "time_steps", time_steps)
    with pytest.raises(MemoryError):
        find_batch_size(100_000)
