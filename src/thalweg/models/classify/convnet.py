"""A small modern convolutional network of ours, for pictures of 8 to 96 pixels.

Stages of 3x3 convolutions, each with batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) and ReLU, a maximum
over 2x2 between stages, and the maximum over what is left before one linear layer. Most of the arithmetic is in the
later stages, on small maps with many channels, where processors are quickest; the first convolution may step by two
pixels (`stem=2`), which quarters the work of everything after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import OptionError
from ...registry import register_model


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias, batch normalisation, ReLU: the size stays unless `stride` is above one."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class ConvNet(nn.Module):
    """(B, C, S, S) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, channels: int, classes: int, size: int, widths: Sequence[int], depth: int, stem: int):
        super().__init__()
        layers = conv_bn_relu(channels, widths[0], kernel=5 if stem == 2 else 3, stride=stem)
        side, inputs = -(-size // stem), widths[0]
        for index, width in enumerate(widths):
            for _ in range(depth):
                layers += conv_bn_relu(inputs, width)
                inputs = width
            if index < len(widths) - 1 and side >= 4:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Ioffe and Szegedy 2015, arXiv:1502.03167 (the blocks; the network is ours)")
def convnet(
    channels: int, classes: int, size: int = 28, widths: Sequence[int] = (32, 64, 128), depth: int = 1, stem: int = 1
) -> nn.Module:
    """A small modern convolutional network: best accuracy and speed at this size.

    `widths` are the channels of each stage, `depth` its convolutions, `stem` the step of the first one (1 or 2).
    Raises OptionError for widths, depth or stem that make no network.
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    if not widths or min(widths) < 1 or depth < 1 or stem not in (1, 2):
        raise OptionError(
            f"convnet(widths={list(widths)}, depth={depth}, stem={stem}) is no network.",
            cure="Widths and depth are at least 1, stem is 1 or 2.",
        )
    return ConvNet(channels, classes, size, widths, depth, stem)
