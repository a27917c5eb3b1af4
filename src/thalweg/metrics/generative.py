"""Metrics of generated images, computed from features of real and of generated ones.

N and M images, D features, K nearest neighbors. No metric says enough alone: a handful of repeated images can have a
small Fréchet distance, but then recall is near zero. Fréchet distances of different numbers of images, or of different
feature networks, cannot be compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

#: rows of a matrix of distances that are in memory at a time
_CHUNK = 1000


def frechet_distance(a_ND: Float[np.ndarray, "N D"], b_MD: Float[np.ndarray, "M D"]) -> float:
    """Compute the Fréchet distance of two Gaussians with the means and covariances of two sets of features.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X; for
    images: Heusel et al. 2017, arXiv:1706.08500). Needs two or more rows of each.
    """
    mean_a_D, a_ND = _center(a_ND)
    mean_b_D, b_MD = _center(b_MD)
    variance = np.square(a_ND).sum() + np.square(b_MD).sum()
    distance = np.square(mean_a_D - mean_b_D).sum() + variance - 2 * _compute_trace_of_root(a_ND, b_MD)
    return max(0.0, float(distance))


def _center(x_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean, and the deviations from it, scaled so that their products sum to the covariance."""
    x_ND = x_ND.astype(np.float64)
    mean_D = x_ND.mean(0)
    return mean_D, (x_ND - mean_D) / np.sqrt(len(x_ND) - 1)


