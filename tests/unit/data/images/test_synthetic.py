"""Targets of one shape, and a dataset that needs no file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.padding import pad
from thalweg.data.images.synthetic import CLASSES, make_bars


def test_targets_are_stacked_and_masked():
    targets = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((3, 4), 5.0)]
    padded, real = pad(targets)
    assert padded.shape == (3, 3, 4) and real.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    for row, target in enumerate(targets):
        assert torch.equal(padded[row, : len(target)], target)
    assert float(padded[real == 0].abs().sum()) == 0


def test_padding_has_the_type_and_the_requested_number_of_targets():
    padded, real = pad([torch.tensor([3, 4]), torch.tensor([5])], max_targets=4)
    assert padded.tolist() == [[3, 4, 0, 0], [5, 0, 0, 0]] and padded.dtype == torch.int64
    assert real.dtype == torch.float32 and real.device == padded.device
    assert pad([torch.zeros(0, 2)])[0].shape == (1, 1, 2)  # room for one, so that no shape is empty


def test_too_many_targets_are_rejected():
    with pytest.raises(ValueError, match="3"):
        pad([torch.zeros(1, 4), torch.zeros(3, 4)], max_targets=2)


def test_bars_are_a_complete_dataset():
    data = make_bars(count=240, size=12)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 160, "val": 40, "test": 40}
    assert data.shape == (12, 12, 1) and data.train.images.dtype == np.uint8 and data.classes == CLASSES
    names = [name for split in data.splits.values() for name in split.sources]
    assert len(names) == len(set(names)) == 240
    assert np.bincount(np.concatenate([s.labels for s in data.splits.values()])).tolist() == [60] * 4


def test_bars_have_the_direction_of_their_class():
    data = make_bars(count=48, size=16)
    for image, label in zip(data.train.images[..., 0].astype(float), data.train.labels, strict=True):
        along = [image.mean(1).std(), image.mean(0).std()]
        diagonals = [np.std([np.trace(turned, k) for k in range(-8, 9)]) for turned in (image, image[:, ::-1])]
        found = int(np.argmax([along[0] * 16, along[1] * 16, *diagonals]))
        assert found == label, CLASSES[label]


def test_equal_seeds_give_equal_bars():
    assert make_bars(seed=3).fingerprint == make_bars(seed=3).fingerprint != make_bars(seed=4).fingerprint
    assert np.array_equal(make_bars(seed=3).test.images, make_bars(seed=3).test.images)


@pytest.mark.parametrize("wrong", [{"count": 23}, {"size": 7}])
def test_too_few_bars_are_rejected(wrong):
    with pytest.raises(ValueError, match="at least 24"):
        make_bars(**wrong)
