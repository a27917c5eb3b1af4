"""Effect, leakage and monotonicity against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from thalweg.metrics.editing import drift, effect, leakage, monotonicity, spearman

STEPS = np.array([-2.0, -1.0, 1.0, 2.0])


def test_an_axis_that_does_what_is_requested_has_effect_1_and_no_leakage():
    change_TNA = np.zeros((4, 5, 3))
    change_TNA[..., 1] = STEPS[:, None]
    assert effect(change_TNA[..., 1], STEPS) == pytest.approx(1)
    assert leakage(change_TNA, STEPS, 1) == 0
    assert monotonicity(change_TNA[..., 1], STEPS) == pytest.approx(1)


def test_leakage_is_the_absolute_change_of_the_others_by_the_change_of_the_target():
    change_TNA = np.zeros((4, 2, 3))
    change_TNA[..., 0] = 0.5 * STEPS[:, None]
    change_TNA[:, 0, 1] = 0.1 * STEPS
    change_TNA[:, 1, 1] = -0.1 * STEPS  # cancels on average
    change_TNA[..., 2] = -0.3 * STEPS[:, None]
    assert effect(change_TNA[..., 0], STEPS) == pytest.approx(0.5)
    assert leakage(change_TNA, STEPS, 0) == pytest.approx((0.1 + 0.3) / 2 / 0.5)
    assert drift(change_TNA, STEPS, 0) == pytest.approx(0.3 / 2 / 0.5)


def test_an_axis_that_moves_backward_is_worse_than_any_that_moves_forward():
    change_TNA = np.full((4, 2, 2), 0.2)
    change_TNA[..., 0] = -STEPS[:, None]
    assert leakage(change_TNA, STEPS, 0) > 10
    assert leakage(change_TNA[..., :1], STEPS, 0) == 0  # there is no other attribute


def test_rank_correlation_equals_scipys_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 5, (2, 9)).astype(float)
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert spearman(np.arange(4.0), np.zeros(4)) == 0
