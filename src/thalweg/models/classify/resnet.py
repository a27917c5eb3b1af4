"""ResNets (He, Zhang, Ren, Sun 2016, arXiv:1512.03385), Table 1, with the names that torchvision gives their weights.

Differs from the paper: where a bottleneck halves the picture, its 3x3 convolution steps by two, not its first 1x1
("v1.5", as in torchvision), so no pixel is skipped. `stem="small"` is for small pictures (section 4.2): one 3x3
convolution without a step and no pooling before the first stage; by itself it is taken up to 64 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

PAPER = "He et al. 2016, arXiv:1512.03385"
SMALL_IMAGE_SIZE = (
    64  # pixels up to which "auto" takes the small stem: the other would leave 2x2 of them to the last stage
)


def conv_no_bias(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, as a batch normalisation follows; the size stays unless `stride` is above one."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def make_downsample(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """What brings a block's input to the shape of its output (option B of the paper); None where it has that shape."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv_no_bias(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to their input (Figure 5, left): (B, C, H, W) -> (B, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv_no_bias(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv_no_bias(width, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """relu(convolutions(x) + x)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, added to their input (Figure 5, right): four times `width` channels come out."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv_no_bias(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv_no_bias(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv_no_bias(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """relu(convolutions(x) + x)."""
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
        channels: int,
        classes: int,
        small: bool = False,
    ):
        super().__init__()
        self.conv1 = conv_no_bias(channels, 64, 3) if small else conv_no_bias(channels, 64, 7, stride=2)
        self.bn1, self.relu = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 * 2**stage, []
            for index in range(depth):
                blocks.append(block(inputs, width, stride=2 if stage > 0 and index == 0 else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """What the last stage found, averaged over the picture: (B, 512), or (B, 2048) with bottlenecks."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


def build_resnet(
    block: type[BasicBlock | Bottleneck], depths: Sequence[int], channels: int, classes: int, size: int, stem: str
) -> ResNet:
    """A ResNet with its first weights. Raises OptionError for an unknown stem, and for pictures of no pixel."""
    check_min_size(1, size, "A ResNet")
    if stem not in ("auto", "imagenet", "small"):
        raise OptionError(f"stem={stem} is none of a ResNet.", cure="Give auto, imagenet or small.")
    small = stem == "small" or (stem == "auto" and size <= SMALL_IMAGE_SIZE)
    return he_normal_(ResNet(block, depths, channels, classes, small))


@register_model(task="classify", paper=PAPER)
def resnet18(channels: int, classes: int, size: int = 224, stem: str = "auto") -> nn.Module:
    """ResNet-18: 11.7 million weights, quick; the one to fine-tune first.

    `stem` is auto, imagenet (7x7 with a step, pooling) or small (3x3). Raises OptionError for another.
    """
    return build_resnet(BasicBlock, (2, 2, 2, 2), channels, classes, size, stem)


@register_model(task="classify", paper=PAPER)
def resnet34(channels: int, classes: int, size: int = 224, stem: str = "auto") -> nn.Module:
    """ResNet-34: 21.8 million weights; `stem` as for resnet18."""
    return build_resnet(BasicBlock, (3, 4, 6, 3), channels, classes, size, stem)


@register_model(task="classify", paper=PAPER)
def resnet50(channels: int, classes: int, size: int = 224, stem: str = "auto") -> nn.Module:
    """ResNet-50: 25.6 million weights in bottlenecks; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 4, 6, 3), channels, classes, size, stem)


@register_model(task="classify", paper=PAPER)
def resnet101(channels: int, classes: int, size: int = 224, stem: str = "auto") -> nn.Module:
    """ResNet-101: 44.5 million weights in bottlenecks; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 4, 23, 3), channels, classes, size, stem)


@register_model(task="classify", paper=PAPER)
def resnet152(channels: int, classes: int, size: int = 224, stem: str = "auto") -> nn.Module:
    """ResNet-152: 60.2 million weights in bottlenecks, slow and accurate; `stem` as for resnet18."""
    return build_resnet(Bottleneck, (3, 8, 36, 3), channels, classes, size, stem)
