"""Points of the plane to imitate, and how many of their modes a generator covers.

Gaussians on a ring: Metz et al. 2017, arXiv:1611.02163, section 3.1. N real points, M modes, n generated points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
#: where modes are unknown, a generated point is good within so many median distances between neighbors
NEIGHBOR_REACH = 4.0
#: of more real points, so many are compared with
MAX_ANCHORS = 1000
#: a mode is covered where it gets at least this fraction of the points that it should get
COVERED_FRACTION = 0.25


@dataclass(frozen=True)
class Modes:
    """Where real points are: `center_M2`; a point is good within `reach` of one of `anchor_A2`.

    `fraction_M` is the fraction of the real points in each mode. Anchors are the centers where the modes are known,
    else real points.
    """

    center_M2: np.ndarray
    fraction_M: np.ndarray
    anchor_A2: np.ndarray
    reach: float
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
        return points_N2, Modes(center_M2, fraction_M, center_M2, max(MIN_REACH, REACH * noise), is_known=True)
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


def find_modes(points_N2: np.ndarray) -> Modes:
    """Divide points into regions by k-means; the first centers are each the point farthest from those before it."""
    anchor_A2 = points_N2[np.linspace(0, len(points_N2) - 1, min(len(points_N2), MAX_ANCHORS)).astype(int)]
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
    distance_AA = _distances(anchor_A2, anchor_A2)
    np.fill_diagonal(distance_AA, np.inf)
    neighbor_A = distance_AA.min(1)
    spread = float(np.median(neighbor_A[np.isfinite(neighbor_A)])) or float(anchor_A2.std()) / 10
    return Modes(center_M2, fraction_M, anchor_A2, NEIGHBOR_REACH * spread, is_known=False)


def measure_coverage(points_n2: np.ndarray, modes: Modes) -> Coverage:
    """Count the modes that generated points cover, and how many of the points are near real ones."""
    is_good_n = _distances(points_n2, modes.anchor_A2).min(1) < modes.reach
    mode_n = _distances(points_n2, modes.center_M2).argmin(1)
    count_M = np.bincount(mode_n[is_good_n], minlength=len(modes.center_M2))
    is_covered_M = count_M >= np.maximum(1, COVERED_FRACTION * modes.fraction_M * len(points_n2))
    return Coverage(int(is_covered_M.sum()), float(is_good_n.mean()))


def _distances(a_N2: np.ndarray, b_M2: np.ndarray) -> np.ndarray:
    """Return the distance of every pair (N, M)."""
    difference_NM2 = a_N2[:, None] - b_M2[None]
    return np.hypot(difference_NM2[..., 0], difference_NM2[..., 1])
