"""Read tar files of images in place: samples in the layout of WebDataset, or one folder per class.

A sample of WebDataset is members with one name and several endings: 0001.jpg, and its label in 0001.cls, 0001.txt or
under "label" in 0001.json.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from ..base import UnreadableFile
from .archives import ArchiveCollection, ArchiveImages
from .array_store import cache_path, load_arrays, pack_texts, save_arrays, unpack_texts
from .image_decoding import EXTENSIONS
from .image_folder import is_hidden
from .labeled_images import LabeledImages, assign_splits, describe_loose, labels_of_folders, load_labeled_images
from .raw_dataset import RawDataset, ReadOptions

#: endings of the member that holds the label of a sample, in the order in which they count
LABEL_EXTENSIONS = ("cls", "json", "txt")
#: a longer member is no label
MAX_LABEL_BYTES = 100_000

#: changes with the meaning of what is kept in the cache
_VERSION = 1
_BLOCK_BYTES = 512
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"(\xb5": "unzstd"}


@dataclass
class TarContents:
    """The images of one tar file.

    Attributes:
        members: Their names.
        offset: Where the bytes of each begin.
        size: Bytes of each.
        labels: Label of each by a member beside it; empty where there is none.
        problem: What is wrong with the file; empty if nothing is.
    """

    members: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    problem: str = ""


def read_tars(path: Path, files: Sequence[Path], options: ReadOptions) -> RawDataset:
    """Read one tar file or several shards; names that contain train, val or test say the split of a shard.

    Of a file that is cut off, what is before the cut is used, and the file is listed in `unreadable`. Raises DataError.
    """
    split_of_file, warnings = assign_splits(files)
    contents = {file: load_contents(file) for file in split_of_file}
    source = LabeledImages("tar file", path, ArchiveCollection([], ""), [], [], warnings=warnings)
    for file, content in contents.items():
        if content.problem:
            source.unreadable.append(UnreadableFile(str(file), content.problem))
    shards = []
    has_labels = any(any(content.labels) for content in contents.values())
    num_loose = 0
    for file, content in contents.items():
        if has_labels:
            rows = _add_samples(source, file, content, split_of_file[file])
        else:
            folders = labels_of_folders(content.members)
            rows = folders.rows
            source.labels += folders.labels
            source.splits += folders.splits if len(files) == 1 else [split_of_file[file]] * len(rows)
            num_loose += folders.num_loose
        offset = np.array(content.offset, np.int64)
        size = np.array(content.size, np.int64)
        shards.append(ArchiveImages(file, content.members, offset, size).take(np.array(rows, np.int64)))
    if not source.labels:
        problem = f" It is {source.unreadable[0].reason}." if source.unreadable else ""
        raise DataError(
            f"{path}: no image with a label.{problem}",
            "Put a label beside each image (0001.jpg, 0001.cls), or the images into one folder per class.",
            path=path,
        )
    source.encoded = ArchiveCollection(shards, os.path.realpath(path))
    source.warnings += describe_loose(num_loose, path)
    return load_labeled_images(source, options)


def _add_samples(source: LabeledImages, file: Path, content: TarContents, split: str) -> list[int]:
    """Add the samples of a shard to a source, and return their rows. Only the first image of a sample is used."""
    rows = []
    keys = set()
    for row, (member, label) in enumerate(zip(content.members, content.labels, strict=True)):
        key = _split_key(member)[0]
        if key in keys:
            continue
        keys.add(key)
        if not label:
            name = f"{file}:{member}"
            endings = ", ".join(f".{extension}" for extension in LABEL_EXTENSIONS)
            source.unreadable.append(UnreadableFile(name, f"there is no label beside it ({endings})"))
            continue
        rows.append(row)
        source.labels.append(label)
        source.splits.append(split)
    num_more = len(content.members) - len(keys)
    if num_more:
        more = pluralize(num_more, "further image")
        source.warnings.append(f"{file.name}: {more} of a sample: only the first one is used.")
    return rows


def load_contents(path: Path) -> TarContents:
    """Return the images of a tar file: from the cache if the file has not changed, else by reading its headers."""
    status = path.stat()
    stamp = np.array([_VERSION, status.st_size, status.st_mtime_ns], np.int64)
    subject = os.path.realpath(path)
    arrays = load_arrays(cache_path("tar", subject), subject)
    if arrays is not None and np.array_equal(arrays.get("stamp", ()), stamp):
        texts = [unpack_texts(arrays[name]) for name in ("members", "labels", "problem")]
        count = len(arrays["offset"])
        members, labels, problem = texts if count else ([], [], texts[2])
        if len(members) == len(labels) == len(arrays["size"]) == count:
            return TarContents(members, arrays["offset"].tolist(), arrays["size"].tolist(), labels, problem[0])
    contents = _scan(path, status.st_size)
    arrays = {
        "stamp": stamp,
        "members": pack_texts(contents.members),
        "labels": pack_texts(contents.labels),
        "problem": pack_texts([contents.problem]),
        "offset": np.array(contents.offset, np.int64),
        "size": np.array(contents.size, np.int64),
    }
    save_arrays(cache_path("tar", subject), subject, arrays)
    return contents


def _scan(path: Path, file_size: int) -> TarContents:
    """Read all headers of a tar file, and the members that are labels."""
    contents = TarContents()
    labels: dict[str, tuple[int, str]] = {}
    check_not_compressed(path)
    with open(path, "rb") as file:
        try:
            tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8")  # noqa: SIM115 - closed with the file
            end = _scan_members(tar, file_size, contents, labels)
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            if not contents.members:
                raise DataError(
                    f"{path}: not a tar file ({error}).", "Copy or download it again.", path=path
                ) from error
            end = -1
        file.seek(max(end, 0))
        if end < 0 or file.read(_BLOCK_BYTES) != bytes(_BLOCK_BYTES):
            count = pluralize(len(contents.members), "image")
            contents.problem = f"cut off or damaged; the {count} before that are used"
    for member in contents.members:
        contents.labels.append(labels.get(_split_key(member)[0], (0, ""))[1])
    return contents


def _scan_members(
    tar: tarfile.TarFile, file_size: int, contents: TarContents, labels: dict[str, tuple[int, str]]
) -> int:
    """Add the members of a tar file to `contents` and `labels`, and return where they end; -1 if it is cut off."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined] - tarfile keeps all of them, a kilobyte each
        if member.offset_data + member.size > file_size:
            return -1
        if not member.isreg() or member.issparse() or "\0" in member.name:
            continue
        if any(map(is_hidden, member.name.removeprefix("./").split("/"))):
            continue
        key, extension = _split_key(member.name)
        if "." + extension.rpartition(".")[2] in EXTENSIONS:
            contents.members.append(member.name)
            contents.offset.append(member.offset_data)
            contents.size.append(member.size)
        elif extension in LABEL_EXTENSIONS and member.size <= MAX_LABEL_BYTES:
            rank = LABEL_EXTENSIONS.index(extension)
            stream = tar.extractfile(member)
            text = _parse_label(stream.read() if stream else b"", extension)
            if text and rank <= labels.get(key, (rank, ""))[0]:
                labels[key] = (rank, text)
    return tar.offset  # type: ignore[attr-defined]


def _split_key(member: str) -> tuple[str, str]:
    """Split the name of a member at the first dot behind the last slash: the sample, and the ending in lower case."""
    folder, name = posixpath.split(member)
    key, _, extension = name.partition(".")
    return posixpath.join(folder, key), extension.lower()


def _parse_label(content: bytes, extension: str) -> str:
    """Return the label in the content of a member; empty where there is none."""
    text = content.decode("utf-8", "replace").replace("\0", " ").strip()
    if extension != "json":
        return text
    try:
        label = json.loads(text).get("label")
    except (ValueError, AttributeError, RecursionError):
        return ""
    if isinstance(label, bool) or not isinstance(label, int | str):
        return ""
    return str(label).replace("\0", " ").strip()


def check_not_compressed(path: Path) -> None:
    """Raise DataError for a compressed file, in which no member can be read without all before it."""
    with open(path, "rb") as file:
        magic = file.read(2)
    if magic in _COMPRESSED:
        raise DataError(
            f"{path}: a compressed tar file; single images of it cannot be read.",
            f"Decompress it, which hardly changes its size: {_COMPRESSED[magic]} {path.name}",
            path=path,
            value=path.suffix,
        )
