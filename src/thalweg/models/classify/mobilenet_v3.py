"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), Tables 1 and 2, with torchvision's names of the weights.

Differs from the paper as torchvision does: the last two layers are linear ones after the pooling; batch normalization
has momentum 0.01 and adds 0.001 to the variance; squeeze-and-excitation reduces to a quarter of the expanded channels,
rounded to multiples of eight.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ...config.size import PixelSize
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model
from .features_classifier import FeaturesClassifier

PAPER = "Howard et al. 2019, arXiv:1905.02244"


class BlockConfig(NamedTuple):
    """A row of the paper's tables: "SE" is `use_se`, "NL" is HS with `use_hswish` and RE without it."""

    kernel: int
    expanded_channels: int
    out_channels: int
    use_se: bool
    use_hswish: bool
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
    """Round to the nearest multiple of eight, at least 8; round up where rounding down would lose over a tenth."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def conv_bn_act(
    in_channels: int,
    out_channels: int,
    activation: type[nn.ReLU] | type[nn.Hardswish] | None,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution without bias, batch normalization and an activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: class of the activation; None for no activation.
        kernel: height and width of the kernel; the padding is half of it.
        stride: stride of the convolution; 1 keeps the size of the maps.
        groups: groups of channels that are convolved separately.

    Returns:
        Layers (B, C, H, W) -> (B, out_channels, H/stride, W/stride).
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Rescale channels by gates computed from their global means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = make_divisible(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each channel of each image by a gate in [0, 1]."""
        return self.gate(self.fc2(self.relu(self.fc1(self.avgpool(x))))) * x


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, excite, project by 1x1; residual where the shapes agree (Figure 4)."""

    def __init__(self, in_channels: int, config: BlockConfig):
        super().__init__()
        activation = nn.Hardswish if config.use_hswish else nn.ReLU
        expanded = config.expanded_channels
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(conv_bn_act(in_channels, expanded, activation))
        layers.append(conv_bn_act(expanded, expanded, activation, config.kernel, config.stride, groups=expanded))
        if config.use_se:
            layers.append(SqueezeExcitation(expanded))
        layers.append(conv_bn_act(expanded, config.out_channels, None))
        self.block = nn.Sequential(*layers)
        self.use_residual = config.stride == 1 and in_channels == config.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H/stride, W/stride)."""
        y = self.block(x)
        return y + x if self.use_residual else y


class MobileNetV3(FeaturesClassifier):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, configs: list[BlockConfig], hidden: int, in_channels: int, num_classes: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [conv_bn_act(in_channels, 16, nn.Hardswish, kernel=3, stride=2)]
        width = 16
        for config in configs:
            layers.append(InvertedResidual(width, config))
            width = config.out_channels
        layers.append(conv_bn_act(width, 6 * width, nn.Hardswish))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(6 * width, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )


@register_model(task="classify", paper=PAPER)
def mobilenet_v3_small(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, dropout: float = 0.2
) -> nn.Module:
    """MobileNetV3-Small: 2.5 million weights, little arithmetic. Raises OptionError for images without a pixel."""
    check_min_size(1, image_size, "MobileNetV3")
    return he_normal_(MobileNetV3(SMALL_CONFIG, 1024, in_channels, num_classes, dropout))


@register_model(task="classify", paper=PAPER)
def mobilenet_v3_large(
    in_channels: int, num_classes: int, image_size: PixelSize = 224, dropout: float = 0.2
) -> nn.Module:
    """MobileNetV3-Large: 5.5 million weights, little arithmetic. Raises OptionError for images without a pixel."""
    check_min_size(1, image_size, "MobileNetV3")
    return he_normal_(MobileNetV3(LARGE_CONFIG, 1280, in_channels, num_classes, dropout))
