"""Images of different shapes are grouped so that little is padded, and what is padded is marked."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.padded_batches import PaddedBatches, ShapeOrder, group_by_shape, pad_images


def make_sizes(count: int, seed: int = 0) -> np.ndarray:
    """Sizes as of photos: a few aspects, upright and across, some of them cropped."""
    rng = np.random.default_rng(seed)
    aspect = rng.choice([3 / 4, 2 / 3, 4 / 3, 3 / 2, 16 / 9, 1], count) * np.exp(rng.normal(0, 0.05, count))
    area = rng.uniform(0.5, 2, count) * 300**2
    return np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], 1).round().astype(np.int32)


def padded_fraction(sizes: np.ndarray, batches: list[np.ndarray]) -> float:
    total = sum(len(rows) * sizes[rows].max(0).prod() for rows in batches)
    return 1 - sizes[np.concatenate(batches)].prod(1).sum() / total


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_every_row_is_in_one_batch(count, batch_size, seed, epoch):
    batches = group_by_shape(make_sizes(count), batch_size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert {len(rows) for rows in batches[:-1]} <= {batch_size} and 1 <= len(batches[-1]) <= batch_size


def test_little_is_padded_and_batches_change_from_epoch_to_epoch():
    sizes = make_sizes(2000)
    batches = group_by_shape(sizes, 16, 1, 0)
    random = np.split(np.random.default_rng(0).permutation(2000), 125)
    assert padded_fraction(sizes, batches) < 0.3 * padded_fraction(sizes, random)
    assert [rows.tolist() for rows in batches] == [rows.tolist() for rows in group_by_shape(sizes, 16, 1, 0)]
    sets = {frozenset(rows.tolist()) for rows in batches}
    for seed, epoch in ((1, 1), (2, 0)):
        assert not sets & {frozenset(rows.tolist()) for rows in group_by_shape(sizes, 16, seed, epoch)}
    areas = [sizes[rows].prod(1).mean() for rows in batches]
    assert abs(np.corrcoef(areas, np.arange(len(areas)))[0, 1]) < 0.3  # not from small to large


@pytest.mark.parametrize("multiple", [1, 32])
def test_real_marks_exactly_the_pixels_of_the_images(multiple):
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 256, (height, width, 3), np.uint8) for height, width in [(5, 40), (33, 7), (1, 1)]]
    image_BHWC, real_BHW = pad_images(images, multiple)
    assert image_BHWC.shape == ((3, 33, 40, 3) if multiple == 1 else (3, 64, 64, 3))
    assert np.array_equal(real_BHW, image_BHWC.all(-1)) and np.array_equal(real_BHW, image_BHWC.any(-1))
    for image, padded, real in zip(images, image_BHWC, real_BHW, strict=True):
        assert np.array_equal(padded[real], image.reshape(-1, 3))
        assert np.array_equal(padded[: image.shape[0], : image.shape[1]], image)


def make_batches(threads: int, rank: int = 0, world_size: int = 1) -> PaddedBatches:
    sizes = make_sizes(50) // 40

    def decode(row: int, epoch: int) -> tuple[np.ndarray, int]:
        return np.full((*sizes[row], 3), row + 50 * (epoch % 2) + 1, np.uint8), row

    order = ShapeOrder(sizes, 4, 3, rank, world_size)
    return PaddedBatches(decode, {"row": torch.arange(50)}, order, threads, multiple=4)


def take(batches: PaddedBatches, count: int) -> list[list]:
    with closing(iter(batches)) as iterator:
        return [
            [values.tolist() for values in (batch["image"], batch["real"], batch["row"])]
            for batch in islice(iterator, count)
        ]


def test_padded_batches_are_functions_of_the_step():
    full = take(make_batches(1), 24)
    assert take(make_batches(4), 24) == full
    rows = sum([row for _, _, row in full[:12]], [])
    assert len(rows) == len(set(rows)) == 48
    for step, (image, real, row) in enumerate(full):
        assert row == make_batches(1).batch_indices(step)
        values = np.array(row) + 50 * (step // 12) + 1
        assert np.array_equal(np.array(image)[..., 0], values[:, None, None] * np.array(real))
    for stop in (1, 12, 17):
        first = make_batches(2)
        before = take(first, stop)
        second = make_batches(3)
        second.load_state_dict(first.state_dict())
        assert before + take(second, 24 - stop) == full


def test_ranks_split_padded_batches():
    parts = [take(make_batches(2, rank, 2), 6) for rank in range(2)]
    for step, (_, _, row) in enumerate(take(make_batches(2), 6)):
        assert parts[0][step][2] + parts[1][step][2] == row
