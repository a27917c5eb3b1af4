"""Image classification datasets, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..base import Dataset
from ..prefetch import prefetch_map
from .encoded import EncodedNames
from .image_decoding import ImageReadError
from .stored_images import ImageArray, StoredImages, concatenate_images, take_images

#: images from which mean and standard deviation are computed, in memory and on disk
MAX_COUNTED = 10_000
MAX_DECODED = 2000


def sha256_rows(images: np.ndarray) -> np.ndarray:
    """Return the SHA-256 (N, 32) uint8 of every image (N, H, W, C) uint8."""
    flat = np.ascontiguousarray(images).reshape(-1)
    view = flat.data
    size = int(np.prod(images.shape[1:]))
    sha256 = hashlib.sha256
    joined = b"".join([sha256(view[i : i + size]).digest() for i in range(0, len(flat), size or 1)])
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


@dataclass(frozen=True)
class ImageSplit:
    """Labeled images, in memory or on disk.

    Attributes:
        images: (N, H, W, C) uint8; C is 1 (gray) or 3 (RGB). Stored images are decoded when they are indexed.
        labels: (N,) int64, indices into the classes of the dataset.
        sources: Name of each example: its file, or its row in an array file.
    """

    images: ImageArray
    labels: np.ndarray
    sources: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the sources of the examples at `rows`."""
        return [self.sources[row] for row in rows]

    def keys(self) -> np.ndarray:
        """Return the first 64 bits of the SHA-256 of each image (N,) uint64."""
        return np.ascontiguousarray(self.digests()[:, :8]).view(">u8").reshape(-1).astype(np.uint64)

    def digests(self) -> np.ndarray:
        """Return the SHA-256 (N, 32) uint8 of each image: of its pixels in memory, of its file on disk."""
        if isinstance(self.images, StoredImages):
            return self.images.digests
        return sha256_rows(self.images)

    def take(self, rows: np.ndarray) -> ImageSplit:
        """Return the examples at `rows` (n,) int64, in that order."""
        if isinstance(self.sources, EncodedNames):
            sources = self.sources.take(rows)
        else:
            sources = self.names(rows.tolist())
        return ImageSplit(take_images(self.images, rows), self.labels[rows], sources)


@dataclass(frozen=True)
class ImageDataset(Dataset[ImageSplit]):
    """An image classification dataset.

    Attributes:
        classes: Names of the classes, by label.
        is_handwriting: The images are white strokes on black, centered by mass, as in MNIST. `predict` then
            normalizes any drawing to that format.
        sizes: (width, height) of the files before resizing, with their counts; empty for array formats.
    """

    unit: str = "image"
    classes: tuple[str, ...] = ()
    is_handwriting: bool = False
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def all(self) -> ImageSplit:
        """All examples of all splits."""
        splits = list(self.splits.values())
        images = concatenate_images([split.images for split in splits])
        labels = np.concatenate([split.labels for split in splits])
        if isinstance(images, StoredImages):
            return ImageSplit(images, labels, EncodedNames(images.encoded))
        sources: list[str] = []
        for split in splits:
            sources += split.sources
        return ImageSplit(images, labels, sources)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        height, width, channels = self.splits["train"].images.shape[1:]
        return height, width, channels


def summarize_images(classes: Sequence[str], images: ImageArray) -> str:
    """Describe a dataset in a few words: '10 classes, 28x28 gray'. `images` is (N, H, W, C)."""
    height, width, channels = images.shape[1:]
    color = "gray" if channels == 1 else "RGB"
    return f"{len(classes)} classes, {width}x{height} {color}"


def channel_mean_std(images: ImageArray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and std (C,) of images (N, H, W, C) uint8 on the scale of 0 to 1, by counting the 256 levels.

    As floats, ten thousand images of 224 pixels would take six gigabytes. Of many images, a part from all over counts;
    images on disk that cannot be read do not.
    """
    count_CL = np.zeros((images.shape[3], 256), np.int64)
    for block_NHWC in _iterate_blocks(images):
        for channel, count_L in enumerate(count_CL):
            count_L += np.bincount(block_NHWC[..., channel].ravel(), minlength=256)
    fraction_CL = count_CL / max(1, count_CL[0].sum())
    level_L = np.arange(256) / 255
    mean_C = fraction_CL @ level_L
    return mean_C, np.sqrt((fraction_CL * (level_L - mean_C[:, None]) ** 2).sum(1))


def _iterate_blocks(images: ImageArray) -> Iterator[np.ndarray]:
    """Yield a part of the images in small blocks; stored ones one by one."""
    if not isinstance(images, StoredImages):
        part = images[:: max(1, len(images) // MAX_COUNTED)]
        for start in range(0, len(part), 64):
            yield part[start : start + 64]
        return
    stored = images

    def try_decode(row: int) -> np.ndarray | None:
        try:
            return stored.decode(row)
        except (ImageReadError, OSError):
            return None

    for image in prefetch_map(try_decode, range(0, len(stored), -(-len(stored) // MAX_DECODED) or 1)):
        if image is not None:
            yield image
