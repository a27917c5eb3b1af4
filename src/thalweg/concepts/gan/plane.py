"""Points of the plane to imitate, and how many of their modes a generator covers.

Gaussians on a ring: Metz et al. 2017, arXiv:1611.02163, section 3.1. Near a real point, where modes are unknown: within
the distance to its k-th neighbor, Kynkäänniemi et al. 2019, arXiv:1904.06991. N real points, of which A are compared
with, M modes, n generated points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..training.toy_datasets import make_moons, make_spirals

#: Gaussians on the ring, and along a side of the grid
RING_MODES = 8
GRID_SIDE = 5
#: a generated point is good within so many standard deviations of the center of a Gaussian
REACH = 3.0
MIN_REACH = 0.03
#: regions that points without known modes are divided into, and the rounds of k-means that find them
NUM_REGIONS = 8
KMEANS_ROUNDS = 20
#: where modes are unknown, a generated point is good if it is nearer to a real point than the neighbor of this rank
NEIGHBOR_RANK = 5
#: of more real points, so many are compared with
MAX_ANCHORS = 500
#: a mode is covered where it gets at least this fraction of the points that it should get
COVERED_FRACTION = 0.25


@dataclass(frozen=True)
class Modes:
    """Where real points are: `center_M2`; a point is good within `reach_A` of one of `anchor_A2`.

    `fraction_M` is the fraction of the real points in each mode. Anchors are the centers where the modes are known,
    else real points.
    """

    center_M2: np.ndarray
    fraction_M: np.ndarray
    anchor_A2: np.ndarray
    reach_A: np.ndarray
    is_known: bool


@dataclass(frozen=True)
class Coverage:
    """How many modes generated points cover, and the fraction of the points that are good."""

    covered: int
    good_fraction: float


def make_points(name: str, count: int, noise: float, random: np.random.Generator) -> tuple[np.ndarray, Modes]:
    """Draw points (count, 2) of a synthetic data set; `noise` is the standard deviation of Gaussian noise.

    Args:
        name: ring, grid, moons or spirals.
        count: Number of points.
        noise: Standard deviation of a Gaussian, or around a curve.
        random: Source of randomness.

    Returns:
        The points, and their modes.
    """
    if name in ("ring", "grid"):
        center_M2 = ring_centers() if name == "ring" else grid_centers()
        mode_N = np.arange(count) % len(center_M2)
        fraction_M = np.bincount(mode_N, minlength=len(center_M2)) / count
        points_N2 = center_M2[mode_N] + noise * random.standard_normal((count, 2))
        reach_M = np.full(len(center_M2), max(MIN_REACH, REACH * noise))
        return points_N2, Modes(center_M2, fraction_M, center_M2, reach_M, is_known=True)
    make = make_moons if name == "moons" else make_spirals
    points_N2 = make(count, random)[0] + noise * random.standard_normal((count, 2))
    return points_N2, find_modes(points_N2)


def ring_centers() -> np.ndarray:
    """Return the centers (8, 2) on a circle of radius 1."""
    angle_M = 2 * np.pi * np.arange(RING_MODES) / RING_MODES
    return np.stack([np.cos(angle_M), np.sin(angle_M)], 1)


def grid_centers() -> np.ndarray:
    """Return the centers (25, 2) of a square grid from -1 to 1."""
    side = np.linspace(-1, 1, GRID_SIDE)
    return np.stack(np.meshgrid(side, side), 2).reshape(-1, 2)


def pick_rows(total: int, count: int) -> np.ndarray:
    """Return at most `count` of `total` rows, in ascending order.

    They are random, because evenly spaced rows miss classes that alternate; and always the same.
    """
    return np.sort(np.random.default_rng(0).permutation(total)[:count])


def find_modes(points_N2: np.ndarray) -> Modes:
    """Divide points into regions by k-means; the first centers are each the point farthest from those before it."""
    anchor_A2 = points_N2[pick_rows(len(points_N2), MAX_ANCHORS)]
    center_M2 = anchor_A2[:1]
    for _ in range(min(NUM_REGIONS, len(np.unique(anchor_A2, axis=0))) - 1):
        farthest = _distances(anchor_A2, center_M2).min(1).argmax()
        center_M2 = np.concatenate([center_M2, anchor_A2[farthest : farthest + 1]])
    for _ in range(KMEANS_ROUNDS):
        nearest_A = _distances(anchor_A2, center_M2).argmin(1)
        modes = np.unique(nearest_A)
        center_M2 = np.stack([anchor_A2[nearest_A == mode].mean(0) for mode in modes])
    nearest_A = _distances(anchor_A2, center_M2).argmin(1)
    fraction_M = np.bincount(nearest_A, minlength=len(center_M2)) / len(anchor_A2)
    # a point is the nearest of all to itself
    rank = min(NEIGHBOR_RANK, len(anchor_A2) - 1)
    reach_A = np.sort(_distances(anchor_A2, anchor_A2), axis=1)[:, rank]
    return Modes(center_M2, fraction_M, anchor_A2, reach_A, is_known=False)


def measure_coverage(points_n2: np.ndarray, modes: Modes) -> Coverage:
    """Count the modes that generated points cover, and how many of the points are near real ones."""
    is_good_n = (_distances(points_n2, modes.anchor_A2) < modes.reach_A).any(1)
    mode_n = _distances(points_n2, modes.center_M2).argmin(1)
    count_M = np.bincount(mode_n[is_good_n], minlength=len(modes.center_M2))
    is_covered_M = count_M >= np.maximum(1, COVERED_FRACTION * modes.fraction_M * len(points_n2))
    return Coverage(int(is_covered_M.sum()), float(is_good_n.mean()))


def _distances(points_N2: np.ndarray, center_M2: np.ndarray) -> np.ndarray:
    """Return the distance of every pair (N, M)."""
    # the quick way by a matrix product loses digits
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(torch.from_numpy(points_N2), torch.from_numpy(center_M2), compute_mode=mode).numpy()