def _compute_trace_of_root(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """Compute trace((A B)^(1/2)) of the covariances A = a^T a and B = b^T b.

    It is the sum of the roots of the eigenvalues of the symmetric A^(1/2) B A^(1/2), which stay real where a covariance
    is singular, and also the sum of the singular values of a b^T, which is quicker where there are few rows.
    """
    count, dims = a_ND.shape
    if min(count, len(b_MD)) < dims // 2:
        return float(np.linalg.svd(a_ND @ b_MD.T, compute_uv=False).sum())
    values_D, vectors_DD = np.linalg.eigh(a_ND.T @ a_ND)
    root_DD = (vectors_DD * np.sqrt(values_D.clip(0))) @ vectors_DD.T
    product_D = np.linalg.eigvalsh(root_DD @ (b_MD.T @ b_MD) @ root_DD)
    return float(np.sqrt(product_D.clip(0)).sum())


class PrecisionRecall(NamedTuple):
    """Fractions in [0, 1].

    `precision` of the generated images lie among real ones: they look real. `recall` of the real images lie among
    generated ones: the model can make them.
    """

    precision: float
    recall: float


def precision_recall(
    real_ND: Float[np.ndarray, "N D"], fake_MD: Float[np.ndarray, "M D"], k: int = 3
) -> PrecisionRecall:
    """Compute improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, section 2).

    A set covers the balls around each of its points that reach to the k-th nearest other point of the set.

    Args:
        real_ND: Features of real images, more than `k`.
        fake_MD: Features of generated images, more than `k`; the paper takes as many as real ones.
        k: Which neighbor limits a ball.

    Returns:
        The fraction of generated images in the balls of real ones, and of real images in those of generated ones.
    """
    real_ND = real_ND.astype(np.float64)
    fake_MD = fake_MD.astype(np.float64)
    return PrecisionRecall(
        _measure_covered_fraction(fake_MD, real_ND, k), _measure_covered_fraction(real_ND, fake_MD, k)
    )


def _measure_covered_fraction(points_MD: np.ndarray, reference_ND: np.ndarray, k: int) -> float:
    """Return the fraction of points that lie in a ball of the reference."""
    radius_N = _find_neighbor_distances(reference_ND, k)
    covered = 0
    for start in range(0, len(points_MD), _CHUNK):
        distance_CN = _compute_squared_distances(points_MD[start : start + _CHUNK], reference_ND)
        covered += int((distance_CN <= radius_N).any(1).sum())
    return covered / len(points_MD)


def _find_neighbor_distances(points_ND: np.ndarray, k: int) -> np.ndarray:
    """Return the squared distance (N,) of each point to its k-th nearest other point."""
    radii = []
    for start in range(0, len(points_ND), _CHUNK):
        distance_CN = _compute_squared_distances(points_ND[start : start + _CHUNK], points_ND)
        rows = np.arange(len(distance_CN))
        distance_CN[rows, start + rows] = -1.0  # the point itself, also where others are equal to it
        radii.append(np.partition(distance_CN, k, axis=1)[:, k])
    return np.concatenate(radii)


def _compute_squared_distances(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    product_NM = a_ND @ b_MD.T
    return (np.square(a_ND).sum(1)[:, None] + np.square(b_MD).sum(1) - 2 * product_NM).clip(0)


class DensityCoverage(NamedTuple):
    """How generated images fill the balls of real ones.

    `density`: balls that a generated image lies in, on average, divided by `k`; about 1 for equal distributions, and
    more where samples crowd where real images are dense. `coverage`: fraction of balls that hold a generated image.
    """

    density: float
    coverage: float


def density_coverage(
    real_ND: Float[np.ndarray, "N D"], fake_MD: Float[np.ndarray, "M D"], k: int = 5
) -> DensityCoverage:
    """Compute density and coverage (Naeem et al. 2020, arXiv:2002.09797, section 3).

    Only real images have balls, so that a few odd generated images do not cover much, as they do in recall.

    Args:
        real_ND: Features of real images, more than `k`.
        fake_MD: Features of generated images.
        k: Which neighbor among the real images limits a ball.

    Returns:
        Density, which may be above 1, and coverage.
    """
    real_ND = real_ND.astype(np.float64)
    fake_MD = fake_MD.astype(np.float64)
    radius_N = _find_neighbor_distances(real_ND, k)
    is_covered_N = np.zeros(len(real_ND), bool)
    num_inside = 0
    for start in range(0, len(fake_MD), _CHUNK):
        is_inside_CN = _compute_squared_distances(fake_MD[start : start + _CHUNK], real_ND) <= radius_N
        num_inside += int(is_inside_CN.sum())
        is_covered_N |= is_inside_CN.any(0)
    return DensityCoverage(num_inside / (k * len(fake_MD)), float(is_covered_N.mean()))


def find_nearest(
    points_ND: Real[np.ndarray, "N D"], reference_MD: Real[np.ndarray, "M D"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each point the row (N,) of the nearest reference, and the distance to it (N,)."""
    points_ND = points_ND.astype(np.float32)
    row_N = np.zeros(len(points_ND), np.int64)
    squared_N = np.full(len(points_ND), np.inf)
    for start in range(0, len(reference_MD), _CHUNK):
        reference_CD = reference_MD[start : start + _CHUNK].astype(np.float32)
        product_NC = np.square(reference_CD).sum(1) - 2 * points_ND @ reference_CD.T
        best_N = product_NC.argmin(1)
        # exact: equal points must have the distance 0, which the product misses by rounding
        difference_ND = points_ND.astype(np.float64) - reference_CD[best_N]
        best_squared_N = np.square(difference_ND).sum(1)
        is_nearer_N = best_squared_N < squared_N
        row_N[is_nearer_N] = start + best_N[is_nearer_N]
        squared_N[is_nearer_N] = best_squared_N[is_nearer_N]
    return row_N, np.sqrt(squared_N)


def memorization(fake_distance_N: Float[np.ndarray, " N"], test_distance_M: Float[np.ndarray, " M"]) -> float:
    """Compute how often a generated image is nearer to a training image than a test image is.

    The probability over all pairs, ties count half (the Mann-Whitney statistic of Meehan et al. 2020, arXiv:2004.05675,
    without its cells): 0.5 where samples are as far from the training images as unseen images are, 1 where they are
    copies, below 0.5 where they are farther than real images.

    Args:
        fake_distance_N: Distance of each generated image to its nearest training image.
        test_distance_M: The same of each test image.

    Returns:
        A fraction in [0, 1].
    """
    ordered_M = np.sort(test_distance_M)
    num_nearer_N = len(ordered_M) - np.searchsorted(ordered_M, fake_distance_N, side="right")
    num_equal_N = len(ordered_M) - np.searchsorted(ordered_M, fake_distance_N, side="left") - num_nearer_N
    return float((num_nearer_N + num_equal_N / 2).mean() / len(ordered_M))


def kernel_distance(a_ND: Float[np.ndarray, "N D"], b_MD: Float[np.ndarray, "M D"]) -> float:
    """Compute the kernel distance (Bińkowski et al. 2018, arXiv:1801.01401, section 3) of two sets of features.

    The unbiased estimate of the squared maximum mean discrepancy with the kernel (a.b / D + 1)^3. Unlike the Fréchet
    distance it does not grow where there are few images; for equal distributions it is zero on average, so it may be
    negative. Needs two or more rows of each.
    """
    a_ND = a_ND.astype(np.float64)
    b_MD = b_MD.astype(np.float64)
    between = _sum_kernel(a_ND, b_MD) / (len(a_ND) * len(b_MD))
    return float(_average_within(a_ND) + _average_within(b_MD) - 2 * between)


def _sum_kernel(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    total = 0.0
    for start in range(0, len(a_ND), _CHUNK):
        total += float(((a_ND[start : start + _CHUNK] @ b_MD.T / a_ND.shape[1] + 1) ** 3).sum())
    return total


def _average_within(x_ND: np.ndarray) -> float:
    """Return the mean kernel of all pairs of different rows."""
    count = len(x_ND)
    own = float(((np.square(x_ND).sum(1) / x_ND.shape[1] + 1) ** 3).sum())
    return (_sum_kernel(x_ND, x_ND) - own) / (count * (count - 1))
