"""Stands in for torchvision's MNIST, `ToTensor` and `Normalize`, which do not import beside a CPU-only torch.

It does for each example what torchvision does: picks the image, makes a PIL image of it, turns that into a float tensor
(C, H, W) in [0, 1], and normalizes it with the mean and standard deviation of MNIST.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

MEAN = (0.1307,)
STD = (0.3081,)


def to_tensor(image: Image.Image) -> Tensor:
    """Convert a PIL image to (C, H, W) float32 in [0, 1]."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.height, image.width, len(image.getbands()))
    return pixels.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(255)


def normalize(image: Tensor) -> Tensor:
    """Return the image minus the mean, divided by the standard deviation, per channel."""
    image = image.clone()
    mean = torch.as_tensor(MEAN, dtype=image.dtype, device=image.device)
    std = torch.as_tensor(STD, dtype=image.dtype, device=image.device)
    return image.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class MNIST(Dataset):
    """Images (N, 28, 28) uint8 and labels (N,), one by one, transformed when they are read."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images = torch.tensor(images)
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy())
        return normalize(to_tensor(image)), int(self.labels[index])
