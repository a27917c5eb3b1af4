"""Encoded images with the names of their classes and splits, as archives and tables of images give them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from ..base import SPLITS, UnreadableFile
from .dataset import ImageSplit
from .encoded import EncodedImages, EncodedNames
from .image_folder import is_hidden
from .image_loading import load_images
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, quote_names


@dataclass
class LabeledImages:
    """N encoded images of one source, before any of them is decoded.

    Attributes:
        format: Format that the reader recognized.
        path: Where they are.
        encoded: The images.
        labels: Name of the class of each image.
        splits: Split of each image: "train", "val" or "test".
        classes: The classes, in the order of their labels; None sorts the names of `labels`.
        unreadable: What could not be used.
        warnings: Findings that the user should know.
    """

    format: str
    path: Path
    encoded: EncodedImages
    labels: list[str]
    splits: list[str]
    classes: tuple[str, ...] | None = None
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load_labeled_images(source: LabeledImages, options: ReadOptions) -> RawDataset:
    """Load images with labels. Raises DataError where no image is in the training split."""
    if "train" not in source.splits:
        names = sorted(set(source.splits))
        reason = f" {source.unreadable[0].path}: {source.unreadable[0].reason}." if source.unreadable else ""
        raise DataError(
            f"{source.path}: no training images; expected some beside {quote_names(names) or 'nothing'}.{reason}",
            "Name the files of the training images train-…, or leave the names of splits out.",
            path=source.path,
            value=names,
        )
    classes = source.classes or sort_classes(set(source.labels))
    label_of_class = dict(zip(classes, range(len(classes)), strict=True))
    loaded = load_images(source.encoded, options)
    label_N = np.array([label_of_class[name] for name in source.labels], np.int64)[loaded.rows]
    split_N = np.array([SPLITS.index(name) for name in source.splits], np.int8)[loaded.rows]
    names = EncodedNames(source.encoded.take(loaded.rows))
    everything = ImageSplit(loaded.images, label_N, names)
    splits = {}
    for number, split_name in enumerate(SPLITS):
        if split_name in source.splits:
            rows = np.flatnonzero(split_N == number)
            splits[split_name] = everything if len(rows) == len(split_N) else everything.take(rows)
    return RawDataset(
        format=source.format,
        path=str(source.path),
        classes=classes,
        splits=splits,
        files=loaded.files[split_N == 0],
        unreadable=[*source.unreadable, *loaded.unreadable],
        warnings=[*source.warnings, *loaded.warnings],
        sizes=loaded.sizes,
    )


def sort_classes(names: set[str]) -> tuple[str, ...]:
    """Sort names of classes; whole numbers by their value."""
    is_number = all(re.fullmatch(r"\d{1,9}", name) for name in names)
    key: Callable[[str], tuple[int, str]] = lambda name: (int(name) if is_number else 0, name)  # noqa: E731
    return tuple(sorted(names, key=key))


def assign_splits(files: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """Return the split of each file, and warnings. Where no name says one, all are in train; else the others are out.

    The name of a folder counts only beside other folders, because a collection may itself be called "test".
    """
    if len(files) == 1:
        return {files[0]: "train"}, []
    has_folders = len({file.parent for file in files}) > 1
    splits = {}
    for file in files:
        split = _split_of_name(file.stem)
        if split is None and has_folders:
            split = _split_of_name(file.parent.name)
        if split is not None:
            splits[file] = split
    if not splits:
        return dict.fromkeys(files, "train"), []
    out = [file.name for file in files if file not in splits]
    warnings = [f"Skipped files whose name says no split: {quote_names(out)}."] if out else []
    return splits, warnings


def _split_of_name(name: str) -> str | None:
    """Return the split that a name such as imagenet-val-0001 says; None where it says none."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in SPLIT_ALIASES:
            return SPLIT_ALIASES[word]
    return None


def list_files(folder: Path, extension: str) -> list[Path]:
    """List the files with an extension in a folder, or else in the folders directly below it, sorted."""
    for pattern in (f"*{extension}", f"*/*{extension}"):
        files = [file for file in folder.glob(pattern) if not any(map(is_hidden, file.relative_to(folder).parts))]
        if files:
            return sorted(filter(Path.is_file, files))
    return []


@dataclass(frozen=True)
class FolderLabels:
    """What the folders of paths say: rows of the paths that are images of a class, their labels and splits."""

    rows: list[int]
    labels: list[str]
    splits: list[str]
    num_loose: int


def labels_of_folders(paths: Sequence[str]) -> FolderLabels:
    """Read classes from the folders of paths with slashes, as from a folder of images.

    Folders around everything are skipped, and folders train, val and test above the classes are splits.
    """
    parts = []
    rows = []
    for row, path in enumerate(paths):
        words = [word for word in path.split("/") if word not in ("", ".")]
        if not any(map(is_hidden, words)):
            parts.append(words)
            rows.append(row)
    depth = _wrapper_depth(parts)
    first = Counter(words[depth] for words in parts if len(words) > depth + 1)
    deep = {words[depth] for words in parts if len(words) > depth + 2}
    split_names = {name for name in first if name.lower() in SPLIT_ALIASES and name in deep}
    if not any(SPLIT_ALIASES[name.lower()] == "train" for name in split_names):
        split_names = set()
    result = FolderLabels([], [], [], sum(len(words) <= depth + 1 for words in parts))
    for row, words in zip(rows, parts, strict=True):
        is_split = words[depth : depth + 1] and words[depth] in split_names
        level = depth + 1 if is_split else depth
        if len(words) <= level + 1 or (split_names and not is_split):
            continue
        result.rows.append(row)
        result.labels.append(unicodedata.normalize("NFC", words[level]))
        result.splits.append(SPLIT_ALIASES[words[depth].lower()] if is_split else "train")
    return result


def _wrapper_depth(parts: Sequence[Sequence[str]]) -> int:
    """Return how many folders contain everything, while several folders are left below."""
    depth = 0
    while parts:
        level = {words[depth] if len(words) > depth + 1 else "" for words in parts}
        below = {words[depth + 1] for words in parts if len(words) > depth + 2}
        if len(level) > 1 or "" in level or len(below) < 2:
            break
        depth += 1
    return depth


def describe_loose(count: int, place: Path) -> list[str]:
    """Return a warning about images that are in no folder of a class."""
    return [f"Skipped {pluralize(count, 'image')} directly in {place}, without a class."] if count else []
