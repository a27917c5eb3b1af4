"""Read IDX, the format of MNIST (LeCun, Cortes, Burges 1998): a magic number, the size of each dimension, then bytes.

Magic 0x00000803 is a stack of images (N, H, W), 0x00000801 a row of labels (N,). Numbers are big-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ...errors import DataError
from ...io.free_memory import require_memory
from .dataset import ImageSplit
from .raw_dataset import RawDataset

_FILE_NAME = re.compile(r"^(?P<stem>.*?)(?P<kind>images|labels)(?P<end>[-._]idx[13][-._]ubyte(\.gz)?)$", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"


class LazyNames(Sequence[str]):
    """Names of the examples of one file, such as 'train-images-idx3-ubyte.gz[17]', made when they are needed."""

    def __init__(self, file: str, count: int):
        self.file = file
        self.num_names = count

    def __len__(self) -> int:
        return self.num_names

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(self.num_names))]
        if not -self.num_names <= index < self.num_names:
            raise IndexError(index)
        return f"{self.file}[{index % self.num_names}]"


def parse_idx(content: bytes, dimensions: int, name: str) -> np.ndarray:
    """Parse an IDX file, gzipped or not.

    Args:
        content: The bytes of the file.
        dimensions: 3 for images, 1 for labels.
        name: Name of the file, for errors.

    Returns:
        Images (N, H, W) or labels (N,) uint8, a view of the bytes.

    Raises:
        DataError: Wrong magic number, wrong length or damaged compression.
    """
    header_size = 4 + 4 * dimensions
    is_gzipped = content[:2] == _GZIP_MAGIC
    decompressor = zlib.decompressobj(31)
    header = content[:header_size]
    if is_gzipped:
        try:
            header = decompressor.decompress(content, header_size)
        except zlib.error as error:
            raise _broken_file_error(name, f"the gzip compression is damaged ({error})") from None
    if len(header) < header_size:
        raise _broken_file_error(name, f"it ends within its first {header_size} bytes")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if magic != 0x800 + dimensions:
        kind = "images" if dimensions == 3 else "labels"
        raise _broken_file_error(name, f"its magic number is {magic}; expected {0x800 + dimensions} for IDX {kind}")
    size = int(np.prod(shape, dtype=object))
    if is_gzipped:
        require_memory(size, name, cure="Use a machine with more memory, or a part of the dataset.")
        body = _decompress(decompressor, size, name)
    else:
        body = memoryview(content)[header_size:]
    if len(body) != size:
        actual = "more" if len(body) > size else f"{len(body):,}"
        dims = " x ".join(map(str, shape))
        raise _broken_file_error(name, f"its header announces {size:,} bytes ({dims}), it contains {actual}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _decompress(decompressor: Any, size: int, name: str) -> bytes:
    """Decompress at most size + 1 bytes of the rest, so that a small file cannot fill the memory."""
    try:
        body = decompressor.decompress(decompressor.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise _broken_file_error(name, f"the gzip compression is damaged ({error})") from None
    if len(body) == size and not decompressor.eof:
        raise _broken_file_error(name, "it ends before its checksum")
    return body


def _broken_file_error(name: str, reason: str) -> DataError:
    return DataError(f"{name}: {reason}.", cure="Copy or download the file again.", path=name)


def is_idx(path: Path) -> bool:
    """Tell whether a file has the name of an IDX file of images or labels."""
    return _FILE_NAME.match(path.name) is not None


def file_pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """Return the files of images and labels by split: those of a folder, or the one pair that the file belongs to.

    Raises DataError for images without labels and for two datasets in one folder.
    """
    match = _FILE_NAME.match(path.name)
    if match and not path.is_dir():
        return {"train": _match_pair(path, match)}
    files = sorted(path.iterdir())
    pairs: dict[str, tuple[Path, Path]] = {}
    for file in files:
        match = _FILE_NAME.match(file.name)
        if not match or match["kind"].lower() != "images":
            continue
        if file.suffix == ".gz" and file.with_suffix("") in files:
            continue  # the decompressed file is next to it
        split_name = _split_of(match["stem"])
        if split_name in pairs:
            names = [pairs[split_name][0].name, file.name]
            raise DataError(
                f"{path}: both {names[0]} and {names[1]} are images of the {split_name} split.",
                cure="Pass the path of one of the files, or a folder with one dataset.",
                path=path,
                value=names,
            )
        pairs[split_name] = _match_pair(file, match)
    if "train" not in pairs:
        raise DataError(f"{path}: no IDX file of training images.", cure="Add train-images-idx3-ubyte.gz.", path=path)
    return pairs


def _split_of(stem: str) -> str:
    """Return the split of an IDX file by the beginning of its name."""
    stem = stem.lower()
    if "t10k" in stem or "test" in stem:
        return "test"
    return "val" if "val" in stem else "train"


def _match_pair(file: Path, match: re.Match[str]) -> tuple[Path, Path]:
    """Return the files of images and labels that `file` is one of."""
    return _matching_file(file, match, "images"), _matching_file(file, match, "labels")


def _matching_file(file: Path, match: re.Match[str], kind: str) -> Path:
    """Return the file of `kind` that belongs to `file`, gzipped or not."""
    digit = "3" if kind == "images" else "1"
    end = re.sub(r"idx[13]", f"idx{digit}", match["end"], flags=re.IGNORECASE)
    expected = file.with_name(match["stem"] + kind + end)
    plain = expected.with_name(re.sub(r"\.gz$", "", expected.name))
    for candidate in (expected, plain, plain.with_name(plain.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{file}: its file of {kind} is missing.",
        cure=f"Put {expected.name} next to it.",
        path=file,
        value=expected.name,
    )


def read_idx(path: Path, classes: tuple[str, ...] | None = None) -> RawDataset:
    """Read a folder of IDX files, or the pair that a file belongs to. `classes` names the labels from 0."""
    return build_idx_dataset(file_pairs(path), Path.read_bytes, path, classes)


def build_idx_dataset(
    files: Mapping[str, tuple[Path, Path]],
    read_bytes: Callable[[Path], bytes],
    path: Path,
    classes: tuple[str, ...] | None = None,
) -> RawDataset:
    """Build a dataset from IDX files.

    Args:
        files: Files of images and labels by split.
        read_bytes: Returns the content of a file.
        path: Path of the dataset, for errors.
        classes: Names of the labels 0, 1, …; None uses the numbers.

    Raises:
        DataError: A file is broken, or images and labels do not match.
    """
    images = {}
    labels = {}
    for split_name, (image_file, label_file) in files.items():
        pixels = parse_idx(read_bytes(image_file), 3, image_file.name)
        labels[split_name] = parse_idx(read_bytes(label_file), 1, label_file.name)
        images[split_name] = (image_file.name, pixels)
        if len(pixels) != len(labels[split_name]):
            raise DataError(
                f"{path}: {image_file.name} has {len(pixels):,} images, "
                f"{label_file.name} has {len(labels[split_name]):,} labels.",
                cure="Use two files of the same dataset.",
                path=path,
                value=[len(pixels), len(labels[split_name])],
            )
    return dataset_from_arrays("IDX files", path, images, labels, classes)


def dataset_from_arrays(
    format: str,
    path: Path,
    images: Mapping[str, tuple[str, np.ndarray]],
    labels: Mapping[str, np.ndarray],
    classes: tuple[str, ...] | None,
) -> RawDataset:
    """Build a dataset from arrays.

    Args:
        format: Name of the format.
        path: Path of the dataset.
        images: By split: the name of the file, and images (N, H, W) or (N, H, W, C) uint8.
        labels: By split: integer labels (N,).
        classes: Names of the labels 0, 1, …; None uses the numbers that occur, in ascending order.

    Raises:
        DataError: A label is outside of `classes`.
    """
    if classes:
        numbers = np.arange(len(classes))
    else:
        numbers = np.unique(np.concatenate(list(labels.values())))
        classes = tuple(map(str, numbers))
    splits = {}
    for split_name, (name, pixels) in images.items():
        values = labels[split_name].astype(np.int64)
        label_N = np.clip(np.searchsorted(numbers, values), 0, max(len(numbers) - 1, 0))
        is_unknown = numbers[label_N] != values if len(numbers) else np.ones(len(values), bool)
        unknown = np.flatnonzero(is_unknown)
        if len(unknown):
            row = unknown[0]
            raise DataError(
                f"{path}: the label of {name}[{row}] is {values[row]}; expected 0 to {len(numbers) - 1}.",
                cure="Correct the label, or the list of class names.",
                path=path,
                value=int(values[row]),
            )
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        splits[split_name] = ImageSplit(pixels, label_N, LazyNames(name, len(values)))
    return RawDataset(format, str(path), classes, splits)
