"""Read folders of images: the name of a folder is the class of every image below it."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from ...io.file_names import decode_file_name
from ..base import SPLITS
from .dataset import ImageSplit
from .encoded import EncodedNames, ImageFiles
from .image_decoding import EXTENSIONS
from .image_loading import load_images
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, quote_names
from .stored_images import take_images

_IGNORED_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}

#: paths of the image files of each class
FilesByClass = dict[str, list[str]]


@dataclass
class SkippedEntries:
    """Entries of folders that were skipped.

    Attributes:
        extensions: Number of files by extension that is not one of an image.
        links: Links to a folder that contains them.
    """

    extensions: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Tell whether an entry is hidden, or belongs to the operating system."""
    return name.startswith(".") or name.lower() in _IGNORED_NAMES


def _list_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """List a folder, sorted by name, without hidden files and files of the operating system."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    return sorted(visible, key=lambda entry: decode_file_name(entry.name))


def list_subdirs(folder: Path) -> list[Path]:
    """List the folders directly in `folder`, sorted by name."""
    return [folder / entry.name for entry in _list_entries(folder) if entry.is_dir()]


def list_images(
    folder: str | Path, skipped: SkippedEntries | None = None, parents: frozenset[str] = frozenset()
) -> list[str]:
    """List the paths of all image files in `folder` and below, sorted.

    Args:
        folder: Where to search.
        skipped: Other files and links that would loop are added to this.
        parents: Real paths of the folders that led here; links to them, or to folders that contain them, are skipped.
    """
    skipped = skipped or SkippedEntries()
    parents = parents | {os.path.realpath(folder)}
    images = []
    for entry in _list_entries(folder):
        if entry.is_dir():
            if _contains_any(entry.path, parents):
                skipped.links.append(entry.path)
            else:
                images += list_images(entry.path, skipped, parents)
            continue
        extension = _extension_of(entry.name)
        if extension in EXTENSIONS:
            images.append(entry.path)
        else:
            skipped.extensions[extension or entry.name] += 1
    return images


def _extension_of(name: str) -> str:
    extension = os.path.splitext(name)[1].lower()
    return "" if extension == "." else extension


def _contains_any(folder: str | Path, paths: frozenset[str]) -> bool:
    """Tell whether a folder is, or contains, one of `paths`. Only a link can do that to the folders above it."""
    real = os.path.realpath(folder)
    prefix = real.rstrip(os.sep) + os.sep
    return any(path == real or path.startswith(prefix) for path in paths)


def find_split_dirs(root: Path) -> dict[str, Path] | None:
    """Find the folders of train, val and test; None if `root` is not divided into them.

    'train' can also be a class next to 'bus' and 'car': it is a split only if it is divided into folders itself.
    """
    split_dirs: dict[str, Path] = {}
    for folder in list_subdirs(root):
        split_name = SPLIT_ALIASES.get(folder.name.lower())
        if not split_name or (not list_subdirs(folder) and list_images(folder)):
            continue
        if split_name in split_dirs:
            raise DataError(
                f"{root}: both '{split_dirs[split_name].name}' and '{folder.name}' are the {split_name} split.",
                cure="Remove one of the two folders.",
                path=root,
                value=[split_dirs[split_name].name, folder.name],
            )
        split_dirs[split_name] = folder
    if not split_dirs or "train" in split_dirs:
        return split_dirs or None
    if set(split_dirs.values()) != set(list_subdirs(root)):
        return None
    names = [folder.name for folder in split_dirs.values()]
    raise DataError(
        f"{root}: there is {quote_names(names)}, but no folder 'train'.",
        cure="Add train/ with one folder per class.",
        path=root,
        value=names,
    )


def _skip_wrapper_dirs(root: Path) -> Path:
    """Return the folder in which the classes begin: an archive is often unpacked into folder/folder/."""
    entries = _list_entries(root)
    while len(entries) == 1 and entries[0].is_dir() and len(list_subdirs(root / entries[0].name)) > 1:
        root = root / entries[0].name
        entries = _list_entries(root)
    return root


def _files_by_class(folder: Path, skipped: SkippedEntries) -> FilesByClass:
    """List the image files of each class. Class names are composed (NFC), because macOS decomposes é."""
    files: FilesByClass = {}
    parents = frozenset([os.path.realpath(folder)])
    for child in list_subdirs(folder):
        if _contains_any(child, parents):
            skipped.links.append(str(child))
            continue
        name = unicodedata.normalize("NFC", decode_file_name(child.name))
        files.setdefault(name, []).extend(list_images(child, skipped, parents))
    return files


def read_image_folder(path: Path, options: ReadOptions) -> RawDataset:
    """Read a folder with one folder per class, or with folders train, val and test of such folders.

    Classes are sorted by name. Raises DataError for a folder without classes or an empty class.
    """
    root = _skip_wrapper_dirs(path)
    skipped = SkippedEntries()
    split_dirs = find_split_dirs(root) or {"train": root}
    files_by_split = {}
    for split_name in SPLITS:
        if split_name in split_dirs:
            files_by_split[split_name] = _files_by_class(split_dirs[split_name], skipped)
    classes = tuple(sorted(files_by_split["train"]))
    _check_structure(path, split_dirs, files_by_split)
    parent = "" if str(root) == "." else str(root)  # paths below the current folder do not begin with it
    prefix_length = len(os.path.join(parent, ""))
    files: list[str] = []
    labels: list[int] = []
    split_names: list[str] = []
    for split_name, files_by_class in files_by_split.items():
        for label, class_name in enumerate(classes):
            class_files = files_by_class.get(class_name, [])
            files += [file[prefix_length:] for file in class_files]
            labels += [label] * len(class_files)
            split_names += [split_name] * len(class_files)
    encoded = ImageFiles(files, parent, os.path.realpath(root))
    loaded = load_images(encoded, options)
    label_N = np.array(labels, np.int64)[loaded.rows]
    split_N = np.array(split_names, object)[loaded.rows]
    names = EncodedNames(encoded.take(loaded.rows))
    splits = {}
    for split_name in files_by_split:
        rows = np.flatnonzero(split_N == split_name)
        images = loaded.images if len(files_by_split) == 1 else take_images(loaded.images, rows)
        splits[split_name] = ImageSplit(images, label_N[rows], names.take(rows))
    return RawDataset(
        format="image folder",
        path=str(path),
        classes=classes,
        splits=splits,
        files=loaded.files[split_N == "train"],
        unreadable=loaded.unreadable,
        warnings=[*loaded.warnings, *_skipped_warnings(root, split_dirs, skipped)],
        sizes=loaded.sizes,
    )


def _check_structure(path: Path, split_dirs: Mapping[str, Path], files_by_split: Mapping[str, FilesByClass]) -> None:
    """Raise DataError for a folder without classes, an empty class, or a class that is not in train."""
    training = files_by_split["train"]
    classes = sorted(training)
    if not classes:
        images = pluralize(len(list_images(path)), "image")
        raise DataError(
            f"{path}: {images}, but no folder that could be a class.",
            cure="Put them into one folder per class: cat/1.jpg, dog/1.jpg, … (or list them in a table path,label).",
            path=path,
        )
    empty = [name for name in classes if not training[name]]
    if empty:
        raise DataError(
            f"{split_dirs['train']}: no image in {quote_names(empty)}; a class needs at least one.",
            cure="Add images to the folder, or remove it.",
            path=split_dirs["train"],
            value=empty,
        )
    for split_name, files_by_class in files_by_split.items():
        unknown = [name for name, files in files_by_class.items() if files and name not in training]
        if unknown:
            raise DataError(
                f"{split_dirs[split_name]}: {quote_names(unknown)} is not a class of {split_dirs['train']}.",
                cure=f"Classes are {quote_names(classes, 20)}. Rename the folder, or add it to the training split.",
                path=split_dirs[split_name],
                value=unknown,
                allowed=classes,
            )


def _skipped_warnings(root: Path, split_dirs: Mapping[str, Path], skipped: SkippedEntries) -> list[str]:
    """Return warnings about entries of the folder that were skipped."""
    lines = []
    if root not in split_dirs.values():
        other_dirs = [folder.name for folder in list_subdirs(root) if folder not in split_dirs.values()]
        if other_dirs:
            lines.append(f"Skipped folders that are not splits: {quote_names(other_dirs)}.")
    for folder in dict.fromkeys([root, *split_dirs.values()]):
        count = 0
        for entry in _list_entries(folder):
            if _extension_of(entry.name) in EXTENSIONS and entry.is_file():
                count += 1
        if count:
            lines.append(f"Skipped {pluralize(count, 'image')} directly in {folder}, without a class.")
    if skipped.extensions:
        counts = ", ".join(f"{count} {extension}" for extension, count in skipped.extensions.most_common(5))
        lines.append(f"Skipped files that are not images by their extension: {counts}.")
    if skipped.links:
        links = quote_names(skipped.links)
        lines.append(f"Skipped {pluralize(len(skipped.links), 'link')} to a folder that contains it: {links}.")
    return lines
