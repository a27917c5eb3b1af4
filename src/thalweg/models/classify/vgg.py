"""VGG (Simonyan and Zisserman 2015, arXiv:1409.1556), Table 1, columns A, B, D and E, with torchvision's names.

Differs from the paper: the last maps are averaged to 7x7 before the three linear layers, so images may have any size
from 32 pixels; the initialization is that of He et al. (arXiv:1502.01852), so the deep ones learn from scratch too; the
`_bn` networks have batch normalization (arXiv:1502.03167), which is newer than the paper, after each convolution.
"""

from __future__ import annotations

from torch import nn

from ...config.size import PixelSize
from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model
from .features_classifier import FeaturesClassifier

PAPER = "Simonyan and Zisserman 2015, arXiv:1409.1556"
#: channels of the five stages; a pooling ends each
WIDTHS = (64, 128, 256, 512, 512)
#: column of Table 1 -> 3x3 convolutions of each stage
DEPTHS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}


def make_features(column: str, in_channels: int, batch_norm: bool = False) -> list[nn.Module]:
    """Return the five stages of a column of Table 1: (B, C, H, W) -> (B, 512, H/32, W/32)."""
    layers: list[nn.Module] = []
    for width, depth in zip(WIDTHS, DEPTHS[column], strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


class VGG(FeaturesClassifier):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`, with features (B, 25088)."""

    def __init__(self, layers: list[nn.Module], num_classes: int, hidden: int, dropout: float):
        super().__init__()
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )


def build_vgg(layers: list[nn.Module], num_classes: int, image_size: PixelSize, hidden: int, dropout: float) -> VGG:
    """Build and initialize a VGG.

    Args:
        layers: the stages that `make_features` returns.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares, at least 32.
        hidden: neurons of each hidden layer.
        dropout: probability of dropping a hidden neuron during training.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: images below 32 pixels, or no hidden neuron.
    """
    check_min_size(32, image_size, "VGG")
    if hidden < 1:
        raise OptionError(f"hidden: {hidden}; expected at least 1.", "Use e.g. 4096.", option="hidden", value=hidden)
    return he_normal_(VGG(layers, num_classes, hidden, dropout))


@register_model(task="classify", paper=PAPER)
def vgg11(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-11 (column A): 133 million weights, 124 of them in the linear layers of `hidden` neurons.

    Raises OptionError for images below 32 pixels and for no hidden neuron.
    """
    return build_vgg(make_features("A", in_channels), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg13(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-13 (column B): 133 million weights; choices as for vgg11."""
    return build_vgg(make_features("B", in_channels), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg16(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-16 (column D): 138 million weights, the usual VGG of the literature; choices as for vgg11."""
    return build_vgg(make_features("D", in_channels), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg19(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-19 (column E): 144 million weights; choices as for vgg11."""
    return build_vgg(make_features("E", in_channels), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg11_bn(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-11 with batch normalization; choices as for vgg11."""
    return build_vgg(make_features("A", in_channels, batch_norm=True), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg13_bn(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-13 with batch normalization; choices as for vgg11."""
    return build_vgg(make_features("B", in_channels, batch_norm=True), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg16_bn(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-16 with batch normalization; choices as for vgg11."""
    return build_vgg(make_features("D", in_channels, batch_norm=True), num_classes, image_size, hidden, dropout)


@register_model(task="classify", paper=PAPER)
def vgg19_bn(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, hidden: int = 4096, dropout: float = 0.5
) -> nn.Module:
    """VGG-19 with batch normalization; choices as for vgg11."""
    return build_vgg(make_features("E", in_channels, batch_norm=True), num_classes, image_size, hidden, dropout)
