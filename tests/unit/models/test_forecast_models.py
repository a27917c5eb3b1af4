"""The forecasters: shapes, quantiles that do not cross, covariates, and where they start."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from thalweg import registry
from thalweg.errors import OptionError
from thalweg.layers.revin import RevIN
from thalweg.layers.seasonal import MIN_SPREAD, drift, measure_spread, seasonal_mean, seasonal_naive
from thalweg.losses.forecast import pinball
from thalweg.models.forecast.base import LEVELS, Forecaster, Inputs, QuantileHead

MODELS = registry.get_models("forecast")
SHAPE = {"lookback": 26, "horizon": 10, "columns": 3, "season": 6}
COVARIATES = {"num_past": 2, "num_future": 1, "num_calendar": 2, "num_static": 1}
ODD_SHAPES = [
    {"lookback": 5, "horizon": 9, "columns": 1, "season": 24},
    {"lookback": 1, "horizon": 1, "columns": 1, "season": 1},
    {"lookback": 2, "horizon": 3, "columns": 2, "season": 2},
]


def make_inputs(shape: dict[str, int], batch: int = 4, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    lookback, length = shape["lookback"], shape["lookback"] + shape["horizon"]
    return Inputs(
        draw(batch, lookback, shape["columns"]),
        draw(batch, lookback, shape.get("num_past", 0)),
        draw(batch, length, shape.get("num_future", 0)),
        draw(batch, length, shape.get("num_calendar", 0)),
        draw(batch, shape.get("num_static", 0)),
    )


def build(name: str, shape: dict[str, int] = SHAPE, **arguments) -> Forecaster:
    torch.manual_seed(0)
    return MODELS[name](shape=shape, **arguments)


def disturb(model: Forecaster) -> Forecaster:
    """Move all parameters: some begin at zero, where much is invisible."""
    torch.manual_seed(1)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.1 * torch.randn_like(param))
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [SHAPE, {**SHAPE, **COVARIATES}, *ODD_SHAPES], ids=str)
def test_a_forecaster_returns_a_mean_and_quantiles_that_do_not_cross(name, shape):
    forecast = disturb(build(name, shape))(make_inputs(shape))
    assert forecast.mean_BHC.shape == (4, shape["horizon"], shape["columns"])
    assert forecast.quantiles_BHCQ.shape == (*forecast.mean_BHC.shape, len(LEVELS))
    assert (forecast.quantiles_BHCQ.diff(dim=-1) >= 0).all() and forecast.mean_BHC.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_gradient(name):
    shape = {**SHAPE, **COVARIATES}
    model = disturb(build(name, shape)).train()
    inputs = make_inputs(shape)
    forecast = model(inputs)
    target = torch.randn(forecast.mean_BHC.shape)
    loss = (forecast.mean_BHC - target).square().mean() + pinball(forecast.quantiles_BHCQ, target, torch.tensor(LEVELS))
    loss.backward()
    for key, param in model.named_parameters():
        assert param.grad is not None and float(param.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("part", ["history_BLC", "past_BLP", "future_BTF", "static_BS"])
def test_a_forecast_depends_on_all_that_a_forecaster_is_given(name, part):
    shape = {**SHAPE, **COVARIATES}
    model = disturb(build(name, shape))
    inputs = make_inputs(shape)
    other = inputs._replace(**{part: getattr(make_inputs(shape, seed=1), part)})
    assert not torch.allclose(model(inputs).mean_BHC, model(other).mean_BHC)


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_depends_on_its_own_window_only(name):
    model = disturb(build(name))
    inputs = make_inputs(SHAPE)
    alone = model(Inputs(*(part[:1] for part in inputs)))
    torch.testing.assert_close(alone.mean_BHC, model(inputs).mean_BHC[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_forecaster_is_described_and_cites_its_source(name):
    entry = MODELS[name]
    header = inspect.getdoc(inspect.getmodule(entry.builder)) or ""
    assert len(entry.summary) > 20 and all("doi:" in text or "arXiv:" in text for text in (entry.paper, header))


def test_the_simple_forecasts_are_their_formulas():
    history = torch.arange(14.0)[None, :, None]
    assert seasonal_naive(history, 4, 6).flatten().tolist() == [10, 11, 12, 13, 10, 11]
    assert seasonal_mean(history, 4, 5).flatten().tolist() == [6, 7, 8, 9, 6]
    assert seasonal_mean(history, 4, 5, max_seasons=2).flatten().tolist() == [8, 9, 10, 11, 8]
    assert seasonal_naive(history, 20, 2).flatten().tolist() == [13, 13]
    assert drift(history, 2).flatten().tolist() == [14, 15]
    periodic = torch.tensor([1.0, 5.0, 2.0]).repeat(4)[None, :, None]
    assert measure_spread(periodic, 3).item() == pytest.approx(MIN_SPREAD)
    assert measure_spread(periodic, 24).item() == pytest.approx(periodic.std(unbiased=False).item())


@pytest.mark.parametrize(("name", "start"), [("nlinear", "seasonal"), ("sparsetsf", "seasonal")])
def test_models_that_start_from_the_seasonal_mean_are_it_before_training(name, start):
    inputs = make_inputs({**SHAPE, "lookback": 24})
    model = build(name, {**SHAPE, "lookback": 24}, start=start)
    torch.testing.assert_close(model(inputs).mean_BHC, seasonal_mean(inputs.history_BLC, 6, 10))


@pytest.mark.parametrize("name", ["nlinear", "segrnn", "sparsetsf", "lstm_forecaster"])
def test_a_shift_of_the_level_shifts_the_forecast(name):
    model = disturb(build(name))
    with torch.no_grad():
        for key, param in model.named_parameters():
            if "bias" in key and name in ("nlinear",):
                param.zero_()
    inputs = make_inputs(SHAPE)
    shifted = inputs._replace(history_BLC=inputs.history_BLC + 7)
    torch.testing.assert_close(model(shifted).mean_BHC, model(inputs).mean_BHC + 7, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("affine", [False, True])
def test_revin_is_undone_exactly(affine):
    layer = RevIN(3, affine)
    x = 5 + 2 * torch.randn(4, 20, 3)
    normalized, statistics = layer.normalize(x)
    torch.testing.assert_close(layer.denormalize(normalized, statistics), x, atol=1e-4, rtol=1e-4)
    assert normalized.mean(1).abs().max() < 1e-5 and not statistics.std_B1C.requires_grad


def test_the_head_begins_with_the_quantiles_of_a_normal_distribution():
    offsets = QuantileHead(2, 1).offsets()[0, 0]
    assert offsets[LEVELS.index(0.975)].item() == pytest.approx(1.96, abs=0.01)
    assert offsets[LEVELS.index(0.1)].item() == pytest.approx(-1.2816, abs=0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "option"),
    [
        ("segrnn", {"width": 0}, "width"),
        ("segrnn", {"dropout": 1.0}, "dropout"),
        ("nlinear", {"start": "first"}, "start"),
        ("sparsetsf", {"start": "first"}, "start"),
        ("dlinear", {"kernel": 0}, "kernel"),
        ("gru_forecaster", {"layers": 0}, "layers"),
    ],
)
def test_impossible_arguments_are_refused_by_name(name, arguments, option):
    with pytest.raises(OptionError) as error:
        build(name, **arguments)
    assert error.value.option == option
    with pytest.raises(OptionError):
        build(name, {**SHAPE, "horizon": 0})
    with pytest.raises(OptionError):
        build(name, {**SHAPE, "steps": 3})
