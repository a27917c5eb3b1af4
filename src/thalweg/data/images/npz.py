"""Read images from NumPy's .npz files, and bring arrays of images to the requested size and channels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...config.size import to_height_width
from ...errors import DataError
from ...io.free_memory import require_memory
from .idx import dataset_from_arrays
from .image_decoding import ImageReadError, describe_resize, resize_and_crop, to_8bit
from .raw_dataset import RawDataset, ReadOptions

#: names of the arrays of images and labels of each split; the first pair that the file has is used
_ARRAY_KEYS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")),
    "val": (("x_valid", "y_valid"), ("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}

_VALUES_CURE = "Store uint8, or floats from 0 to 1."


def read_npz(path: Path) -> RawDataset:
    """Read an .npz file with x_train, y_train and optionally x_test, y_test (or images, labels; or x, y).

    Images are (N, H, W), (N, H, W, C), (N, C, H, W) or, if square, (N, H * W). Labels are integers, names, or one
    column per class. An optional array `classes` names the classes. Nothing pickled is read. Raises DataError naming
    the array.
    """
    arrays = _load_arrays(path)
    images: dict[str, tuple[str, np.ndarray]] = {}
    labels: dict[str, np.ndarray] = {}
    warnings: list[str] = []
    for split_name, pairs in _ARRAY_KEYS.items():
        for image_key, label_key in pairs:
            if image_key in arrays and label_key in arrays:
                pixels = _to_images(arrays[image_key], path, image_key, warnings)
                images[split_name] = (f"{path.name}:{image_key}", pixels)
                labels[split_name] = _to_labels(arrays[label_key], path, label_key)
                _check_same_length(path, {image_key: pixels, label_key: labels[split_name]})
                break
    if "train" not in images:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(
            f"{path}: contains {names}; expected x_train and y_train (or images, labels; or x, y).",
            cure="Save it with np.savez_compressed(path, x_train=…, y_train=…, x_test=…, y_test=…).",
            path=path,
            value=sorted(arrays),
        )
    classes = None
    if "classes" in arrays:
        classes = tuple(str(name) for name in arrays["classes"].ravel())
    if any(split_labels.dtype.kind == "U" for split_labels in labels.values()):
        classes, labels = _encode_label_names(labels, classes, path)
    raw = dataset_from_arrays("NumPy arrays", path, images, labels, classes)
    raw.warnings += dict.fromkeys(warnings)
    return raw


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the file. Raises ResourceError if it announces more than fits into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        require_memory(size, str(path), cure="Store fewer images in it.")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise DataError(
            f"{path}: not readable as an .npz file of plain arrays ({error}).",
            cure="Save it again with np.savez_compressed; arrays of objects are not read.",
            path=path,
        ) from None


def _check_same_length(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    (image_key, images), (label_key, labels) = arrays.items()
    if len(images) != len(labels):
        raise DataError(
            f"{path}: {image_key} has {len(images):,} images, {label_key} has {len(labels):,} labels.",
            cure="Store one label per image.",
            path=path,
            value=[len(images), len(labels)],
        )


def _to_images(values: np.ndarray, path: Path, key: str, warnings: list[str]) -> np.ndarray:
    """Convert an array of images in one of the accepted layouts to (N, H, W, C) uint8."""
    pixels = _to_channels_last(values, warnings)
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or not all(pixels.shape[1:]):
        raise DataError(
            f"{path}: {key} has shape {values.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3).",
            cure="Reshape it; transparency is not read from arrays.",
            path=path,
            value=values.shape,
        )
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {key} contains {pixels.dtype}; expected numbers.",
            cure=_VALUES_CURE,
            path=path,
            value=str(pixels.dtype),
        )
    try:
        scaled = to_8bit(pixels)
    except ImageReadError as error:
        raise DataError(f"{path}: {key}: {error}.", cure=_VALUES_CURE, path=path, value=key) from None
    warnings.append(f"Values of {pixels.dtype}, {pixels.min():g} to {pixels.max():g}, were scaled to 0 to 255.")
    return scaled


def _to_channels_last(values: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Return an array of images as (N, H, W, C) where its shape allows it."""
    shape = values.shape
    if values.ndim == 2:
        side = int(np.sqrt(shape[1]))
        if side * side == shape[1]:
            return values.reshape(-1, side, side, 1)
    if values.ndim == 3:
        return values[..., None]
    if values.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        warnings.append("Arrays of images have the channels first.")
        return values.transpose(0, 2, 3, 1)
    return values


