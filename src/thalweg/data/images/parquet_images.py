"""Read images inside Parquet files, as Hugging Face's `datasets` writes them.

A column is compressed in groups of hundreds of rows, so that one image cannot be read without the others. The bytes of
the images are therefore copied into the cache once, a few megabytes at a time, and read from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, ResourceError, pluralize
from ...io.atomic_write import disk_full_error, fsync_dir
from ...io.free_memory import format_bytes
from .archives import ArchiveCollection, ArchiveImages
from .array_store import cache_path, load_arrays, pack_texts, save_arrays, unpack_texts
from .labeled_images import LabeledImages, assign_splits, load_labeled_images
from .parquet_files import explain_errors, iterate_pieces, read_features, read_schema
from .raw_dataset import RawDataset, ReadOptions, quote_names

#: names of the column of labels, where nothing else says which it is
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")

_VERSION = 1
_CACHE_CURE = "Free some space, or set THALWEG_CACHE to a folder on another disk."


@dataclass(frozen=True)
class ImageColumns:
    """Which columns of a Parquet file hold images and labels, and the names of the classes if it says them."""

    image: str
    label: str
    classes: tuple[str, ...] = ()


def has_image_bytes(path: Path) -> bool:
    """Tell whether a Parquet file has a column of images. Raises DataError and ResourceError."""
    return _find_image_column(read_schema(path), read_features(path)) is not None


def read_parquet_images(path: Path, files: Sequence[Path], options: ReadOptions) -> RawDataset:
    """Read one Parquet file or several; names that contain train, val or test say the split of each.

    Raises DataError, and ResourceError where polars is missing or the disk is full.
    """
    split_of_file, warnings = assign_splits(files)
    source = LabeledImages("Parquet file with images", path, ArchiveCollection([], ""), [], [], warnings=warnings)
    parts = []
    classes: set[tuple[str, ...]] = set()
    num_unlabeled = 0
    for file, split in split_of_file.items():
        columns = find_columns(file)
        images, labels = load_pack(file, columns)
        if columns.classes:
            classes.add(columns.classes)
            labels = [_class_name(label, columns.classes) for label in labels]
        rows = [row for row, label in enumerate(labels) if label]
        num_unlabeled += len(labels) - len(rows)
        parts.append(images.take(np.array(rows, np.int64)))
        source.labels += [labels[row] for row in rows]
        source.splits += [split] * len(rows)
    if len(classes) > 1:
        raise DataError(
            f"{path}: its files have different classes: {quote_names(sorted(map(str, classes)))}.",
            "Read them one by one.",
            path=path,
            value=sorted(classes),
        )
    if classes:
        source.classes = classes.pop()
    if num_unlabeled:
        source.warnings.append(f"Skipped {pluralize(num_unlabeled, 'row')} without a label.")
    source.encoded = ArchiveCollection(parts, os.path.realpath(path))
    return load_labeled_images(source, options)


def _class_name(label: str, classes: Sequence[str]) -> str:
    """Return the name of a class that is written as its number or its name; empty for neither, such as -1."""
    if label.isascii() and label.isdigit() and int(label) < len(classes):
        return classes[int(label)]
    return label if label in classes else ""


def find_columns(path: Path) -> ImageColumns:
    """Find the columns of images and labels of a Parquet file. Raises DataError where one is missing."""
    schema = read_schema(path)
    features = read_features(path)
    image = _find_image_column(schema, features)
    by_feature = [name for name in schema if _feature_type(features, name) == "ClassLabel"]
    by_name = [name for name in LABEL_COLUMNS if name in schema]
    labels = [name for name in by_name if name in by_feature] or by_feature or by_name
    for kind, column in (("image", image), ("label", labels[0] if labels else None)):
        if column is None:
            raise DataError(
                f"{path}: no column of {kind}s; found {', '.join(schema)}.",
                f"Name it '{kind}'.",
                path=path,
                value=kind,
                allowed=LABEL_COLUMNS if kind == "label" else ("image",),
            )
    names = features.get(labels[0])
    classes = names.get("names") if isinstance(names, dict) else None
    is_valid = isinstance(classes, list) and all(isinstance(name, str) and name for name in classes)
    return ImageColumns(image or "", labels[0], tuple(classes) if is_valid and classes else ())


def _feature_type(features: Mapping[str, Any], name: str) -> str:
    feature = features.get(name)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _find_image_column(schema: Mapping[str, Any], features: Mapping[str, Any]) -> str | None:
    """Return the first column of images by its feature, else of structures with bytes, else of bytes."""
    kinds = {name: str(kind) for name, kind in schema.items()}
    for name, kind in kinds.items():
        if _feature_type(features, name) == "Image" and "Binary" in kind:
            return name
    for beginning in ("Struct", "Binary"):
        for name, kind in kinds.items():
            if kind.startswith(beginning) and "Binary" in kind and (beginning == "Binary" or "bytes" in kind):
                return name
    return None


def load_pack(path: Path, columns: ImageColumns) -> tuple[ArchiveImages, list[str]]:
    """Return the images of a Parquet file, copied into the cache where they are not there yet, and their labels.

    Raises DataError, and ResourceError where the disk has not enough space.
    """
    status = path.stat()
    subject = os.path.realpath(path)
    index_path = cache_path("parquet", subject)
    pack_path = index_path.with_suffix(".bin")
    stamp = np.array([_VERSION, status.st_size, status.st_mtime_ns], np.int64)
    arrays = load_arrays(index_path, subject)
    if arrays is None or not _is_current(arrays, stamp, columns, pack_path):
        arrays = _write_pack(path, columns, pack_path) | {"stamp": stamp, "columns": _pack_columns(columns)}
        save_arrays(index_path, subject, arrays)
    size_N = arrays["size"]
    offset_N = np.cumsum(np.maximum(size_N, 0)) - np.maximum(size_N, 0)
    members = [str(row) for row in range(len(size_N))]
    labels = unpack_texts(arrays["labels"]) if len(size_N) else []
    return ArchiveImages(pack_path, members, offset_N, size_N, origin=path), labels


def _pack_columns(columns: ImageColumns) -> np.ndarray:
    return pack_texts([columns.image, columns.label])


def _is_current(arrays: Mapping[str, np.ndarray], stamp: np.ndarray, columns: ImageColumns, pack_path: Path) -> bool:
    """Tell whether the cache has the whole copy of the file as it is now."""
    if not {"stamp", "columns", "size", "labels"} <= set(arrays) or not np.array_equal(arrays["stamp"], stamp):
        return False
    size_N = arrays["size"]
    if len(size_N) and len(unpack_texts(arrays["labels"])) != len(size_N):
        return False
    try:
        is_complete = pack_path.stat().st_size == np.maximum(size_N, 0).sum()
    except OSError:
        return False
    return is_complete and np.array_equal(arrays["columns"], _pack_columns(columns))


def _write_pack(path: Path, columns: ImageColumns, pack_path: Path) -> dict[str, np.ndarray]:
    """Copy the bytes of all images into one file, and return their sizes (-1 where there are none) and labels."""
    draft = pack_path.with_name(f".{pack_path.name}.{os.getpid()}.draft")
    needed = path.stat().st_size
    sizes: list[int] = []
    labels: list[str] = []
    try:
        pack_path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(pack_path.parent).free
        if needed > free:
            raise ResourceError(
                f"{path}: a copy of its images in {pack_path.parent} needs {format_bytes(needed)}; "
                f"{format_bytes(free)} are free.",
                _CACHE_CURE,
                path=pack_path.parent,
                value=needed,
            )
        with open(draft, "wb") as file:
            for piece in iterate_pieces(path, [columns.image, columns.label]):
                with explain_errors(path):
                    contents, piece_labels = _read_piece(piece, columns)
                for content in contents:
                    sizes.append(-1 if content is None else file.write(content))
                labels += piece_labels
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, pack_path)
        fsync_dir(pack_path.parent)
    except OSError as error:
        raise disk_full_error(error, pack_path, needed, _CACHE_CURE) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return {"size": np.array(sizes, np.int64), "labels": pack_texts(labels)}


def _read_piece(piece: Any, columns: ImageColumns) -> tuple[Any, list[str]]:
    """Return the bytes and the labels of some rows; the label of a row without one is empty."""
    images = piece[columns.image]
    if str(images.dtype).startswith("Struct"):
        images = images.struct.field("bytes")
    labels = ["" if label is None else str(label).replace("\0", " ") for label in piece[columns.label]]
    return images, labels
