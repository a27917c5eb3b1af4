"""The index finds what a search through all vectors finds, except for very little, and says how much."""

import numpy as np
import pytest

from thalweg.data.images import near_index
from thalweg.data.images.near_index import NearIndex


def unit(vector_ND: np.ndarray) -> np.ndarray:
    return (vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Vectors that lie around a few hundred centers, as images do."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(300, 24))
    return unit(centers[rng.integers(300, size=count)] + 0.5 * rng.normal(size=(count, 24)))


VECTORS = clustered(20_000)


@pytest.fixture(scope="module")
def index() -> NearIndex:
    return NearIndex(VECTORS.astype(np.float16))


def test_disturbed_vectors_are_found_and_the_recall_is_that_of_an_exact_search(index):
    rng = np.random.default_rng(1)
    rows = rng.choice(len(VECTORS), 1000, replace=False)
    queries = unit(VECTORS[rows] + 0.05 * rng.normal(size=(1000, 24)))
    found, similarity = index.search(queries, 8)
    assert found.shape == similarity.shape == (1000, 8)
    assert (found == rows[:, None]).any(axis=1).mean() > 0.99
    assert np.allclose(similarity, (queries[:, None] * VECTORS[found]).sum(-1), atol=2e-3)
    assert all(len(set(row)) == 8 for row in found.tolist())
    exact = (queries @ VECTORS.T).max(axis=1)
    assert index.measure_recall(queries) == pytest.approx((similarity.max(axis=1) >= exact - 2e-3).mean(), abs=0.005)


def test_a_search_that_misses_says_so(index, monkeypatch):
    strangers = unit(np.random.default_rng(2).normal(size=(500, 24)))
    recall = index.measure_recall(strangers)
    monkeypatch.setattr(near_index, "NUM_PROBES", 1)
    assert index.measure_recall(strangers) < 0.7 < recall


def test_blocks_do_not_change_the_answers(index, monkeypatch):
    queries = clustered(300, seed=0)
    rows, similarity = index.search(queries, 4)
    monkeypatch.setattr(near_index, "QUERY_BLOCK", 37)
    monkeypatch.setattr(near_index, "MAX_SIMILARITIES", 500)
    again, similarity_again = index.search(queries, 4)
    assert np.array_equal(np.sort(rows), np.sort(again))
    assert np.allclose(np.sort(similarity), np.sort(similarity_again), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_few_vectors_are_enough(count):
    vectors = np.concatenate([np.zeros((2, 24), np.float32), VECTORS[:count]])
    rows, similarity = NearIndex(vectors).search(VECTORS[:3], 8)
    assert (np.sort(similarity)[:, : 8 - count] == -2).all() and (similarity.max(axis=1) > -2).all() == (count > 0)
    assert rows.max() < len(vectors)
    if count:
        assert rows[0, similarity[0].argmax()] == 2


def test_equal_vectors_are_all_in_one_list_and_cost_no_memory(monkeypatch):
    monkeypatch.setattr(near_index, "MAX_SIMILARITIES", 4096)
    rows, similarity = NearIndex(np.repeat(VECTORS[:1], 2000, axis=0)).search(np.repeat(VECTORS[:1], 50, axis=0), 8)
    assert np.allclose(similarity, 1, atol=1e-5) and rows.max() < 2000
