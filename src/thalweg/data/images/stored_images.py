"""Images that stay encoded on disk and are decoded when they are indexed; they read like an array (N, H, W, C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError
from ..base import UnreadableFile
from ..prefetch import MAX_BYTES_AHEAD, prefetch_map
from .encoded import ConcatenatedImages, EncodedImages
from .image_decoding import ImageReadError, decode_image, describe_error


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

    def try_decode(self, row: int) -> np.ndarray | UnreadableFile:
        """Decode one image, or say why it cannot be read."""
        try:
            return self.decode(row)
        except (ImageReadError, OSError) as error:
            return UnreadableFile(self.encoded.names([row])[0], describe_error(error, b""))

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode the images at `rows` with threads: (n, H, W, C) uint8, a new array; one image for an int.

        Raises DataError for an image that can no longer be read.
        """
        if isinstance(rows, int | np.integer):
            return self._decode_or_raise(range(len(self))[rows])
        if isinstance(rows, slice):
            indices = np.arange(*rows.indices(len(self)))
        else:
            indices = np.arange(len(self))[rows]
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for index, image in enumerate(prefetch_map(self._decode_or_raise, indices.tolist())):
            images[index] = image
        return images

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode one image (H, W, C) after the other, a few ahead."""
        return prefetch_map(self._decode_or_raise, range(len(self)))

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Refuse to become an array: there may be more images than memory. `images[:]` decodes all of them."""
        raise TypeError("images on disk are decoded by indexing, such as images[:64]; expected an array")

    def _decode_or_raise(self, row: int) -> np.ndarray:
        image = self.try_decode(row)
        if isinstance(image, UnreadableFile):
            raise DataError(
                f"{image.path}: {image.reason}; it could be read when the data was listed.",
                "Put the file back, or start again: the list is then renewed.",
                path=image.path,
                value=image.reason,
            )
        return image

    def take(self, rows: np.ndarray) -> StoredImages:
        """Return the images at `rows` (n,) int64, in that order, without decoding them."""
        return replace(self, encoded=self.encoded.take(rows), digests=self.digests[rows], sizes=self.sizes[rows])


#: images in memory (N, H, W, C) uint8, or stored ones that read like them
ImageArray = np.ndarray | StoredImages


def take_images(images: ImageArray, rows: np.ndarray) -> ImageArray:
    """Return the images at `rows` (n,) int64; stored images stay encoded."""
    return images.take(rows) if isinstance(images, StoredImages) else images[rows]


def concatenate_images(parts: Sequence[ImageArray]) -> ImageArray:
    """Return the images of all parts; stored ones of one collection stay encoded."""
    first = parts[0]
    if not isinstance(first, StoredImages):
        return np.concatenate([part[:] for part in parts])
    stored = [part for part in parts if isinstance(part, StoredImages)]
    return replace(
        first,
        encoded=ConcatenatedImages([part.encoded for part in stored]),
        digests=np.concatenate([part.digests for part in stored]),
        sizes=np.concatenate([part.sizes for part in stored]),
    )


@dataclass(frozen=True)
class ImageBatch:
    """Images (n, H, W, C) uint8 of those `rows` (n,) int64 that could be read, and the others' files."""

    images: np.ndarray
    rows: np.ndarray
    unreadable: list[UnreadableFile]


def iter_image_batches(images: ImageArray, batch_size: int) -> Iterator[ImageBatch]:
    """Yield all images in order; threads decode stored ones while the caller works on a batch."""
    if isinstance(images, StoredImages):
        yield from _decode_batches(images, batch_size)
        return
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        yield ImageBatch(batch, np.arange(start, start + len(batch)), [])


def _decode_batches(images: StoredImages, batch_size: int) -> Iterator[ImageBatch]:
    ahead = min(2 * batch_size, MAX_BYTES_AHEAD // max(1, images.nbytes // max(1, len(images))))
    decoded = prefetch_map(images.try_decode, range(len(images)), ahead=max(1, ahead))
    for start in range(0, len(images), batch_size):
        size = min(batch_size, len(images) - start)
        batch = np.empty((size, *images.shape[1:]), np.uint8)
        rows: list[int] = []
        unreadable: list[UnreadableFile] = []
        for row in range(start, start + size):
            image = next(decoded)
            if isinstance(image, UnreadableFile):
                unreadable.append(image)
            else:
                batch[len(rows)] = image
                rows.append(row)
        yield ImageBatch(batch[: len(rows)], np.array(rows, np.int64), unreadable)
