"""What a forecaster and its user must know of the data, and the windows of series as tensors in its terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.series.dataset import SeriesData, SeriesDataset, SeriesSettings, SeriesSplit
from ..data.series.time_step import StepUnit, TimeStep, calendar_features
from ..errors import DataError
from ..models.forecast.base import Forecast

# R rows of all series, B windows, L lookback, H horizon, C target columns, S series

#: standard deviations below this are those of a constant
_TINY = 1e-12


@dataclass(frozen=True)
class SeriesScale:
    """Statistics of a series over its training rows, by target column.

    `mean` and `std` are those of what the model reads (logarithms, if it reads these), `raw_std` and `seasonal_error`
    those of the values themselves: by them errors are standardized.
    """

    id: str
    mean: list[float]
    std: list[float]
    raw_std: list[float]
    seasonal_error: list[float]


@dataclass(frozen=True)
class Covariate:
    """A column that is read and not forecast, with its statistics over the training rows."""

    name: str
    mean: float
    std: Annotated[float, "standard deviation", Range(0, 1e300, above=True)]


@dataclass(frozen=True)
class ForecastSpec:
    """What is forecast from what, in which units; kept in run.json."""

    target: list[str]
    series: list[SeriesScale]
    horizon: Annotated[int, "steps of a forecast", Range(1, 1_000_000)]
    lookback: Annotated[int, "rows that a forecast reads", Range(1, 1_000_000)]
    season: Annotated[int, "rows of a season", Range(1, 1_000_000)]
    step: Annotated[int, "distance of the rows, in step_unit", Range(1, 1e16)]
    step_unit: StepUnit
    are_dates: bool
    is_long: bool
    log: bool
    past_covariates: list[Covariate] = field(default_factory=list)
    future_covariates: list[Covariate] = field(default_factory=list)
    static_covariates: list[Covariate] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.target:
            raise FieldError("target", "at least one column")
        if not self.series:
            raise FieldError("series", "at least one series")
        for index, scale in enumerate(self.series):
            lists = (scale.mean, scale.std, scale.raw_std, scale.seasonal_error)
            if any(len(values) != len(self.target) for values in lists):
                raise FieldError(f"series[{index}]", f"{len(self.target)} numbers, one per target column")
            if min(*scale.std, *scale.raw_std, *scale.seasonal_error) <= 0:
                raise FieldError(f"series[{index}]", "standard deviations above 0")

    @property
    def time_step(self) -> TimeStep:
        """The distance of the rows."""
        return TimeStep(self.step, self.step_unit)

    def settings(self) -> SeriesSettings:
        """Return how a table is read in this model's terms."""
        return SeriesSettings(
            horizon=self.horizon,
            lookback=self.lookback,
            season=self.season,
            target=tuple(self.target),
            past_covariates=_names(self.past_covariates),
            future_covariates=_names(self.future_covariates),
            static_covariates=_names(self.static_covariates),
            log=self.log,
        )

    def shape(self) -> dict[str, int]:
        """Return the sizes of a model's inputs and outputs."""
        calendar = calendar_features(np.zeros(1, np.int64), self.time_step)
        return {
            "lookback": self.lookback,
            "horizon": self.horizon,
            "columns": len(self.target),
            "season": self.season,
            "num_past": len(self.past_covariates),
            "num_future": len(self.future_covariates),
            "num_calendar": calendar.shape[1] if self.are_dates else 0,
            "num_static": len(self.static_covariates),
        }


def _names(covariates: Sequence[Covariate]) -> tuple[str, ...]:
    return tuple(covariate.name for covariate in covariates)


def build_spec(dataset: SeriesDataset) -> ForecastSpec:
    """Measure the training rows. Raises DataError for values without a logarithm."""
    data = dataset.train.data
    settings = data.settings
    rows = []
    scales = []
    values_RC = to_model_units(data.columns(data.target), settings.log, data)
    raw_RC = data.columns(data.target)
    for index, series in enumerate(data.table.series):
        first, stop = (dataset.train.rows[index] + data.offsets[index]).tolist()
        rows.append(slice(first, stop))
        name = series.id if data.table.is_long else ""
        scales.append(_measure(name, values_RC[first:stop], raw_RC[first:stop], data.season))
    covariates = []
    for names in (settings.past_covariates, settings.future_covariates, settings.static_covariates):
        covariates.append([_measure_covariate(data, name, rows) for name in names])
    return ForecastSpec(
        target=list(data.target),
        series=scales,
        horizon=data.horizon,
        lookback=data.lookback,
        season=data.season,
        step=data.table.step.count,
        step_unit=data.table.step.unit,
        are_dates=data.table.are_dates,
        is_long=data.table.is_long,
        log=settings.log,
        past_covariates=covariates[0],
        future_covariates=covariates[1],
        static_covariates=covariates[2],
    )


def to_model_units(values_RC: np.ndarray, log: bool, data: SeriesData) -> np.ndarray:
    """Return the values, or their logarithms. Raises DataError that names the first row without one."""
    if not log:
        return values_RC
    wrong = np.argwhere(values_RC <= 0)
    if len(wrong):
        row, column = wrong[0].tolist()
        series = int(np.searchsorted(data.offsets, row, side="right")) - 1
        where = data.table.time_name(data.table.series[series], row - int(data.offsets[series]))
        raise DataError(
            f"{data.table.path}: column '{data.target[column]}' is {values_RC[row, column]:g} at {where}; expected "
            "values above 0, because --log takes their logarithm.",
            "Leave out --log.",
            path=data.table.path,
            value=float(values_RC[row, column]),
            option="log",
        )
    return np.log(values_RC)


