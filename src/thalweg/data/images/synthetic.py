"""A data set that is made, not read: bars that lie, stand and slant, for tests that need no file."""

from __future__ import annotations

import hashlib

import numpy as np

from .dataset import ImageDataset, ImageSplit, summarize_images

CLASSES = ("lying", "standing", "falling", "rising")


def make_bars(count: int = 240, size: int = 16, seed: int = 0) -> ImageDataset:
    """`count` grey pictures of a bar in one of four directions, with noise; 2/3 for training, the rest shared.

    Raises ValueError for fewer than 24 pictures or 8 pixels.
    """
    if count < 24 or size < 8:
        raise ValueError(f"bars({count}, {size}): at least 24 pictures of 8 pixels are needed")
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    across = np.stack([y, x, (x - y) / 2**0.5, (x + y) / 2**0.5])[labels]
    offset = random.uniform(-size / 5, size / 5, (count, 1, 1))
    clean = 220 * np.exp(-(((across - offset) / 1.2) ** 2))
    images = np.clip(clean + random.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)[..., None]
    whole = ImageSplit(images, labels.astype(np.int64), [f"bar {n}" for n in range(count)])
    order = random.permutation(count)
    first, second = count * 2 // 3, count * 5 // 6
    return ImageDataset(
        name="bars",
        format="synthetic",
        path="",
        splits={
            "train": whole.take(order[:first]),
            "val": whole.take(order[first:second]),
            "test": whole.take(order[second:]),
        },
        summary=summarize_images(CLASSES, images),
        classes=CLASSES,
        fingerprint=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )
