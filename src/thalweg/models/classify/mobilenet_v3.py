"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), Tables 1 and 2, with torchvision's names of the weights.

Differs from the paper as torchvision does: the last two layers are linear ones after the pooling; batch normalisation
takes up 1 % of each batch's statistics and adds 0.001 to the variance; squeeze-and-excite keeps a quarter of the
expanded channels, rounded to eights.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

PAPER = "Howard et al. 2019, arXiv:1905.02244"


class BlockConfig(NamedTuple):
    """A line of the paper's tables: "SE" is `excite`, "NL" is HS with `hard` and RE without it."""

    kernel: int
    expanded: int
    outputs: int
    excite: bool
    hard: bool
    stride: int


LARGE_CONFIG = [
    BlockConfig(3, 16, 16, False, False, 1),
    BlockConfig(3, 64, 24, False, False, 2),
    BlockConfig(3, 72, 24, False, False, 1),
    BlockConfig(5, 72, 40, True, False, 2),
    BlockConfig(5, 120, 40, True, False, 1),
    BlockConfig(5, 120, 40, True, False, 1),
    BlockConfig(3, 240, 80, False, True, 2),
    BlockConfig(3, 200, 80, False, True, 1),
    BlockConfig(3, 184, 80, False, True, 1),
    BlockConfig(3, 184, 80, False, True, 1),
    BlockConfig(3, 480, 112, True, True, 1),
    BlockConfig(3, 672, 112, True, True, 1),
    BlockConfig(5, 672, 160, True, True, 2),
    BlockConfig(5, 960, 160, True, True, 1),
    BlockConfig(5, 960, 160, True, True, 1),
]
SMALL_CONFIG = [
    BlockConfig(3, 16, 16, True, False, 2),
    BlockConfig(3, 72, 24, False, False, 2),
    BlockConfig(3, 88, 24, False, False, 1),
    BlockConfig(5, 96, 40, True, True, 2),
    BlockConfig(5, 240, 40, True, True, 1),
    BlockConfig(5, 240, 40, True, True, 1),
    BlockConfig(5, 120, 48, True, True, 1),
    BlockConfig(5, 144, 48, True, True, 1),
    BlockConfig(5, 288, 96, True, True, 2),
    BlockConfig(5, 576, 96, True, True, 1),
    BlockConfig(5, 576, 96, True, True, 1),
]


def make_divisible(channels: int) -> int:
    """The nearest multiple of eight, or the next one where that is more than a tenth less; at least 8."""
    near = max(8, (channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def conv_bn_act(
    inputs: int, outputs: int, activation: type[nn.Module] | None, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, activation: the size stays unless `stride` is above one."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excite (Hu et al. 2018, arXiv:1709.01507): scales each channel by what the means of all say."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = make_divisible(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.relu = nn.Conv2d(channels, squeezed, 1), nn.ReLU(inplace=True)
        self.fc2, self.gate = nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """x times one number in 0..1 for each picture and channel."""
        return self.gate(self.fc2(self.relu(self.fc1(self.avgpool(x))))) * x


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, excite, project by 1x1; added to the input where shapes agree (Figure 4)."""

    def __init__(self, inputs: int, row: BlockConfig):
        super().__init__()
        activation = nn.Hardswish if row.hard else nn.ReLU
        layers = [conv_bn_act(inputs, row.expanded, activation)] if row.expanded != inputs else []
        layers.append(conv_bn_act(row.expanded, row.expanded, activation, row.kernel, row.stride, groups=row.expanded))
        layers += [SqueezeExcitation(row.expanded)] if row.excite else []
        self.block = nn.Sequential(*layers, conv_bn_act(row.expanded, row.outputs, None))
        self.adds = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H/stride, W/stride)."""
        y = self.block(x)
        return y + x if self.adds else y


class MobileNetV3(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, rows: list[BlockConfig], hidden: int, channels: int, classes: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [conv_bn_act(channels, 16, nn.Hardswish, kernel=3, stride=2)]
        inputs = 16
        for row in rows:
            layers.append(InvertedResidual(inputs, row))
            inputs = row.outputs
        layers.append(conv_bn_act(inputs, 6 * inputs, nn.Hardswish))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(6 * inputs, hidden), nn.Hardswish(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    @property
    def head(self) -> nn.Sequential:
        """The two linear layers."""
        return self.classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper=PAPER)
def mobilenet_v3_small(channels: int, classes: int, size: int = 224, dropout: float = 0.2) -> nn.Module:
    """MobileNetV3-Small: 2.5 million weights, little arithmetic. Raises OptionError for pictures of no pixel."""
    check_min_size(1, size, "MobileNetV3")
    return he_normal_(MobileNetV3(SMALL_CONFIG, 1024, channels, classes, dropout))


@register_model(task="classify", paper=PAPER)
def mobilenet_v3_large(channels: int, classes: int, size: int = 224, dropout: float = 0.2) -> nn.Module:
    """MobileNetV3-Large: 5.5 million weights, little arithmetic. Raises OptionError for pictures of no pixel."""
    check_min_size(1, size, "MobileNetV3")
    return he_normal_(MobileNetV3(LARGE_CONFIG, 1280, channels, classes, dropout))
