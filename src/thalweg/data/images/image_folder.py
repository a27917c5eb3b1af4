"""Folders of pictures: the name of a folder is the class of every picture below it."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from ..base import SPLITS
from .dataset import ImageSplit
from .image_decoding import EXTENSIONS
from .image_loading import load_images
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, quote_names

_IGNORED_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}


def _list_entries(folder: Path) -> list[Path]:
    """What lies in the folder, sorted by name, without hidden files and what operating systems leave behind."""
    names = sorted(n for n in os.listdir(folder) if not n.startswith(".") and n.lower() not in _IGNORED_NAMES)
    return [folder / name for name in names]


def list_subdirs(folder: Path) -> list[Path]:
    """The folders directly in `folder`, sorted by name."""
    return [e for e in _list_entries(folder) if e.is_dir()]


def list_images(folder: Path, others: Counter | None = None, seen: frozenset[str] = frozenset()) -> list[Path]:
    """All picture files in `folder` and below, sorted; files of other kinds are counted in `others` by their ending."""
    real = os.path.realpath(folder)
    if real in seen:
        return []
    found = []
    for entry in _list_entries(folder):
        if entry.is_dir():
            found += list_images(entry, others, seen | {real})
        elif entry.suffix.lower() in EXTENSIONS:
            found.append(entry)
        elif others is not None:
            others[entry.suffix.lower() or entry.name] += 1
    return found


def find_split_dirs(root: Path) -> dict[str, Path] | None:
    """The folders of train, valid and test where the root is divided into them, else None.

    'train' may as well be the class beside 'bus' and 'car': it is a part if it is divided into folders itself.
    """
    found: dict[str, Path] = {}
    for folder in list_subdirs(root):
        part = SPLIT_ALIASES.get(folder.name.lower())
        if part and not list_subdirs(folder) and list_images(folder):
            part = None
        if part in found:
            raise DataError(
                f"{root}: both '{found[part].name}' and '{folder.name}' are names of the {part} set.",
                cure="Keep one of the two folders.",
            )
        if part:
            found[part] = folder
    if found and "train" not in found:
        if set(found.values()) != set(list_subdirs(root)):
            return None
        raise DataError(
            f"{root}: there is {quote_names([f.name for f in found.values()])}, but no folder 'train'.",
            cure="Add train/ with one folder per class.",
        )
    return found or None


def _skip_wrapper_dirs(root: Path) -> Path:
    """The folder below `root` where classes begin: an archive often unpacks into folder/folder/."""
    inner = _list_entries(root)
    while len(inner) == 1 and inner[0].is_dir() and len(list_subdirs(inner[0])) > 1:
        root, inner = inner[0], _list_entries(inner[0])
    return root


def _files_by_class(folder: Path, others: Counter) -> dict[str, list[Path]]:
    """Picture files by class. Names are compared in their composed form: macOS spells é in two characters."""
    found: dict[str, list[Path]] = {}
    for child in list_subdirs(folder):
        name = unicodedata.normalize("NFC", child.name)
        found.setdefault(name, []).extend(list_images(child, others))
    return found


def read_image_folder(path: Path, options: ReadOptions) -> RawDataset:
    """The set in a folder with one folder per class, or with train, val(id) and test folders of such.

    Classes are in the order of their names. Raises DataError for a folder without classes or an empty class.
    """
    root, others = _skip_wrapper_dirs(path), Counter()
    divided = find_split_dirs(root) or {"train": root}
    classed = {part: _files_by_class(divided[part], others) for part in SPLITS if part in divided}
    classes = tuple(sorted(classed["train"]))
    _check_structure(path, divided, classed, classes)
    rows = [
        (part, label, file) for part in classed for label, c in enumerate(classes) for file in classed[part].get(c, [])
    ]
    pixels = load_images([file for _, _, file in rows], options)
    part_of = np.array([SPLITS.index(rows[k][0]) for k in pixels.rows], np.int64)
    labels = np.array([rows[k][1] for k in pixels.rows], np.int64)
    parts, files = {}, None
    for part in classed:
        chosen = np.flatnonzero(part_of == SPLITS.index(part))
        images = pixels.images if len(classed) == 1 else pixels.images[chosen]
        sources = [str(rows[pixels.rows[k]][2]) for k in chosen]
        parts[part] = ImageSplit(images, labels[chosen], sources)
        files = pixels.files[chosen] if part == "train" else files
    notes = [*pixels.warnings, *_ignored_warnings(root, divided, others)]
    return RawDataset(
        "folders of pictures",
        str(path),
        classes,
        parts,
        files=files,
        unreadable=pixels.unreadable,
        warnings=notes,
        sizes=pixels.sizes,
    )


def _check_structure(
    path: Path, divided: dict[str, Path], classed: dict[str, dict[str, list]], classes: tuple[str, ...]
) -> None:
    if not classes:
        loose = pluralize(len(list_images(path)), "picture")
        raise DataError(
            f"{path}: {loose} and no folder that would be a class.",
            cure="Put them into one folder per class: cat/1.jpg, dog/1.jpg, … (or name them in a table path,label).",
        )
    empty = [c for c in classes if not classed["train"][c]]
    if empty:
        raise DataError(
            f"{divided['train']}: no picture in {quote_names(empty)}; a class needs at least one.",
            cure="Add pictures to the folder, or remove it.",
        )
    for part, found in classed.items():
        strange = [c for c in found if c not in classes and found[c]]
        if strange:
            raise DataError(
                f"{divided[part]}: {quote_names(strange)} is no class of {divided['train']}.",
                cure=f"Classes are {quote_names(classes, 20)}; rename the folder or add it to the training set.",
            )


def _ignored_warnings(root: Path, divided: dict[str, Path], others: Counter) -> list[str]:
    """What lies in the folder and is not used, told and not passed over."""
    notes = []
    if root not in divided.values():
        beside = [f.name for f in list_subdirs(root) if f not in divided.values()]
        if beside:
            notes.append(f"Left out: {quote_names(beside)} beside the parts of the set.")
    for part in dict.fromkeys([root, *divided.values()]):
        loose = [e for e in _list_entries(part) if e.suffix.lower() in EXTENSIONS and e.is_file()]
        if loose:
            notes.append(f"Left out: {pluralize(len(loose), 'picture')} in {part} itself, which has no class.")
    if others:
        endings = ", ".join(f"{count} {end}" for end, count in others.most_common(5))
        notes.append(f"Left out, no pictures by their names: {endings}.")
    return notes
