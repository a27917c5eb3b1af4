"""ResNets (He, Zhang, Ren, Sun 2016, arXiv:1512.03385), Table 1, with torchvision's names of the weights.

Differs from the paper: where a bottleneck halves the maps, its 3x3 convolution has stride two, not its first 1x1
("v1.5", as in torchvision), so no pixel is skipped. `stem="small"` is for small images (section 4.2): one 3x3
convolution of stride one and no pooling before the first stage; `stem="auto"` selects it up to 64 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...config.size import PixelSize, to_height_width
from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

PAPER = "He et al. 2016, arXiv:1512.03385"
STEMS = ("auto", "imagenet", "small")
#: pixels up to which "auto" selects the small stem: the other one would leave maps of 2x2 to the last stage
SMALL_IMAGE_SIZE = 64


def conv_no_bias(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, as batch normalization follows; stride 1 keeps the size of the maps."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


def make_downsample(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Return the projection of a block's input to the shape of its output (option B); None where the shapes agree."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv_no_bias(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions plus the input (Figure 5, left): (B, C, H, W) -> (B, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = conv_no_bias(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv_no_bias(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(convolutions(x) + x)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions plus the input (Figure 5, right): (B, C, H, W) -> (B, 4 width, H/stride, …)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = conv_no_bias(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv_no_bias(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv_no_bias(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(convolutions(x) + x)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`. `depths` are the blocks of each of the four stages."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        in_channels: int,
        num_classes: int,
        small: bool = False,
    ):
        super().__init__()
        self.conv1 = conv_no_bias(in_channels, 64, 3) if small else conv_no_bias(in_channels, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = make_stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = make_stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = make_stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = make_stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the maps of the last stage averaged over the image: (B, 512), or (B, 2048) with bottlenecks."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


def make_stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """Return the blocks of a stage.

    Args:
        block: class of the blocks.
        in_channels: channels of the stage's input.
        width: channels of the 3x3 convolutions.
        depth: number of blocks.
        stride: stride of the first block; the others have stride 1.

    Returns:
        Blocks (B, C, H, W) -> (B, width x expansion, H/stride, W/stride).
    """
    blocks: list[nn.Module] = [block(in_channels, width, stride)]
    for _ in range(depth - 1):
        blocks.append(block(width * block.expansion, width, stride=1))
    return nn.Sequential(*blocks)


def build_resnet(
    block: type[BasicBlock | Bottleneck],
    depths: Sequence[int],
    in_channels: int,
    num_classes: int,
    image_size: PixelSize,
    stem: str,
) -> ResNet:
    """Build and initialize a ResNet.

    Args:
        block: class of the blocks.
        depths: blocks of each of the four stages.
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        stem: "imagenet" (7x7 of stride two, then pooling), "small" (3x3), or "auto", which decides by the image size.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: an unknown stem, or images without a pixel.
    """
    check_min_size(1, image_size, "ResNet")
    if stem not in STEMS:
        raise OptionError(
            f"stem: unknown value '{stem}'; expected auto, imagenet or small.",
            cure="Use auto, imagenet or small.",
            option="stem",
            value=stem,
            allowed=STEMS,
        )
    small = stem == "small" or (stem == "auto" and min(to_height_width(image_size)) <= SMALL_IMAGE_SIZE)
    return he_normal_(ResNet(block, depths, in_channels, num_classes, small))


@register_model(task="classify", paper=PAPER)
def resnet18(in_channels: int, num_classes: int, image_size: PixelSize = 224, stem: str = "auto") -> nn.Module:
    """ResNet-18: 11.7 million weights, fast; the first one to fine-tune.

    `stem` is auto, imagenet (7x7 of stride two, then pooling) or small (3x3). Raises OptionError for another.
    """
    return build_resnet(BasicBlock, (2, 2, 2, 2), in_channels, num_classes, image_size, stem)


@register_model(task="classify", paper=PAPER)
def resnet34(in_channels: int, num_classes: int, image_size: PixelSize = 224, stem: str = "auto") -> nn.Module:
    """ResNet-34: 21.8 million weights; `stem` as for resnet18."""
    return build_resnet(BasicBlock, (3, 4, 6, 3), in_channels, num_classes, image_size, stem)


@register_model(task="classify", paper=PAPER)
def resnet50(in_channels: int, num_classes: int, image_size: PixelSize = 224, stem: str = "auto") -> nn.Module:
    """ResNet-50: 25.6 million weights in bottlenecks; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 4, 6, 3), in_channels, num_classes, image_size, stem)


@register_model(task="classify", paper=PAPER)
def resnet101(in_channels: int, num_classes: int, image_size: PixelSize = 224, stem: str = "auto") -> nn.Module:
    """ResNet-101: 44.5 million weights in bottlenecks; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 4, 23, 3), in_channels, num_classes, image_size, stem)


@register_model(task="classify", paper=PAPER)
def resnet152(in_channels: int, num_classes: int, image_size: PixelSize = 224, stem: str = "auto") -> nn.Module:
    """ResNet-152: 60.2 million weights in bottlenecks, slow and accurate; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 8, 36, 3), in_channels, num_classes, image_size, stem)
