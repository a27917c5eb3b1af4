"""The figures of a classifier's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from .class_scores import plot_calibration, plot_per_class
from .confusion import plot_confusion
from .image_grid import plot_augmented_batch, plot_filters, plot_worst_mistakes

#: (name, title, caption, image, table)
Figure = tuple[str, str, str, Image.Image | None, list[list[str]] | None]


def plot_report(model: nn.Module, spec: Any, evidence: Any, batch: tuple[Tensor, Sequence[str]]) -> list[Figure]:
    """Draw the figures of a classifier's report.

    Args:
        model: The classifier.
        spec: Its classes, channels and size.
        evidence: What it predicted: split, probabilities (N, K) and scores.
        batch: Augmented training images (B, C, H, W), and the names of their classes.

    Returns:
        Name, title, caption, image and table of each figure.
    """
    classes = spec.classes
    scores = evidence.scores
    images, labels = batch
    return [
        (
            "confusion",
            "Confusion matrix",
            "Counts on the test set; mistakes have a color scale of their own.",
            plot_confusion(scores.confusion, classes),
            None,
        ),
        (
            "classes",
            "Class by class",
            "The classes with the lowest F1 come first.",
            plot_per_class(scores.per_class, classes),
            _per_class_table(scores.per_class, classes),
        ),
        (
            "mistakes",
            "The worst mistakes",
            "Test images whose true class got the lowest probability, with the prediction and their source.",
            _plot_mistakes(evidence, classes),
            None,
        ),
        (
            "calibration",
            "Calibration",
            "Of the predictions made with 80 % probability, 80 % should be right: bars on the dashed line.",
            plot_calibration(scores.bins),
            None,
        ),
        (
            "batch",
            "A batch as the model saw it",
            "After resizing, augmentation and normalization.",
            plot_augmented_batch(images.numpy(), labels),
            None,
        ),
        (
            "filters",
            "Filters of the first layer",
            "One tile per unit, all on one scale: blue weights respond to light, orange ones to dark; a pale tile has "
            "learned little.",
            _plot_first_filters(model, spec),
            None,
        ),
    ]


def _plot_mistakes(evidence: Any, classes: Sequence[str]) -> Image.Image:
    split = evidence.split
    worst = evidence.scores.worst_mistakes(24)
    probabilities = evidence.probabilities[worst]
    return plot_worst_mistakes(
        split.images[worst],
        split.labels[worst],
        probabilities.argmax(1),
        probabilities.max(1, initial=0),
        split.names(worst.tolist()),
        classes,
    )


def _plot_first_filters(model: nn.Module, spec: Any) -> Image.Image:
    first = next(param for param in model.parameters() if param.ndim > 1)
    weights = first.detach().float().cpu().numpy()
    if weights.ndim == 2:
        return plot_filters(weights, (spec.channels, *spec.size))
    return plot_filters(weights, None)


def _per_class_table(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[list[str]]:
    """Build a row per class, lowest F1 first."""

    def sort_key(index: int) -> tuple[bool, float]:
        f1 = rows[index]["f1"]
        return f1 is None, f1 or 0.0

    table = [["class", "precision", "recall", "F1", "examples"]]
    for index in sorted(range(len(classes)), key=sort_key):
        row = rows[index]
        figures = [_percent(row[name]) for name in ("precision", "recall", "f1")]
        table.append([str(classes[index]), *figures, f"{row['examples']:,}"])
    return table


def _percent(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{100 * value:.2f} %"
