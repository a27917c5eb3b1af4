"""Load any image dataset: recognize what a path or a name is, read it and split it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...config.size import PixelSize, to_height_width
from ...errors import DataError, NotFoundError, OptionError, did_you_mean, pluralize
from ...io.file_names import decode_file_name
from ..base import DataRequest
from .catalog import NAMED_DATASETS
from .cifar import BATCHES_FOLDER, is_cifar, is_cifar_batch, read_cifar
from .csv_dataset import TABLE_EXTENSIONS, find_table, read_table
from .dataset import ImageDataset
from .idx import is_idx, read_idx
from .image_decoding import EXTENSIONS
from .image_folder import read_image_folder
from .labeled_images import list_files
from .npz import read_npz, resize_dataset
from .parquet_images import has_image_bytes, read_parquet_images
from .raw_dataset import RawDataset, ReadOptions
from .splits import split_dataset
from .tar_dataset import check_not_compressed, read_tars
from .zip_dataset import read_zip

_ARCHIVE_EXTENSIONS = (".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")


def load_dataset(
    request: DataRequest,
    image_size: PixelSize | None = None,
    resize: int | None = None,
    channels: int | None = None,
    storage: str = "auto",
) -> ImageDataset:
    """Load a dataset, with training, validation and test splits.

    Args:
        request: What to read and how to split it.
        image_size: Height and width of the images, one number for squares; None keeps the size of the source where all
            images share it.
        resize: Resize the shorter side to this, then crop the center to `image_size`.
        channels: 1 (gray), 3 (RGB) or None (as in the source).
        storage: Where the images of files are: "memory", "disk" (decoded when they are indexed), or "auto".

    Returns:
        The dataset. Unreadable files are skipped and listed in `unreadable`.

    Raises:
        NotFoundError: The source does not exist.
        DataError: The source cannot be used, or `request.strict` and a file is unreadable.
        OptionError: An argument is out of range.
        ResourceError: Memory or network do not allow it.
    """
    if channels not in (None, 1, 3):
        raise OptionError(
            f"channels: {channels}; expected 1 (gray) or 3 (RGB).",
            cure="Use 1 or 3.",
            option="channels",
            value=channels,
            allowed=[1, 3],
        )
    if image_size is not None and min(to_height_width(image_size)) < 1:
        raise OptionError(
            f"--image-size: {image_size}; expected 1 or more pixels.",
            cure="Use a size such as 64.",
            option="image_size",
            value=image_size,
        )
    raw = read_raw(request, ReadOptions(image_size, channels, resize, request.progress, storage))
    if request.strict:
        _check_all_readable(raw)
    if str(request.source).partition(":")[0] in NAMED_DATASETS:
        name = str(request.source)
    else:
        name = decode_file_name(Path(request.source).resolve().name)
    return split_dataset(raw, name, request)


def _check_all_readable(raw: RawDataset) -> None:
    if not raw.unreadable:
        return
    listed = "\n".join(f"  {file.path}: {file.reason}" for file in raw.unreadable[:20])
    raise DataError(
        f"{raw.path}: {pluralize(len(raw.unreadable), 'unreadable file')}.\n{listed}",
        cure="Repair or remove them, or leave out --strict to skip them.",
        path=raw.path,
        value=[file.path for file in raw.unreadable],
    )


def read_raw(request: DataRequest, options: ReadOptions) -> RawDataset:
    """Read the examples at `request.source` without splitting them."""
    source = str(request.source)
    name, _, class_names = source.partition(":")
    if name in NAMED_DATASETS:
        from .named_datasets import read_named  # late: imports the download code, which paths do not need

        if os.path.exists(source):
            request.log(f"'{source}' is read as the named dataset. To read the folder, write .{os.sep}{source}.")
        raw = read_named(name, request.offline, request.log)
        if class_names:
            raw = select_classes(raw, class_names.split(","))
        return resize_dataset(raw, options)
    path = Path(source).expanduser()
    if not os.path.exists(path):
        names = [*NAMED_DATASETS, *_list_datasets_beside(path)]
        raise NotFoundError(
            f"Dataset '{source}' not found: neither a file or folder nor a named dataset.",
            cure=did_you_mean(source, names),
            value=source,
            allowed=names,
        )
    if path.is_file():
        return _read_file(path, options)
    return _read_folder(path, options)


def _read_folder(path: Path, options: ReadOptions) -> RawDataset:
    entries = list(path.iterdir())
    if not any(entry.is_file() or entry.name == BATCHES_FOLDER for entry in entries):
        return _read_shards(path, options)
    if is_cifar(path):
        return resize_dataset(read_cifar(path), options)
    if any(map(is_idx, entries)):
        return resize_dataset(read_idx(path), options)
    table = find_table(path)
    if table:
        return read_table(table, options)
    return _read_shards(path, options)


def _read_shards(path: Path, options: ReadOptions) -> RawDataset:
    """Read the Parquet files with images, or the tar files, of a folder without images; else a folder of images."""
    if not _contains_images(path, depth=3):
        files = list_files(path, ".parquet")
        if files and has_image_bytes(files[0]):
            return read_parquet_images(path, files, options)
        files = list_files(path, ".tar")
        if files:
            return read_tars(path, files, options)
    return read_image_folder(path, options)


def _read_file(path: Path, options: ReadOptions) -> RawDataset:
    extension = path.suffix.lower()
    if is_idx(path):
        return resize_dataset(read_idx(path), options)
    if extension == ".npz":
        return resize_dataset(read_npz(path), options)
    if extension == ".parquet" and has_image_bytes(path):
        return read_parquet_images(path, [path], options)
    if extension in TABLE_EXTENSIONS:
        return read_table(path, options)
    if extension == ".tar":
        return read_tars(path, [path], options)
    if extension == ".zip":
        return read_zip(path, options)
    if path.name.lower().endswith((".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        check_not_compressed(path)
    raise DataError(f"{path}: not a dataset file.", cure=_dataset_file_cure(path), path=path, value=extension)


def _dataset_file_cure(path: Path) -> str:
    """Say what to pass instead of a file that is not a dataset."""
    extension = path.suffix.lower()
    if is_cifar_batch(path):
        return f"Pass the folder that contains it: {path.parent}."
    if extension in _ARCHIVE_EXTENSIONS:
        return "Unpack it and pass the folder, or pack the images as .zip or .tar."
    if extension in EXTENSIONS:
        return "Pass a folder: of images, or, where classes are needed, of one folder of images per class."
    return (
        "Pass a folder, a .csv, .tsv or .parquet table, a .zip or .tar archive, an .npz file, an IDX file "
        "or a name from `thalweg data list`."
    )


def _list_datasets_beside(path: Path) -> list[str]:
    """List tables, array files and folders of images next to a path that does not exist, for a suggestion."""
    try:
        entries = sorted(path.parent.iterdir())
        return [str(path.parent / entry.name) for entry in entries if _looks_like_dataset(entry)]
    except OSError:
        return []


def _looks_like_dataset(path: Path) -> bool:
    """Tell whether a path beside a missing one is worth suggesting. Looks two folders deep at most."""
    if path.name.startswith("."):
        return False
    if not path.is_dir():
        return path.suffix.lower() in (*TABLE_EXTENSIONS, ".npz", ".tar", ".zip") or is_idx(path)
    return is_cifar(path) or _contains_images(path, depth=3)


def _contains_images(folder: Path, depth: int) -> bool:
    """Tell whether the first entries of a folder include images, `depth` folders deep."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in list(entries)[:200]:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif path.suffix.lower() in EXTENSIONS or is_idx(path):
                    return True
    except OSError:
        return False
    if depth == 1:
        return False
    return any(_contains_images(path, depth - 1) for path in folders[:10])


