"""VGG (Simonyan and Zisserman 2015, arXiv:1409.1556), Table 1, columns A, B, D and E, with torchvision's names.

Differs from the paper: pictures of any size from 32 pixels up, as the last maps are averaged to 7x7 before the three
linear layers; weights begin as He et al. have them (arXiv:1502.01852), so that also the deep ones learn from scratch;
the `_bn` networks have batch normalisation (arXiv:1502.03167) after each convolution, which the paper is older than.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

PAPER = "Simonyan and Zisserman 2015, arXiv:1409.1556"
WIDTHS = (64, 128, 256, 512, 512)  # channels of the five stages; a pooling ends each
#: column of Table 1 -> 3x3 convolutions of each stage
DEPTHS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}


def make_features(channels: int, depths: Sequence[int], normalised: bool) -> list[nn.Module]:
    """The five stages: (B, C, H, W) -> (B, 512, H/32, W/32)."""
    layers, inputs = [], channels
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(inputs, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if normalised else []
            layers.append(nn.ReLU(inplace=True))
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return layers


class VGG(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`, with features (B, 25088)."""

    def __init__(self, layers: Sequence[nn.Module], classes: int, hidden: int, dropout: float):
        super().__init__()
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    @property
    def head(self) -> nn.Sequential:
        """The three linear layers."""
        return self.classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


def build_vgg(
    column: str, channels: int, classes: int, size: int, hidden: int, dropout: float, normalised: bool = False
) -> VGG:
    """A VGG with its first weights. Raises OptionError for pictures below 32 pixels and for no hidden neuron."""
    check_min_size(32, size, "A VGG")
    if hidden < 1:
        raise OptionError(f"hidden={hidden} leaves a VGG no neuron to decide with.", cure="Give at least 1.")
    return he_normal_(VGG(make_features(channels, DEPTHS[column], normalised), classes, hidden, dropout))


@register_model(task="classify", paper=PAPER)
def vgg11(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-11 (column A): 133 million weights, 124 of them in the linear layers of `hidden` neurons.

    Raises OptionError for pictures below 32 pixels and for no hidden neuron.
    """
    return build_vgg("A", channels, classes, size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg13(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-13 (column B): 133 million weights; choices as for vgg11."""
    return build_vgg("B", channels, classes, size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg16(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-16 (column D): 138 million weights, the one that most writings mean; choices as for vgg11."""
    return build_vgg("D", channels, classes, size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg19(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-19 (column E): 144 million weights; choices as for vgg11."""
    return build_vgg("E", channels, classes, size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg11_bn(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-11 with batch normalisation; choices as for vgg11."""
    return build_vgg("A", channels, classes, size, hidden, dropout, normalised=True)


@register_model(task="classify", paper=PAPER)
def vgg13_bn(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-13 with batch normalisation; choices as for vgg11."""
    return build_vgg("B", channels, classes, size, hidden, dropout, normalised=True)


@register_model(task="classify", paper=PAPER)
def vgg16_bn(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-16 with batch normalisation; choices as for vgg11."""
    return build_vgg("D", channels, classes, size, hidden, dropout, normalised=True)


@register_model(task="classify", paper=PAPER)
def vgg19_bn(channels: int, classes: int, size: int = 224, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG-19 with batch normalisation; choices as for vgg11."""
    return build_vgg("E", channels, classes, size, hidden, dropout, normalised=True)
