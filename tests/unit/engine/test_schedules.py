"""Learning-rate schedules are functions of the step."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.config.options import Schedule
from thalweg.engine.config import TrainConfig

SCHEDULES = get_args(Schedule)


def lrs(schedule: str, steps: int = 100, warmup_fraction: float = 0.0) -> list[float]:
    config = TrainConfig(steps=steps, lr=2.0, schedule=schedule, warmup_fraction=warmup_fraction)
    return [config.lr_at(step) for step in range(steps)]


def test_constant():
    assert lrs("constant") == [2.0] * 100


def test_step_divides_by_ten_after_half_and_three_quarters_of_the_run():
    assert lrs("step") == pytest.approx([2.0] * 50 + [0.2] * 25 + [0.02] * 25)


def test_linear_to_zero():
    assert lrs("linear", 4) == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_half_a_cosine_to_zero():
    values = lrs("cosine")
    assert values == pytest.approx([1 + math.cos(math.pi * step / 100) for step in range(100)])
    assert values[0] == 2.0 and values[50] == pytest.approx(1.0) and values[-1] < 1e-3


def test_one_cycle_rises_from_a_twenty_fifth_and_falls_to_nearly_zero():
    values = lrs("one-cycle", 101, warmup_fraction=0.25)
    assert values[:25] == pytest.approx([2.0 * (0.04 + 0.96 * (step + 1) / 25) for step in range(25)])
    assert values[25:] == pytest.approx([1 + math.cos(math.pi * step / 76) for step in range(76)])


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if s != "one-cycle"])
def test_the_warmup_rises_linearly_from_zero(schedule):
    values = lrs(schedule, 100, warmup_fraction=0.2)
    assert values[:20] == pytest.approx([2.0 * (step + 1) / 20 for step in range(20)])
    assert values[20:] == pytest.approx(lrs(schedule, 80))


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.floats(0, 1))
def test_every_learning_rate_is_positive_and_at_most_the_maximum(schedule, steps, warmup_fraction):
    values = lrs(schedule, steps, warmup_fraction)
    assert all(0 < lr <= 2.0 * (1 + 1e-12) for lr in values)
    assert max(values) == pytest.approx(2.0)
    peak = values.index(max(values))
    assert values[:peak] == sorted(values[:peak]) and values[peak:] == sorted(values[peak:], reverse=True)