def select_classes(raw: RawDataset, names: Sequence[str]) -> RawDataset:
    """Keep the examples of some classes, in the order of `names`: "cifar10:automobile,horse". Raises DataError."""
    names = [name.strip() for name in names]
    for name in names:
        if name not in raw.classes:
            raise DataError(
                f"{raw.path}: no class '{name}'.",
                cure=did_you_mean(name, raw.classes),
                path=raw.path,
                value=name,
                allowed=raw.classes,
            )
        if names.count(name) > 1:
            raise DataError(f"{raw.path}: class '{name}' is named twice.", "Name it once.", path=raw.path, value=name)
    new_label = np.full(len(raw.classes), -1)
    new_label[[raw.classes.index(name) for name in names]] = np.arange(len(names))
    splits = {}
    for split_name, split in raw.splits.items():
        selected = split.take(np.flatnonzero(new_label[split.labels] >= 0))
        splits[split_name] = replace(selected, labels=new_label[selected.labels].astype(np.int64))
    train_rows = np.flatnonzero(new_label[raw.splits["train"].labels] >= 0)
    groups = raw.groups
    if groups is not None:
        groups = groups[train_rows]
    files = raw.files
    if files is not None:
        files = files[train_rows]
    return replace(raw, classes=tuple(names), splits=splits, groups=groups, files=files)
