"""R3GAN (Huang et al. 2024, arXiv:2501.05441), sections 3 and 4: a plain network with a loss that converges.

Real and generated images are judged in pairs, and gradients are penalized at both. That needs no normalization, no
styles, no noise and no minibatch deviation: both networks are stacks of residual blocks with grouped convolutions. The
last layer of each block begins at zero, so that at first the generator is linear.

Differs from the paper: one instead of two blocks for each level and far fewer channels by default (the paper for
CIFAR-10: `width=768, max_width=768, blocks=2`); the weight of the penalties follows from the size of the images, about
as in the paper's data sets, and stays, where the paper lets it fall to a tenth while it also lowers the learning rate.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.check_arguments import check_positive
from ...layers.resample import Downsample, Taps, Upsample
from ...registry import register_model
from .base import GanModel, GanTraining
from .conditional import ClassProjection, LatentGenerator
from .levels import LEAKY_SLOPE, MIN_SIZE, Levels, plan_levels

#: what keeps the mean square of what passes a leaky ReLU
LEAKY_GAIN = math.sqrt(2 / (1 + LEAKY_SLOPE**2))
#: channels inside of a block relative to outside
EXPANSION = 2
#: channels that a filter of 3x3 pixels reads
GROUP_SIZE = 16
#: numbers of the vector of a class, which joins the latent
CLASS_DIM = 64
#: low-pass filter of both networks
TAPS: Taps = (1, 2, 1)
#: weight of the penalties at 64 pixels, for faces; eight times as much for twice the size, but constant below 32 pixels
PENALTY, PENALTY_SIZE, MIN_PENALTY_SIZE = 2.0, 64, 32


def init_conv(conv: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Initialize filters from N(0, gain^2 / fan_in), and a bias with 0."""
    fan_in = conv.weight[0].numel()
    nn.init.normal_(conv.weight, std=gain / math.sqrt(fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class ResidualBlock(nn.Module):
    """x + convolutions of 1x1, grouped 3x3 and 1x1 pixels, the last of which begins at 0.

    The weights of the others are the smaller, the more blocks (`num_blocks`) the network has.
    """

    def __init__(self, width: int, num_blocks: int):
        super().__init__()
        inner = EXPANSION * width
        groups = inner // math.gcd(inner, GROUP_SIZE)
        self.expand = nn.Conv2d(width, inner, 1)
        self.grouped = nn.Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.reduce = nn.Conv2d(inner, width, 1, bias=False)
        gain = LEAKY_GAIN * num_blocks**-0.25
        init_conv(self.expand, gain)
        init_conv(self.grouped, gain)
        nn.init.zeros_(self.reduce.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps of the same shape."""
        y_BCHW = F.leaky_relu(self.expand(x_BCHW), LEAKY_SLOPE)
        y_BCHW = F.leaky_relu(self.grouped(y_BCHW), LEAKY_SLOPE)
        return x_BCHW + self.reduce(y_BCHW)


def linear_conv(in_channels: int, out_channels: int) -> nn.Module:
    """Return a 1x1 convolution without bias; nothing where the width stays."""
    if in_channels == out_channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    init_conv(conv)
    return conv


class FirstMaps(nn.Module):
    """Styles (B, W) -> maps (B, C, 4, 4): a learned pattern for each channel, times a linear function of the style."""

    def __init__(self, style_dim: int, width: int):
        super().__init__()
        self.pattern_CHW = nn.Parameter(torch.randn(width, MIN_SIZE, MIN_SIZE))
        self.linear = nn.Linear(style_dim, width, bias=False)
        init_conv(self.linear)

    def forward(self, style_BW: Tensor) -> Tensor:
        """Return maps (B, C, 4, 4)."""
        return self.linear(style_BW)[..., None, None] * self.pattern_CHW


class R3ganGenerator(LatentGenerator):
    """Latents (B, latent_dim) -> images (B, C, S, S). The style is the latent, with the vector of the class."""

    def __init__(self, levels: Levels, latent_dim: int, blocks: int):
        super().__init__(latent_dim, levels.num_classes, CLASS_DIM)
        width = levels.widths[0]
        layers: list[nn.Module] = [FirstMaps(self.style_dim, width)]
        for level, next_width in enumerate(levels.widths):
            if level:
                layers += [linear_conv(width, next_width), Upsample(TAPS)]
            width = next_width
            layers += [ResidualBlock(width, blocks * len(levels)) for _ in range(blocks)]
        to_color = nn.Conv2d(width, levels.channels, 1, bias=False)
        init_conv(to_color)
        self.layers = nn.Sequential(*layers, to_color)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S)."""
        return self.layers(style_BNW[:, 0])


class R3ganDiscriminator(nn.Module):
    """Images (B, C, S, S) and classes (B,) -> one logit each (B,), higher for real images.

    Only differences of logits are trained: their level means nothing.
    """

    def __init__(self, levels: Levels, blocks: int):
        super().__init__()
        width = levels.widths[-1]
        from_color = nn.Conv2d(levels.channels, width, 1, bias=False)
        init_conv(from_color)
        layers: list[nn.Module] = [from_color]
        for level in reversed(range(len(levels))):
            layers += [ResidualBlock(width, blocks * len(levels)) for _ in range(blocks)]
            if level:
                layers += [Downsample(TAPS), linear_conv(width, levels.widths[level - 1])]
                width = levels.widths[level - 1]
        pattern = nn.Conv2d(width, width, MIN_SIZE, groups=width, bias=False)
        init_conv(pattern)
        self.layers = nn.Sequential(*layers, pattern, nn.Flatten())
        self.projection = ClassProjection(levels.num_classes, width) if levels.num_classes else None
        self.out = nn.Linear(width, width if levels.num_classes else 1, bias=False)
        init_conv(self.out)

    def forward(self, image_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return logits (B,)."""
        out_BD = self.out(self.layers(image_BCHW))
        if self.projection is None:
            return out_BD.flatten()
        return self.projection(out_BD, label_B)


@register_model(
    task="generate",
    paper="arXiv:2501.05441",
    training={"optimizer": "adam", "lr": 2e-4, "momentum": 0.0, "beta2": 0.99},
)
def r3gan(  # noqa: PLR0913 - settings of the command line
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 64,
    width: int = 32,
    max_width: int = 128,
    blocks: int = 1,
    num_classes: int = 0,
) -> nn.Module:
    """R3GAN: residual networks without normalization, judged in pairs, with gradient penalties at both kinds of images.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, a power of two from 8 to 1024.
        latent_dim: numbers in a latent vector, of which the first maps are linear functions.
        width: channels of the blocks at the size of the images; each halving of the maps doubles them.
        max_width: channels of a layer at most.
        blocks: residual blocks of each level.
        num_classes: classes of a conditional model; 0 for none.

    Returns:
        A model with the children `network`, from latents to images, and `discriminator`, which compares.

    Raises:
        OptionError: an image size, a width, a number of blocks or a latent dimension that is not possible.
    """
    levels = plan_levels(in_channels, image_size, width, max_width, num_classes)
    check_positive(latent_dim=latent_dim, blocks=blocks)
    penalty = PENALTY * (max(image_size, MIN_PENALTY_SIZE) / PENALTY_SIZE) ** 3
    training = GanTraining("relativistic", r1=penalty, r2=penalty, penalty_interval=1)
    return GanModel(R3ganGenerator(levels, latent_dim, blocks), R3ganDiscriminator(levels, blocks), training)
