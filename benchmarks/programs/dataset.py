"""Stands in for torchvision's MNIST, `ToTensor` and `Normalize`, which do not import beside a CPU-only torch.

It does for each example what torchvision does: picks the image, makes a PIL image of it, turns that into a float tensor
(C, H, W) in [0, 1], and normalises it with the mean and deviation of MNIST.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

MEAN, DEVIATION = (0.1307,), (0.3081,)


def to_tensor(picture: Image.Image) -> Tensor:
    """(C, H, W) float32 in [0, 1] from a PIL image."""
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    pixels = pixels.view(picture.height, picture.width, len(picture.getbands()))
    return pixels.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(255)


def normalize(image: Tensor) -> Tensor:
    """The image less the mean, over the deviation, per channel; the given one is left alone."""
    image = image.clone()
    mean = torch.as_tensor(MEAN, dtype=image.dtype, device=image.device)
    deviation = torch.as_tensor(DEVIATION, dtype=image.dtype, device=image.device)
    return image.sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1))


class MNIST(Dataset):
    """Images (N, 28, 28) uint8 and labels (N,), one by one, transformed when asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = torch.tensor(images), torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        return normalize(to_tensor(picture)), int(self.labels[index])
