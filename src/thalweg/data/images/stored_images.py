"""Images that stay encoded on disk and are decoded when they are indexed; they read like an array (N, H, W, C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..prefetch import prefetch_map
from .encoded import EncodedImages
from .image_decoding import decode_image


@dataclass(frozen=True)
class StoredImages:
    """Encoded images, brought to one size when they are read, as a model sees them in evaluation.

    Attributes:
        encoded: Where the bytes come from.
        digests: (N, 32) uint8, SHA-256 of the bytes of each image; what splits and fingerprints depend on.
        sizes: (N, 2) int32, height and width of each image, upright.
        size: (height, width) of the decoded images.
        channels: 1 (gray) or 3 (RGB).
        resize: Resize the shorter side to this before cropping the center, see `resize_and_crop`.
    """

    encoded: EncodedImages
    digests: np.ndarray
    sizes: np.ndarray
    size: tuple[int, int]
    channels: int
    resize: int | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return len(self), *self.size, self.channels

    @property
    def nbytes(self) -> int:
        """Bytes that all images would take in memory."""
        height, width = self.size
        return len(self) * height * width * self.channels

    def decode(self, row: int) -> np.ndarray:
        """Decode one image to (H, W, C) uint8. Raises ImageReadError or OSError."""
        return decode_image(self.encoded.read(row), self.channels, self.size, self.resize)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode the images at `rows` with threads: (n, H, W, C) uint8, a new array."""
        indices = np.arange(len(self))[rows].tolist()
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for index, image in enumerate(prefetch_map(self.decode, indices)):
            images[index] = image
        return images

    def take(self, rows: np.ndarray) -> StoredImages:
        """Return the images at `rows` (n,) int64, in that order, without decoding them."""
        return replace(self, encoded=self.encoded.take(rows), digests=self.digests[rows], sizes=self.sizes[rows])


#: images in memory (N, H, W, C) uint8, or stored ones that read like them
ImageArray = np.ndarray | StoredImages


def take_images(images: ImageArray, rows: np.ndarray) -> ImageArray:
    """Return the images at `rows` (n,) int64; stored images stay encoded."""
    return images.take(rows) if isinstance(images, StoredImages) else images[rows]
