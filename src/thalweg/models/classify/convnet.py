"""A small modern convolutional network of our own, for images of 8 to 96 pixels.

Stages of 3x3 convolutions, each with batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) and ReLU; 2x2
max pooling between the stages, and global max pooling before one linear layer. Most of the arithmetic is in the later
stages, on small maps with many channels, where CPUs are fastest. The first convolution may have stride 2 (`stem=2`),
which quarters the work of all layers after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...config.size import PixelSize, to_height_width
from ...errors import OptionError
from ...registry import register_model


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, batch normalization and ReLU; stride 1 keeps the size of the maps."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class ConvNet(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(
        self, in_channels: int, num_classes: int, image_size: PixelSize, widths: Sequence[int], depth: int, stem: int
    ):
        super().__init__()
        layers = conv_bn_relu(in_channels, widths[0], kernel=5 if stem == 2 else 3, stride=stem)
        map_size = -(-min(to_height_width(image_size)) // stem)
        in_channels = widths[0]
        for index, width in enumerate(widths):
            for _ in range(depth):
                layers += conv_bn_relu(in_channels, width)
                in_channels = width
            if index < len(widths) - 1 and map_size >= 4:
                layers.append(nn.MaxPool2d(2))
                map_size //= 2
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Ioffe and Szegedy 2015, arXiv:1502.03167 (the blocks; the network is ours)")
def convnet(
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 28,
    widths: Sequence[int] | int = (32, 64, 128),
    depth: int = 1,
    stem: int = 1,
) -> nn.Module:
    """A small modern convolutional network: best accuracy and speed at this size.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        widths: channels of each stage.
        depth: convolutions of each stage.
        stem: stride of the first convolution, 1 or 2.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: no stage, a width or depth below 1, or another stem.
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    if not widths or min(widths) < 1:
        raise OptionError(
            f"widths: {list(widths)}; expected at least one stage, of at least 1 channel each.",
            "Use e.g. 32,64,128.",
            option="widths",
            value=widths,
        )
    if depth < 1:
        raise OptionError(f"depth: {depth}; expected at least 1.", "Use 1 or 2.", option="depth", value=depth)
    if stem not in (1, 2):
        raise OptionError(f"stem: {stem}; expected 1 or 2.", "Use 1 or 2.", option="stem", value=stem, allowed=(1, 2))
    return ConvNet(in_channels, num_classes, image_size, widths, depth, stem)
