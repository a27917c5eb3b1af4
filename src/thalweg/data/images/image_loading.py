"""Load many encoded images, into memory or to be decoded later. Unreadable ones are listed, not raised."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...config.size import PixelSize, to_height_width
from ...errors import OptionError, did_you_mean, pluralize
from ...io.free_memory import format_bytes, get_free_memory, require_memory
from ..base import UnreadableFile
from ..prefetch import prefetch_map
from .encoded import EncodedImages
from .image_decoding import ImageHeader, ImageReadError, decode_image, describe_resize, read_header
from .index import ImageIndex, index_images, list_unreadable
from .raw_dataset import STORAGES, ReadOptions
from .stored_images import ImageArray, StoredImages

#: with storage "auto", decoded images are in memory up to this size
MAX_MEMORY_BYTES = 1_000_000_000

STORAGE_NOTE = "{0} of {1}x{2} would take {3}; they are decoded from disk as needed (--storage)."

#: files that all have one size of up to MAX_NATIVE_SIZE pixels keep it; all others become DEFAULT_SIZE
MAX_NATIVE_SIZE = 96
DEFAULT_SIZE = 64

_counting_warnings = threading.Lock()


@dataclass
class LoadedImages:
    """The images of those files that can be read.

    Attributes:
        images: (N, H, W, C) uint8, in memory or on disk.
        rows: (N,) index of each image in the list of files.
        files: (N,) uint64 hash of the bytes of each file.
        unreadable: The other files.
        warnings: Findings that the user should know.
        sizes: (width, height) of all files with their counts, the most frequent first.
    """

    images: ImageArray
    rows: np.ndarray
    files: np.ndarray
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)


def short_hash(content: bytes) -> int:
    """Return the first 64 bits of the SHA-256 of `content`, equal on every machine."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def load_images(encoded: EncodedImages, options: ReadOptions) -> LoadedImages:
    """Load all images that can be read, as images of one size, or leave them on disk to be decoded later.

    `options.resize` counts only together with `options.image_size`. `options.storage` "auto" chooses memory where the
    decoded images need at most a quarter of the free memory, and at most a gigabyte.

    Args:
        encoded: The images.
        options: The format that they are brought to, and where they are kept.

    Returns:
        The images.

    Raises:
        OptionError: `options.storage` is none of STORAGES.
        ResourceError: Images that are to be in memory need more than half of the free memory.
    """
    if options.storage not in STORAGES:
        raise OptionError(
            f"--storage: {options.storage}; expected one of {', '.join(STORAGES)}.",
            did_you_mean(options.storage, STORAGES),
            option="storage",
            value=options.storage,
            allowed=list(STORAGES),
        )
    largest_size = options.image_size or MAX_NATIVE_SIZE
    if options.storage == "memory" or (options.storage == "auto" and _fits(len(encoded), largest_size, options)):
        return _load_into_memory(encoded, options)
    with count_pillow_warnings() as pillow_warnings:
        index = index_images(encoded, options.progress)
    loaded = _leave_on_disk(encoded, index, options, pillow_warnings)
    if options.storage == "auto" and _fits(len(loaded.rows), (loaded.images.shape[1], loaded.images.shape[2]), options):
        return _load_into_memory(encoded, options)
    return loaded


