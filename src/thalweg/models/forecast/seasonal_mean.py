"""The mean of the last seasons, step by step (Holt 1957, doi:10.1016/j.ijforecast.2003.09.015).

Nothing of the mean is learned; the quantiles around it are. On ETTh1 it beats published networks from 336 steps on.

Differs from the paper: all seasons of the window count alike, and there is neither level nor trend.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...layers.seasonal import seasonal_mean as average_seasons
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster


class SeasonalMean(nn.Module):
    """(B, L, C) -> (B, H, C): the mean of the window's seasons, repeated."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.season = shape.season
        self.horizon = shape.horizon

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        return average_seasons(history_BLC, self.season, self.horizon)


@register_model(task="forecast", paper="Holt 1957, doi:10.1016/j.ijforecast.2003.09.015")
def seasonal_mean(shape: Mapping[str, int]) -> Forecaster:
    """Mean of the window's seasons, step by step. Covariates, where there are any, add a linear term."""
    sizes = Shape.parse(shape)
    return build_forecaster(SeasonalMean(sizes), sizes)
