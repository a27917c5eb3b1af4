"""Small gray versions of images, made in one pass, by which a collection of any size is searched for copies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from ...io.cache_limit import mark_as_used, remove_oldest
from ..prefetch import prefetch_map
from .array_store import cache_path, load_arrays, save_arrays
from .image_decoding import (
    ORIENTATION_TAG,
    TRANSPOSED_ORIENTATIONS,
    ImageReadError,
    ImageSource,
    describe_error,
    open_image,
    to_gray_or_rgb,
)
from .image_resizing import center_size
from .stored_images import ImageArray, StoredImages

#: height and width of a thumbnail in pixels, at most
THUMBNAIL_SIZE = 32
#: A JPEG is decoded at a fraction of its size if that leaves this many times the pixels of a thumbnail along each side.
DRAFT_MARGIN = 1.5
#: thumbnails that are cached take at most this much of the disk; the oldest go first
MAX_CACHE_BYTES = 1 << 30
#: part of the key of the cache: raise it when thumbnails are made in another way
CACHE_VERSION = 1
#: images in memory that are shrunk at once
BLOCK_SIZE = 1024

Progress = Callable[[int, int], None]


@dataclass
class Thumbnails:
    """Thumbnails of N images, and what was noticed while they were made.

    Attributes:
        pixels: (N, S, S) gray uint8; black where an image cannot be read.
        seconds: (N,) float32 processor time to decode each file; empty for images in memory.
        file_bytes: (N,) int64 bytes of each file; empty for images in memory.
        unreadable: The reason for each row that cannot be read.
    """

    pixels: np.ndarray
    seconds: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    file_bytes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    unreadable: dict[int, str] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> Thumbnails:
        """Return the thumbnails at `rows` (n,) int64, all of which can be read."""
        if not len(self.seconds):
            return Thumbnails(self.pixels[rows])
        return Thumbnails(self.pixels[rows], self.seconds[rows], self.file_bytes[rows])


def make_thumbnails(images: ImageArray, progress: Progress | None = None) -> Thumbnails:
    """Return a thumbnail of every image: 1 kB each, however large the images are.

    Files are decoded by threads, once: the thumbnails are cached by the content of the files.

    Args:
        images: Images (N, H, W, C) uint8, or stored ones.
        progress: Called with (images read, images in total) for stored ones.

    Returns:
        The thumbnails of what a model sees: of the center that it is given.
    """
    if not isinstance(images, StoredImages):
        return Thumbnails(_shrink(images))
    key = _cache_key(images)
    thumbnails = _load(key, images)
    missing = np.flatnonzero(thumbnails.file_bytes < 0)
    for count, (row, result) in enumerate(_decode(images, missing), 1):
        if progress:
            progress(len(images) - len(missing) + count, len(images))
        if isinstance(result, str):
            thumbnails.unreadable[row] = result
        else:
            thumbnails.pixels[row], thumbnails.seconds[row], thumbnails.file_bytes[row] = result
    if len(missing) > len(thumbnails.unreadable):
        _save(key, thumbnails)
    return thumbnails


def area_weights(size: int, side: int) -> np.ndarray:
    """Return the fraction (side, size) of each pixel of a line in each of `side` averages."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * (side / size)).astype(np.float32)


def _shrink(images: np.ndarray) -> np.ndarray:
    """Shrink (N, H, W, C) uint8 to gray (N, S, S) uint8 by area averaging; S is at most H and W."""
    height, width = images.shape[1:3]
    side = min(THUMBNAIL_SIZE, height, width)
    weights_SH = area_weights(height, side)
    weights_SW = area_weights(width, side)
    thumbnails = np.empty((len(images), side, side), np.uint8)
    for first in range(0, len(images), BLOCK_SIZE):
        gray = images[first : first + BLOCK_SIZE].mean(axis=-1, dtype=np.float32)
        if not side == height == width:
            gray = weights_SH @ gray @ weights_SW.T
        thumbnails[first : first + BLOCK_SIZE] = np.rint(gray)
    return thumbnails