def _fits(count: int, size: PixelSize, options: ReadOptions) -> bool:
    """Tell whether `count` images are few enough to be decoded at once."""
    height, width = to_height_width(size)
    free = get_free_memory()
    limit = MAX_MEMORY_BYTES if free is None else min(MAX_MEMORY_BYTES, free // 4)
    return count * height * width * (options.channels or 3) <= limit


def _load_into_memory(encoded: EncodedImages, options: ReadOptions) -> LoadedImages:
    if options.progress:
        options.progress(0, len(encoded))
    with count_pillow_warnings() as pillow_warnings:
        headers = list(prefetch_map(lambda row: _try_read_header(encoded, row), range(len(encoded))))
        sizes = _count_sizes(headers)
        image_size = _choose_size(sizes, options.image_size)
        resize = options.resize if options.image_size else None
        loaded = _decode_all(encoded, headers, replace(options, image_size=image_size, resize=resize))
    animated = []
    misnamed = []
    for row, header in enumerate(headers):
        if isinstance(header, ImageHeader) and header.animated:
            animated.append(row)
        if isinstance(header, ImageHeader) and header.misnamed:
            misnamed.append((row, header.format))
    loaded.warnings += _size_notes(sizes, image_size)
    loaded.warnings += _format_warnings(encoded, animated, misnamed)
    loaded.warnings += _pillow_notes(pillow_warnings)
    loaded.sizes = dict(sizes.most_common())
    return loaded


def _leave_on_disk(
    encoded: EncodedImages, index: ImageIndex, options: ReadOptions, pillow_warnings: Sequence[str]
) -> LoadedImages:
    """Return the images of an index as stored images."""
    rows = index.rows
    sizes = _count_indexed_sizes(index)
    size = _choose_size(sizes, options.image_size)
    images = StoredImages(
        encoded=encoded.take(rows),
        digests=index.digest[rows],
        sizes=np.stack([index.height[rows], index.width[rows]], axis=1),
        size=size,
        channels=options.channels or (1 if index.is_gray and len(rows) else 3),
        resize=options.resize if options.image_size else None,
    )
    misnamed = [(row, index.format_name(row)) for row in index.misnamed.tolist()]
    return LoadedImages(
        images=images,
        rows=rows,
        files=np.ascontiguousarray(images.digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64),
        unreadable=list_unreadable(encoded, index),
        warnings=[
            STORAGE_NOTE.format(pluralize(len(rows), "image"), size[1], size[0], format_bytes(images.nbytes)),
            *_size_notes(sizes, size),
            *_format_warnings(encoded, index.animated.tolist(), misnamed),
            *_pillow_notes(pillow_warnings),
        ],
        sizes=dict(sizes.most_common()),
    )


def _count_sizes(headers: Sequence[ImageHeader | UnreadableFile]) -> Counter[tuple[int, int]]:
    sizes: Counter[tuple[int, int]] = Counter()
    for header in headers:
        if isinstance(header, ImageHeader):
            sizes[header.width, header.height] += 1
    return sizes


def _count_indexed_sizes(index: ImageIndex) -> Counter[tuple[int, int]]:
    """Count (width, height) of the readable images, those of the first images first."""
    pair_N = index.width[index.rows].astype(np.int64) << 32 | index.height[index.rows]
    pairs, first, counts = np.unique(pair_N, return_index=True, return_counts=True)
    sizes: Counter[tuple[int, int]] = Counter()
    for number in np.argsort(first):
        pair = int(pairs[number])
        sizes[pair >> 32, pair & 0xFFFFFFFF] = int(counts[number])
    return sizes


def _decode_all(
    encoded: EncodedImages, headers: Sequence[ImageHeader | UnreadableFile], options: ReadOptions
) -> LoadedImages:
    """Decode all images whose header could be read to `options.image_size`."""
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
        cure="Choose a smaller --image-size, or --storage disk.",
    )
    images = np.empty((len(readable), height, width, channels or 1), np.uint8)
    rows: list[int] = []
    hashes: list[int] = []
    results = prefetch_map(lambda row: _try_decode(encoded, row, options), readable)
    num_without_header = len(unreadable)
    for count, (row, result) in enumerate(zip(readable, results, strict=True), 1):
        if options.progress:
            options.progress(num_without_header + count, len(encoded))
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


def _try_read_header(encoded: EncodedImages, row: int) -> ImageHeader | UnreadableFile:
    try:
        return read_header(encoded.read(row))
    except (ImageReadError, OSError) as error:
        return UnreadableFile(encoded.names([row])[0], str(error))


def _try_decode(encoded: EncodedImages, row: int, options: ReadOptions) -> tuple[np.ndarray, int] | UnreadableFile:
    """Return the pixels of an image and the hash of its bytes."""
    try:
        source = encoded.read(row)
        pixels = decode_image(source, options.channels, options.image_size, options.resize)
        return pixels, short_hash(source if isinstance(source, bytes) else Path(source).read_bytes())
    except (ImageReadError, OSError) as error:
        return UnreadableFile(encoded.names([row])[0], str(error))


def _size_notes(sizes: Counter[tuple[int, int]], size: tuple[int, int]) -> list[str]:
    """Return a note if any image is resized."""
    height, width = size
    return [] if set(sizes) <= {(width, height)} else [describe_resize(size)]


def _pillow_notes(texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    return [f"{pluralize(len(texts), 'warning')} of Pillow about irregular files, e.g. '{texts[0]}'."]


def _format_warnings(encoded: EncodedImages, animated: Sequence[int], misnamed: Sequence[tuple[int, str]]) -> list[str]:
    """Return warnings about animations and files with the extension of another format."""
    lines = []
    if animated:
        example = encoded.names(animated[:1])[0]
        lines.append(f"{pluralize(len(animated), 'animation')}, e.g. {example}: only the first frame is used.")
    if misnamed:
        row, format_name = misnamed[0]
        example = f"{encoded.names([row])[0]} is {format_name}"
        lines.append(f"{pluralize(len(misnamed), 'file')} with the extension of another format: {example}.")
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
