"""IDX, the format of MNIST (LeCun, Cortes, Burges 1998): a magic number, the extent of each dimension, then bytes.

Magic 0x00000803 is a stack of pictures (N, H, W), 0x00000801 a row of labels (N,); numbers are big-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...io.free_memory import require_memory
from .dataset import ImageSplit
from .raw_dataset import RawDataset

_FILE_NAME = re.compile(r"^(?P<stem>.*?)(?P<what>images|labels)(?P<end>[-._]idx[13][-._]ubyte(\.gz)?)$", re.IGNORECASE)


class LazyNames:
    """Names of the examples of one file: 'train-images-idx3-ubyte.gz[17]'. A sequence that is not stored."""

    def __init__(self, file: str, count: int):
        self.file, self.count = file, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> str:
        if not -self.count <= row < self.count:
            raise IndexError(row)
        return f"{self.file}[{row % self.count}]"


def parse_idx(content: bytes, dimensions: int, name: str) -> np.ndarray:
    """The array in an IDX file, compressed or not: (N, H, W) for 3 dimensions, (N,) for 1, uint8, a view of the bytes.

    Raises DataError naming the file for a wrong magic number, a wrong length or damaged compression.
    """
    head = 4 + 4 * dimensions
    zipped = content[:2] == b"\x1f\x8b"
    opener = zlib.decompressobj(31)
    try:
        start = opener.decompress(content, head) if zipped else content[:head]
    except zlib.error as error:
        raise _broken_file_error(name, f"the gzip compression is damaged ({error})") from None
    if len(start) < head:
        raise _broken_file_error(name, f"it ends within its first {head} bytes")
    magic, *extent = struct.unpack(f">{1 + dimensions}I", start)
    if magic != 0x800 + dimensions:
        what = "pictures" if dimensions == 3 else "labels"
        raise _broken_file_error(name, f"its magic number is {magic}, that of IDX {what} is {0x800 + dimensions}")
    size = int(np.prod(extent, dtype=object))
    if zipped:
        require_memory(size, name, cure="Use a machine with more memory, or a part of the set.")
        body = _inflate(opener, size, name)
    else:
        body = memoryview(content)[head:]
    if len(body) != size:
        longer = "more" if len(body) > size else f"{len(body):,}"
        raise _broken_file_error(
            name, f"its header announces {size:,} bytes ({' x '.join(map(str, extent))}), it holds {longer}"
        )
    return np.frombuffer(body, np.uint8).reshape(extent)


def _inflate(opener, size: int, name: str) -> bytes:
    """At most size + 1 bytes of the rest, so that a small file cannot fill the memory."""
    try:
        body = opener.decompress(opener.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise _broken_file_error(name, f"the gzip compression is damaged ({error})") from None
    if len(body) == size and not opener.eof:
        raise _broken_file_error(name, "it ends before its checksum")
    return body


def _broken_file_error(name: str, why: str) -> DataError:
    return DataError(f"{name}: {why}.", cure="Copy or download the file again.")


def is_idx(path: Path) -> bool:
    """Whether the name is that of an IDX file of pictures or labels."""
    return _FILE_NAME.match(path.name) is not None


def file_pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """Pictures and labels by part: those of a folder, or the one pair that the file `path` belongs to.

    Raises DataError for pictures without labels and for two sets in one folder.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found: dict[str, tuple[Path, Path]] = {}
    for file in files:
        match = _FILE_NAME.match(file.name)
        if not match or (path.is_dir() and match["what"].lower() != "images"):
            continue
        if file.suffix == ".gz" and file.with_suffix("") in files:
            continue  # the same pictures lie beside it, unpacked
        images, labels = (_matching_file(file, match, what) for what in ("images", "labels"))
        part = "train" if not path.is_dir() else _split_of(match["stem"])
        if part in found:
            raise DataError(
                f"{path}: both {found[part][0].name} and {images.name} are pictures of the {part} set.",
                cure="Give the path of one of the files, or a folder with one set.",
            )
        found[part] = (images, labels)
    if "train" not in found:
        raise DataError(f"{path}: there is no IDX file of training pictures.", cure="Add train-images-idx3-ubyte.gz.")
    return found


def _split_of(stem: str) -> str:
    stem = stem.lower()
    return "test" if "t10k" in stem or "test" in stem else "val" if "val" in stem else "train"


def _matching_file(file: Path, match: re.Match, what: str) -> Path:
    """The file of `what` that goes with `file`, compressed or not."""
    digit = "3" if what == "images" else "1"
    end = re.sub(r"idx[13]", f"idx{digit}", match["end"], flags=re.IGNORECASE)
    wanted = file.with_name(match["stem"] + what + end)
    plain = wanted.with_name(re.sub(r"\.gz$", "", wanted.name))
    for candidate in (wanted, plain, plain.with_name(plain.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise DataError(f"{file}: the file of {what} that goes with it is missing.", cure=f"Put {wanted.name} beside it.")


def read_idx(path: Path, classes: tuple[str, ...] | None = None) -> RawDataset:
    """The set in a folder of IDX files or around one of them. `classes` names the labels 0, 1, … if they have names."""
    files = file_pairs(path)
    return build_idx_dataset(files, Path.read_bytes, path, classes)


def build_idx_dataset(
    files: dict[str, tuple[Path, Path]],
    content: Callable[[Path], bytes],
    path: Path,
    classes: tuple[str, ...] | None = None,
) -> RawDataset:
    """The set from {part: (file of pictures, file of labels)}; `content` gives the bytes of each."""
    images, labels = {}, {}
    for part, (picture_file, label_file) in files.items():
        pictures = parse_idx(content(picture_file), 3, picture_file.name)
        labels[part] = parse_idx(content(label_file), 1, label_file.name)
        if len(pictures) != len(labels[part]):
            raise DataError(
                f"{path}: {picture_file.name} holds {len(pictures):,} pictures, "
                f"{label_file.name} {len(labels[part]):,} labels.",
                cure="Use the two files of the same set.",
            )
        images[part] = (picture_file.name, pictures)
    return dataset_from_arrays("IDX files", path, images, labels, classes)


def dataset_from_arrays(
    form: str,
    path: Path,
    images: dict[str, tuple[str, np.ndarray]],
    labels: dict[str, np.ndarray],
    classes: tuple[str, ...] | None,
) -> RawDataset:
    """A set from arrays: pictures (N, H, W) or (N, H, W, C) uint8 with their file's name, labels (N,) whole numbers.

    With `classes`, a label is a place in it, and one outside raises DataError; without, the numbers that occur are the
    classes, in order.
    """
    parts = {}
    numbers = np.arange(len(classes)) if classes else np.unique(np.concatenate(list(labels.values())))
    for part, (name, pictures) in images.items():
        given = labels[part].astype(np.int64)
        place = np.clip(np.searchsorted(numbers, given), 0, max(len(numbers) - 1, 0))
        wrong = np.flatnonzero(numbers[place] != given) if len(numbers) else np.arange(len(given))
        if len(wrong):
            raise DataError(
                f"{path}: the label of {name}[{wrong[0]}] is {given[wrong[0]]}; expected 0 to {len(numbers) - 1}.",
                cure="Correct the label, or the list of class names.",
            )
        if pictures.ndim == 3:
            pictures = pictures[..., None]
        parts[part] = ImageSplit(pictures, place, LazyNames(name, len(given)))
    return RawDataset(form, str(path), tuple(classes or map(str, numbers)), parts)
