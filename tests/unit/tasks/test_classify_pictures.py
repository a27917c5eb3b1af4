"""Training images in the report of a classifier: labels of mixtures, and one image under each operation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.data.images.augment import OPERATIONS
from thalweg.data.images.synthetic import make_bars
from thalweg.tasks import classify_pictures
from thalweg.tasks.classify import Classify, ClassifyOptions
from thalweg.tasks.classify_pictures import VERSIONS, augment_batch, plot_operations

BARS = make_bars(count=64)
SPEC = Classify().data_spec(BARS, ClassifyOptions())


def test_the_names_of_a_mixture_are_those_of_its_images():
    """Images of one level per class show which classes are in them, and how much of each."""
    train = BARS.train
    levels = (60 * train.labels).astype(np.uint8)[:, None, None, None]
    flat = replace(train, images=np.broadcast_to(levels, train.images.shape))
    spec = replace(SPEC, mean=[0.0], std=[60 / 255])
    images, names = augment_batch(replace(BARS, splits={**BARS.splits, "train": flat}), spec, "cutmix")
    mixed = 0
    for image, name in zip(images, names, strict=True):
        parts = {}
        for line in name.split("\n"):
            label, _, weight = line.partition(" ")
            parts[label] = float(weight or 1)
        for index, label in enumerate(SPEC.classes):
            fraction = float((image.round() == index).float().mean())
            assert parts.get(label, 0.0) == pytest.approx(fraction, abs=0.051)
        mixed += len(parts) > 1
    assert mixed > 10


def test_labels_that_are_not_mixed_are_plain():
    _, names = augment_batch(BARS, SPEC, "flip")
    assert set(names) <= set(SPEC.classes)


def test_every_operation_has_a_row_of_one_image(monkeypatch):
    rows = []
    monkeypatch.setattr(classify_pictures, "plot_rows", rows.extend)
    plot_operations(BARS, SPEC, ",".join(OPERATIONS))
    assert [texts[1].split()[0] for _, texts in rows] == list(OPERATIONS)
    for images, texts in rows:
        assert images.shape == (1 + VERSIONS, 16, 16, 1) and images.dtype == np.uint8
        assert np.array_equal(images[0], rows[0][0][0])
        changed = [not np.array_equal(image, images[0]) for image in images[1:]]
        assert any(changed), texts
    assert plot_operations(BARS, SPEC, "none") == []


def test_pictures_are_the_same_every_time():
    first, again = (plot_operations(BARS, SPEC, "crop,mixup=1")[0].image for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert torch.equal(augment_batch(BARS, SPEC, "crop")[0], augment_batch(BARS, SPEC, "crop")[0])
