"""Encoded images: the bytes of image files, wherever they are, read one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from ...io.file_names import decode_file_name
from .image_decoding import ImageSource

#: an encoded image inside an archive or a table may have at most this many bytes
MAX_MEMBER_BYTES = 256_000_000


@dataclass(frozen=True)
class Stamps:
    """What tells whether encoded images have changed, without reading them.

    Attributes:
        keys: Name of each image (N), unique within its collection.
        size: (N,) int64 bytes of each image, -1 where it is not there.
        modified: (N,) int64 time of the last change of its file, in nanoseconds.
    """

    keys: list[str]
    size: np.ndarray
    modified: np.ndarray


class EncodedImages(Protocol):
    """N encoded images. Safe to read from several threads."""

    @property
    def collection(self) -> str:
        """Path of the folder, table or archive that they are from, by which an index is kept; empty for none."""
        ...

    def __len__(self) -> int: ...

    def read(self, row: int) -> ImageSource:
        """Return what `decode_image` takes: the path of a file, or its content. Raises OSError or ImageReadError."""
        ...

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return names of the images at `rows` for messages: paths, or an archive and a name inside it."""
        ...

    def take(self, rows: np.ndarray) -> EncodedImages:
        """Return the images at `rows` (n,) int64, in that order."""
        ...

    def stamps(self) -> Stamps:
        """Return what tells whether the images have changed."""
        ...


class ImageFiles:
    """Image files by their paths.

    Attributes:
        paths: Paths of the files, relative to `root`; strings take less memory.
        root: The folder that `paths` are relative to; empty for the current folder.
        collection: See `EncodedImages`.
    """

    def __init__(self, paths: Sequence[str | Path], root: str = "", collection: str = ""):
        self.paths = paths
        self.root = root
        self.collection = collection

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> str:
        """Return the path of an image."""
        return os.path.join(self.root, self.paths[row])

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the paths of the images at `rows`."""
        return [decode_file_name(self.read(row)) for row in rows]

    def take(self, rows: np.ndarray) -> ImageFiles:
        """Return the images at `rows` (n,) int64, in that order."""
        return ImageFiles([self.paths[row] for row in rows.tolist()], self.root, self.collection)

    def stamps(self) -> Stamps:
        """Return size and time of the last change of every file."""
        size_N = np.full(len(self), -1, np.int64)
        modified_N = np.zeros(len(self), np.int64)
        for row in range(len(self)):
            try:
                status = os.stat(self.read(row))
            except (OSError, ValueError):
                continue
            size_N[row] = status.st_size
            modified_N[row] = status.st_mtime_ns
        return Stamps([os.fspath(path) for path in self.paths], size_N, modified_N)


class ConcatenatedImages:
    """The encoded images of several collections, one after the other.

    Attributes:
        parts: The collections.
        part_N: The collection of each image (N,).
        row_N: The row of each image in its collection (N,).
    """

    collection = ""

    def __init__(self, parts: Sequence[EncodedImages], rows: tuple[np.ndarray, np.ndarray] | None = None):
        self.parts = parts
        if rows is None:
            lengths = list(map(len, parts))
            row_N = np.concatenate([np.zeros(0, np.int64), *map(np.arange, lengths)])
            rows = np.repeat(np.arange(len(parts)), np.array(lengths, np.int64)), row_N
        self.part_N, self.row_N = rows

    def __len__(self) -> int:
        return len(self.row_N)

    def read(self, row: int) -> ImageSource:
        """Return what `decode_image` takes. Raises OSError or ImageReadError."""
        return self.parts[self.part_N[row]].read(int(self.row_N[row]))

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the names of the images at `rows`."""
        return [self.parts[self.part_N[row]].names([int(self.row_N[row])])[0] for row in rows]

    def take(self, rows: np.ndarray) -> ConcatenatedImages:
        """Return the images at `rows` (n,) int64, in that order."""
        return ConcatenatedImages(self.parts, (self.part_N[rows], self.row_N[rows]))

    def stamps(self) -> Stamps:
        """Return what tells whether the images have changed."""
        stamps = [part.stamps() for part in self.parts]
        starts = np.cumsum([0, *map(len, self.parts)])[self.part_N] + self.row_N
        keys = [key for part in stamps for key in part.keys]
        return Stamps(
            [keys[index] for index in starts.tolist()],
            np.concatenate([part.size for part in stamps])[starts],
            np.concatenate([part.modified for part in stamps])[starts],
        )


class EncodedNames(Sequence[str]):
    """The names of encoded images, made when they are asked for: a list of millions of paths takes much memory."""

    def __init__(self, encoded: EncodedImages):
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = range(len(self))[index]
        return self.encoded.names([rows])[0] if isinstance(rows, int) else self.encoded.names(rows)

    def __iter__(self) -> Iterator[str]:
        for row in range(len(self)):
            yield self.encoded.names([row])[0]

    def take(self, rows: np.ndarray) -> EncodedNames:
        """Return the names at `rows` (n,) int64, in that order."""
        return EncodedNames(self.encoded.take(rows))
