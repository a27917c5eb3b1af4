"""A schedule is a function of the step."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.config.options import Schedule
from thalweg.engine.config import TrainConfig

SCHEDULES = get_args(Schedule)


def rates(schedule: str, steps: int = 100, warmup: float = 0.0) -> list[float]:
    recipe = TrainConfig(steps=steps, lr=2.0, schedule=schedule, warmup_fraction=warmup)
    return [recipe.lr_at(step) for step in range(steps)]


def test_constant():
    assert rates("constant") == [2.0] * 100


def test_a_tenth_after_half_of_the_run_and_again_after_three_quarters():
    assert rates("step") == pytest.approx([2.0] * 50 + [0.2] * 25 + [0.02] * 25)


def test_linear_to_zero():
    assert rates("linear", 4) == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_half_a_cosine_to_zero():
    found = rates("cosine")
    assert found == pytest.approx([1 + math.cos(math.pi * step / 100) for step in range(100)])
    assert found[0] == 2.0 and found[50] == pytest.approx(1.0) and found[-1] < 1e-3


def test_one_cycle_rises_from_a_twenty_fifth_and_falls_to_nearly_nothing():
    found = rates("one-cycle", 101, warmup=0.25)
    rising, falling = found[:25], found[25:]
    assert rising == pytest.approx([2.0 * (0.04 + 0.96 * (step + 1) / 25) for step in range(25)])
    assert falling == pytest.approx([1 + math.cos(math.pi * step / 76) for step in range(76)])


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if s != "one-cycle"])
def test_the_warm_up_rises_evenly_from_nothing(schedule):
    found = rates(schedule, 100, warmup=0.2)
    assert found[:20] == pytest.approx([2.0 * (step + 1) / 20 for step in range(20)])
    assert found[20:] == pytest.approx(rates(schedule, 80))


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.floats(0, 1))
def test_every_rate_is_above_zero_and_at_most_the_highest(schedule, steps, warmup):
    found = rates(schedule, steps, warmup)
    assert all(0 < rate <= 2.0 * (1 + 1e-12) for rate in found)
    assert max(found) == pytest.approx(2.0)
    highest = found.index(max(found))
    assert found[:highest] == sorted(found[:highest]) and found[highest:] == sorted(found[highest:], reverse=True)
