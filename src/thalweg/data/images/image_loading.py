"""Load many image files into one array. Unreadable files are listed, not raised."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...config.size import PixelSize, to_height_width
from ...errors import pluralize
from ...io.file_names import decode_file_name
from ...io.free_memory import require_memory
from ..base import UnreadableFile
from ..prefetch import prefetch_map
from .image_decoding import ImageHeader, ImageReadError, decode_image, describe_resize, read_header
from .raw_dataset import ReadOptions

#: files that all have one size of up to MAX_NATIVE_SIZE pixels keep it; all others become DEFAULT_SIZE
MAX_NATIVE_SIZE = 96
DEFAULT_SIZE = 64

_counting_warnings = threading.Lock()


@dataclass
class LoadedImages:
    """The images of those files that can be read.

    Attributes:
        images: (N, H, W, C) uint8.
        rows: (N,) index of each image in the list of files.
        files: (N,) uint64 hash of the bytes of each file.
        unreadable: The other files.
        warnings: Findings that the user should know.
        sizes: (width, height) of all files with their counts, the most frequent first.
    """

    images: np.ndarray
    rows: np.ndarray
    files: np.ndarray
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)


def short_hash(content: bytes) -> int:
    """Return the first 64 bits of the SHA-256 of `content`, equal on every machine."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def load_images(files: Sequence[Path], options: ReadOptions) -> LoadedImages:
    """Load all files that can be read, as images of one size.

    `options.resize` counts only together with `options.image_size`. Raises ResourceError if the images need more than
    half of the free memory.
    """
    if options.progress:
        options.progress(0, len(files))
    with count_pillow_warnings() as pillow_warnings:
        headers = list(prefetch_map(_try_read_header, files))
        sizes = _count_sizes(headers)
        image_size = _choose_size(sizes, options.image_size)
        resize = options.resize if options.image_size else None
        loaded = _decode_all(files, headers, ReadOptions(image_size, options.channels, resize, options.progress))
    height, width = image_size
    if not set(sizes) <= {(width, height)}:
        loaded.warnings.append(describe_resize(image_size))
    loaded.warnings += _format_warnings(files, headers)
    if pillow_warnings:
        count = pluralize(len(pillow_warnings), "warning")
        loaded.warnings.append(f"{count} of Pillow about irregular files, e.g. '{pillow_warnings[0]}'.")
    loaded.sizes = dict(sizes.most_common())
    return loaded


def _count_sizes(headers: Sequence[ImageHeader | UnreadableFile]) -> Counter[tuple[int, int]]:
    sizes: Counter[tuple[int, int]] = Counter()
    for header in headers:
        if isinstance(header, ImageHeader):
            sizes[header.width, header.height] += 1
    return sizes


def _decode_all(
    files: Sequence[Path], headers: Sequence[ImageHeader | UnreadableFile], options: ReadOptions
) -> LoadedImages:
    """Decode all files whose header could be read to `options.image_size`."""
    height, width = to_height_width(options.image_size or DEFAULT_SIZE)
    channels = options.channels
    readable = []
    unreadable: dict[int, UnreadableFile] = {}
    for row, header in enumerate(headers):
        if isinstance(header, UnreadableFile):
            unreadable[row] = header
        else:
            readable.append(row)
    require_memory(
        len(readable) * height * width * (channels or 3),
        f"The dataset of {len(readable):,} images of {width}x{height}",
        cure="Choose a smaller --image-size.",
    )
    images = np.empty((len(readable), height, width, channels or 1), np.uint8)
    rows: list[int] = []
    hashes: list[int] = []

    def decode(row: int) -> tuple[np.ndarray, int] | UnreadableFile:
        return _try_decode(files[row], channels, (height, width), options.resize)

    results = prefetch_map(decode, readable)
    num_without_header = len(unreadable)
    for count, (row, result) in enumerate(zip(readable, results, strict=True), 1):
        if options.progress:
            options.progress(num_without_header + count, len(files))
        if isinstance(result, UnreadableFile):
            unreadable[row] = result
            continue
        pixels, file_hash = result
        if pixels.shape[-1] > images.shape[-1]:
            images = np.repeat(images, 3, axis=-1)
        images[len(rows)] = pixels
        hashes.append(file_hash)
        rows.append(row)
    return LoadedImages(
        images=images[: len(rows)],
        rows=np.array(rows, np.int64),
        files=np.array(hashes, np.uint64),
        unreadable=[unreadable[row] for row in sorted(unreadable)],
    )


def _try_read_header(file: Path) -> ImageHeader | UnreadableFile:
    try:
        return read_header(file)
    except ImageReadError as error:
        return UnreadableFile(decode_file_name(str(file)), str(error))


def _try_decode(
    file: Path, channels: int | None, image_size: tuple[int, int], resize: int | None
) -> tuple[np.ndarray, int] | UnreadableFile:
    """Return the pixels of a file and the hash of its bytes."""
    try:
        return decode_image(file, channels, image_size, resize), short_hash(file.read_bytes())
    except (ImageReadError, OSError) as error:
        return UnreadableFile(decode_file_name(str(file)), str(error))


def _format_warnings(files: Sequence[Path], headers: Sequence[ImageHeader | UnreadableFile]) -> list[str]:
    """Return warnings about animations and files with the extension of another format."""
    animated = []
    misnamed = []
    for file, header in zip(files, headers, strict=True):
        if isinstance(header, UnreadableFile):
            continue
        if header.animated:
            animated.append(str(file))
        if header.misnamed:
            misnamed.append(f"{file} is {header.format}")
    lines = []
    if animated:
        lines.append(f"{pluralize(len(animated), 'animation')}, e.g. {animated[0]}: only the first frame is used.")
    if misnamed:
        lines.append(f"{pluralize(len(misnamed), 'file')} with the extension of another format: {misnamed[0]}.")
    return lines


def _choose_size(sizes: Counter[tuple[int, int]], requested: PixelSize | None) -> tuple[int, int]:
    """Return the height and width that all images are brought to: squares, where nothing else is requested."""
    size: PixelSize = DEFAULT_SIZE
    if requested:
        size = requested
    elif len(sizes) == 1:
        shorter_side = min(next(iter(sizes)))
        if shorter_side <= MAX_NATIVE_SIZE:
            size = shorter_side
    return to_height_width(size)


@contextmanager
def count_pillow_warnings() -> Iterator[list[str]]:
    """Collect the texts of Pillow's warnings instead of printing them. Other warnings are shown afterwards.

    Python's warning filters are shared by all threads, so only one thread collects at a time.
    """
    texts: list[str] = []
    if not _counting_warnings.acquire(blocking=False):
        yield texts
        return
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", module=r"PIL\.")
            yield texts
    finally:
        _counting_warnings.release()
    for warning in caught:
        if f"{os.sep}PIL{os.sep}" not in warning.filename:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not issubclass(warning.category, Image.DecompressionBombWarning):
            texts.append(str(warning.message).strip())
