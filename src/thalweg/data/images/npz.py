"""Pictures that come as arrays: NumPy's .npz, and bringing any array to the size and channels that were asked for."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from ...io.free_memory import require_memory
from .idx import dataset_from_arrays
from .image_decoding import RESIZE_NOTE, ImageReadError, resize_and_crop, to_8bit
from .raw_dataset import RawDataset, ReadOptions

#: names of the arrays for each part: pictures, labels
_ARRAY_KEYS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")),
    "val": (("x_valid", "y_valid"), ("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


def read_npz(path: Path) -> RawDataset:
    """The set in an .npz file: x_train, y_train and, where there, x_test, y_test (or images, labels, or x, y).

    Pictures (N, H, W), (N, H, W, C), (N, C, H, W) or, of square pictures, (N, H * W); labels whole numbers, names, or
    one column per class. An array `classes` may name the classes. Nothing pickled is read. Raises DataError naming the
    array.
    """
    arrays = _load_arrays(path)
    images, labels, notes = {}, {}, []
    for part, names in _ARRAY_KEYS.items():
        for picture_key, label_key in names:
            if picture_key in arrays and label_key in arrays:
                images[part] = (
                    f"{path.name}:{picture_key}",
                    _to_images(arrays[picture_key], path, picture_key, notes),
                )
                labels[part] = _to_labels(arrays[label_key], path, label_key)
                _check_same_length(path, images[part][1], picture_key, labels[part], label_key)
                break
    if "train" not in images:
        raise DataError(
            f"{path}: it holds {', '.join(sorted(arrays)) or 'nothing'}; "
            "expected x_train and y_train (or images, labels; or x, y).",
            cure="Save it with np.savez_compressed(path, x_train=…, y_train=…, x_test=…, y_test=…).",
        )
    classes = tuple(str(c) for c in arrays["classes"].ravel()) if "classes" in arrays else None
    if any(of_part.dtype.kind == "U" for of_part in labels.values()):
        classes, labels = _encode_label_names(labels, classes, path)
    found = dataset_from_arrays("NumPy arrays", path, images, labels, classes)
    found.warnings += dict.fromkeys(notes)
    return found


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, after a look at how large they say they are."""
    try:
        with zipfile.ZipFile(path) as packed:
            require_memory(
                sum(entry.file_size for entry in packed.infolist()), str(path), cure="Store fewer pictures in it."
            )
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zipfile.error, KeyError, NotImplementedError) as error:
        raise DataError(
            f"{path}: cannot be read as an .npz file of plain arrays ({error}).",
            cure="Save it again with np.savez_compressed; arrays of objects are not read.",
        ) from None


def _check_same_length(path: Path, images: np.ndarray, picture_key: str, labels: np.ndarray, label_key: str) -> None:
    if len(images) != len(labels):
        raise DataError(
            f"{path}: {picture_key} holds {len(images):,} pictures, {label_key} {len(labels):,} labels.",
            cure="Store one label per picture.",
        )


def _to_images(values: np.ndarray, path: Path, key: str, notes: list[str]) -> np.ndarray:
    """An array of pictures in one of the usual layouts as (N, H, W, C) uint8."""
    shape = values.shape
    side = int(np.sqrt(shape[1])) if values.ndim == 2 else 0
    if values.ndim == 2 and side * side == shape[1]:
        values = values.reshape(-1, side, side, 1)
    elif values.ndim == 3:
        values = values[..., None]
    elif values.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        values = values.transpose(0, 2, 3, 1)
        notes.append("Arrays of pictures have the channels first.")
    if values.ndim != 4 or values.shape[3] not in (1, 3) or not all(values.shape[1:]):
        raise DataError(
            f"{path}: {key} has the shape {shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3).",
            cure="Reshape it; transparency is not read from arrays.",
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {key} holds {values.dtype}, not numbers.", cure="Store uint8, or real numbers 0 to 1."
        )
    try:
        made = to_8bit(values)
    except ImageReadError as why:
        raise DataError(f"{path}: {key}: {why}.", cure="Store uint8, or real numbers 0 to 1.") from None
    notes.append(f"Values of {values.dtype}, {values.min():g} to {values.max():g}, were brought to 0 to 255.")
    return made


def _to_labels(values: np.ndarray, path: Path, key: str) -> np.ndarray:
    """Labels (N,) as whole numbers or as names."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "iufb" and ((values == 0) | (values == 1)).all():
        if (values.sum(axis=1) == 1).all():
            values = values.argmax(axis=1)
    if values.dtype.kind == "S":
        values = values.astype(str)
    if values.ndim == 1 and values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise DataError(
            f"{path}: {key} has the shape {values.shape} of {values.dtype}; "
            "expected one whole number or name per picture.",
            cure="Store labels (N,) as whole numbers or names.",
        )
    return values


def _encode_label_names(
    labels: dict[str, np.ndarray], classes: tuple[str, ...] | None, path: Path
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Labels that are names as places in the list of classes."""
    classes = classes or tuple(sorted({str(v) for of_part in labels.values() for v in np.unique(of_part)}))
    place = {name: number for number, name in enumerate(classes)}
    unknown = sorted({str(v) for of_part in labels.values() for v in np.unique(of_part)} - set(classes))
    if unknown:
        raise DataError(f"{path}: the label '{unknown[0]}' is not in `classes`.", cure="Correct it, or add it there.")
    return classes, {p: np.array([place[str(v)] for v in of_part], np.int64) for p, of_part in labels.items()}


def resize_dataset(found: RawDataset, options: ReadOptions) -> RawDataset:
    """The set with square pictures of `size` (None: their own shorter side) and `channels` (None: their own)."""
    size, channels, resize = options.image_size, options.channels, options.resize
    before = {split.images.shape[1:3] for split in found.splits.values()}
    widest = max(split.images.shape[3] for split in found.splits.values())
    found.splits = {
        part: replace(split, images=_resize_images(split.images, size, channels or widest, resize))
        for part, split in found.splits.items()
    }
    shapes = {split.images.shape[1:3] for split in found.splits.values()}
    if shapes != before:
        found.warnings.append(RESIZE_NOTE.format(max(shapes)[0]))
    if len(shapes) > 1:
        told = " and ".join(f"{h} x {w}" for h, w in sorted(shapes))
        raise DataError(f"{found.path}: its parts have pictures of {told}.", cure="Ask for one size: --image-size 32.")
    return found


def _resize_images(images: np.ndarray, size: int | None, channels: int, resize: int | None) -> np.ndarray:
    count, height, width, deep = images.shape
    size = size or min(height, width)
    require_memory(
        count * size * size * channels,
        f"The set of {count:,} pictures at {size} x {size}",
        "Choose a smaller --image-size.",
    )
    if (height, width) != (size, size):
        made = np.empty((count, size, size, deep), np.uint8)
        for row, values in enumerate(images):
            resized = np.asarray(
                resize_and_crop(Image.fromarray(values[..., 0] if deep == 1 else values), size, resize)
            )
            made[row] = resized[..., None] if deep == 1 else resized
        images = made
    if deep == 1 and channels == 3:
        return np.repeat(images, 3, axis=3)
    if deep == 3 and channels == 1:
        return to_grayscale(images)
    return images


def to_grayscale(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) to (N, H, W, 1) uint8 with the weights of ITU-R BT.601, rounded as Pillow rounds."""
    red, green, blue = (images[..., c].astype(np.uint32) for c in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]
