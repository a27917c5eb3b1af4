"""Inception v3 (Szegedy et al. 2016, arXiv:1512.00567), Table 1, with torchvision's names of the weights.

In training it returns two sets of logits: its own, and those of the auxiliary head on the middle layers (Figure 8).
Differs from the paper as its authors' published weights do: the stem is simpler than Table 1's, Figure 5 has a 5x5
convolution in place of one 3x3, and batch normalization adds 0.001 to the variance. Differs from torchvision: the
auxiliary head works for images below 299 pixels too, because it averages any smaller map to 5x5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.size import PixelSize
from ...errors import OptionError
from ...layers.init import he_normal_
from ...layers.input_size import check_min_size
from ...registry import register_model

#: red, green, blue of ImageNet, on the scale of 0 to 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class InceptionOutputs(NamedTuple):
    """What Inception v3 returns in training: two sets of logits (B, K)."""

    logits: Tensor
    aux_logits: Tensor


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True
    ):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution, batch normalization and ReLU."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def avg_pool3x3(x: Tensor) -> Tensor:
    """Average over 3x3 windows with zero padding, which counts; the size stays."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    """1x1, 5x5, double 3x3 and average pooling in parallel (Figure 5): (B, C, H, W) -> (B, 224 + pool, H, W)."""

    def __init__(self, in_channels: int, pool_channels: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(in_channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3)
        self.branch_pool = BasicConv2d(in_channels, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the four branches, concatenated."""
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), branch5x5, branch3x3dbl, self.branch_pool(avg_pool3x3(x))], 1)


class InceptionB(nn.Module):
    """3x3, double 3x3 and max pooling of stride two (Figure 10): (B, C, H, W) -> (B, C + 480, H/2, W/2)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the three branches, concatenated."""
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), branch3x3dbl, F.max_pool2d(x, 3, 2)], 1)


class InceptionC(nn.Module):
    """1x1, 7x7 and double 7x7 as rows and columns, and average pooling (Figure 6): (B, C, H, W) -> (B, 768, H, W)."""

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_channels, width, 1)
        self.branch7x7_2 = BasicConv2d(width, width, (1, 7))
        self.branch7x7_3 = BasicConv2d(width, 192, (7, 1))
        self.branch7x7dbl_1 = BasicConv2d(in_channels, width, 1)
        self.branch7x7dbl_2 = BasicConv2d(width, width, (7, 1))
        self.branch7x7dbl_3 = BasicConv2d(width, width, (1, 7))
        self.branch7x7dbl_4 = BasicConv2d(width, width, (7, 1))
        self.branch7x7dbl_5 = BasicConv2d(width, 192, (1, 7))
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the four branches, concatenated."""
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        branch7x7dbl = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branch7x7dbl = self.branch7x7dbl_5(self.branch7x7dbl_4(branch7x7dbl))
        return torch.cat([self.branch1x1(x), branch7x7, branch7x7dbl, self.branch_pool(avg_pool3x3(x))], 1)


class InceptionD(nn.Module):
    """3x3, 7x7 then 3x3, and max pooling, each of stride two: (B, C, H, W) -> (B, C + 512, H/2, W/2)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.branch3x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7))
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1))
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the three branches, concatenated."""
        branch3x3 = self.branch3x3_2(self.branch3x3_1(x))
        branch7x7x3 = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([branch3x3, branch7x7x3, F.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    """1x1, 3x3 and double 3x3 that end in a row beside a column, and average pooling (Figure 7): -> 2048 channels."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1))
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1))
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the six branches, concatenated."""
        branch3x3 = self.branch3x3_1(x)
        branch3x3dbl = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(branch3x3),
            self.branch3x3_2b(branch3x3),
            self.branch3x3dbl_3a(branch3x3dbl),
            self.branch3x3dbl_3b(branch3x3dbl),
            self.branch_pool(avg_pool3x3(x)),
        ]
        return torch.cat(branches, 1)


class InceptionAux(nn.Module):
    """A second head on the middle layers, which gives them a gradient of their own: (B, C, H, W) -> (B, K)."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.conv0 = BasicConv2d(in_channels, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5, pad=False)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K). Maps of 17x17, from images of 299 pixels, are pooled to 5x5 with stride three."""
        if min(x_BCHW.shape[-2:]) >= 17:
            x = F.avg_pool2d(x_BCHW, 5, stride=3)
        else:
            x = F.adaptive_avg_pool2d(x_BCHW, 5)
        return self.fc(F.adaptive_avg_pool2d(self.conv1(self.conv0(x)), 1).flatten(1))


class InceptionV3(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`; in training with the auxiliary `InceptionOutputs`."""

    def __init__(self, in_channels: int, num_classes: int, aux_logits: bool, transform_input: bool, dropout: float):
        super().__init__()
        self.transform_input = transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(in_channels, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3, pad=False)
        self.maxpool = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits = InceptionAux(768, num_classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)

    def stem_to_mixed6(self, x_BCHW: Tensor) -> Tensor:
        """Run the first half, whose maps the auxiliary head reads: (B, 768, h, w), h about H/16 - 2."""
        x = to_inception_range(x_BCHW) if self.transform_input else x_BCHW
        x = self.maxpool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        return self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))

    def mixed7_to_pool(self, x_BCHW: Tensor) -> Tensor:
        """Run the second half and average over the image: (B, 2048)."""
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x_BCHW)))
        return self.dropout(self.avgpool(x)).flatten(1)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the maps of the last block averaged over the image: (B, 2048)."""
        return self.mixed7_to_pool(self.stem_to_mixed6(x_BCHW))

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.fc

    def forward(self, x_BCHW: Tensor) -> Tensor | InceptionOutputs:
        """Return logits (B, K); in training together with those of the auxiliary head, if there is one."""
        mixed6_BCHW = self.stem_to_mixed6(x_BCHW)
        logits_BK = self.head(self.mixed7_to_pool(mixed6_BCHW))
        if self.training and self.AuxLogits is not None:
            return InceptionOutputs(logits_BK, self.AuxLogits(mixed6_BCHW))
        return logits_BK


def to_inception_range(x_B3HW: Tensor) -> Tensor:
    """Rescale pixels from ImageNet's mean and std to [-1, 1], the range of the published weights."""
    channels = [x_B3HW[:, c] * (IMAGENET_STD[c] / 0.5) + (IMAGENET_MEAN[c] - 0.5) / 0.5 for c in range(3)]
    return torch.stack(channels, 1)


@register_model(task="classify", paper="Szegedy et al. 2016, arXiv:1512.00567")
def inception_v3(
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 299,
    aux_logits: bool = True,
    transform_input: bool = False,
    dropout: float = 0.5,
) -> nn.Module:
    """Inception v3: 27.2 million weights, for images of 75 pixels and up.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        aux_logits: whether to add the auxiliary head, which is used in training only.
        transform_input: whether to rescale images from ImageNet's mean and std to [-1, 1].
        dropout: probability of dropping a feature before the last layer during training.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K), or to `InceptionOutputs` in training.

    Raises:
        OptionError: smaller images, or `transform_input` without three channels.
    """
    check_min_size(75, image_size, "Inception v3")
    if transform_input and in_channels != 3:
        raise OptionError(
            f"transform_input rescales red, green and blue; these images have {in_channels} channels.",
            cure="Use color images, or leave transform_input out.",
            option="transform_input",
            value=in_channels,
        )
    return he_normal_(InceptionV3(in_channels, num_classes, aux_logits, transform_input, dropout))