def _to_labels(values: np.ndarray, path: Path, key: str) -> np.ndarray:
    """Convert labels to (N,) integers or names."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if _is_one_hot(values):
        values = values.argmax(axis=1)
    if values.dtype.kind == "S":
        values = values.astype(str)
    if values.ndim == 1 and values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise DataError(
            f"{path}: {key} has shape {values.shape} of {values.dtype}; expected one integer or name per image.",
            cure="Store labels (N,) as integers or names.",
            path=path,
            value=values.shape,
        )
    return values


def _is_one_hot(values: np.ndarray) -> bool:
    """Tell whether labels are a matrix with a single 1 in each row."""
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def _encode_label_names(
    labels: Mapping[str, np.ndarray], classes: tuple[str, ...] | None, path: Path
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the classes and labels as indices into them. Raises DataError for a name that is not in `classes`."""
    names = set()
    for split_labels in labels.values():
        names |= {str(name) for name in np.unique(split_labels)}
    classes = classes or tuple(sorted(names))
    unknown = sorted(names - set(classes))
    if unknown:
        raise DataError(
            f"{path}: the label '{unknown[0]}' is not in `classes`.",
            cure="Correct it, or add it there.",
            path=path,
            value=unknown[0],
            allowed=classes,
        )
    label_of_class = {name: label for label, name in enumerate(classes)}
    encoded = {}
    for split_name, split_labels in labels.items():
        encoded[split_name] = np.array([label_of_class[str(name)] for name in split_labels], np.int64)
    return classes, encoded


def resize_dataset(raw: RawDataset, options: ReadOptions) -> RawDataset:
    """Return a dataset of arrays with images of the requested size and channels.

    Without a requested size, images are cropped to squares of their shorter side. Raises DataError if splits differ in
    size.
    """
    shapes_before = {split.images.shape[1:3] for split in raw.splits.values()}
    channels = options.channels or max(split.images.shape[3] for split in raw.splits.values())
    splits = {}
    for split_name, split in raw.splits.items():
        size = to_height_width(options.image_size or min(split.images.shape[1:3]))
        images = _set_channels(_resize_images(split.images[:], size, channels, options.resize), channels)
        splits[split_name] = replace(split, images=images)
    shapes = {split.images.shape[1:3] for split in splits.values()}
    if len(shapes) > 1:
        sizes = " and ".join(f"{height} x {width}" for height, width in sorted(shapes))
        raise DataError(
            f"{raw.path}: its splits have images of {sizes}.",
            cure="Request one size: --image-size 32.",
            path=raw.path,
            value=sorted(shapes),
        )
    warnings = list(raw.warnings)
    if shapes != shapes_before:
        warnings.append(describe_resize(max(shapes)))
    return replace(raw, splits=splits, warnings=warnings)


def _resize_images(images: np.ndarray, size: tuple[int, int], channels: int, resize: int | None) -> np.ndarray:
    """Resize images (N, H, W, C) to `size`. Raises ResourceError if they do not fit with `channels` into memory."""
    count, height, width, num_channels = images.shape
    require_memory(
        count * size[0] * size[1] * channels,
        f"The dataset of {count:,} images of {size[1]}x{size[0]}",
        "Choose a smaller --image-size.",
    )
    if (height, width) == size:
        return images
    resized = np.empty((count, *size, num_channels), np.uint8)
    for row, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if num_channels == 1 else pixels)
        resized[row] = np.asarray(resize_and_crop(image, size, resize)).reshape(*size, num_channels)
    return resized


def _set_channels(images: np.ndarray, channels: int) -> np.ndarray:
    if images.shape[3] == 1 and channels == 3:
        return np.repeat(images, 3, axis=3)
    if images.shape[3] == 3 and channels == 1:
        return to_grayscale(images)
    return images


def to_grayscale(images: np.ndarray) -> np.ndarray:
    """Convert (N, H, W, 3) to (N, H, W, 1) uint8 with the weights of ITU-R BT.601, rounded as Pillow does."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]
