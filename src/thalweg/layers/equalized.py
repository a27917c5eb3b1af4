"""Layers with an equalized learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1).

Weights begin with a standard deviation of 1 and are scaled at run time by He's constant. To Adam, whose steps do not
depend on the scale of a gradient, all layers are then alike: no layer learns faster because its weights are small.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .resample import Blur

# B images or vectors, C channels, H rows and W columns of maps, I and O numbers of a vector

Resampling = Literal["none", "up", "down"]
#: gain of layers before a ReLU, which keeps the mean square of what passes it
RELU_GAIN = math.sqrt(2)


class EqualizedLinear(nn.Module):
    """Linear layer whose weights are N(0, 1), scaled by gain / sqrt(fan_in).

    `initial_bias` None means no bias. `lr_multiplier` is the speed of learning relative to other layers: weights are
    stored larger and scaled down by it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gain: float = 1.0,
        initial_bias: float | None = 0.0,
        lr_multiplier: float = 1.0,
    ):
        super().__init__()
        self.lr_multiplier = lr_multiplier
        self.scale = gain * lr_multiplier / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = None
        if initial_bias is not None:
            self.bias = nn.Parameter(torch.full((out_features,), initial_bias / lr_multiplier))

    def forward(self, x_BI: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """Return scale * W x + b."""
        bias = None if self.bias is None else self.bias * self.lr_multiplier
        return F.linear(x_BI, self.weight * self.scale, bias)


class EqualizedConv2d(nn.Module):
    """Convolution whose filters are N(0, 1), scaled by gain / sqrt(fan_in).

    With `resample` the size of maps doubles or halves: what a convolution after bilinear upsampling computes, and one
    before downsampling, but at the smaller size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        gain: float = 1.0,
        has_bias: bool = True,
        resample: Resampling = "none",
    ):
        super().__init__()
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if has_bias else None
        self.convolve = Convolve(kernel_size, resample)

    def forward(self, x_BCHW: Float[Tensor, "B C H W"]) -> Tensor:
        """Return the convolved maps."""
        return self.convolve(x_BCHW, self.weight * self.scale, self.bias)


class Convolve(nn.Module):
    """Convolve maps with filters that are given, at the same, the double or the half size; an odd `kernel_size`."""

    def __init__(self, kernel_size: int, resample: Resampling):
        super().__init__()
        self.padding = kernel_size // 2
        self.resample = resample
        if resample == "up":
            self.blur = Blur(padding=2 - self.padding, gain=4.0)
        if resample == "down":
            self.blur = Blur(padding=1 + self.padding)

    def forward(
        self,
        x_BCHW: Float[Tensor, "B C H W"],
        weight_OCKK: Float[Tensor, "O C K K"],
        bias_O: Float[Tensor, " O"] | None = None,
    ) -> Float[Tensor, "B O _ _"]:
        """Return the maps."""
        match self.resample:
            case "up":
                y_BCHW = self.blur(F.conv_transpose2d(x_BCHW, weight_OCKK.transpose(0, 1), stride=2))
                return y_BCHW if bias_O is None else y_BCHW + bias_O[:, None, None]
            case "down":
                return F.conv2d(self.blur(x_BCHW), weight_OCKK, bias_O, stride=2)
        return F.conv2d(x_BCHW, weight_OCKK, bias_O, padding=self.padding)
