"""What `image_collections.py` compares with: torch's DataLoader with worker processes, Pillow, and a plain loop."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from thalweg.data.images.random_crop import ImageKey, draw_box

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class BoxDataset(Dataset[tuple[Tensor, int]]):
    """Random resized crops by `crop` and `resize`, as torchvision cuts them out of Pillow images.

    The boxes are those that our decoder cuts. With `normalizes`, images are mirrored at random and come as normalized
    floats (C, H, W), as the PyTorch example makes them; else as bytes (H, W, C).
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        size: int,
        min_area: float,
        epoch: int,
        normalizes: bool = False,
    ):
        self.paths = paths
        self.labels = labels
        self.size = size
        self.min_area = min_area
        self.epoch = epoch
        self.normalizes = normalizes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[row]) as file:
            image = file.convert("RGB")
        box = draw_box(ImageKey(0, self.epoch, row), (image.height, image.width), self.min_area)
        crop = image.crop(tuple(map(int, box)))
        pixels = torch.from_numpy(np.array(crop.resize((self.size, self.size), Image.Resampling.BILINEAR)))
        if not self.normalizes:
            return pixels, self.labels[row]
        x_CHW = pixels.permute(2, 0, 1).contiguous().float().div(255)
        if torch.rand(()) < 0.5:
            x_CHW = x_CHW.flip(-1)
        return (x_CHW - MEAN) / STD, self.labels[row]


def plain_loader(dataset: BoxDataset, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Return a DataLoader with worker processes."""
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True)


def plain_training(model: nn.Module, loader: DataLoader[tuple[Tensor, int]], steps: int, warmup: int = 3) -> float:
    """Train as the PyTorch example does; return images per second."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    model.train()
    step = 0
    started = 0.0
    count = 0
    while True:
        for x_BCHW, label_B in loader:
            loss = criterion(model(x_BCHW), label_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            count += len(label_B)
            if step == warmup:
                started = time.perf_counter()
                count = 0
            if step == warmup + steps:
                return count / (time.perf_counter() - started)
