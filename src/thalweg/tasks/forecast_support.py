"""Support of the task forecast: forecasts of a split beside the simple ones, calibration, tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data.series.dataset import SeriesData, SeriesSplit
from ..data.series.time_step import format_time, format_times
from ..layers import seasonal
from ..losses.forecast import pinball, squared_error
from ..metrics.forecast import INTERVALS, ForecastErrors, calibrated_quantiles
from ..models.forecast.base import LEVELS, Forecast, QuantileHead, make_inputs
from ..objectives.base import Batch, Loss
from ..plots.forecast import Panel
from ..predictions.series import SeriesForecast
from .forecast_spec import ForecastSpec, WindowTensors, window_indices

#: values of forecasts that are held at the same time
_MAX_VALUES = 2_000_000
#: errors that calibrate; more windows are thinned out
_MAX_ERRORS = 40_000_000
#: errors by which the power is chosen, and the powers
_MAX_POWER_ERRORS = 1_000_000
_POWERS = (0.5, 0.75, 1.0, 1.25, 1.5)
#: seasons of the seasonal mean among the baselines: two weeks of hours
BASELINE_SEASONS = 14
#: windows that the report draws
_NUM_EXAMPLES = 3

Simple = Callable[[Tensor, int, int], Tensor]

#: forecasts that need no training, of (history, season, horizon)
BASELINES: dict[str, Simple] = {
    "seasonal_mean": lambda history, season, horizon: seasonal.seasonal_mean(
        history, season, horizon, BASELINE_SEASONS
    ),
    "seasonal_naive": seasonal.seasonal_naive,
    "last_value": lambda history, season, horizon: seasonal.seasonal_naive(history, 1, horizon),
    "drift": lambda history, season, horizon: seasonal.drift(history, horizon),
}


@dataclass(frozen=True)
class Examples:
    """Windows that the report draws."""

    panels: Sequence[Panel]
    actual: Sequence[np.ndarray]
    baselines: Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """Errors of the model and of the baselines over the same windows; None for baselines that were not computed."""

    errors: ForecastErrors
    baselines: Mapping[str, ForecastErrors]
    examples: Examples


def compute_loss(model: nn.Module, batch: Batch) -> Loss:
    """Return the squared error of the mean plus the pinball loss of the quantiles, in standardized units."""
    forecast: Forecast = model(make_inputs(batch))
    target_BHC = batch["target"]
    levels_Q = torch.tensor(LEVELS, dtype=target_BHC.dtype, device=target_BHC.device)
    error = squared_error(forecast.mean_BHC.float(), target_BHC)
    quantile_loss = pinball(forecast.quantiles_BHCQ.float(), target_BHC, levels_Q)
    metrics = {"squared_error": error.detach(), "pinball_loss": quantile_loss.detach()}
    return Loss(error + quantile_loss, len(target_BHC), metrics)


def find_head(model: nn.Module) -> QuantileHead:
    """Return the part of a forecaster that makes its quantiles."""
    return cast(QuantileHead, model.get_submodule("head"))


def count_windows(spec: ForecastSpec) -> int:
    """Return how many windows are forecast at a time."""
    return max(1, min(1024, _MAX_VALUES // (spec.horizon * len(spec.target) * len(LEVELS))))


def iter_windows(split: SeriesSplit, tensors: WindowTensors, indices: Tensor | None = None) -> Iterator[Batch]:
    """Yield the windows of a split in batches, in order; those of `indices` only, where they are given."""
    rows = window_indices(split, tensors.values.device)
    if indices is not None:
        rows = {name: values[indices] for name, values in rows.items()}
    size = count_windows(tensors.spec)
    for start in range(0, len(rows["start"]), size):
        yield tensors.gather({name: values[start : start + size] for name, values in rows.items()})


def thin(count: int, spec: ForecastSpec, max_values: int) -> Tensor:
    """Return the indices of all windows, or evenly of so many as have `max_values` values."""
    limit = max(1, max_values // (spec.horizon * len(spec.target)))
    if count <= limit:
        return torch.arange(count)
    return torch.linspace(0, count - 1, limit).long()


@torch.no_grad()
def calibrate(model: nn.Module, train: SeriesSplit, val: SeriesSplit, tensors: WindowTensors) -> None:
    """Set the buffers by which a forecaster's intervals hold on later rows.

    The power of a window's spread is the one with which intervals that are calibrated on the training windows hold
    best on the validation windows; then the validation windows calibrate.

    Args:
        model: A forecaster.
        train: The training windows.
        val: The validation windows; nothing is changed where there are none.
        tensors: Their rows.
    """
    if not len(val):
        return
    model.eval()
    head = find_head(model)
    errors_NHC, spread_NC = _measure_errors(model, val, tensors, _MAX_ERRORS)
    few_NHC, few_spread_NC = _measure_errors(model, val, tensors, _MAX_POWER_ERRORS)
    train_NHC, train_spread_NC = _measure_errors(model, train, tensors, _MAX_POWER_ERRORS)
    gaps = []
    for power in _POWERS:
        ends_HC2 = calibrated_quantiles(train_NHC / train_spread_NC[:, None] ** power, INTERVALS["coverage_80"])
        scaled_NHC = few_NHC / few_spread_NC[:, None] ** power
        is_inside_NHC = (scaled_NHC >= ends_HC2[..., 0]) & (scaled_NHC <= ends_HC2[..., 1])
        gaps.append(abs(float(is_inside_NHC.double().mean()) - 0.8))
    power = _POWERS[gaps.index(min(gaps))]
    head.get_buffer("power").fill_(power)
    quantiles_HCQ = calibrated_quantiles(errors_NHC / head.unit(spread_NC), LEVELS)
    head.get_buffer("calibration").copy_(quantiles_HCQ - head.offsets())


def _measure_errors(
    model: nn.Module, split: SeriesSplit, tensors: WindowTensors, max_values: int
) -> tuple[Tensor, Tensor]:
    """Return errors (N, H, C) and spreads (N, C) of windows that are spread evenly over a split."""
    errors = []
    spreads = []
    for batch in iter_windows(split, tensors, thin(len(split), tensors.spec, max_values)):
        point = cast(Any, model).features(make_inputs(batch))
        errors.append(batch["target"] - point.mean_BHC)
        spreads.append(point.spread_BC)
    return torch.cat(errors), torch.cat(spreads)


@torch.no_grad()
def evaluate_split(model: nn.Module, split: SeriesSplit, tensors: WindowTensors) -> Evaluation:
    """Forecast all windows of a split, with the model and with the baselines.

    Args:
        model: A forecaster in evaluation mode.
        split: The windows.
        tensors: Their rows in the model's units.

    Returns:
        The errors. Baselines have quantiles where the split comes with one to calibrate by.
    """
    spec = tensors.spec
    quantiles = {}
    if split.calibration is not None and len(split.calibration):
        quantiles = _measure_baselines(split.calibration, tensors)
    columns = len(spec.target)
    own = ForecastErrors(spec.horizon, columns, LEVELS)
    baselines = {name: ForecastErrors(spec.horizon, columns, LEVELS) for name in BASELINES}
    for batch in iter_windows(split, tensors):
        series_B = batch["series"]
        std_BC = tensors.raw_std[series_B]
        error_BC = tensors.seasonal_error[series_B]
        target_BHC = tensors.to_data_units(batch["target"], series_B)
        forecast = tensors.restore(model(make_inputs(batch)), series_B)
        own.add(forecast.mean_BHC, target_BHC, std_BC, error_BC, forecast.quantiles_BHCQ)
        for name, predict in BASELINES.items():
            mean_BHC = predict(batch["history"], spec.season, spec.horizon)
            simple = Forecast(tensors.to_data_units(mean_BHC, series_B), mean_BHC[..., None])
            if name in quantiles:
                simple = tensors.restore(Forecast(mean_BHC, mean_BHC[..., None] + quantiles[name]), series_B)
            own_quantiles = simple.quantiles_BHCQ if name in quantiles else None
            baselines[name].add(simple.mean_BHC, target_BHC, std_BC, error_BC, own_quantiles)
    return Evaluation(own, baselines, _pick_examples(model, split, tensors))


def _measure_baselines(split: SeriesSplit, tensors: WindowTensors) -> dict[str, Tensor]:
    """Return the quantiles (H, C, Q) of the errors of each baseline over a split."""
    spec = tensors.spec
    quantiles = {}
    for name, predict in BASELINES.items():
        errors = []
        for batch in iter_windows(split, tensors, thin(len(split), spec, _MAX_ERRORS)):
            errors.append(batch["target"] - predict(batch["history"], spec.season, spec.horizon))
        quantiles[name] = calibrated_quantiles(torch.cat(errors), LEVELS)
    return quantiles


def _pick_examples(model: nn.Module, split: SeriesSplit, tensors: WindowTensors) -> Examples:
    """Return forecasts of a few windows from the first to the last, each of another column."""
    spec = tensors.spec
    panels: list[Panel] = []
    actual = []
    baselines = []
    count = min(_NUM_EXAMPLES, len(split))
    for index in range(count):
        window = round(index * (len(split) - 1) / max(1, count - 1))
        (batch,) = iter_windows(split, tensors, torch.tensor([window]))
        series_B = batch["series"]
        column = index % len(spec.target)
        forecast = tensors.restore(model(make_inputs(batch)), series_B)
        history_L = tensors.to_data_units(batch["history"], series_B)[0, :, column].cpu().numpy()
        first = int(split.starts[window]) + spec.lookback
        times = [format_time(int(split.data.times[first]), spec.are_dates)]
        series = split.data.table.series[int(split.series[window])].id
        name = name_forecast(series, spec.target[column], spec)
        mean_H = forecast.mean_BHC[0, :, column].cpu().numpy()
        panels.append((name, history_L, mean_H, forecast.quantiles_BHCQ[0, :, column].cpu().numpy(), times))
        actual.append(tensors.to_data_units(batch["target"], series_B)[0, :, column].cpu().numpy())
        simple = {}
        for label in ("seasonal_mean", "seasonal_naive"):
            mean_BHC = BASELINES[label](batch["history"], spec.season, spec.horizon)
            restored = tensors.to_data_units(mean_BHC, series_B)
            simple[label.replace("_", " ")] = restored[0, :, column].cpu().numpy()
        baselines.append(simple)
    return Examples(panels, actual, baselines)


def forecast_rows(
    model: nn.Module, data: SeriesData, spec: ForecastSpec, device: torch.device, steps: int
) -> list[SeriesForecast]:
    """Forecast what follows the first `lookback` rows of every series.

    Args:
        model: A forecaster in evaluation mode.
        data: Rows of each series: `lookback` that are known, `horizon` to come.
        spec: The model's spec.
        device: Where the model is.
        steps: Steps of the forecast that are returned.

    Returns:
        A forecast per series and target column.
    """
    tensors = WindowTensors(data, spec, device, num_known=spec.lookback)
    count = len(data.table.series)
    indices = {
        "start": torch.from_numpy(data.offsets.astype(np.int64)).to(device),
        "series": torch.arange(count, device=device),
    }
    forecasts = []
    size = count_windows(spec)
    for start in range(0, count, size):
        batch = tensors.gather({name: values[start : start + size] for name, values in indices.items()})
        forecast = tensors.restore(model(make_inputs(batch)), batch["series"])
        history_BLC = tensors.to_data_units(batch["history"], batch["series"]).cpu().numpy()
        mean_BHC = forecast.mean_BHC.cpu().numpy()
        quantiles_BHCQ = forecast.quantiles_BHCQ.cpu().numpy()
        for row, series in enumerate(data.table.series[start : start + size]):
            times = data.table.times(series)[spec.lookback :][:steps]
            texts = format_times(times, spec.are_dates)
            for column, name in enumerate(spec.target):
                forecasts.append(
                    SeriesForecast(
                        name_forecast(series.id, name, spec),
                        texts,
                        mean_BHC[row, :steps, column],
                        quantiles_BHCQ[row, :steps, column],
                        history_BLC[row, :, column],
                    )
                )
    return forecasts


def name_forecast(series: str, column: str, spec: ForecastSpec) -> str:
    """Return the name of a forecast: the series of a long table, the column of a wide one, or both."""
    if not spec.is_long:
        return column
    return series if len(spec.target) == 1 else f"{series}/{column}"
