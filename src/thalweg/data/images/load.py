"""One door to every data set: finds out what a path or a name is, and reads and divides it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError, NotFoundError, OptionError, did_you_mean, pluralize
from .catalog import NAMED_DATASETS
from .cifar import is_cifar, is_cifar_batch, read_cifar
from .csv_dataset import TABLE_EXTENSIONS, find_table, read_table
from .dataset import ImageDataset
from .idx import is_idx, read_idx
from .image_decoding import EXTENSIONS
from .image_folder import read_image_folder
from .npz import read_npz, resize_dataset
from .raw_dataset import RawDataset
from .splits import split_dataset


def log_warning(message: str) -> None:
    """Prints a notice where notices go. What a terminal would obey is escaped: names of files may hold it."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in message)
    print("".join(shown), file=sys.stderr)


def load_dataset(
    source: str | Path,
    *,
    size: int | None = None,
    resize: int | None = None,
    channels: int | None = None,
    valid: float = 0.1,
    fold: str | None = None,
    divided: bool = True,
    strict: bool = False,
    offline: bool = False,
    notice: Callable[[str], None] = log_warning,
) -> ImageDataset:
    """The data set at a path or of a known name, in memory, with training, validation and test sets.

    `size` brings every picture to (size, size) pixels; with `resize` its shorter side to that, and the middle is kept.
    `channels` 1 or 3 brings to grey or RGB, None leaves. `valid` is the share of the training set that is held out
    where the source holds out none; `fold`, as "2/5", holds out one of so many equal parts instead; with `divided`
    False nothing is held out. `strict` raises DataError for an unreadable file that would else be named in `bad` and
    left out. Raises NotFound for a source that does not exist, DataError for one that cannot be used, ResourceError
    where memory or the network do not allow it.
    """
    if channels not in (None, 1, 3):
        raise OptionError(f"channels: {channels} is neither 1 nor 3.", cure="Give 1 for grey or 3 for RGB.")
    if size is not None and size < 1:
        raise OptionError(f"--size: {size} is not a number of pixels.", cure="Give 1 or more, such as 64.")
    found = read_raw(source, size, channels, offline, notice, resize)
    if strict and found.bad:
        listed = "\n".join(f"  {b.source}: {b.reason}" for b in found.bad[:20])
        raise DataError(
            f"{found.where}: {pluralize(len(found.bad), 'file')} cannot be used.\n{listed}",
            cure="Repair or remove them, or leave out --strict.",
        )
    named = str(source) if str(source).partition(":")[0] in NAMED_DATASETS else Path(source).resolve().name
    return split_dataset(found, valid if divided else 0.0, named, fold if divided else None, divided)


def read_raw(
    source: str | Path,
    size: int | None,
    channels: int | None,
    offline: bool,
    notice: Callable[[str], None],
    resize: int | None = None,
) -> RawDataset:
    """The examples at `source`, undivided, with the format recognised."""
    name, _, only = str(source).partition(":")
    if name in NAMED_DATASETS:
        from .named_datasets import read_named  # brings the machinery of downloads, which paths do not need

        if os.path.exists(source):
            notice(f"'{source}' is the data set of that name; for the folder here, say {os.curdir}{os.sep}{source}.")
        found = read_named(name, offline, notice)
        return resize_dataset(select_classes(found, only.split(",")) if only else found, size, channels, resize)
    path = Path(source).expanduser()
    if not os.path.exists(path):
        raise NotFoundError(
            f"There is no data set '{source}': neither a file or folder nor a known name.",
            cure=did_you_mean(str(source), [*NAMED_DATASETS, *_similar_paths(path)]),
        )
    if path.is_file():
        return _read_raw_file(path, size, channels, resize)
    if is_cifar(path):
        return resize_dataset(read_cifar(path), size, channels, resize)
    if any(is_idx(entry) for entry in path.iterdir()):
        return resize_dataset(read_idx(path), size, channels, resize)
    table = find_table(path)
    return read_table(table, size, channels, resize) if table else read_image_folder(path, size, channels, resize)


def select_classes(found: RawDataset, names: Sequence[str]) -> RawDataset:
    """The examples of some classes only, in the order of `names`: "cifar10:automobile,horse". Raises DataError."""
    names = [name.strip() for name in names]
    for name in names:
        if name not in found.classes:
            raise DataError(f"{found.where} has no class '{name}'.", cure=did_you_mean(name, found.classes))
        if names.count(name) > 1:
            raise DataError(f"The class '{name}' of {found.where} is named twice.", cure="Name it once.")
    label = np.full(len(found.classes), -1)
    label[[found.classes.index(name) for name in names]] = np.arange(len(names))
    parts = {}
    for part, split in found.parts.items():
        rows = np.flatnonzero(label[split.labels] >= 0)
        taken = split.take(rows)
        parts[part] = replace(taken, labels=label[taken.labels].astype(np.int64))
        if part == "train":
            groups, files = (kept if kept is None else kept[rows] for kept in (found.groups, found.files))
    return replace(found, classes=tuple(names), parts=parts, groups=groups, files=files)


def _read_raw_file(path: Path, size: int | None, channels: int | None, resize: int | None = None) -> RawDataset:
    ending = path.suffix.lower()
    if is_idx(path):
        return resize_dataset(read_idx(path), size, channels, resize)
    if ending == ".npz":
        return resize_dataset(read_npz(path), size, channels, resize)
    if ending in TABLE_EXTENSIONS:
        return read_table(path, size, channels, resize)
    if is_cifar_batch(path):
        cure = f"Give the folder that holds it: {path.parent}."
    elif ending in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"):
        cure = "Unpack it and give the folder."
    elif ending in EXTENSIONS:
        cure = "Give the folder that holds one folder of pictures per class."
    else:
        cure = "Give a folder, a .csv or .tsv table, an .npz file, an IDX file or a known name (`thalweg data list`)."
    raise DataError(f"{path}: a file of this kind is no data set.", cure=cure)


def _similar_paths(path: Path) -> list[str]:
    """Paths beside the one that does not exist, for a suggestion."""
    try:
        return [str(path.parent / entry.name) for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []
