"""Progressive growing of GANs (Karras et al. 2018, arXiv:1710.10196), Table 2 and sections 2 to 4.

Both networks begin with images of 4x4 pixels. Layers for twice the size fade in, one level after the other. Weights
have an equalized learning rate, the generator normalizes each pixel, the discriminator sees the deviation within its
batch. The last layer is linear: values beyond [-1, 1] are cut only where images are saved.

Differs from the paper: classes join the latent as a learned vector and the logit by projection (arXiv:1802.05637)
instead of an auxiliary classifier; minibatch deviation takes batches of any size; far fewer channels by default (the
paper at 1024 pixels: `width=16, max_width=512, latent_dim=512`).

Because every layer normalizes what it writes, the length of a latent hardly matters: truncation changes little.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.check_arguments import check_positive
from ...layers.equalized import RELU_GAIN, EqualizedConv2d, EqualizedLinear
from ...layers.style import PixelNorm
from ...registry import register_model
from .base import GanModel, GanTraining
from .conditional import LatentGenerator
from .growing import GrowingDiscriminator, GrowingOutput
from .levels import LEAKY_SLOPE, MIN_SIZE, Levels, plan_levels, read_growth

#: of the linear layer: its weights count as those of a 4x4 convolution, which has 16 times the inputs
FIRST_GAIN = RELU_GAIN / 4


class FirstBlock(nn.Module):
    """Styles (B, W) -> maps (B, C, 4, 4)."""

    def __init__(self, style_dim: int, width: int):
        super().__init__()
        self.linear = EqualizedLinear(style_dim, width * MIN_SIZE**2, FIRST_GAIN, initial_bias=None)
        self.bias_C11 = nn.Parameter(torch.zeros(width, 1, 1))
        self.conv = EqualizedConv2d(width, width, 3, RELU_GAIN)
        self.norm = PixelNorm()

    def forward(self, style_BW: Tensor) -> Tensor:
        """Return maps (B, C, 4, 4)."""
        x_BCHW = self.linear(style_BW).unflatten(1, (-1, MIN_SIZE, MIN_SIZE)) + self.bias_C11
        x_BCHW = self.norm(F.leaky_relu(x_BCHW, LEAKY_SLOPE))
        return self.norm(F.leaky_relu(self.conv(x_BCHW), LEAKY_SLOPE))


class UpBlock(nn.Module):
    """Maps (B, I, S, S) -> (B, O, 2S, 2S)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = EqualizedConv2d(in_channels, out_channels, 3, RELU_GAIN)
        self.second = EqualizedConv2d(out_channels, out_channels, 3, RELU_GAIN)
        self.norm = PixelNorm()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps of twice the size."""
        x_BCHW = F.interpolate(x_BCHW, scale_factor=2)
        x_BCHW = self.norm(F.leaky_relu(self.first(x_BCHW), LEAKY_SLOPE))
        return self.norm(F.leaky_relu(self.second(x_BCHW), LEAKY_SLOPE))


class ProganGenerator(LatentGenerator):
    """Latents (B, latent_dim) -> images (B, C, S, S). The style is the normalized latent, with the class's vector."""

    growth: Tensor

    def __init__(self, levels: Levels, latent_dim: int):
        super().__init__(latent_dim, levels.num_classes)
        self.register_buffer("growth", torch.tensor(len(levels) - 1.0))
        self.num_levels = len(levels)
        self.norm = PixelNorm()
        self.first = FirstBlock(self.style_dim, levels.widths[0])
        self.blocks = nn.ModuleList(map(UpBlock, levels.widths[:-1], levels.widths[1:]))
        self.output = GrowingOutput(levels)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return the normalized latent, followed by the vector of the class if conditional."""
        return super().map_latent(self.norm(latent_BL), label_B)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S)."""
        growth = read_growth(self.growth, self.num_levels)
        fine_BCHW = self.first(style_BNW[:, 0])
        coarse_BCHW = fine_BCHW
        for block in self.blocks[: growth.level]:
            coarse_BCHW = fine_BCHW
            fine_BCHW = block(fine_BCHW)
        return self.output(coarse_BCHW, fine_BCHW, growth)


@register_model(
    task="generate",
    paper="arXiv:1710.10196",
    training={"optimizer": "adam", "lr": 1e-3, "momentum": 0.0, "beta2": 0.99},
)
def progan(
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 128,
    width: int = 32,
    max_width: int = 128,
    num_classes: int = 0,
) -> nn.Module:
    """Progressive GAN: both networks grow from 4x4 pixels to the full image while they train.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, a power of two from 8 to 1024.
        latent_dim: numbers in a latent vector, which is normalized.
        width: channels of the layers with the largest maps; each halving of the maps doubles them.
        max_width: channels of a layer at most.
        num_classes: classes of a conditional model; 0 for none.

    Returns:
        A model whose children `network`, from latents (B, latent_dim) to images, and `discriminator` grow.

    Raises:
        OptionError: an image size, a width or a latent dimension that is not possible.
    """
    levels = plan_levels(in_channels, image_size, width, max_width, num_classes)
    check_positive(latent_dim=latent_dim)
    training = GanTraining("wasserstein", r1=0.0, penalty_interval=1, gradient_penalty=10.0, drift=1e-3)
    return GanModel(ProganGenerator(levels, latent_dim), GrowingDiscriminator(levels, has_filter=False), training)
