"""DLinear (Zeng, Chen, Zhang, Xu 2023, arXiv:2205.13504), section 4: a linear layer for the trend, one for the rest.

The trend is a moving average of the window, whose ends are continued by their own value. All columns share the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.check_arguments import check_positive
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster


class DLinear(nn.Module):
    """(B, L, C) -> (B, H, C)."""

    def __init__(self, shape: Shape, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.trend = nn.Linear(shape.lookback, shape.horizon)
        self.rest = nn.Linear(shape.lookback, shape.horizon)
        for layer in (self.trend, self.rest):  # as in the authors' program: the mean of the window
            nn.init.constant_(layer.weight, 1 / shape.lookback)
            nn.init.zeros_(layer.bias)

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        x_BCL = history_BLC.transpose(1, 2)
        before = (self.kernel - 1) // 2
        padded_BCL = F.pad(x_BCL, (before, self.kernel - 1 - before), mode="replicate")
        trend_BCL = F.avg_pool1d(padded_BCL, self.kernel, stride=1)
        forecast_BCH = self.trend(trend_BCL) + self.rest(x_BCL - trend_BCL)
        return torch.transpose(forecast_BCH, 1, 2)


@register_model(task="forecast", paper="arXiv:2205.13504")
def dlinear(shape: Mapping[str, int], kernel: int = 25) -> Forecaster:
    """Two linear layers, on the moving average of the window and on the rest. Raises OptionError."""
    sizes = Shape.parse(shape)
    check_positive(kernel=kernel)
    return build_forecaster(DLinear(sizes, min(kernel, 2 * sizes.lookback - 1)), sizes)
