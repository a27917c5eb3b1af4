"""Synthetic datasets of points in the plane, and their split into training, validation and test points.

XOR is the problem of Minsky and Papert 1969; the two spirals are those of Lang and Witbrock 1988, in other proportions.
N points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: splits of a dataset, in the order of `split_N`
SPLITS = ("train", "val", "test")
#: turns of each arm of the spirals
SPIRAL_TURNS = 1.25


class Points(NamedTuple):
    """Points (N, 2) float64, labels (N,) int64 into `classes`, the names of both axes, and the name of the dataset."""

    points: np.ndarray
    labels: np.ndarray
    classes: list[str]
    axes: list[str]
    name: str


def make_dataset(name: str, count: int, noise: float, generator: np.random.Generator) -> Points:
    """Generate a dataset; `noise` is the standard deviation of Gaussian noise on both coordinates."""
    points, labels = DATASETS[name](count, generator)
    points = points + noise * generator.standard_normal((count, 2))
    classes = [chr(ord("A") + label) for label in range(labels.max() + 1)]
    return Points(points, labels, classes, ["x1", "x2"], name)


def make_moons(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles of radius 1."""
    labels = np.arange(count) % 2
    angle = np.pi * generator.random(count)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    return np.where(labels[:, None] == 0, upper, -upper), labels


def make_circles(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two concentric circles of radius 1 and 0.5."""
    labels = np.arange(count) % 2
    angle = 2 * np.pi * generator.random(count)
    radius = np.where(labels == 0, 1.0, 0.5)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels


def make_spirals(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two spiral arms from radius 0.3 to 2, half a turn apart."""
    labels = np.arange(count) % 2
    position = generator.random(count)
    radius = 0.3 + 1.7 * position
    angle = 2 * np.pi * SPIRAL_TURNS * position + np.pi * labels
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels


def make_blobs(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three Gaussian blobs with standard deviation 0.3, centered on the corners of a triangle with circumradius 1."""
    labels = np.arange(count) % 3
    angle = 2 * np.pi * labels / 3 + np.pi / 2
    centers = np.stack([np.cos(angle), np.sin(angle)], 1)
    return centers + 0.3 * generator.standard_normal((count, 2)), labels


def make_xor(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four squares around the origin with gaps between them; opposite squares belong to the same class."""
    corner = np.arange(count) % 4
    sign = np.stack([np.where(corner % 2 == 0, 1, -1), np.where(corner < 2, 1, -1)], 1)
    points = sign * (0.1 + 0.9 * generator.random((count, 2)))
    return points, (sign[:, 0] != sign[:, 1]).astype(np.int64)


DATASETS = {"spirals": make_spirals, "moons": make_moons, "circles": make_circles, "blobs": make_blobs, "xor": make_xor}


def split_points(
    labels: np.ndarray, val_fraction: float, test_fraction: float, generator: np.random.Generator
) -> np.ndarray:
    """Return the split (N,) int64 of every point, stratified by class; indices into SPLITS.

    Every class keeps at least one training point.
    """
    split_N = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        num_test = min(round(test_fraction * len(rows)), len(rows) - 1)
        num_val = min(round(val_fraction * len(rows)), len(rows) - 1 - num_test)
        split_N[rows[:num_test]] = SPLITS.index("test")
        split_N[rows[num_test : num_test + num_val]] = SPLITS.index("val")
    return split_N
