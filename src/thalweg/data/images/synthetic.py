"""A synthetic dataset for tests that need no files: bars in four directions."""

from __future__ import annotations

import hashlib

import numpy as np

from .dataset import ImageDataset, ImageSplit, summarize_images

CLASSES = ("lying", "standing", "falling", "rising")

MIN_COUNT = 24
MIN_SIZE = 8


def make_bars(count: int = 240, size: int = 16, seed: int = 0) -> ImageDataset:
    """Return gray images of a bar in one of four directions, with noise: 2/3 train, 1/6 val, 1/6 test.

    Raises ValueError for fewer than 24 images or 8 pixels.
    """
    if count < MIN_COUNT or size < MIN_SIZE:
        raise ValueError(f"make_bars({count}, {size}): expected at least {MIN_COUNT} images of 8 pixels")
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance_by_class = np.stack([y, x, (x - y) / 2**0.5, (x + y) / 2**0.5])
    distance_NHW = distance_by_class[labels]
    offset_N11 = random.uniform(-size / 5, size / 5, (count, 1, 1))
    bar_NHW = 220 * np.exp(-(((distance_NHW - offset_N11) / 1.2) ** 2))
    noisy_NHW = bar_NHW + random.normal(0, 12, bar_NHW.shape)
    images = np.clip(noisy_NHW, 0, 255).astype(np.uint8)[..., None]
    bars = ImageSplit(images, labels.astype(np.int64), [f"bar {number}" for number in range(count)])
    order = random.permutation(count)
    train_end = count * 2 // 3
    val_end = count * 5 // 6
    return ImageDataset(
        name="bars",
        format="synthetic",
        path="",
        splits={
            "train": bars.take(order[:train_end]),
            "val": bars.take(order[train_end:val_end]),
            "test": bars.take(order[val_end:]),
        },
        fingerprint=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        summary=summarize_images(CLASSES, images),
        classes=CLASSES,
    )
