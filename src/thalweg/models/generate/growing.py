"""Networks that grow while they train (Karras et al. 2018, arXiv:1710.10196, section 2).

All levels exist from the start. The buffer `growth` says how many are in use, see `levels.read_growth`; who trains
raises it. Images keep their full size: those of a small network are made of larger pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.equalized import RELU_GAIN, EqualizedConv2d, EqualizedLinear
from ...layers.minibatch_deviation import MinibatchDeviation
from .conditional import ClassProjection
from .levels import LEAKY_SLOPE, MIN_SIZE, Growth, Levels, read_growth


class GrowingOutput(nn.Module):
    """The last layers of a generator: maps of the two finest levels in use -> images (B, C, S, S)."""

    def __init__(self, levels: Levels):
        super().__init__()
        self.image_size = levels.image_size
        self.to_color = nn.ModuleList(EqualizedConv2d(width, levels.channels, 1) for width in levels.widths)

    def forward(self, coarse_BCHW: Tensor, fine_BCHW: Tensor, growth: Growth) -> Tensor:
        """Return images of the finest level in use, which fade in from those of the coarser one."""
        image_BCHW = self.to_color[growth.level](fine_BCHW)
        if growth.fade < 1:
            coarse_image_BCHW = self.to_color[growth.level - 1](coarse_BCHW)
            image_BCHW = torch.lerp(F.interpolate(coarse_image_BCHW, scale_factor=2), image_BCHW, growth.fade)
        if image_BCHW.shape[2] < self.image_size:
            image_BCHW = F.interpolate(image_BCHW, self.image_size)
        return image_BCHW


class DiscriminatorBlock(nn.Module):
    """Two convolutions that halve the maps, (B, I, S, S) -> (B, O, S/2, S/2)."""

    def __init__(self, in_channels: int, out_channels: int, has_filter: bool):
        super().__init__()
        self.has_filter = has_filter
        self.first = EqualizedConv2d(in_channels, in_channels, 3, RELU_GAIN)
        resample = "down" if has_filter else "none"
        self.second = EqualizedConv2d(in_channels, out_channels, 3, RELU_GAIN, resample=resample)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps of half the size."""
        x_BCHW = F.leaky_relu(self.first(x_BCHW), LEAKY_SLOPE)
        x_BCHW = F.leaky_relu(self.second(x_BCHW), LEAKY_SLOPE)
        if not self.has_filter:
            x_BCHW = F.avg_pool2d(x_BCHW, 2)
        return x_BCHW


class DiscriminatorHead(nn.Module):
    """The last layers of a discriminator: maps (B, C, 4, 4) and classes (B,) -> logits (B,)."""

    def __init__(self, levels: Levels):
        super().__init__()
        width = levels.widths[0]
        self.deviation = MinibatchDeviation()
        self.conv = EqualizedConv2d(width + 1, width, 3, RELU_GAIN)
        self.hidden = EqualizedLinear(MIN_SIZE**2 * width, width, RELU_GAIN)
        self.out = EqualizedLinear(width, 1)
        self.projection = ClassProjection(levels.num_classes, width) if levels.num_classes else None

    def forward(self, x_BCHW: Tensor, label_B: Tensor | None) -> Tensor:
        """Return logits (B,)."""
        x_BCHW = F.leaky_relu(self.conv(self.deviation(x_BCHW)), LEAKY_SLOPE)
        feature_BD = F.leaky_relu(self.hidden(x_BCHW.flatten(1)), LEAKY_SLOPE)
        logit_B = self.out(feature_BD).flatten()
        if self.projection is not None:
            logit_B = logit_B + self.projection(feature_BD, label_B)
        return logit_B


class GrowingDiscriminator(nn.Module):
    """Images (B, C, S, S) and classes (B,) -> one logit each (B,), high for real images.

    `has_filter` blurs before maps are halved, as StyleGAN does; otherwise they are averaged.
    """

    growth: Tensor

    def __init__(self, levels: Levels, has_filter: bool):
        super().__init__()
        self.register_buffer("growth", torch.tensor(len(levels) - 1.0))
        self.from_color = nn.ModuleList(
            EqualizedConv2d(levels.channels, width, 1, RELU_GAIN) for width in levels.widths
        )
        blocks = []
        for level in range(1, len(levels)):
            blocks.append(DiscriminatorBlock(levels.widths[level], levels.widths[level - 1], has_filter))
        self.blocks = nn.ModuleList(blocks)
        self.head = DiscriminatorHead(levels)

    def forward(self, image_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return logits (B,)."""
        num_levels = len(self.from_color)
        growth = read_growth(self.growth, num_levels)
        image_BCHW = F.avg_pool2d(image_BCHW, 2 ** (num_levels - 1 - growth.level))
        x_BCHW = self._read_color(image_BCHW, growth.level)
        for level in range(growth.level, 0, -1):
            x_BCHW = self.blocks[level - 1](x_BCHW)
            if level == growth.level and growth.fade < 1:
                coarse_BCHW = self._read_color(F.avg_pool2d(image_BCHW, 2), level - 1)
                x_BCHW = torch.lerp(coarse_BCHW, x_BCHW, growth.fade)
        return self.head(x_BCHW, label_B)

    def _read_color(self, image_BCHW: Tensor, level: int) -> Tensor:
        return F.leaky_relu(self.from_color[level](image_BCHW), LEAKY_SLOPE)
