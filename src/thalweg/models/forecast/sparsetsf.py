"""SparseTSF (Lin, Lin, Wu, Chen, Yang 2024, arXiv:2405.00946), section 3: one small linear layer for all hours.

The window is laid out as one row per season; a linear layer shared by all columns and all positions inside the season
leads from the past seasons to the coming ones, so that for hourly data it has a few dozen weights. A convolution over
the hours around each value goes before it.

Differs from the paper: both begin as zero; `start="seasonal"` forecasts the distance from the seasonal mean of the
window instead of from its mean, so that training starts from a good forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ...layers.check_arguments import check_choice
from ...layers.seasonal import repeat_season, seasonal_mean, usable_season
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster


class SparseTSF(nn.Module):
    """(B, L, C) -> (B, H, C)."""

    def __init__(self, shape: Shape, is_seasonal: bool):
        super().__init__()
        self.season = usable_season(shape.lookback, shape.season)
        self.horizon = shape.horizon
        self.is_seasonal = is_seasonal
        self.past_seasons = shape.lookback // self.season
        self.coming_seasons = -(-shape.horizon // self.season)
        self.smooth = nn.Conv1d(1, 1, 1 + 2 * (self.season // 2), padding=self.season // 2, bias=False)
        self.linear = nn.Linear(self.past_seasons, self.coming_seasons, bias=False)
        nn.init.zeros_(self.smooth.weight)
        nn.init.zeros_(self.linear.weight)

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        length = self.past_seasons * self.season
        recent_BLC = history_BLC[:, -length:]
        center_B1C = recent_BLC.mean(1, keepdim=True)
        start_BHC = center_B1C
        if self.is_seasonal:
            start_BHC = seasonal_mean(recent_BLC, self.season, self.horizon)
            pattern_BSC = seasonal_mean(recent_BLC, self.season, self.season)
            center_B1C = repeat_season(pattern_BSC, length)
        rest_BCL = (recent_BLC - center_B1C).transpose(1, 2)
        flat_N1L = rest_BCL.reshape(-1, 1, length)
        flat_N1L = flat_N1L + self.smooth(flat_N1L)
        seasons_NSP = flat_N1L.view(-1, self.past_seasons, self.season).transpose(1, 2)
        coming_NSH = self.linear(seasons_NSP)
        change_BCH = coming_NSH.transpose(1, 2).reshape(*rest_BCL.shape[:2], -1)[..., : self.horizon]
        return start_BHC + change_BCH.transpose(1, 2)


@register_model(task="forecast", paper="arXiv:2405.00946", training={"optimizer": "adamw", "lr": 5e-3})
def sparsetsf(shape: Mapping[str, int], start: Literal["mean", "seasonal"] = "mean") -> Forecaster:
    """A few dozen weights that lead from past days to coming days, for every hour alike. Raises OptionError."""
    check_choice("start", start, ("mean", "seasonal"))
    sizes = Shape.parse(shape)
    return build_forecaster(SparseTSF(sizes, start == "seasonal"), sizes)
