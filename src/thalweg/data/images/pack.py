"""A cache of small JPEGs: one file for all images of a split, read where large originals would take too long to decode.

A pack is a folder: `pack.bin` (one JPEG after the other), `index.npz` (offsets, checksums) and `pack.json`, which says
what was packed and how. Its name is the hash of that, so runs with equal images and settings share it. Nothing in it is
trusted: an index that does not fit makes the pack anew, and an image that does not is read from its original.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
from PIL import Image

from ...errors import ResourceError
from ...io.atomic_write import disk_full_error, fsync_dir, write_fsync
from ...io.cache_limit import count_bytes, mark_as_used, remove_oldest
from ...io.download import cache_dir
from ...io.file_lock import lock_file
from ...io.free_memory import format_bytes
from ..prefetch import prefetch_map
from .encoded import EncodedImages, Stamps
from .image_decoding import ImageReadError, ImageSource, read_header
from .random_crop import decode_box
from .stored_images import StoredImages

#: changes with the layout of a pack, or with how its images are made
VERSION = 1
QUALITY = 90
#: the shorter side of a packed image, in shorter sides of the model's input: most boxes are not enlarged then. Random
#: boxes of less than this area need the larger side.
SIDE_FOR_CENTERS = 1.15
SIDE_FOR_SMALL_BOXES = 1.7
SMALL_BOX_AREA = 0.35
#: bytes that all packs may take together, or this fraction of the free disk, before the oldest are removed
MAX_BYTES = 20_000_000_000
MAX_DISK_FRACTION = 0.1
#: bytes that stay free on the disk
MIN_FREE_BYTES = 100_000_000
#: images from which the size of a pack is estimated
NUM_SAMPLES = 16
#: seconds between two lines about the progress
LOG_INTERVAL = 30

Log = Callable[[str], None]


@dataclass(frozen=True)
class PackSettings:
    """What a pack is made of, and how. `fingerprint` is the hash of the digests of all originals, in order."""

    side: int
    channels: int
    fingerprint: str
    quality: int = QUALITY
    pillow: str = PIL.__version__
    version: int = VERSION

    @property
    def path(self) -> Path:
        """The folder of the pack."""
        name = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]
        return cache_dir() / "packs" / name


class Pack:
    """An open pack. Several threads may read it."""

    def __init__(self, path: Path, offsets: np.ndarray, checksums: np.ndarray):
        self.path = path
        self.offsets = offsets
        self.checksums = checksums
        self._handle = os.open(path / "pack.bin", os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._handle)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.checksums)

    def read(self, index: int) -> bytes | None:
        """Return an encoded image; None where it was never packed, or where its bytes are damaged."""
        start, end = self.offsets[index : index + 2].tolist()
        if start == end:
            return None
        content = self._read_bytes(start, end - start)
        return content if zlib.crc32(content) == self.checksums[index] else None

    def _read_bytes(self, start: int, size: int) -> bytes:
        # Read, not mapped: mapped pages count as memory of the process, and a shortened file would kill it.
        if hasattr(os, "pread"):
            return os.pread(self._handle, size, start)
        with self._lock:
            os.lseek(self._handle, start, os.SEEK_SET)
            return os.read(self._handle, size)


class PackedImages:
    """Images of a pack at `indices` (N,) int64; the originals where the pack has none."""

    collection = ""

    def __init__(self, pack: Pack, indices: np.ndarray, originals: EncodedImages):
        self.pack = pack
        self.indices = indices
        self.originals = originals

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, row: int) -> ImageSource:
        """Return an encoded image. Raises OSError."""
        content = self.pack.read(int(self.indices[row]))
        return self.originals.read(row) if content is None else content

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the names of the originals."""
        return self.originals.names(rows)

    def take(self, rows: np.ndarray) -> PackedImages:
        """Return the images at `rows` (n,) int64, in that order."""
        return PackedImages(self.pack, self.indices[rows], self.originals.take(rows))

    def stamps(self) -> Stamps:
        """Return what tells whether the originals have changed."""
        return self.originals.stamps()


def pack_side(size: tuple[int, int], min_area: float | None) -> int:
    """Return the shorter side of packed images.

    Args:
        size: (height, width) of the model's input.
        min_area: The smallest area of random crops, as a fraction; None without any.

    Returns:
        The side in pixels.
    """
    has_small_boxes = min_area is not None and min_area < SMALL_BOX_AREA
    return round(min(size) * (SIDE_FOR_SMALL_BOXES if has_small_boxes else SIDE_FOR_CENTERS))


def pack_images(images: StoredImages, side: int, log: Log) -> StoredImages:
    """Return the same images, read from a pack; it is made where there is none.

    Args:
        images: The originals.
        side: The shorter side of packed images; smaller originals keep their size and their bytes.
        log: Called with what is made, and how far it is.

    Returns:
        The images.

    Raises:
        ResourceError: If the disk is too small, before or while it is written.
    """
    fingerprint = hashlib.sha256(np.ascontiguousarray(images.digests).data).hexdigest()
    settings = PackSettings(max(side, images.resize or 0), images.channels, fingerprint)
    pack = _open_pack(settings, len(images))
    if pack is None:
        with _lock(settings.path, log):
            pack = _open_pack(settings, len(images))  # another process may have made it meanwhile
            if pack is None:
                if settings.path.exists():
                    log(f"{settings.path} is damaged and is made anew")
                _build(images, settings, log)
                pack = _open_pack(settings, len(images))
    if pack is None:
        raise ResourceError(f"{settings.path} cannot be read.", "Leave out --cache-images.", path=settings.path)
    folder = settings.path.parent
    remove_oldest(folder, _limit_bytes(folder), used=settings.path)
    encoded: EncodedImages = PackedImages(pack, np.arange(len(images)), images.encoded)
    return replace(images, encoded=encoded)


