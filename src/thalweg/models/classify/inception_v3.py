"""Inception v3 (Szegedy et al. 2016, arXiv:1512.00567), Table 1, with the names that torchvision gives its weights.

In training it answers with two sets of logits: its own, and those of the auxiliary head over the middle layers (Figure
8). Differs from the paper as its authors' published weights do: the stem is simpler than Table 1's, Figure 5 has a 5x5
convolution in place of one 3x3, and batch normalisation adds 0.001 to the variance. Differs from torchvision: the
auxiliary head reads pictures below 299 pixels too, by averaging whatever there is to 5x5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

IMAGENET_MEAN, IMAGENET_STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # ImageNet's, red, green, blue, on the scale of 0 to 1


class InceptionOutputs(NamedTuple):
    """What Inception v3 answers in training: two sets of logits (B, K)."""

    logits: Tensor
    aux_logits: Tensor


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Never below zero; smaller than x by what is not padded, and by `stride`."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def avg_pool3x3(x: Tensor) -> Tensor:
    """Means over 3x3 windows; the size stays, zeros beyond the border count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    """1x1, 5x5, twice 3x3, and a mean, side by side (Figure 5): (B, C, H, W) -> (B, 224 + pooled, H, W)."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = BasicConv2d(inputs, 48, 1), BasicConv2d(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = BasicConv2d(inputs, 64, 1), BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3)
        self.branch_pool = BasicConv2d(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the four branches, joined."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(avg_pool3x3(x))], 1)


class InceptionB(nn.Module):
    """3x3, twice 3x3, and a maximum, each by steps of two (Figure 10): (B, C, H, W) -> (B, C + 480, H/2, W/2)."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = BasicConv2d(inputs, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = BasicConv2d(inputs, 64, 1), BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the three branches, joined."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class InceptionC(nn.Module):
    """1x1, 7x7 and twice 7x7 as rows and columns, and a mean (Figure 6): (B, C, H, W) -> (B, 768, H, W)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = BasicConv2d(inputs, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = BasicConv2d(inputs, width, 1), BasicConv2d(width, width, row)
        self.branch7x7_3 = BasicConv2d(width, 192, column)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = BasicConv2d(inputs, width, 1), BasicConv2d(width, width, column)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = BasicConv2d(width, width, row), BasicConv2d(width, width, column)
        self.branch7x7dbl_5 = BasicConv2d(width, 192, row)
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the four branches, joined."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(avg_pool3x3(x))], 1)


class InceptionD(nn.Module):
    """3x3, 7x7 then 3x3, and a maximum, each by steps of two: (B, C, H, W) -> (B, C + 512, H/2, W/2)."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = BasicConv2d(inputs, 192, 1), BasicConv2d(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1, self.branch7x7x3_2 = BasicConv2d(inputs, 192, 1), BasicConv2d(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = (
            BasicConv2d(192, 192, (7, 1)),
            BasicConv2d(192, 192, 3, stride=2, pad=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the three branches, joined."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    """1x1, 3x3 and twice 3x3 that end in a row beside a column, and a mean (Figure 7): 2048 channels come out."""

    def __init__(self, inputs: int):
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.branch1x1 = BasicConv2d(inputs, 320, 1)
        self.branch3x3_1 = BasicConv2d(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = BasicConv2d(384, 384, row), BasicConv2d(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = BasicConv2d(inputs, 448, 1), BasicConv2d(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = BasicConv2d(384, 384, row), BasicConv2d(384, 384, column)
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the six branches, joined."""
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        ends = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        ends += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *ends, self.branch_pool(avg_pool3x3(x))], 1)


class InceptionAux(nn.Module):
    """A second head over the middle layers, which gives them a gradient of their own: (B, C, H, W) -> (B, K)."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.conv0, self.conv1 = BasicConv2d(inputs, 128, 1), BasicConv2d(128, 768, 5, pad=False)
        self.fc = nn.Linear(768, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K). Maps of 17x17, those of 299 pixels, are averaged to 5x5 by steps of three."""
        whole = min(x_BCHW.shape[-2:]) >= 17
        x = F.avg_pool2d(x_BCHW, 5, stride=3) if whole else F.adaptive_avg_pool2d(x_BCHW, 5)
        return self.fc(F.adaptive_avg_pool2d(self.conv1(self.conv0(x)), 1).flatten(1))


class InceptionV3(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`; in training `InceptionOutputs`, with an auxiliary head."""

    def __init__(self, channels: int, classes: int, auxiliary: bool, transform_input: bool, dropout: float):
        super().__init__()
        self.transform_input = transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(channels, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3, pad=False)
        self.maxpool = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.AuxLogits = InceptionAux(768, classes) if auxiliary else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280), InceptionE(2048)
        self.avgpool, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout)
        self.fc = nn.Linear(2048, classes)

    def middle(self, x_BCHW: Tensor) -> Tensor:
        """The first half, up to where the auxiliary head reads: (B, 768, h, w), h about H/16 - 2."""
        x = to_inception_range(x_BCHW) if self.transform_input else x_BCHW
        x = self.maxpool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        return self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))

    def end(self, middle_BCHW: Tensor) -> Tensor:
        """The second half, averaged over the picture: (B, 2048)."""
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle_BCHW)))
        return self.dropout(self.avgpool(x)).flatten(1)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """What the last block found, averaged over the picture: (B, 2048)."""
        return self.end(self.middle(x_BCHW))

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor | InceptionOutputs:
        """Logits (B, K) of pictures (B, C, H, W); in training with those of the auxiliary head, if there is one."""
        middle_BCHW = self.middle(x_BCHW)
        logits_BK = self.head(self.end(middle_BCHW))
        if self.training and self.AuxLogits is not None:
            return InceptionOutputs(logits_BK, self.AuxLogits(middle_BCHW))
        return logits_BK


def to_inception_range(x_B3HW: Tensor) -> Tensor:
    """Pixels normalised by ImageNet's mean and deviation, brought to -1..1, as the published weights want them."""
    scaled = [x_B3HW[:, c] * (IMAGENET_STD[c] / 0.5) + (IMAGENET_MEAN[c] - 0.5) / 0.5 for c in range(3)]
    return torch.stack(scaled, 1)


@register_model(task="classify", paper="Szegedy et al. 2016, arXiv:1512.00567")
def inception_v3(
    channels: int,
    classes: int,
    size: int = 299,
    auxiliary: bool = True,
    transform_input: bool = False,
    dropout: float = 0.5,
) -> nn.Module:
    """Inception v3: 27.2 million weights, for pictures of 75 pixels and up.

    `transform_input` is for pictures normalised by ImageNet's mean and deviation where the weights want -1..1.
    Raises OptionError for smaller pictures, and for `transform_input` without three channels.
    """
    check_min_size(75, size, "Inception v3")
    if transform_input and channels != 3:
        raise OptionError(
            f"transform_input rescales red, green and blue; these pictures have {channels} channels.",
            cure="Give colour pictures, or leave transform_input out.",
        )
    return he_normal_(InceptionV3(channels, classes, auxiliary, transform_input, dropout))
