"""The network of the fastest published trainings on CIFAR-10 (Jordan 2024, arXiv:2404.00498, section 3).

The first layer whitens: its 2x2 filters are the eigenvectors of the covariance of 2x2 patches of training images,
scaled to outputs of variance one; each filter occurs twice, once negated. The filters are computed from data
(`init_whitening`) and never trained. Three groups of two 3x3 convolutions follow, with 2x2 max pooling after the first
convolution, batch normalization without learned scales, and filters that start as the identity. One linear layer
without bias reads the global maximum times `scale`.

Differs from the paper: the default widths are smaller, so that two CPU cores train it in minutes; the activation is
ReLU, the fastest on CPUs, and is an argument; the last pooling takes maps of any size, so images of other sizes work.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...config.size import PixelSize, format_size, to_height_width
from ...errors import OptionError
from ...layers.activations import build_activation
from ...registry import register_model

#: added to the variances before scaling to one (section 3.2): smaller variances are noise
MIN_VARIANCE = 5e-4


class WhiteningConv(nn.Conv2d):
    """(B, C, H, W) -> (B, 8C, H-1, W-1): projections of 2x2 patches with variance one; only the bias is trained."""

    def __init__(self, in_channels: int):
        super().__init__(in_channels, 2 * 4 * in_channels, 2)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def init_whitening(self, x_BCHW: Tensor) -> None:
        """Compute the filters from normalized images."""
        patches_BHWCyx = x_BCHW.cpu().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)
        # on the CPU, because not every device has float64
        patches_PD = patches_BHWCyx.flatten(3).flatten(0, 2).double()
        variance_D, vectors_DD = torch.linalg.eigh(patches_PD.T @ patches_PD / len(patches_PD))
        filters_DD = (vectors_DD / (variance_D + MIN_VARIANCE).sqrt()).T.flip(0)
        self.weight.copy_(torch.cat([filters_DD, -filters_DD]).view_as(self.weight))


class ConvGroup(nn.Module):
    """(B, I, H, W) -> (B, O, H/2, W/2): a convolution, 2x2 max pooling, and a second convolution."""

    def __init__(self, in_channels: int, out_channels: int, activation: str):
        super().__init__()
        self.layers = nn.Sequential(
            dirac_init(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)),
            nn.MaxPool2d(2),
            frozen_scale_bn(out_channels),
            build_activation(activation),
            dirac_init(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)),
            frozen_scale_bn(out_channels),
            build_activation(activation),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return maps (B, O, H/2, W/2)."""
        return self.layers(x_BCHW)


def dirac_init(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialize the first filters, one per input channel, as the identity (section 3.3)."""
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: conv.in_channels])
    return conv


def frozen_scale_bn(channels: int) -> nn.BatchNorm2d:
    """Return batch normalization whose scale stays one and whose running statistics follow quickly."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Mul(nn.Module):
    """Multiply by a constant, so that the logits start small (section 3.1)."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `factor` times the input."""
        return x * self.factor


class AirBench(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, in_channels: int, num_classes: int, widths: Sequence[int], activation: str, scale: float):
        super().__init__()
        layers: list[nn.Module] = [WhiteningConv(in_channels), build_activation(activation)]
        width_before = 8 * in_channels
        for width in widths:
            layers.append(ConvGroup(width_before, width, activation))
            width_before = width
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), Mul(scale))
        self.head = nn.Linear(width_before, num_classes, bias=False)

    def init_whitening(self, x_BCHW: Tensor) -> None:
        """Compute the whitening filters from normalized training images."""
        whitening = self.features[0]
        assert isinstance(whitening, WhiteningConv)
        whitening.init_whitening(x_BCHW)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Jordan 2024, arXiv:2404.00498")
def airbench(
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 32,
    widths: Sequence[int] | int = (32, 128, 128),
    activation: str = "relu",
    scale: float = 1 / 9,
) -> nn.Module:
    """The fastest network to 94 % on CIFAR-10: whitening, three groups of convolutions, identity at the start.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        widths: channels of each group of convolutions; the paper uses 64, 256, 256.
        activation: a name in `layers.activations`.
        scale: factor before the last layer.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: no width, a width below 1, or images too small for that many groups.
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    if not widths or min(widths) < 1:
        raise OptionError(
            f"widths: {list(widths)}; expected at least one width, of at least 1 channel each.",
            "Use e.g. 32,128,128.",
            option="widths",
            value=widths,
        )
    if (min(to_height_width(image_size)) - 1) >> len(widths) < 1:
        min_size = 2 ** len(widths) + 1
        size = format_size(image_size)
        raise OptionError(
            f"image_size: {size}; airbench with {len(widths)} widths needs at least {min_size} pixels.",
            cure=f"Give --image-size {min_size} or more, or fewer widths.",
            option="image_size",
            value=image_size,
        )
    return AirBench(in_channels, num_classes, widths, activation, scale)
