"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), Figures 2 and 7.

Styles scale the filters of convolutions instead of normalizing maps. Nothing grows: the generator sums the images of
all levels, the discriminator is a residual network.

There are two styles for each level: 0 and 1 belong to maps of 4x4 pixels, 2 and 3 to 8x8, and so on; the color of a
level comes from its second style. Level 0 has one convolution only, which reads style 0; style 1 decides on its color.
In the authors' code the number of styles is the same, but a level's color shares its style with the first convolution
of the next level.

Differs from the paper: a mapping network of 2 instead of 8 layers, as its authors use for small images
(arXiv:2006.06676); path length regularization is off up to 64 pixels; the gradient penalty grows with the number of
pixels, as there; conditional models, by embedding and projection, as there; far fewer channels by default (the paper at
1024 pixels: `width=32, max_width=512, latent_dim=512, mapping_depth=8`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.check_arguments import check_positive
from ...layers.equalized import RELU_GAIN, EqualizedConv2d, Resampling
from ...layers.noise import Noise
from ...layers.resample import Downsample, Upsample
from ...layers.style import ModulatedConv2d
from ...registry import register_model
from .base import GanModel, GanTraining
from .growing import DiscriminatorHead
from .levels import LEAKY_SLOPE, MIN_SIZE, Levels, plan_levels
from .mapping import MappedGenerator

#: the gradient penalty's weight for each pixel (arXiv:2006.06676: 0.0002 / batch size), and its smallest
R1_OF_PIXEL = 0.0002 / 16
MIN_R1 = 0.05
#: image size up to which path lengths are not regularized
MAX_SMALL_SIZE = 64


class StyledConv(nn.Module):
    """Modulated convolution with noise, bias and leaky ReLU."""

    def __init__(self, in_channels: int, width: int, size: int, style_dim: int, resample: Resampling = "none"):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, width, 3, style_dim, resample=resample)
        self.noise = Noise(size)
        self.bias_C11 = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x_BCHW: Tensor, style_BW: Tensor) -> Tensor:
        """Return maps (B, C, H, W), with the variance of what a layer reads."""
        x_BCHW = self.noise(self.conv(x_BCHW, style_BW))
        x_BCHW = x_BCHW + self.bias_C11.to(x_BCHW.dtype)
        return F.leaky_relu(x_BCHW, LEAKY_SLOPE) * RELU_GAIN


class StyledLevel(nn.Module):
    """Maps and an image of half the size, and two styles -> the maps and the image of this level."""

    def __init__(self, in_channels: int, width: int, size: int, style_dim: int, channels: int):
        super().__init__()
        self.first = None
        if size > MIN_SIZE:
            self.first = StyledConv(in_channels, width, size, style_dim, resample="up")
        self.second = StyledConv(width, width, size, style_dim)
        self.to_color = ModulatedConv2d(width, channels, 1, style_dim, demodulate=False)
        self.color_bias_C11 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.upsample = Upsample()

    def forward(self, x_BCHW: Tensor, image_BCHW: Tensor | None, style_B2W: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and image of this level; the first level has no image to add to."""
        if self.first is None:
            x_BCHW = self.second(x_BCHW, style_B2W[:, 0])
        else:
            x_BCHW = self.second(self.first(x_BCHW, style_B2W[:, 0]), style_B2W[:, 1])
        color_BCHW = self.to_color(x_BCHW, style_B2W[:, 1]) + self.color_bias_C11
        if image_BCHW is not None:
            color_BCHW = color_BCHW + self.upsample(image_BCHW)
        return x_BCHW, color_BCHW


class Stylegan2Generator(MappedGenerator):
    """Latents (B, latent_dim) -> images (B, C, S, S), by two styles for each level."""

    def __init__(self, levels: Levels, latent_dim: int, mapping_depth: int):
        super().__init__(latent_dim, 2 * len(levels), mapping_depth, levels.num_classes)
        in_channels = levels.widths[0]
        self.constant_CHW = nn.Parameter(torch.randn(in_channels, MIN_SIZE, MIN_SIZE))
        blocks = []
        for level, width in enumerate(levels.widths):
            blocks.append(StyledLevel(in_channels, width, levels.size(level), latent_dim, levels.channels))
            in_channels = width
        self.levels = nn.ModuleList(blocks)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S)."""
        x_BCHW = self.constant_CHW.expand(len(style_BNW), -1, -1, -1)
        image_BCHW = None
        for index, level in enumerate(self.levels):
            x_BCHW, image_BCHW = level(x_BCHW, image_BCHW, style_BNW[:, 2 * index : 2 * index + 2])
        assert image_BCHW is not None
        return image_BCHW


class ResidualBlock(nn.Module):
    """Two convolutions beside a linear path, (B, I, S, S) -> (B, O, S/2, S/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = EqualizedConv2d(in_channels, in_channels, 3, RELU_GAIN)
        self.second = EqualizedConv2d(in_channels, out_channels, 3, RELU_GAIN, resample="down")
        self.downsample = Downsample()
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, has_bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps of half the size, with the variance of what comes in."""
        y_BCHW = F.leaky_relu(self.first(x_BCHW), LEAKY_SLOPE)
        y_BCHW = F.leaky_relu(self.second(y_BCHW), LEAKY_SLOPE)
        return (y_BCHW + self.skip(self.downsample(x_BCHW))) * math.sqrt(0.5)


class ResidualDiscriminator(nn.Module):
    """Images (B, C, S, S) and classes (B,) -> one logit each (B,), high for real images."""

    def __init__(self, levels: Levels):
        super().__init__()
        self.from_color = EqualizedConv2d(levels.channels, levels.widths[-1], 1, RELU_GAIN)
        self.blocks = nn.Sequential(*map(ResidualBlock, levels.widths[:0:-1], levels.widths[-2::-1]))
        self.head = DiscriminatorHead(levels)

    def forward(self, image_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return logits (B,)."""
        x_BCHW = F.leaky_relu(self.from_color(image_BCHW), LEAKY_SLOPE)
        return self.head(self.blocks(x_BCHW), label_B)


@register_model(
    task="generate",
    paper="arXiv:1912.04958",
    training={"optimizer": "adam", "lr": 2.5e-3, "momentum": 0.0, "beta2": 0.99},
)
def stylegan2(  # noqa: PLR0913 - settings of the command line
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 128,
    width: int = 32,
    max_width: int = 128,
    mapping_depth: int = 2,
    num_classes: int = 0,
) -> nn.Module:
    """StyleGAN2: styles scale the filters, and the images of all sizes add up.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, a power of two from 8 to 1024.
        latent_dim: numbers in a latent vector, and as many in a style.
        width: channels of the last level of both networks; each coarser level has twice as many.
        max_width: channels of a layer at most.
        mapping_depth: layers of the mapping network.
        num_classes: classes of a conditional model; 0 for none.

    Returns:
        A model with the children `network`, from latents to styles to images, and `discriminator`.

    Raises:
        OptionError: an image size that is no power of two from 8 to 1024, or a number below 1.
    """
    levels = plan_levels(in_channels, image_size, width, max_width, num_classes)
    check_positive(latent_dim=latent_dim, mapping_depth=mapping_depth)
    r1 = max(MIN_R1, R1_OF_PIXEL * image_size**2)
    path_length = 0.0
    if image_size > MAX_SMALL_SIZE:
        path_length = 2.0
    training = GanTraining(r1=r1, path_length=path_length, mixing=0.9)
    return GanModel(Stylegan2Generator(levels, latent_dim, mapping_depth), ResidualDiscriminator(levels), training)
