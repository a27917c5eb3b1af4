"""Training images for the report of a classifier: a batch as the model saw it, and each augmentation by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from ..data.images.augment import OPERATIONS, parse_augmentation
from ..data.images.dataset import ImageDataset
from ..data.images.input_spec import InputSpec
from ..plots.image_grid import plot_captioned_rows
from .base import Plot
from .classify_batches import augmented_sample
from .classify_support import build_transform

#: images of the batch, and versions of one image under each operation
BATCH_IMAGES = 48
VERSIONS = 8


def augment_batch(dataset: ImageDataset, spec: InputSpec, augment: str) -> tuple[torch.Tensor, list[str]]:
    """Return random training images (B, C, H, W) as the model sees them, and the names of their classes."""
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:BATCH_IMAGES]
    torch.manual_seed(0)
    images, rows, augment = augmented_sample(dataset.train.images, rows, augment)
    labels = dataset.train.labels[rows]
    batch = build_transform(augment, spec)({"image": torch.from_numpy(images), "label": torch.from_numpy(labels)})
    if "mix" not in batch:
        return batch["image"], [spec.classes[label] for label in labels]
    names = []
    for label, other, mix in zip(labels, batch["other_label"].tolist(), batch["mix"].tolist(), strict=True):
        names.append(_describe_mixture([(spec.classes[label], 1 - mix), (spec.classes[other], mix)]))
    return batch["image"], names


def _describe_mixture(parts: Sequence[tuple[str, float]]) -> str:
    """Describe labels and their weights: "cat 0.7" and "dog 0.3" on two lines, or "cat" where there is only one."""
    weights: dict[str, float] = {}
    for name, weight in parts:
        weights[name] = weights.get(name, 0.0) + weight
    visible = {name: weight for name, weight in weights.items() if weight >= 0.05}
    if len(visible) == 1:
        return next(iter(visible))
    return "\n".join(f"{name} {weight:.1f}" for name, weight in visible.items())


def plot_operations(dataset: ImageDataset, spec: InputSpec, augment: str) -> list[Plot]:
    """Plot one training image under each operation of the augmentation; nothing where there is none."""
    amounts = parse_augmentation(augment)
    if not amounts or not len(dataset.train):
        return []
    rows = np.random.default_rng(0).permutation(len(dataset.train))[: 1 + VERSIONS]
    images, _, _ = augmented_sample(dataset.train.images, np.resize(rows, 1 + VERSIONS), "none")
    row_images = []
    for name, amount in amounts.items():
        versions = _apply_versions(images, spec, f"{name}={amount!r}")
        row_images.append((np.concatenate([images[:1], versions]), ["original", f"{name} {amount:g}"]))
    meanings = "; ".join(f"{name}: {OPERATIONS[name].meaning}" for name in amounts)
    caption = f"Each row changes one training image at random, by one operation alone. Numbers: {meanings}."
    return [Plot("augmentation", "One image under each operation", caption, plot_rows(row_images))]


def _apply_versions(images: np.ndarray, spec: InputSpec, operation: str) -> np.ndarray:
    """Return VERSIONS random versions of the first of 1 + VERSIONS images (V, H, W, C) uint8.

    Mixtures need other images: the first one stands at every second place, and each image is mixed with the one before.
    """
    order = np.zeros(2 * VERSIONS, np.int64)
    order[::2] = np.arange(1, 1 + VERSIONS)
    plain_spec = replace(spec, mean=[0.0] * spec.channels, std=[1.0] * spec.channels)
    torch.manual_seed(0)
    batch = {"image": torch.from_numpy(images[order]), "label": torch.zeros(len(order), dtype=torch.long)}
    image_BCHW = build_transform(operation, plain_spec)(batch)["image"][1::2]
    return (image_BCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def plot_rows(rows: Sequence[tuple[np.ndarray, Sequence[str]]]) -> Image.Image:
    """Plot rows of images, the first ones of each with a caption."""
    return plot_captioned_rows([(images, [*texts, *[""] * (len(images) - len(texts))]) for images, texts in rows])
