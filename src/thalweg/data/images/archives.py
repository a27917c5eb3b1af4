"""Images inside tar and zip files, read in place: nothing is extracted, and no name of an archive is used as a path."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...io.file_names import decode_file_name
from ...io.free_memory import format_bytes
from .encoded import MAX_MEMBER_BYTES, ConcatenatedImages, Stamps
from .image_decoding import ImageReadError

_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class ArchiveImages:
    """Images inside one archive.

    Attributes:
        path: The archive.
        collection: See `EncodedImages`.
        members: Name of each image inside the archive.
        offset: (N,) int64 where the bytes of each member begin; in a zip file, where its header begins.
        size: (N,) int64 bytes of each image.
        packed: (N,) int64 bytes of each image inside a zip file; None for a tar file.
        method: (N,) int64 how each image is compressed in a zip file, or -1 if it is encrypted.
        crc: (N,) int64 checksum of each image in a zip file.
        origin: The user's file, if `path` is a copy of the images in it.
    """

    path: Path
    members: Sequence[str]
    offset: np.ndarray
    size: np.ndarray
    collection: str = ""
    packed: np.ndarray | None = None
    method: np.ndarray | None = None
    crc: np.ndarray | None = None
    origin: Path | None = None

    def __len__(self) -> int:
        return len(self.members)

    def read(self, row: int) -> bytes:
        """Return the bytes of an image. Raises OSError, and ImageReadError for a damaged archive."""
        size = int(self.size[row])
        if size < 0:
            raise ImageReadError("there are no bytes in this row")
        if size > MAX_MEMBER_BYTES:
            limit = format_bytes(MAX_MEMBER_BYTES)
            raise ImageReadError(f"{format_bytes(size)}; at most {limit} are supported inside an archive")
        # opened for each image: threads share no position, and thousands of archives would be too many open files
        with open(self.path, "rb", buffering=0) as file:
            if self.packed is None or self.method is None or self.crc is None:
                return _read_exactly(file, int(self.offset[row]), size)
            name, name_length, extra_length = _LOCAL_HEADER.unpack(
                _read_exactly(file, int(self.offset[row]), _LOCAL_HEADER.size)
            )
            if name != b"PK\x03\x04":
                raise ImageReadError("the archive is damaged here")
            start = int(self.offset[row]) + _LOCAL_HEADER.size + name_length + extra_length
            packed_size = min(int(self.packed[row]), size + size // 1000 + 1024)  # deflate grows no more than that
            packed = _read_exactly(file, start, packed_size)
        content = _unpack(packed, int(self.method[row]), size)
        if len(content) != size or zlib.crc32(content) != int(self.crc[row]):
            raise ImageReadError("damaged inside the archive (its checksum does not hold)")
        return content

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return names such as shard-000.tar:0001.jpg."""
        archive = decode_file_name(str(self.origin or self.path))
        return [f"{archive}:{self.members[row]}" for row in rows]

    def take(self, rows: np.ndarray) -> ArchiveImages:
        """Return the images at `rows` (n,) int64, in that order."""
        selected = {}
        for name in ("offset", "size", "packed", "method", "crc"):
            values = getattr(self, name)
            selected[name] = None if values is None else values[rows]
        return replace(self, members=[self.members[row] for row in rows.tolist()], **selected)

    def stamps(self) -> Stamps:
        """Return what tells whether the images have changed: where they are in an archive of what time."""
        archive = self.origin or self.path
        keys = [f"{archive.name}:{row}:{offset}" for row, offset in enumerate(self.offset.tolist())]
        return Stamps(keys, self.size, np.full(len(self), os.stat(archive).st_mtime_ns, np.int64))


class ArchiveCollection(ConcatenatedImages):
    """Images of several archives. `collection` is the path of their folder, by which an index is kept."""

    def __init__(self, parts: Sequence[ArchiveImages], collection: str):
        super().__init__(parts)
        self.collection = collection


def _read_exactly(file: io.RawIOBase, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset` on. Raises ImageReadError where it ends before."""
    file.seek(offset)
    content = file.read(size) or b""
    if len(content) != size:
        raise ImageReadError("the archive ends in the middle of it")
    return content


def _unpack(packed: bytes, method: int, size: int) -> bytes:
    """Return the content of a member of a zip file, never more than `size` bytes and one."""
    if method == zipfile.ZIP_STORED:
        return packed
    if method != zipfile.ZIP_DEFLATED:
        reason = "it is encrypted" if method < 0 else "it is compressed in another way than deflate"
        raise ImageReadError(f"{reason}; the archive can be unpacked")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as error:
        raise ImageReadError(f"damaged inside the archive ({error})") from None
