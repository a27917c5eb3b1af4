"""Change the size of maps by two, with a low-pass filter against aliasing (Zhang 2019, arXiv:1904.11486).

The filters are outer products of a row of binomial coefficients. Maps are continued by their border values, so that a
constant map keeps its value up to the border. Taps (1, 3, 3, 1) upsample bilinearly, and downsample symmetrically. Taps
(1, 2, 1) move the maps by half a pixel on the way up, and by as much back on the way down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# B images, C channels, H rows and W columns of maps

Taps = tuple[int, ...]
#: the filter of StyleGAN2
DEFAULT_TAPS = (1, 3, 3, 1)


def filter_kernel(taps: Taps, gain: float = 1.0) -> Float[Tensor, "K K"]:
    """Return the outer product of `taps` with itself, with the sum `gain`."""
    taps_K = torch.tensor(taps, dtype=torch.float32)
    kernel_KK = torch.outer(taps_K, taps_K)
    return kernel_KK * (gain / kernel_KK.sum())


def depthwise(kernel_KK: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return the filter as that of a convolution which filters every channel of `x_BCHW` alike."""
    return kernel_KK.to(x_BCHW.dtype).expand(x_BCHW.shape[1], 1, *kernel_KK.shape)


class Blur(nn.Module):
    """Filter maps that are continued by `padding` zeros; the taps sum to `gain`."""

    kernel_KK: Tensor

    def __init__(self, padding: int, gain: float = 1.0, taps: Taps = DEFAULT_TAPS):
        super().__init__()
        self.padding = padding
        self.register_buffer("kernel_KK", filter_kernel(taps, gain))

    def forward(self, x_BCHW: Float[Tensor, "B C H W"]) -> Tensor:
        """Return maps that are larger by twice the padding, and smaller by the taps but one."""
        return F.conv2d(x_BCHW, depthwise(self.kernel_KK, x_BCHW), padding=self.padding, groups=x_BCHW.shape[1])


class Upsample(nn.Module):
    """Double height and width; three or four taps."""

    kernel_KK: Tensor

    def __init__(self, taps: Taps = DEFAULT_TAPS):
        super().__init__()
        # between the pixels of the maps are zeros: three of four values
        self.register_buffer("kernel_KK", filter_kernel(taps, gain=4.0))

    def forward(self, x_BCHW: Float[Tensor, "B C H W"]) -> Tensor:
        """Return maps (B, C, 2 H, 2 W)."""
        height, width = x_BCHW.shape[2:]
        padded = F.pad(x_BCHW, (1, 1, 1, 1), mode="replicate")
        kernel = depthwise(self.kernel_KK, x_BCHW)
        filtered = F.conv_transpose2d(padded, kernel, stride=2, padding=len(self.kernel_KK) - 1, groups=kernel.shape[0])
        return filtered[:, :, : 2 * height, : 2 * width]


class Downsample(nn.Module):
    """Halve height and width; three or four taps."""

    kernel_KK: Tensor

    def __init__(self, taps: Taps = DEFAULT_TAPS):
        super().__init__()
        self.register_buffer("kernel_KK", filter_kernel(taps))

    def forward(self, x_BCHW: Float[Tensor, "B C H W"]) -> Tensor:
        """Return maps (B, C, H / 2, W / 2)."""
        before = (len(self.kernel_KK) - 2) // 2
        padded = F.pad(x_BCHW, (before, 1, before, 1), mode="replicate")
        kernel = depthwise(self.kernel_KK, x_BCHW)
        return F.conv2d(padded, kernel, stride=2, groups=kernel.shape[0])
