"""The seasonal naive forecast (Hyndman and Koehler 2006, doi:10.1016/j.ijforecast.2006.03.001, section 2.4).

The last season once more. Nothing of the mean is learned; the quantiles around it are.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...layers.seasonal import seasonal_naive as repeat_last_season
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster


class SeasonalNaive(nn.Module):
    """(B, L, C) -> (B, H, C): the last season, repeated."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.season = shape.season
        self.horizon = shape.horizon

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        return repeat_last_season(history_BLC, self.season, self.horizon)


@register_model(task="forecast", paper="Hyndman and Koehler 2006, doi:10.1016/j.ijforecast.2006.03.001")
def seasonal_naive(shape: Mapping[str, int]) -> Forecaster:
    """Seasonal naive forecast: as a season ago. Covariates, where there are any, add a linear term."""
    sizes = Shape.parse(shape)
    return build_forecaster(SeasonalNaive(sizes), sizes)
