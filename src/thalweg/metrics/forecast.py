"""How good forecasts are: errors of the mean, and of the quantiles, on the original and on the standardized scale.

B windows, H steps of the forecast, C columns, Q quantile levels, N windows whose errors calibrate.

- `mse_scaled`, `mae_scaled`: in units of each column's standard deviation over the training rows.
- `mse`, `mae`, `rmse`: in the units of the data, the mean over all columns.
- `mase`: the absolute error divided by that of the seasonal naive forecast one season ahead over the training rows
  (Hyndman and Koehler 2006, doi:10.1016/j.ijforecast.2006.03.001).
- `smape`: 2 |y - f| / (|y| + |f|), from 0 to 2.
- `pinball`: the pinball loss, the mean over the levels 0.1 to 0.9, standardized.
- `crps`: the continuous ranked probability score (Gneiting and Raftery 2007, doi:10.1198/016214506000001437), as twice
  the mean pinball loss over the levels 0.05 to 0.95, standardized.
- `coverage_80`, `coverage_95`: how often the value was inside the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

#: intervals by the name of their coverage: levels of their ends
INTERVALS = {"coverage_80": (0.1, 0.9), "coverage_95": (0.025, 0.975)}
POINT_METRICS = ("mse_scaled", "mae_scaled", "mse", "mae", "rmse", "mase", "smape")
QUANTILE_METRICS = ("pinball", "crps", *INTERVALS)
#: levels of `pinball` and of `crps`
_DECILES = tuple(round(0.1 * index, 2) for index in range(1, 10))
_TWENTIETHS = tuple(round(0.05 * index, 2) for index in range(1, 20))
_TINY = 1e-8
#: windows from which on each step is calibrated by itself
MIN_WINDOWS = 40


class ForecastErrors:
    """Sums of errors over windows, per step and column.

    Args:
        horizon: Steps of a forecast.
        columns: Columns that are forecast.
        levels: Levels of the quantiles.
    """

    def __init__(self, horizon: int, columns: int, levels: Sequence[float]):
        self.levels = list(levels)
        self.shape = (horizon, columns)
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.by_window: list[Tensor] = []

    @torch.no_grad()
    def add(
        self,
        mean_BHC: Float[Tensor, "B H C"],
        target_BHC: Float[Tensor, "B H C"],
        std_BC: Float[Tensor, "B C"],
        seasonal_error_BC: Float[Tensor, "B C"],
        quantiles_BHCQ: Float[Tensor, "B H C Q"] | None = None,
    ) -> None:
        """Add windows.

        Args:
            mean_BHC: Forecasts, in the units of the data like all that follows.
            target_BHC: What came.
            std_BC: Standard deviation of each column over the training rows.
            seasonal_error_BC: Mean absolute error of the seasonal naive forecast over the training rows.
            quantiles_BHCQ: Quantiles at the levels; None where there are none.
        """
        error_BHC = mean_BHC - target_BHC
        absolute_BHC = error_BHC.abs()
        scaled_BHC = absolute_BHC / std_BC[:, None]
        size_BHC = (mean_BHC.abs() + target_BHC.abs()).clamp_min(_TINY)
        self._add("mse_scaled", scaled_BHC.square())
        self._add("mae_scaled", scaled_BHC)
        self._add("mse", error_BHC.square())
        self._add("mae", absolute_BHC)
        self._add("mase", absolute_BHC / seasonal_error_BC[:, None])
        self._add("smape", 2 * absolute_BHC / size_BHC)
        self.by_window.append(scaled_BHC.square().mean((1, 2)))
        self.count += len(error_BHC)
        if quantiles_BHCQ is not None:
            self._add_quantiles(quantiles_BHCQ, target_BHC, std_BC)

    def _add_quantiles(self, quantiles_BHCQ: Tensor, target_BHC: Tensor, std_BC: Tensor) -> None:
        for index, level in enumerate(self.levels):
            error_BHC = (target_BHC - quantiles_BHCQ[..., index]) / std_BC[:, None]
            loss_BHC = (level * error_BHC).maximum((level - 1) * error_BHC)
            if level in _DECILES:
                self._add("pinball", loss_BHC, 1 / len(_DECILES))
            if level in _TWENTIETHS:
                self._add("crps", loss_BHC, 2 / len(_TWENTIETHS))
        for name, (low, high) in INTERVALS.items():
            is_above_BHC = target_BHC >= quantiles_BHCQ[..., self.levels.index(low)]
            is_below_BHC = target_BHC <= quantiles_BHCQ[..., self.levels.index(high)]
            self._add(name, (is_above_BHC & is_below_BHC).to(target_BHC.dtype))

    def _add(self, name: str, values_BHC: Tensor, weight: float = 1.0) -> None:
        total_HC = values_BHC.sum(0).double() * weight
        self.sums[name] = self.sums[name] + total_HC if name in self.sums else total_HC

    def metrics(self) -> dict[str, float | int | None]:
        """Return all metrics as means over windows, steps and columns; None for those without windows or quantiles."""
        values: dict[str, float | int | None] = dict.fromkeys((*POINT_METRICS, *QUANTILE_METRICS))
        for name, sum_HC in self.sums.items():
            values[name] = float(sum_HC.mean()) / self.count
        mse = values["mse"]
        values["rmse"] = None if mse is None else mse**0.5
        return values

    def by_step(self, name: str) -> list[float]:
        """Return a metric per step of the forecast."""
        if name not in self.sums:
            return []
        return (self.sums[name].mean(1) / self.count).tolist()

    def by_column(self, name: str) -> list[float]:
        """Return a metric per column."""
        if name not in self.sums:
            return []
        return (self.sums[name].mean(0) / self.count).tolist()

    def by_origin(self) -> list[float]:
        """Return the standardized squared error of every window, in order."""
        if not self.by_window:
            return []
        return torch.cat(self.by_window).tolist()


def calibrated_quantiles(errors_NHC: Float[Tensor, "N H C"], levels: Sequence[float]) -> Float[Tensor, "H C Q"]:
    """Return the quantiles of errors per step and column, as conformal prediction takes them.

    Of n errors that of rank ceil((n + 1) level), or the rank from above for levels below one half, so that a new error
    from the same distribution stays inside with at least the probability of the interval (Vovk, Gammerman, Shafer
    2005, doi:10.1007/b106715). Fewer than 40 windows cannot tell the ends of an interval of 95 %; then the absolute
    errors of all steps count together, and the quantiles lie symmetric around zero.

    Args:
        errors_NHC: Errors of held-out forecasts; N is at least 1.
        levels: Quantile levels.

    Returns:
        The quantiles.
    """
    count, horizon, _ = errors_NHC.shape
    quantiles = []
    if count < MIN_WINDOWS:
        ordered_NC = errors_NHC.abs().flatten(0, 1).sort(0).values
        for level in levels:
            size_C = _pick_rank(ordered_NC, abs(2 * level - 1)) if level != 0.5 else torch.zeros_like(ordered_NC[0])
            quantiles.append(size_C.copysign(torch.tensor(level - 0.5)).expand(horizon, -1))
        return torch.stack(quantiles, -1)
    ordered_NHC = errors_NHC.sort(0).values
    for level in levels:
        if level < 0.5:
            quantiles.append(-_pick_rank(-ordered_NHC.flip(0), 1 - level))
        else:
            quantiles.append(_pick_rank(ordered_NHC, level))
    return torch.stack(quantiles, -1)


def _pick_rank(ordered: Tensor, level: float) -> Tensor:
    """Return the value of rank ceil((n + 1) level) of n in rising order; in the middle, the mean of two."""
    count = len(ordered)
    rank = (count + 1) * level
    if level == 0.5:
        return (ordered[math.floor(rank) - 1] + ordered[math.ceil(rank) - 1]) / 2
    return ordered[min(count, max(1, math.ceil(round(rank, 9)))) - 1]
