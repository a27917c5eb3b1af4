"""The network of the quickest published trainings on CIFAR-10 (Jordan 2024, arXiv:2404.00498, section 3).

The first layer whitens: its 2x2 filters are the eigenvectors of the covariance of 2x2 patches of training pictures,
scaled so that every answer has variance one, once as they are and once negated. They are computed from data
(`initialise_from`) and never trained. Three stages follow of two 3x3 convolutions each, with a maximum over 2x2 after
the first, batch normalisation without scales, and filters that begin as the identity. One linear layer without bias
reads the maximum of what is left, times `scale`.

Differs from the paper: the widths are smaller by default, so that two processor cores can train it in minutes; the
activation is ReLU, the quickest on processors, and can be chosen; the last pooling takes whatever extent is left, so
that pictures of other sizes can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.activations import build_activation as activation_layer
from ...registry import register_model

#: the smallest variance that is scaled to one (section 3.2): smaller ones are noise
MIN_VARIANCE = 5e-4


class WhiteningConv(nn.Conv2d):
    """(B, C, H, W) -> (B, 8C, H-1, W-1): projections of 2x2 patches with variance one; only the bias is trained."""

    def __init__(self, channels: int):
        super().__init__(channels, 2 * 4 * channels, 2)
        nn.init.zeros_(self.bias)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def initialise_from(self, x_BCHW: Tensor) -> None:
        """Sets the filters from normalised pictures."""
        patches_BHWCyx = x_BCHW.cpu().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)
        patches_PD = patches_BHWCyx.flatten(3).flatten(0, 2).double()  # which not every device has
        variance_D, vectors_DD = torch.linalg.eigh(patches_PD.T @ patches_PD / len(patches_PD))
        filters_DD = (vectors_DD / (variance_D + MIN_VARIANCE).sqrt()).T.flip(0)
        both = torch.cat([filters_DD, -filters_DD])
        self.weight.copy_(both.view_as(self.weight))


class ConvGroup(nn.Module):
    """(B, I, H, W) -> (B, O, H/2, W/2): convolution, maximum over 2x2, and a second convolution."""

    def __init__(self, inputs: int, outputs: int, activation: str):
        super().__init__()
        self.layers = nn.Sequential(
            dirac_init(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)),
            nn.MaxPool2d(2),
            frozen_scale_bn(outputs),
            activation_layer(activation),
            dirac_init(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)),
            frozen_scale_bn(outputs),
            activation_layer(activation),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The stage's answer."""
        return self.layers(x_BCHW)


def dirac_init(convolution: nn.Conv2d) -> nn.Conv2d:
    """Filters that begin by handing on their inputs, as far as there are as many outputs (section 3.3)."""
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[: convolution.in_channels])
    return convolution


def frozen_scale_bn(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation whose scale stays one; its running statistics follow quickly."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Mul(nn.Module):
    """Everything times one number, so that logits begin small (section 3.1)."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x times the factor."""
        return x * self.factor


class AirBench(nn.Module):
    """(B, C, S, S) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int], activation: str, scale: float):
        super().__init__()
        whitening, inputs = WhiteningConv(channels), 8 * channels
        layers: list[nn.Module] = [whitening, activation_layer(activation)]
        for width in widths:
            layers.append(ConvGroup(inputs, width, activation))
            inputs = width
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), Mul(scale))
        self.head = nn.Linear(inputs, classes, bias=False)

    def initialise_from(self, x_BCHW: Tensor) -> None:
        """Sets the whitening filters from normalised training pictures."""
        self.features[0].initialise_from(x_BCHW)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Jordan 2024, arXiv:2404.00498")
def airbench(
    channels: int,
    classes: int,
    size: int = 32,
    widths: Sequence[int] = (32, 128, 128),
    activation: str = "relu",
    scale: float = 1 / 9,
) -> nn.Module:
    """The quickest network to 94 % on CIFAR-10: whitening, three stages, identity at the start.

    `widths` are the channels of the stages; the paper's are 64, 256, 256. Raises OptionError for widths that make no
    network, and pictures too small for as many stages.
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    if not widths or min(widths) < 1:
        raise OptionError(f"airbench(widths={list(widths)}) is no network.", cure="Give widths of at least 1.")
    if (size - 1) >> len(widths) < 1:
        raise OptionError(
            f"airbench with {len(widths)} stages cannot read pictures of {size} pixels.",
            cure=f"Give --size {2 ** len(widths) + 1} or more, or fewer widths.",
        )
    return AirBench(channels, classes, widths, activation, scale)
