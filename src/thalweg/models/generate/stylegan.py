"""StyleGAN (Karras, Laine, Aila 2019, arXiv:1812.04948), Figure 1 and configuration F of Table 1.

A mapping network turns the latent into a style. The image grows out of a learned constant, and each layer takes mean
and deviation of its maps from the style, and its randomness from noise.

There are two styles for each level: 0 and 1 belong to maps of 4x4 pixels, 2 and 3 to 8x8, and so on. Coarse styles
decide on pose and shape, fine ones on colors and texture.

Differs from the paper: growing begins at 4x4 instead of 8x8 pixels; the gradient penalty runs on every 16th step, as
in StyleGAN2, and weighs 1 instead of 10 up to 128 pixels; conditional models, by embedding and projection
(arXiv:1802.05637); far fewer channels by default (the paper at 1024 pixels: `width=16, max_width=512, latent_dim=512`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.check_arguments import check_positive
from ...layers.equalized import RELU_GAIN, EqualizedConv2d
from ...layers.noise import Noise
from ...layers.style import AdaptiveInstanceNorm
from ...registry import register_model
from .base import GanModel, GanTraining
from .growing import GrowingDiscriminator, GrowingOutput
from .levels import LEAKY_SLOPE, MIN_SIZE, Levels, plan_levels, read_growth
from .mapping import MappedGenerator

#: image size up to which the gradient penalty weighs 1
MAX_SMALL_SIZE = 128


class StyledLayer(nn.Module):
    """What follows a convolution: noise, bias, leaky ReLU, and mean and deviation by the style (B, W)."""

    def __init__(self, width: int, size: int, style_dim: int):
        super().__init__()
        self.noise = Noise(size, width)
        self.bias_C11 = nn.Parameter(torch.zeros(width, 1, 1))
        self.norm = AdaptiveInstanceNorm(width, style_dim)

    def forward(self, x_BCHW: Tensor, style_BW: Tensor) -> Tensor:
        """Return maps (B, C, H, W)."""
        x_BCHW = self.noise(x_BCHW) + self.bias_C11.to(x_BCHW.dtype)
        return self.norm(F.leaky_relu(x_BCHW, LEAKY_SLOPE), style_BW)


class StyledLevel(nn.Module):
    """Maps (B, I, S, S) and two styles -> (B, O, 2S, 2S); the first level has no maps to read, and keeps the size."""

    def __init__(self, in_channels: int | None, width: int, size: int, style_dim: int):
        super().__init__()
        self.enlarge: nn.Module = nn.Identity()
        if in_channels is not None:
            self.enlarge = EqualizedConv2d(in_channels, width, 3, RELU_GAIN, has_bias=False, resample="up")
        self.first = StyledLayer(width, size, style_dim)
        self.conv = EqualizedConv2d(width, width, 3, RELU_GAIN, has_bias=False)
        self.second = StyledLayer(width, size, style_dim)

    def forward(self, x_BCHW: Tensor, style_B2W: Tensor) -> Tensor:
        """Return the maps of this level."""
        x_BCHW = self.first(self.enlarge(x_BCHW), style_B2W[:, 0])
        return self.second(self.conv(x_BCHW), style_B2W[:, 1])


class StyleganGenerator(MappedGenerator):
    """Latents (B, latent_dim) -> images (B, C, S, S), by two styles for each level."""

    growth: Tensor

    def __init__(self, levels: Levels, latent_dim: int, mapping_depth: int):
        super().__init__(latent_dim, 2 * len(levels), mapping_depth, levels.num_classes)
        self.register_buffer("growth", torch.tensor(len(levels) - 1.0))
        self.num_levels = len(levels)
        self.constant_CHW = nn.Parameter(torch.ones(levels.widths[0], MIN_SIZE, MIN_SIZE))
        blocks = []
        in_channels = None
        for level, width in enumerate(levels.widths):
            blocks.append(StyledLevel(in_channels, width, levels.size(level), latent_dim))
            in_channels = width
        self.levels = nn.ModuleList(blocks)
        self.output = GrowingOutput(levels)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S)."""
        growth = read_growth(self.growth, len(self.levels))
        fine_BCHW = self.constant_CHW.expand(len(style_BNW), -1, -1, -1)
        coarse_BCHW = fine_BCHW
        for index, level in enumerate(self.levels[: growth.level + 1]):
            coarse_BCHW = fine_BCHW
            fine_BCHW = level(fine_BCHW, style_BNW[:, 2 * index : 2 * index + 2])
        return self.output(coarse_BCHW, fine_BCHW, growth)


@register_model(
    task="generate",
    paper="arXiv:1812.04948",
    training={"optimizer": "adam", "lr": 2e-3, "momentum": 0.0, "beta2": 0.99},
)
def stylegan(  # noqa: PLR0913 - settings of the command line
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 128,
    width: int = 32,
    max_width: int = 128,
    mapping_depth: int = 8,
    num_classes: int = 0,
) -> nn.Module:
    """StyleGAN: a mapping network, styles and noise for each layer, and growing.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, a power of two from 8 to 1024.
        latent_dim: numbers in a latent vector, and in a style.
        width: channels of the last level; each coarser level has twice as many.
        max_width: channels of a layer at most.
        mapping_depth: layers of the mapping network.
        num_classes: classes of a conditional model; 0 for none.

    Returns:
        A model with the children `network`, from latents to styles to images, and `discriminator`; both grow.

    Raises:
        OptionError: an image size, a width, a depth or a latent dimension that is not possible.
    """
    levels = plan_levels(in_channels, image_size, width, max_width, num_classes)
    check_positive(latent_dim=latent_dim, mapping_depth=mapping_depth)
    r1 = 1.0
    if image_size > MAX_SMALL_SIZE:
        r1 = 10.0
    generator = StyleganGenerator(levels, latent_dim, mapping_depth)
    return GanModel(generator, GrowingDiscriminator(levels, has_filter=True), GanTraining(r1=r1, mixing=0.9))
