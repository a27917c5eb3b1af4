"""Reversible instance normalization (Kim et al. 2022, openreview.net/forum?id=cGDAkQo1C0p).

Every window is brought to mean 0 and standard deviation 1, column by column, and a forecast is brought back.

Differs from the paper: the statistics are detached, so that no gradient flows through them, and `affine` is off unless
asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

# B windows, L rows, C columns

_EPSILON = 1e-5


class WindowStatistics(NamedTuple):
    """Mean and standard deviation of each column of each window."""

    mean_B1C: Tensor
    std_B1C: Tensor


class RevIN(nn.Module):
    """Normalize windows, and undo it. State is an argument and a result, never an attribute."""

    def __init__(self, columns: int, affine: bool = False):
        super().__init__()
        self.affine = affine
        if affine:
            self.weight = nn.Parameter(torch.ones(columns))
            self.bias = nn.Parameter(torch.zeros(columns))

    def normalize(self, history_BLC: Float[Tensor, "B L C"]) -> tuple[Float[Tensor, "B L C"], WindowStatistics]:
        """Return the normalized window and what undoes it."""
        mean_B1C = history_BLC.mean(1, keepdim=True).detach()
        std_B1C = (history_BLC.var(1, keepdim=True, unbiased=False) + _EPSILON).sqrt().detach()
        x_BLC = (history_BLC - mean_B1C) / std_B1C
        if self.affine:
            x_BLC = x_BLC * self.weight + self.bias
        return x_BLC, WindowStatistics(mean_B1C, std_B1C)

    def denormalize(self, y_BHC: Float[Tensor, "B H C"], statistics: WindowStatistics) -> Float[Tensor, "B H C"]:
        """Bring a forecast back to the scale of its window."""
        if self.affine:
            y_BHC = (y_BHC - self.bias) / (self.weight + _EPSILON**2)
        return y_BHC * statistics.std_B1C + statistics.mean_B1C
