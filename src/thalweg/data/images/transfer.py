"""Images in a model's terms: its classes and size for evaluation, its normalization for fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...errors import DataError
from .dataset import ImageDataset
from .input_spec import InputSpec, normalize_drawings, require_square, scale_resize


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
    """Return the spec of new data with the normalization that the weights were trained with.

    Raises DataError for other channels, and OptionError where weights for handwriting get other images than squares.
    """
    if old.channels != new.channels:
        raise DataError(
            f"The weights expect images with {old.channels} channels; these have {new.channels}.",
            f"Give images (N, H, W, {old.channels}).",
            value=new.channels,
            allowed=[old.channels],
        )
    if old.handwriting:
        require_square(new.height_width)
    resize = scale_resize(old, new.height_width)
    return replace(new, resize=resize, mean=old.mean, std=old.std, handwriting=old.handwriting)
