"""Sets of points in the plane, made from a seed: two that a line cannot divide, three more, and the division of them.

XOR is the set of Minsky and Papert 1969, the two spirals are those of Lang and Witbrock 1988, in other proportions.
N points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: parts of a set, in the order of `part_N`
SPLITS = ("train", "valid", "test")
#: how often an arm of the spirals goes around
SPIRAL_TURNS = 1.25


class Points(NamedTuple):
    """Points (N, 2) float64, a label (N,) int64 for each into `classes`, the names of both axes, what they are."""

    points: np.ndarray
    labels: np.ndarray
    classes: list[str]
    axes: list[str]
    told: str


def make_dataset(name: str, count: int, noise: float, generator: np.random.Generator) -> Points:
    """The set of that name; `noise` is the deviation of what is added to both numbers of every point."""
    points, labels = DATASETS[name](count, generator)
    points = points + noise * generator.standard_normal((count, 2))
    classes = [chr(ord("A") + label) for label in range(labels.max() + 1)]
    return Points(points, labels, classes, ["x1", "x2"], name)


def make_moons(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles of radius 1, each with an end inside of the other."""
    labels = np.arange(count) % 2
    angle = np.pi * generator.random(count)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    return np.where(labels[:, None] == 0, upper, -upper), labels


def make_circles(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A circle of radius 1 around one of radius 0.5."""
    labels = np.arange(count) % 2
    angle = 2 * np.pi * generator.random(count)
    return np.where(labels == 0, 1.0, 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels


def make_spirals(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two arms from radius 0.3 to 2, half a turn apart."""
    labels = np.arange(count) % 2
    along = generator.random(count)
    radius, angle = 0.3 + 1.7 * along, 2 * np.pi * SPIRAL_TURNS * along + np.pi * labels
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels


def make_blobs(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of deviation 0.3, around the corners of a triangle at a distance of 1 from the middle."""
    labels = np.arange(count) % 3
    angle = 2 * np.pi * labels / 3 + np.pi / 2
    centres = np.stack([np.cos(angle), np.sin(angle)], 1)
    return centres + 0.3 * generator.standard_normal((count, 2)), labels


def make_xor(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four squares around the origin, with a gap between; those at opposite corners belong together."""
    corner = np.arange(count) % 4
    sign = np.stack([np.where(corner % 2 == 0, 1, -1), np.where(corner < 2, 1, -1)], 1)
    return sign * (0.1 + 0.9 * generator.random((count, 2))), (sign[:, 0] != sign[:, 1]).astype(np.int64)


DATASETS = {"spirals": make_spirals, "moons": make_moons, "circles": make_circles, "blobs": make_blobs, "xor": make_xor}


def split_points(labels: np.ndarray, valid: float, test: float, generator: np.random.Generator) -> np.ndarray:
    """The part (N,) int64 of every point, in which the classes have the same shares as in the whole; see PARTS.

    `valid` and `test` are the shares of two of them. Every class keeps at least one point for training.
    """
    part_N = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        tested = min(round(test * len(rows)), len(rows) - 1)
        held = min(round(valid * len(rows)), len(rows) - 1 - tested)
        part_N[rows[:tested]] = SPLITS.index("test")
        part_N[rows[tested : tested + held]] = SPLITS.index("valid")
    return part_N
