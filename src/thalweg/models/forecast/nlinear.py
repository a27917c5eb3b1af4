"""NLinear (Zeng, Chen, Zhang, Xu 2023, arXiv:2205.13504), section 4: one linear layer from the past to the future.

The last value is taken off the window and put back onto the forecast, so that a shift of level between training and
test does no harm. All columns share the weights.

Differs from the paper: the weights begin as zero instead of at random, so that training starts from the forecast
without any; `start="seasonal"` starts from the seasonal mean of the window instead of its last value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ...layers.check_arguments import check_choice
from ...layers.seasonal import seasonal_mean
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster


class NLinear(nn.Module):
    """(B, L, C) -> (B, H, C)."""

    def __init__(self, shape: Shape, is_seasonal: bool):
        super().__init__()
        self.season = shape.season
        self.horizon = shape.horizon
        self.is_seasonal = is_seasonal
        self.linear = nn.Linear(shape.lookback, shape.horizon)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        last_B1C = history_BLC[:, -1:]
        start_BHC = last_B1C
        if self.is_seasonal:
            start_BHC = seasonal_mean(history_BLC, self.season, self.horizon)
            last_B1C = history_BLC.mean(1, keepdim=True)
        change_BCH = self.linear((history_BLC - last_B1C).transpose(1, 2))
        return start_BHC + change_BCH.transpose(1, 2)


@register_model(task="forecast", paper="arXiv:2205.13504")
def nlinear(shape: Mapping[str, int], start: Literal["last", "seasonal"] = "last") -> Forecaster:
    """One linear layer on the distances from the last value, or from the seasonal mean. Raises OptionError."""
    check_choice("start", start, ("last", "seasonal"))
    sizes = Shape.parse(shape)
    return build_forecaster(NLinear(sizes, start == "seasonal"), sizes)
