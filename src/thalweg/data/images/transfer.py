"""Images in a model's terms: its classes and size for evaluation, its normalization for fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...errors import DataError
from ..base import DataRequest
from .dataset import ImageDataset, ImageSplit
from .input_spec import InputSpec, normalize_drawings, pad_to_square, to_uint8
from .load import load_dataset
from .raw_dataset import RawDataset
from .splits import split_dataset


def load_for_model(request: DataRequest, image_size: int | None, spec: InputSpec | None) -> ImageDataset:
    """Read images from a path, a named data set, an ImageDataset or a pair of arrays (images, labels).

    With a model's `spec`, images get its size and channels. Raises DataError.
    """
    source = request.source
    if isinstance(source, ImageDataset):
        return source
    if isinstance(source, tuple | list) and len(source) == 2:
        return pad_to_square(split_dataset(_from_arrays(*source), "arrays", request))
    resize = channels = None
    if spec is not None:
        channels = spec.channels
        size = image_size or spec.image_size
        resize = round(spec.resize * size / spec.image_size) if spec.resize else None
        image_size = size
    return pad_to_square(load_dataset(request, image_size, resize, channels))


def _from_arrays(images: np.ndarray, labels: np.ndarray) -> RawDataset:
    """Build a data set from images (N, H, W) or (N, H, W, C) and labels (N,). Raises DataError."""
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{len(images)} images and {len(labels)} labels; expected as many of both.",
            value=(len(images), len(labels)),
        )
    arrays = []
    for image in images:
        array = to_uint8(image)
        if array.ndim == 2:
            array = array[..., None]
        arrays.append(array)
    stack = np.stack(arrays)
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    sources = [f"row {row}" for row in range(len(stack))]
    split = ImageSplit(stack, codes.astype(np.int64), sources)
    return RawDataset("arrays", "arrays", tuple(map(str, classes)), {"train": split})


def channel_mean_std(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and std (C,) of images (N, H, W, C) uint8 on the scale of 0 to 1, by counting the 256 levels.

    As floats, ten thousand images of 224 pixels would take six gigabytes.
    """
    count_CL = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 64):
        for channel, count_L in enumerate(count_CL):
            count_L += np.bincount(images[start : start + 64, ..., channel].ravel(), minlength=256)
    fraction_CL = count_CL / max(1, count_CL[0].sum())
    level_L = np.arange(256) / 255
    mean_C = fraction_CL @ level_L
    return mean_C, np.sqrt((fraction_CL * (level_L - mean_C[:, None]) ** 2).sum(1))


def adapt_to_model(dataset: ImageDataset, spec: InputSpec) -> ImageDataset:
    """Give a data set the model's labels and, where it needs them, normalized drawings.

    Raises DataError for images of another size, and for classes that the model does not know.
    """
    shape = list(dataset.shape)
    expected = [*spec.size, spec.channels]
    if shape != expected:
        raise DataError(
            f"{dataset.name} has images of {shape} (height, width, channels); expected {expected}.", value=shape
        )
    if spec.handwriting and not dataset.is_handwriting:
        dataset = normalize_drawings(dataset, spec)
    if list(dataset.classes) == list(spec.classes):
        return dataset
    unknown = [name for name in dataset.classes if name not in spec.classes]
    if unknown:
        raise DataError(
            f"{dataset.name} has classes that the model does not know: {', '.join(unknown[:12])}; "
            f"expected some of {', '.join(spec.classes[:12])}{', …' if len(spec.classes) > 12 else ''}.",
            value=unknown,
            allowed=list(spec.classes),
        )
    label = np.array([spec.classes.index(name) for name in dataset.classes], np.int64)
    splits = {}
    for name, split in dataset.splits.items():
        splits[name] = replace(split, labels=label[split.labels])
    return replace(dataset, classes=tuple(spec.classes), splits=splits)


def transfer_spec(old: InputSpec, new: InputSpec) -> InputSpec:
    """Return the spec of new data with the normalization that the weights were trained with. Raises DataError."""
    if old.channels != new.channels:
        raise DataError(
            f"The weights expect images with {old.channels} channels; these have {new.channels}.",
            f"Give images (N, H, W, {old.channels}).",
            value=new.channels,
            allowed=[old.channels],
        )
    resize = old.resize
    if resize is not None:
        resize = round(resize * new.image_size / old.image_size)
    return replace(new, resize=resize, mean=old.mean, std=old.std, handwriting=old.handwriting)
