"""Layers by which a vector, the style, controls a convolutional network.

PixelNorm: Karras et al. 2018, arXiv:1710.10196, section 4.2. Adaptive instance normalization: Huang and Belongie 2017,
arXiv:1703.06868, as in Karras, Laine, Aila 2019, arXiv:1812.04948. Modulation: Karras et al. 2020, arXiv:1912.04958,
section 2.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .equalized import Convolve, EqualizedLinear, Resampling

# B images, C channels, H rows and W columns of maps, D numbers of a style, I channels read and O channels written

EPSILON = 1e-8


class PixelNorm(nn.Module):
    """Divide each vector of channels by the root of its mean square."""

    def forward(self, x: Float[Tensor, "B C *pixels"]) -> Float[Tensor, "B C *pixels"]:
        """Return vectors or maps; at each pixel, the mean square over channels is 1."""
        mean_square = x.float().square().mean(1, keepdim=True)
        return x * (mean_square + EPSILON).rsqrt().to(x.dtype)


class AdaptiveInstanceNorm(nn.Module):
    """Bring each map to mean 0 and deviation 1, and then to the mean and deviation that the style says."""

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.affine = EqualizedLinear(style_dim, 2 * channels)

    def forward(self, x_BCHW: Float[Tensor, "B C H W"], style_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """Return (1 + scale) * normalized maps + shift."""
        scale_BC, shift_BC = self.affine(style_BD).chunk(2, 1)
        return (1 + scale_BC[..., None, None]) * F.instance_norm(x_BCHW) + shift_BC[..., None, None]


class ModulatedConv2d(nn.Module):
    """Convolution whose filters are scaled by the style, for each image anew, and brought back to unit length.

    Each filter belongs to one image only. It is the same, and faster, to scale what the filters read and what they
    write, and to convolve all images with the same filters.

    Args:
        in_channels: Channels that it reads, which the style scales.
        out_channels: Channels that it writes.
        kernel_size: Height and width of the filters.
        style_dim: Numbers in a style.
        demodulate: Divide each scaled filter by its length.
        resample: "up" doubles the size of the maps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        demodulate: bool = True,
        resample: Resampling = "none",
    ):
        super().__init__()
        self.demodulate = demodulate
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.affine = EqualizedLinear(style_dim, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.convolve = Convolve(kernel_size, resample)

    def forward(self, x_BIHW: Float[Tensor, "B I H W"], style_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B O _ _"]:
        """Return the convolved maps, without bias."""
        scale_BI = self.affine(style_BD)
        weight_OIKK = self.weight * self.scale
        y_BOHW = self.convolve(x_BIHW * scale_BI[..., None, None], weight_OIKK)
        if self.demodulate:
            y_BOHW = y_BOHW * inverse_lengths(weight_OIKK, scale_BI)[..., None, None].to(y_BOHW.dtype)
        return y_BOHW


def inverse_lengths(weight_OIKK: Float[Tensor, "O I K K"], scale_BI: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
    """Return 1 / the length of each filter whose input channels are scaled for each image."""
    with torch.autocast(weight_OIKK.device.type, enabled=False):  # sums of squares need all digits
        square_OI = weight_OIKK.float().square().sum((2, 3))
        return (scale_BI.float().square() @ square_OI.T + EPSILON).rsqrt()
