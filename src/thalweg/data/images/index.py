"""What is known about the images of a collection, kept in the cache, so that a second run reads no file again.

An entry counts as long as the size of the image and the time of its last change are the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import PIL

from ...io.file_names import decode_file_name
from ...io.free_memory import format_bytes
from ..base import UnreadableFile
from ..prefetch import prefetch_map
from .array_store import cache_path, load_arrays, pack_texts, save_arrays, unpack_texts
from .encoded import EncodedImages, Stamps
from .image_decoding import ALL_FORMATS, ImageHeader, ImageReadError, describe_error, inspect_image

#: changes with the meaning of the arrays
VERSION = "1"

#: a larger file is not read
MAX_FILE_BYTES = 1_000_000_000

_GRAY = 1
_ANIMATED = 2
_MISNAMED = 4

# N images


@dataclass
class ImageIndex:
    """What is known about N encoded images.

    Attributes:
        digest: (N, 32) uint8 SHA-256 of the bytes.
        height: (N,) int32 height, upright; 0 for an unreadable image.
        width: (N,) int32 width.
        flags: (N,) uint8 sum of gray (1), animated (2) and misnamed (4).
        format: (N,) uint8 index into ALL_FORMATS.
        is_known: (N,) bool the image has been read, now or in an earlier run.
        reasons: Why an image is unreadable, by row.
    """

    digest: np.ndarray
    height: np.ndarray
    width: np.ndarray
    flags: np.ndarray
    format: np.ndarray
    is_known: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> ImageIndex:
        """Return an index that knows nothing about `count` images."""
        return cls(
            digest=np.zeros((count, 32), np.uint8),
            height=np.zeros(count, np.int32),
            width=np.zeros(count, np.int32),
            flags=np.zeros(count, np.uint8),
            format=np.zeros(count, np.uint8),
            is_known=np.zeros(count, bool),
        )

    @property
    def rows(self) -> np.ndarray:
        """Rows of the readable images, int64."""
        return np.flatnonzero(self.height > 0)

    @property
    def is_gray(self) -> bool:
        """True if no readable image has colors."""
        return bool((self.flags[self.rows] & _GRAY).all())

    @property
    def animated(self) -> np.ndarray:
        """Rows of animations."""
        return np.flatnonzero(self.flags & _ANIMATED)

    @property
    def misnamed(self) -> np.ndarray:
        """Rows of files with the extension of another format."""
        return np.flatnonzero(self.flags & _MISNAMED)

    def format_name(self, row: int) -> str:
        """Return the format of an image."""
        return ALL_FORMATS[self.format[row]]

    def set(self, row: int, entry: _Entry) -> None:
        """Store what was read about an image. A failure of the system is no property of the file, so it is not kept."""
        self.is_known[row] = entry.is_final
        if entry.header is None:
            self.reasons[row] = entry.reason
            return
        header = entry.header
        self.digest[row] = np.frombuffer(entry.digest, np.uint8)
        self.height[row] = header.height
        self.width[row] = header.width
        self.format[row] = ALL_FORMATS.index(header.format)
        self.flags[row] = _GRAY * header.gray + _ANIMATED * header.animated + _MISNAMED * header.misnamed


@dataclass(frozen=True)
class _Entry:
    """What one image says about itself: its header, or the reason why there is none."""

    header: ImageHeader | None = None
    digest: bytes = b""
    reason: str = ""
    is_final: bool = True


def index_images(encoded: EncodedImages, progress: Callable[[int, int], None] | None = None) -> ImageIndex:
    """Read every image once that is new or has changed, and return what is known about all of them.

    Args:
        encoded: The images.
        progress: Called with (images that are known, images in total).

    Returns:
        The index, also kept in the cache if the images are of one collection.
    """
    stamps = encoded.stamps()
    index = _load_index(encoded.collection, stamps)
    num_loaded = int(index.is_known.sum())
    unknown = np.flatnonzero(~index.is_known).tolist()
    if progress:
        progress(num_loaded, len(encoded))
    try:
        entries = prefetch_map(lambda row: _inspect(encoded, row), unknown)
        for count, (row, entry) in enumerate(zip(unknown, entries, strict=True), num_loaded + 1):
            index.set(row, entry)
            if progress:
                progress(count, len(encoded))
    finally:
        if encoded.collection and unknown:
            _save_index(encoded.collection, stamps, index)
    return index


def _inspect(encoded: EncodedImages, row: int) -> _Entry:
    """Read one image, once: its bytes are hashed, its header is read, its end is looked at."""
    source: str | os.PathLike[str] | bytes = b""
    try:
        source = encoded.read(row)
        content = source if isinstance(source, bytes) else _read_file(source)
        return _Entry(inspect_image(source, content), hashlib.sha256(content).digest())
    except ImageReadError as error:
        # whether memory is short is no property of the file
        return _Entry(reason=str(error), is_final=not isinstance(error.__cause__, MemoryError))
    except (OSError, MemoryError, ValueError) as error:
        return _Entry(reason=describe_error(error, source), is_final=False)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file. Raises OSError, and ImageReadError for one that is too large."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            limit = format_bytes(MAX_FILE_BYTES)
            raise ImageReadError(f"{format_bytes(size)}; files of at most {limit} are supported")
        return file.read()


def list_unreadable(encoded: EncodedImages, index: ImageIndex) -> list[UnreadableFile]:
    """Return the unreadable images, with the reasons."""
    rows = sorted(index.reasons)
    names = encoded.names(rows)
    return [UnreadableFile(name, index.reasons[row]) for name, row in zip(names, rows, strict=True)]


def _save_index(collection: str, stamps: Stamps, index: ImageIndex) -> None:
    rows = np.flatnonzero(index.is_known)
    reasons = [index.reasons.get(row, "") for row in rows.tolist()]
    arrays = {
        "version": pack_texts([VERSION, PIL.__version__]),
        "key": pack_texts([stamps.keys[row] for row in rows.tolist()]),
        "size": stamps.size[rows],
        "modified": stamps.modified[rows],
        "digest": index.digest[rows],
        "height": index.height[rows],
        "width": index.width[rows],
        "flags": index.flags[rows],
        "format": index.format[rows],
        "unreadable": np.flatnonzero(list(map(bool, reasons))),
        "reason": pack_texts([decode_file_name(reason).replace("\0", " ") for reason in reasons if reason]),
    }
    save_arrays(cache_path("index", collection), collection, arrays)


def _load_index(collection: str, stamps: Stamps) -> ImageIndex:
    """Return what an earlier run wrote about those images that have not changed since."""
    index = ImageIndex.empty(len(stamps.keys))
    arrays = load_arrays(cache_path("index", collection), collection) if collection else None
    if arrays is None:
        return index
    try:
        keys = unpack_texts(arrays["key"])
        _check_arrays(arrays, len(keys))
    except (KeyError, ValueError, UnicodeError):
        return index
    row_N, old_row_N = _match_keys(stamps.keys, keys)
    same = (stamps.size[row_N] == arrays["size"][old_row_N]) & (stamps.modified[row_N] == arrays["modified"][old_row_N])
    reasons = dict(zip(arrays["unreadable"].tolist(), unpack_texts(arrays["reason"]), strict=False))
    if unpack_texts(arrays["version"])[1] != PIL.__version__:  # another version may read more
        same &= arrays["height"][old_row_N] > 0
    row_N = row_N[same]
    old_row_N = old_row_N[same]
    for name in ("digest", "height", "width", "flags", "format"):
        getattr(index, name)[row_N] = arrays[name][old_row_N]
    index.is_known[row_N] = True
    if reasons:
        for row, old_row in zip(row_N.tolist(), old_row_N.tolist(), strict=True):
            if old_row in reasons:
                index.reasons[row] = reasons[old_row]
    return index


def _check_arrays(arrays: dict[str, np.ndarray], count: int) -> None:
    """Raise KeyError or ValueError unless the arrays are those of an index of `count` images."""
    template = ImageIndex.empty(count)
    expected = {name: getattr(template, name) for name in ("digest", "height", "width", "flags", "format")}
    expected |= {"size": np.zeros(count, np.int64), "modified": np.zeros(count, np.int64)}
    for name, array in expected.items():
        if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
            raise ValueError(name)
    if unpack_texts(arrays["version"])[0] != VERSION or arrays["format"].max(initial=0) >= len(ALL_FORMATS):
        raise ValueError("version")
    unreadable = np.flatnonzero(arrays["height"] <= 0)
    if not np.array_equal(arrays["unreadable"], unreadable):
        raise ValueError("unreadable")
    if len(unreadable) and len(unpack_texts(arrays["reason"])) != len(unreadable):
        raise ValueError("reason")


def _match_keys(keys: Sequence[str], old_keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of those keys that both lists have, in the first list and in the second."""
    if keys == old_keys:
        rows = np.arange(len(keys))
        return rows, rows
    old_row_of_key = dict(zip(old_keys, range(len(old_keys)), strict=True))
    rows = []
    old_rows = []
    for row, key in enumerate(keys):
        old_row = old_row_of_key.get(key)
        if old_row is not None:
            rows.append(row)
            old_rows.append(old_row)
    return np.array(rows, np.int64), np.array(old_rows, np.int64)
