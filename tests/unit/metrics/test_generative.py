"""Metrics of generated images: closed forms, a second implementation, constructed sets and known corruptions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.linalg
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from thalweg.metrics.generative import (
    density_coverage,
    find_nearest,
    frechet_distance,
    kernel_distance,
    memorization,
    precision_recall,
)


def gaussian(count: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dims))


def whiten(x_ND: np.ndarray) -> np.ndarray:
    """Return points with mean 0 and covariance 1, exactly."""
    centered = x_ND - x_ND.mean(0)
    return centered @ np.linalg.inv(np.linalg.cholesky(np.cov(centered.T))).T


# --- Fréchet distance -------------------------------------------------------------------------------------------------


def test_the_distance_of_two_gaussians_has_a_closed_form():
    """For covariances that commute: sum of (mean - mean')^2 + (std - std')^2."""
    base = whiten(gaussian(500, 3))
    mean_a = np.array([1.0, 0.0, -2.0])
    mean_b = np.array([0.5, 4.0, -2.0])
    std_a = np.array([1.0, 2.0, 0.0])
    std_b = np.array([3.0, 0.5, 1.0])
    expected = np.square(mean_a - mean_b).sum() + np.square(std_a - std_b).sum()
    assert frechet_distance(base * std_a + mean_a, base * std_b + mean_b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("count_a", "count_b"), [(300, 200), (300, 9), (6, 200), (5, 5), (15, 12)])
def test_the_distance_agrees_with_the_square_root_of_a_matrix(count_a, count_b):
    """Also where a covariance is singular."""
    a = gaussian(count_a, 20) @ gaussian(20, 20, seed=1)
    b = gaussian(count_b, 20, seed=2) @ gaussian(20, 20, seed=3) + 0.7
    covariance_a = np.cov(a.T)
    covariance_b = np.cov(b.T)
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariance_a + covariance_b - 2 * root.real)
    tolerance = 1e-8 if min(count_a, count_b) > 20 else 1e-5
    assert frechet_distance(a, b) == pytest.approx(expected, rel=tolerance)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-8)


def test_equal_sets_have_no_distance_also_where_the_covariance_is_singular():
    for count in (2, 10, 400):
        features = gaussian(count, 50).astype(np.float32)
        assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-5)


def test_a_shift_adds_its_square():
    features = gaussian(100, 5)
    assert frechet_distance(features, features + 2) == pytest.approx(20, rel=1e-9)


# --- precision and recall ---------------------------------------------------------------------------------------------


def test_sets_far_apart_have_neither_precision_nor_recall():
    assert precision_recall(gaussian(50, 4), gaussian(50, 4, seed=1) + 100) == (0, 0)


def test_equal_sets_have_both():
    features = gaussian(80, 4)
    assert precision_recall(features, features) == (1, 1)


def test_a_line_of_points_is_covered_by_hand():
    """Real points 0, 1, 2, 10 with k=1: radii 1, 1, 1, 8; of the generated ones 3, 30, 31: radii 27, 1, 1."""
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[3.0], [30.0], [31.0]])
    scores = precision_recall(real, fake, k=1)
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.recall == 1
    assert precision_recall(fake, real, k=1) == (scores.recall, scores.precision)


def test_one_of_two_modes_is_precise_and_recalls_half():
    near = gaussian(500, 3)
    far = gaussian(500, 3, seed=1) + 50
    scores = precision_recall(np.concatenate([near, far]), gaussian(1000, 3, seed=2))
    assert scores.precision > 0.9
    assert scores.recall == pytest.approx(0.5, abs=0.05)


def test_repeated_images_are_precise_but_recall_nothing():
    real = gaussian(500, 8)
    fake = np.repeat(gaussian(10, 8, seed=1), 50, axis=0)
    scores = precision_recall(real, fake)
    assert scores.precision > 0.5
    assert scores.recall == 0


def test_chunks_change_nothing():
    """More points than are compared at a time."""
    real = gaussian(2300, 2)
    fake = gaussian(1100, 2, seed=1) * 1.5
    distance = np.linalg.norm(real[:, None] - fake, axis=2)
    radius_real = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, 3]
    radius_fake = np.sort(np.linalg.norm(fake[:, None] - fake, axis=2), axis=1)[:, 3]
    scores = precision_recall(real, fake)
    assert scores.precision == pytest.approx((distance <= radius_real[:, None]).any(0).mean(), abs=1e-9)
    assert scores.recall == pytest.approx((distance <= radius_fake).any(1).mean(), abs=1e-9)


# --- density and coverage ---------------------------------------------------------------------------------------------


def test_density_and_coverage_by_hand():
    """Real points 0, 1, 2, 10 with k=1: radii 1, 1, 1, 8. In balls: 1.5 in two, 3 in two, -50 in none."""
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[1.5], [3.0], [-50.0]])
    scores = density_coverage(real, fake, k=1)
    assert scores.density == pytest.approx((2 + 2) / 3)
    assert scores.coverage == pytest.approx(3 / 4)


def test_density_and_coverage_agree_with_all_distances():
    real = gaussian(1500, 3)
    fake = gaussian(1100, 3, seed=1) * 0.6
    distance = np.linalg.norm(real[:, None] - fake, axis=2)
    radius = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, 5]
    is_inside = distance <= radius[:, None]
    scores = density_coverage(real, fake)
    assert scores.density == pytest.approx(is_inside.sum() / (5 * 1100), abs=1e-9) and scores.density > 1
    assert scores.coverage == pytest.approx(is_inside.any(1).mean(), abs=1e-9)


def test_equal_distributions_have_density_1_and_the_expected_coverage():
    """Coverage of equal distributions is 1 - (1/2)^k for many points (Naeem et al., section 3.3): 0.969 with k=5."""
    scores = density_coverage(gaussian(2000, 4), gaussian(2000, 4, seed=1))
    assert scores.density == pytest.approx(1, abs=0.05)
    assert scores.coverage == pytest.approx(1 - 0.5**5, abs=0.015)
    assert density_coverage(gaussian(50, 4), gaussian(50, 4) + 100) == (0, 0)


def test_outliers_among_the_generated_cover_less_than_they_recall():
    real = gaussian(200, 4)
    fake = np.concatenate([gaussian(20, 4, seed=1), 30 * gaussian(20, 4, seed=2)])
    assert precision_recall(real, fake).recall > 0.9 > 2 * density_coverage(real, fake).coverage


# --- memorization -----------------------------------------------------------------------------------------------------


def test_memorization_is_the_fraction_of_pairs():
    fake = gaussian(70, 1).ravel() - 0.5
    test = np.concatenate([gaussian(50, 1, seed=1).ravel(), fake[:20]])
    nearer = (fake[:, None] < test).mean() + (fake[:, None] == test).mean() / 2
    assert memorization(fake, test) == pytest.approx(nearer)
    assert memorization(test, test) == pytest.approx(0.5)
    assert memorization(np.zeros(5), test + 10) == 1 and memorization(np.full(5, 99.0), test) == 0


def test_the_nearest_are_found_in_chunks_and_copies_have_no_distance():
    reference = gaussian(2500, 10)
    points = np.concatenate([gaussian(30, 10, seed=1), reference[[3, 1700, 2499]]])
    rows, distances = find_nearest(points, reference)
    expected = np.linalg.norm(points[:, None] - reference, axis=2)
    assert rows.tolist() == expected.argmin(1).tolist() and (distances[-3:] == 0).all()
    np.testing.assert_allclose(distances, expected.min(1), rtol=1e-5, atol=1e-12)


# --- kernel distance --------------------------------------------------------------------------------------------------


def test_the_kernel_distance_is_that_of_all_pairs():
    a = gaussian(7, 3)
    b = gaussian(5, 3, seed=1) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within_a = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between, rel=1e-9)


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average():
    values = [kernel_distance(gaussian(60, 4, seed), gaussian(60, 4, 100 + seed)) for seed in range(50)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 50**0.5
    assert kernel_distance(gaussian(60, 4), gaussian(60, 4, 1) + 1) > max(values)


# --- known corruptions of real images ---------------------------------------------------------------------------------


@cache
def digit_sets() -> tuple[np.ndarray, np.ndarray, np.ndarray, PCA]:
    """Two halves of scikit-learn's digits, the labels of the second, and a projection to features."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    images = digits.data[order] / 16
    half = len(images) // 2
    return images[:half], images[half:], digits.target[order][half:], PCA(16, random_state=0).fit(images)