def _measure(name: str, values_TC: np.ndarray, raw_TC: np.ndarray, season: int) -> SeriesScale:
    lag = season if len(raw_TC) > season else 1
    distance_C = np.abs(raw_TC[lag:] - raw_TC[:-lag]).mean(0) if len(raw_TC) > lag else np.ones(raw_TC.shape[1])
    return SeriesScale(
        id=name,
        mean=values_TC.mean(0).tolist(),
        std=_positive(values_TC.std(0)),
        raw_std=_positive(raw_TC.std(0)),
        seasonal_error=_positive(distance_C),
    )


def _positive(values_C: np.ndarray) -> list[float]:
    """Return the values with 1 in place of zeros, as constant columns have them."""
    return np.where(values_C > _TINY, values_C, 1.0).tolist()


def _measure_covariate(data: SeriesData, name: str, rows: Sequence[slice]) -> Covariate:
    values_R = data.columns([name])[:, 0]
    train = np.concatenate([values_R[item] for item in rows])
    return Covariate(name, float(train.mean()), _positive(train.std()[None])[0])


class WindowTensors:
    """The rows of all series as tensors in a model's units; windows are gathered from them by their first rows.

    Args:
        data: The rows.
        spec: The model's spec.
        device: Where the tensors are.
        num_known: Rows of each series that have values of the target; None: all.
    """

    def __init__(self, data: SeriesData, spec: ForecastSpec, device: torch.device, num_known: int | None = None):
        self.spec = spec
        self.data = data
        mean_SC, std_SC, raw_std_SC, error_SC = match_scales(data, spec, num_known)
        series_R = np.repeat(np.arange(len(data.table.series)), [len(series) for series in data.table.series])
        values_RC = to_model_units(data.columns(spec.target), spec.log, data)
        scaled_RC = (values_RC - mean_SC[series_R]) / std_SC[series_R]
        calendar_RK = calendar_features(data.times, spec.time_step)
        if not spec.are_dates:
            calendar_RK = calendar_RK[:, :0]

        def to_tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

        self.values = to_tensor(scaled_RC)
        self.past = to_tensor(self._scale(spec.past_covariates))
        self.future = to_tensor(self._scale(spec.future_covariates))
        self.calendar = to_tensor(calendar_RK)
        self.static = to_tensor(self._scale(spec.static_covariates)[data.offsets])
        self.mean = to_tensor(mean_SC)
        self.std = to_tensor(std_SC)
        self.raw_std = to_tensor(raw_std_SC)
        self.seasonal_error = to_tensor(error_SC)

    def _scale(self, covariates: Sequence[Covariate]) -> np.ndarray:
        values_RP = self.data.columns(_names(covariates))
        mean_P = np.array([covariate.mean for covariate in covariates])
        std_P = np.array([covariate.std for covariate in covariates])
        return (values_RP - mean_P) / std_P

    def gather(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the windows of a batch {"start", "series"}: what the model reads, and "target" (B, H, C)."""
        lookback = self.spec.lookback
        rows_BT = batch["start"][:, None] + torch.arange(lookback + self.spec.horizon, device=self.values.device)
        values_BTC = self.values[rows_BT]
        return {
            "history": values_BTC[:, :lookback],
            "past": self.past[rows_BT[:, :lookback]],
            "future": self.future[rows_BT],
            "calendar": self.calendar[rows_BT],
            "static": self.static[batch["series"]],
            "target": values_BTC[:, lookback:],
            "series": batch["series"],
        }

    def to_data_units(self, values_BHC: Tensor, series_B: Tensor) -> Tensor:
        """Return forecasts (B, H, C) in the units of the data."""
        restored_BHC = values_BHC * self.std[series_B][:, None] + self.mean[series_B][:, None]
        return restored_BHC.exp() if self.spec.log else restored_BHC

    def restore(self, forecast: Forecast, series_B: Tensor) -> Forecast:
        """Return mean and quantiles in the units of the data."""
        quantiles_BQHC = forecast.quantiles_BHCQ.movedim(-1, 1)
        std_B1HC = self.std[series_B][:, None, None]
        mean_B1HC = self.mean[series_B][:, None, None]
        restored_BQHC = quantiles_BQHC * std_B1HC + mean_B1HC
        if self.spec.log:
            restored_BQHC = restored_BQHC.exp()
        return Forecast(self.to_data_units(forecast.mean_BHC, series_B), restored_BQHC.movedim(1, -1))


def match_scales(
    data: SeriesData, spec: ForecastSpec, num_known: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, std, raw_std and seasonal_error (S, C) of each series of the data.

    A series that the model was not trained on gets the statistics of its own rows; the one series of a wide table is
    taken for the one that was trained on.
    """
    known = {scale.id: scale for scale in spec.series}
    values_RC = None
    scales = []
    for index, series in enumerate(data.table.series):
        scale = known.get(series.id if data.table.is_long else "")
        if scale is None:
            if values_RC is None:
                values_RC = to_model_units(data.columns(spec.target), spec.log, data)
            first = int(data.offsets[index])
            rows = slice(first, first + (num_known or len(series)))
            scale = _measure(series.id, values_RC[rows], data.columns(spec.target)[rows], spec.season)
        scales.append((scale.mean, scale.std, scale.raw_std, scale.seasonal_error))
    mean_SC, std_SC, raw_std_SC, error_SC = (np.array(values) for values in zip(*scales, strict=True))
    return mean_SC, std_SC, raw_std_SC, error_SC


def window_indices(split: SeriesSplit, device: torch.device) -> dict[str, Tensor]:
    """Return first row and series of each window of a split."""
    return {
        "start": torch.from_numpy(split.starts).to(device),
        "series": torch.from_numpy(np.ascontiguousarray(split.series, np.int64)).to(device),
    }