def _decode(images: StoredImages, rows: np.ndarray) -> Iterator[tuple[int, tuple[np.ndarray, float, int] | str]]:
    """Yield each row with its thumbnail, seconds and bytes, or with the reason why it cannot be read."""
    side = min(THUMBNAIL_SIZE, *images.size)

    def decode(row: int) -> tuple[int, tuple[np.ndarray, float, int] | str]:
        try:
            source = images.encoded.read(row)
            count = len(source) if isinstance(source, bytes) else os.path.getsize(source)
            # The time of the thread does not grow when other threads or processes are busy.
            start = time.thread_time()
            pixels = decode_gray_center(source, images.size, images.resize, side)
            return row, (pixels, time.thread_time() - start, count)
        except (ImageReadError, OSError) as error:
            return row, describe_error(error, b"")

    return prefetch_map(decode, rows.tolist())


def decode_gray_center(source: ImageSource, size: tuple[int, int], resize: int | None, side: int) -> np.ndarray:
    """Decode the center of an image that `resize_and_crop` keeps, as a gray square by area averaging.

    Several times faster than `decode_image`, because a JPEG is decoded at a fraction of its size, and only its gray.

    Args:
        source: Path of a file, or its content.
        size: (height, width) for `resize_and_crop`.
        resize: The same.
        side: Height and width of the result.

    Returns:
        (side, side) uint8, upright.

    Raises:
        ImageReadError: The image cannot be read, with the reason.
    """
    with open_image(source) as image:
        divisor = 1
        width, height = image.size
        if image.format in ("JPEG", "MPO"):
            divisor = _use_gray_draft(image, min(_kept_size(height, width, size, resize)) / side)
        image.load()
        gray = to_gray_or_rgb(image, 1)
        if divisor == 1:
            width, height = image.size
        if image.getexif().get(ORIENTATION_TAG, 1) in TRANSPOSED_ORIENTATIONS:
            size = (size[1], size[0])
        box_height, box_width = _kept_size(height, width, size, resize)
        left = (width - box_width) / 2 / divisor
        top = (height - box_height) / 2 / divisor
        box = (left, top, left + box_width / divisor, top + box_height / divisor)
        # What is kept lies in the center, so the thumbnail can be turned instead of the image.
        thumbnail = ImageOps.exif_transpose(gray.resize((side, side), Image.Resampling.BOX, box))
        return np.asarray(thumbnail)


def _kept_size(height: int, width: int, size: tuple[int, int], resize: int | None) -> tuple[float, float]:
    """Return height and width of the part of an image that `resize_and_crop` keeps."""
    kept_height, kept_width = center_size(height, width, size)
    scale = min(size) / resize if resize else 1
    return kept_height * scale, kept_width * scale


def _use_gray_draft(image: Image.Image, margin: float) -> int:
    """Let Pillow decode a JPEG to gray at a fraction of its size; `margin` is how many times too large it is."""
    width, height = image.size
    for divisor in (8, 4, 2):
        if margin >= DRAFT_MARGIN * divisor:
            image.draft("L", (max(1, width // divisor), max(1, height // divisor)))
            return divisor
    image.draft("L", image.size)
    return 1


def _cache_key(images: StoredImages) -> str:
    form = f"{CACHE_VERSION} {THUMBNAIL_SIZE} {images.size} {images.resize} "
    sha = hashlib.sha256(form.encode())
    sha.update(np.ascontiguousarray(images.digests).data)
    return sha.hexdigest()[:32]


def _load(key: str, images: StoredImages) -> Thumbnails:
    """Return cached thumbnails. Those that are not cached, or could not be read, have -1 bytes."""
    side = min(THUMBNAIL_SIZE, *images.size)
    count = len(images)
    arrays = {
        "pixels": np.zeros((count, side, side), np.uint8),
        "seconds": np.zeros(count, np.float32),
        "file_bytes": np.full(count, -1, np.int64),
    }
    path = cache_path("thumbnails", key)
    cached = load_arrays(path, key) or {}
    if all(name in cached and _is_like(cached[name], value) for name, value in arrays.items()):
        mark_as_used(path)
        arrays = cached
    return Thumbnails(arrays["pixels"], arrays["seconds"], arrays["file_bytes"])


def _is_like(value: np.ndarray, expected: np.ndarray) -> bool:
    return value.dtype == expected.dtype and value.shape == expected.shape


def _save(key: str, thumbnails: Thumbnails) -> None:
    path = cache_path("thumbnails", key)
    arrays = {"pixels": thumbnails.pixels, "seconds": thumbnails.seconds, "file_bytes": thumbnails.file_bytes}
    save_arrays(path, key, arrays)
    remove_oldest(path.parent, MAX_CACHE_BYTES)