def score(images: np.ndarray) -> tuple[float, float, float]:
    real, _, _, projection = digit_sets()
    features = projection.transform(real)
    fake = projection.transform(images)
    scores = precision_recall(features, fake)
    return frechet_distance(features, fake), scores.precision, scores.recall


def test_the_worse_the_images_the_larger_the_distance():
    _, real, _, _ = digit_sets()
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(real.shape)
    floor = score(real)[0]
    distances = [floor] + [score(real + level * noise)[0] for level in (0.1, 0.3, 1.0)]
    assert distances == sorted(distances)
    assert distances[1] < 5 * floor and distances[-1] > 50 * floor
    shifted = np.roll(real.reshape(-1, 8, 8), 2, axis=2).reshape(-1, 64)
    mixed = (real + real[::-1]) / 2
    for corrupted in (shifted, mixed, np.tile(real.mean(0), (len(real), 1)), rng.random(real.shape)):
        assert score(corrupted)[0] > 10 * floor


def test_missing_classes_and_repeated_images_lower_recall():
    _, real, labels, _ = digit_sets()
    _, precision, recall = score(real)
    assert precision > 0.8 and recall > 0.8
    distance, precision, half_recall = score(real[labels < 5])
    assert precision > 0.8 and half_recall < 0.7
    assert distance > 3 * score(real)[0]
    repeated = np.repeat(real[:20], len(real) // 20, axis=0)
    assert score(repeated)[2] < 0.05