def _open_pack(settings: PackSettings, count: int) -> Pack | None:
    """Open a pack; None where there is none, or it is not whole."""
    path = settings.path
    try:
        description = json.loads((path / "pack.json").read_text(encoding="utf-8"))
        index = (path / "index.npz").read_bytes()
        if description != _describe(settings, index):
            return None
        with np.load(io.BytesIO(index), allow_pickle=False) as arrays:
            offsets, checksums = arrays["offsets"], arrays["checksums"]
        if len(checksums) != count or (path / "pack.bin").stat().st_size != offsets[-1]:
            return None
        mark_as_used(path)
        return Pack(path, offsets, checksums)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, RecursionError):
        return None


def _describe(settings: PackSettings, index: bytes) -> dict[str, object]:
    return {**asdict(settings), "index_sha256": hashlib.sha256(index).hexdigest()}


@contextmanager
def _lock(path: Path, log: Log) -> Iterator[None]:
    """Hold the lock of a pack; wait where another process holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path.with_suffix(".lock"), "wb")
    except OSError as error:
        raise disk_full_error(error, path, 0, "Leave out --cache-images, or set THALWEG_CACHE.") from error
    with handle:
        waits = False
        while not lock_file(handle):
            if not waits:
                log(f"waiting for another process that makes {path}")
            waits = True
            time.sleep(0.5)
        yield


def _build(images: StoredImages, settings: PackSettings, log: Log) -> None:
    """Write a pack under another name, and rename it once it is on the disk."""
    path = settings.path
    needed = _estimate_bytes(images, settings)
    free = shutil.disk_usage(path.parent).free
    if needed + MIN_FREE_BYTES > free:
        raise ResourceError(
            f"--cache-images: {len(images):,} images take about {format_bytes(needed)}; {format_bytes(free)} are free "
            f"in {path.parent}.",
            "Leave it out, or set THALWEG_CACHE to a folder on a larger disk.",
            option="cache_images",
            value=needed,
            path=path.parent,
        )
    log(
        f"caching {len(images):,} images with a shorter side of at most {settings.side} pixels, once: about "
        f"{format_bytes(needed)} in {path}"
    )
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        index = _write_images(images, settings, draft / "pack.bin", log)
        write_fsync(draft / "index.npz", index)
        write_fsync(draft / "pack.json", json.dumps(_describe(settings, index)).encode())
        fsync_dir(draft)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(draft, path)
        fsync_dir(path.parent)
    except OSError as error:
        raise disk_full_error(error, path, needed, "Leave out --cache-images, or set THALWEG_CACHE.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _estimate_bytes(images: StoredImages, settings: PackSettings) -> int:
    rows = np.unique(np.linspace(0, len(images) - 1, NUM_SAMPLES).astype(np.int64)).tolist()
    sizes = [len(_encode(images, row, settings)) for row in rows]
    return round(sum(sizes) / len(sizes) * len(images))


def _write_images(images: StoredImages, settings: PackSettings, path: Path, log: Log) -> bytes:
    """Write all images into one file; return the index."""
    offsets = np.zeros(len(images) + 1, np.int64)
    checksums = np.zeros(len(images), np.uint32)
    logged_at = time.monotonic()
    with open(path, "wb") as file:
        contents = prefetch_map(lambda row: _encode(images, row, settings), range(len(images)))
        for row, content in enumerate(contents):
            file.write(content)
            offsets[row + 1] = offsets[row] + len(content)
            checksums[row] = zlib.crc32(content)
            if time.monotonic() > logged_at + LOG_INTERVAL:
                logged_at = time.monotonic()
                log(f"cached {row + 1:,} of {len(images):,} images")
        file.flush()
        os.fsync(file.fileno())
    buffer = io.BytesIO()
    np.savez(buffer, offsets=offsets, checksums=checksums)
    return buffer.getvalue()


def _encode(images: StoredImages, row: int, settings: PackSettings) -> bytes:
    """Return an image as a small JPEG, or its own bytes where it is no larger; empty where it cannot be read."""
    try:
        source = images.encoded.read(row)
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        header = read_header(content)
        shorter = min(header.height, header.width)
        if shorter <= settings.side:
            return content
        scale = settings.side / shorter
        size = (round(header.height * scale), round(header.width * scale))
        pixels = decode_box(content, settings.channels, size, lambda height, width: (0, 0, width, height))
        buffer = io.BytesIO()
        image = Image.fromarray(pixels if settings.channels == 3 else pixels[..., 0])
        image.save(buffer, "JPEG", quality=settings.quality, subsampling="4:2:0")
        return buffer.getvalue()
    except (ImageReadError, OSError):  # the original is read instead, and says what is wrong with it
        return b""


def _limit_bytes(folder: Path) -> int:
    """Return the bytes that all packs may take together."""
    packs = sum(count_bytes(path) for path in folder.iterdir())
    return min(MAX_BYTES, round(MAX_DISK_FRACTION * (shutil.disk_usage(folder).free + packs)))
