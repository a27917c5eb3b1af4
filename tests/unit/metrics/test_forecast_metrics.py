"""Errors of forecasts, against formulas and scikit-learn."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from thalweg.losses.forecast import pinball, squared_error
from thalweg.metrics.forecast import ForecastErrors, calibrated_quantiles
from thalweg.models.forecast.base import LEVELS

rng = np.random.default_rng(0)
TARGET = torch.from_numpy(rng.normal(10, 2, (40, 5, 3)))
MEAN = TARGET + torch.from_numpy(rng.normal(0, 1, (40, 5, 3)))
STD = torch.tensor([1.0, 2.0, 4.0]).double().expand(40, 3)
SEASONAL = torch.tensor([0.5, 1.0, 2.0]).double().expand(40, 3)


def measure(mean=MEAN, target=TARGET, quantiles=None) -> ForecastErrors:
    errors = ForecastErrors(target.shape[1], target.shape[2], LEVELS)
    for start in range(0, len(target), 16):  # the last batch is smaller: nothing may be a mean of means
        rows = slice(start, start + 16)
        part = None if quantiles is None else quantiles[rows]
        errors.add(mean[rows], target[rows], STD[rows], SEASONAL[rows], part)
    return errors


def test_point_metrics_are_their_formulas():
    metrics = measure().metrics()
    error = (MEAN - TARGET).numpy()
    scaled = error / STD[:, None].numpy()
    size = np.abs(MEAN.numpy()) + np.abs(TARGET.numpy())
    expected = {
        "mse_scaled": (scaled**2).mean(),
        "mae_scaled": np.abs(scaled).mean(),
        "mse": (error**2).mean(),
        "mae": np.abs(error).mean(),
        "rmse": math.sqrt((error**2).mean()),
        "mase": (np.abs(error) / SEASONAL[:, None].numpy()).mean(),
        "smape": (2 * np.abs(error) / size).mean(),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert metrics["crps"] is None and metrics["coverage_80"] is None


def test_means_by_step_column_and_origin_agree_with_the_whole():
    errors = measure()
    whole = errors.metrics()["mse_scaled"]
    assert np.mean(errors.by_step("mse_scaled")) == pytest.approx(whole)
    assert np.mean(errors.by_column("mse_scaled")) == pytest.approx(whole)
    assert np.mean(errors.by_origin()) == pytest.approx(whole) and len(errors.by_origin()) == 40


def test_nothing_was_measured_without_windows():
    errors = ForecastErrors(5, 3, LEVELS)
    assert set(errors.metrics().values()) == {None}
    assert errors.by_step("mse") == errors.by_origin() == []


def test_pinball_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    quantiles = MEAN[..., None] + torch.linspace(-2, 2, len(LEVELS)).double()
    levels = torch.tensor(LEVELS).double()
    expected = []
    for index, level in enumerate(LEVELS):
        loss = sklearn.mean_pinball_loss(TARGET.flatten(), quantiles[..., index].flatten(), alpha=level)
        expected.append(loss)
    assert float(pinball(quantiles, TARGET, levels)) == pytest.approx(np.mean(expected))
    assert float(squared_error(MEAN, TARGET)) == pytest.approx(((MEAN - TARGET) ** 2).mean().item())


def test_crps_of_a_normal_distribution_is_its_closed_form():
    """CRPS(N(0, 1), y) = y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi) (Gneiting and Raftery 2007, equation 21)."""
    normal = NormalDist()
    target = torch.linspace(-1.5, 1.5, 300).double().reshape(100, 1, 3)
    quantiles = torch.tensor([normal.inv_cdf(level) for level in LEVELS]).double().expand(100, 1, 3, -1)
    errors = ForecastErrors(1, 3, LEVELS)
    ones = torch.ones(100, 3).double()
    errors.add(torch.zeros_like(target), target, ones, ones, quantiles)
    closed = [
        y * (2 * normal.cdf(y) - 1) + 2 * normal.pdf(y) - 1 / math.sqrt(math.pi) for y in target.flatten().tolist()
    ]
    # a mean over 19 levels leaves out both ends of the integral, a twentieth in all
    assert 0.95 * errors.metrics()["crps"] == pytest.approx(np.mean(closed), rel=0.01)


def test_calibrated_quantiles_cover_what_they_promise():
    generator = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(300):
        errors = torch.randn(60, 1, 1, generator=generator)
        low, high = calibrated_quantiles(errors[:59], (0.1, 0.9))[0, 0].tolist()
        covered.append(low <= float(errors[59]) <= high)
    assert 0.75 < np.mean(covered) < 0.88
    ordered = calibrated_quantiles(torch.arange(1.0, 100.0)[:, None, None], (0.1, 0.5, 0.9))
    assert ordered.flatten().tolist() == [10, 50, 90]


def test_few_windows_are_calibrated_with_all_steps_together():
    """One window has one error per step: its quantiles alone would be intervals without width."""
    quantiles = calibrated_quantiles(torch.arange(1.0, 25.0).reshape(1, 24, 1), LEVELS)
    assert quantiles.shape == (24, 1, len(LEVELS)) and (quantiles.diff(dim=-1) >= 0).all()
    assert (quantiles[..., LEVELS.index(0.9)] == 20).all() and (quantiles[..., LEVELS.index(0.1)] == -20).all()
    assert (quantiles[..., LEVELS.index(0.5)] == 0).all()
