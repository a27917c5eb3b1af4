"""Small datasets and images, valid and broken, for the tests of the readers."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from thalweg.data.base import DataRequest
from thalweg.data.images.dataset import ImageDataset
from thalweg.data.images.load import load_dataset
from thalweg.data.images.raw_dataset import RawDataset
from thalweg.data.images.splits import split_dataset
from thalweg.data.images.validate import DatasetReport, check_dataset

IMAGE_OPTIONS = ("image_size", "resize", "channels", "near_duplicates", "storage")


def ignore(message: str) -> None:
    """A log that prints nothing."""


def _split_options(options: dict) -> tuple[dict, dict]:
    """Separate the options of `DataRequest` from those of images."""
    image_options = {name: value for name, value in options.items() if name in IMAGE_OPTIONS}
    return {"log": ignore, **{k: v for k, v in options.items() if k not in IMAGE_OPTIONS}}, image_options


def load(source: object, **options) -> ImageDataset:
    """Load a dataset without printing."""
    request, image_options = _split_options(options)
    return load_dataset(DataRequest(str(source), **request), **image_options)


def check(source: object, **options) -> DatasetReport:
    """Check a dataset without printing."""
    request, image_options = _split_options(options)
    return check_dataset(DataRequest(str(source), **request), **image_options)


def split(raw: RawDataset, val_fraction: float = 0.1, name: str = "x", **options) -> ImageDataset:
    """Split a raw dataset."""
    return split_dataset(raw, name, DataRequest("x", val_fraction=val_fraction, **options))


def real_data(name: str) -> Path | None:
    """The folder of a real dataset: below THALWEG_DATA, else beside the repository; None where it is not."""
    roots = [os.environ.get("THALWEG_DATA"), Path(__file__).resolve().parents[4] / "shared" / "data"]
    found = [Path(root) / name for root in roots if root]
    return next((path for path in found if path.is_dir()), None)


def random_image(seed: int, size: tuple[int, int] = (20, 20), channels: int = 3) -> Image.Image:
    """Return an image of smooth random colors with `size` (width, height); each seed gives another."""
    values = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).convert("RGB" if channels == 3 else "L")


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    """Return the content of a file of the image."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def folder(root: Path, classes: dict[str, int], size: tuple[int, int] = (20, 20), channels: int = 3) -> Path:
    """Write an image folder with this number of images per class."""
    seed = sum(map(ord, root.name))
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            random_image(seed * 1000 + number, size, channels).save(root / name / f"{number}.png")
    return root


def idx(values: np.ndarray) -> bytes:
    """An IDX file of bytes, written by the description of the format."""
    return struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """The beginning of a black-and-white PNG."""
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


def empty_png(width: int, height: int) -> bytes:
    """A PNG that announces a size and contains no pixels."""
    return png_header(width, height) + _png_chunk(b"IDAT", b"") + _png_chunk(b"IEND", b"")


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, one bit each, that is a few kilobytes long."""
    packer, row = zlib.compressobj(9), b"\0" * (1 + side // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return png_header(side, side) + _png_chunk(b"IDAT", body) + _png_chunk(b"IEND", b"")


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below root with its size and time of change: what a reader must leave as it was."""
    return {str(p.relative_to(root)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))}
