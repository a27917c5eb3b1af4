"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360), Table 1, with torchvision's names of the weights.

Version 1.1 is a later one by the authors: a smaller first convolution and earlier poolings need 2.4 times less
arithmetic for the same accuracy. Differs from the paper: the initialization of He et al. (arXiv:1502.01852).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...config.size import PixelSize
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model
from .features_classifier import FeaturesClassifier

PAPER = "Iandola et al. 2016, arXiv:1602.07360"
#: (squeeze, expand) channels of the eight Fire modules
FIRE_CONFIG = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


class Fire(nn.Module):
    """Squeeze to few channels by 1x1, then expand by 1x1 and 3x3 in parallel (Figure 1).

    (B, C, H, W) -> (B, 2 x expand, H, W).
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return both expansions of the squeezed input, concatenated."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(FeaturesClassifier):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`, with features (B, 512, h, w).

    `pool_indices` are the positions of the poolings among the layers of `features`.
    """

    def __init__(self, stem: nn.Conv2d, pool_indices: tuple[int, ...], num_classes: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [stem, nn.ReLU(inplace=True)]
        in_channels = stem.out_channels
        for squeeze, expand in FIRE_CONFIG:
            if len(layers) in pool_indices:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(in_channels, squeeze, expand))
            in_channels = 2 * expand
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(in_channels, num_classes, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        he_normal_(self, mode="fan_in")
        nn.init.normal_(last.weight, std=0.01)


@register_model(task="classify", paper=PAPER)
def squeezenet1_0(in_channels: int, num_classes: int, image_size: PixelSize = 224, dropout: float = 0.5) -> nn.Module:
    """SqueezeNet 1.0: 5 MB of weights, for images of 21 pixels and up. Raises OptionError for smaller ones."""
    check_min_size(21, image_size, "SqueezeNet 1.0")
    return SqueezeNet(nn.Conv2d(in_channels, 96, 7, stride=2), (2, 6, 11), num_classes, dropout)


@register_model(task="classify", paper=PAPER)
def squeezenet1_1(in_channels: int, num_classes: int, image_size: PixelSize = 224, dropout: float = 0.5) -> nn.Module:
    """SqueezeNet 1.1: 5 MB of weights, for images of 17 pixels and up. Raises OptionError for smaller ones."""
    check_min_size(17, image_size, "SqueezeNet 1.1")
    return SqueezeNet(nn.Conv2d(in_channels, 64, 3, stride=2), (2, 5, 8), num_classes, dropout)
