"""Find the nearest of many vectors without comparing all: each lies in one list, and a query looks at a few lists.

An inverted file (Sivic and Zisserman 2003, doi:10.1109/ICCV.2003.1238663) whose lists are the clusters of k-means by
cosine. Building and searching grow with about N^1.5, a search through all pairs with N^2.
"""

from __future__ import annotations

import numpy as np

#: vectors that the clusters are computed from, and rounds of k-means
MAX_TRAINING_ROWS = 65_536
NUM_ROUNDS = 6
#: lists that a query looks at
NUM_PROBES = 16
#: queries that are searched at once, and similarities that are held at once
QUERY_BLOCK = 4096
MAX_SIMILARITIES = 1 << 24
#: an answer whose similarity is this close to the best is as good; half precision is no finer
TOLERANCE = 1e-3

# Shapes: N vectors, D values of each, L lists, Q queries, p lists of a query, K neighbors


class NearIndex:
    """Unit vectors by the list that they lie in. Equal vectors in equal order give equal answers.

    Args:
        vector_ND: Unit vectors; float16 halves the memory. Rows of zeros are never found.
        seed: Of the rows that the clusters are computed from.
    """

    def __init__(self, vector_ND: np.ndarray, seed: int = 0):
        rows = np.flatnonzero(vector_ND.any(axis=1))
        self.center_LD = _cluster(vector_ND, rows, max(1, round(len(rows) ** 0.5)), np.random.default_rng(seed))
        list_N = _assign(vector_ND, rows, self.center_LD)
        order = np.argsort(list_N, kind="stable")
        self.row_N = rows[order]
        self.vector_ND = vector_ND[self.row_N]
        self.start_L = np.searchsorted(list_N[order], np.arange(self.num_lists + 1))

    @property
    def num_lists(self) -> int:
        """Number of lists."""
        return len(self.center_LD)

    def search(self, query_QD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (Q, K) near each query and their similarities, unordered; -2 where there are fewer than K."""
        row_QK = np.zeros((len(query_QD), count), np.int64)
        similarity_QK = np.full((len(query_QD), count), -2, np.float32)
        if not len(self.row_N):
            return row_QK, similarity_QK
        for first in range(0, len(query_QD), QUERY_BLOCK):
            block = slice(first, first + QUERY_BLOCK)
            row_QK[block], similarity_QK[block] = self._search_block(query_QD[block].astype(np.float32), count)
        return row_QK, similarity_QK

    def _search_block(self, query_QD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        probes = min(NUM_PROBES, self.num_lists)
        probe_Qp = np.argpartition(-(query_QD @ self.center_LD.T), probes - 1, axis=1)[:, :probes]
        order = np.argsort(probe_Qp, axis=None, kind="stable")
        bounds = np.searchsorted(probe_Qp.ravel()[order], np.arange(self.num_lists + 1))
        shape = (len(query_QD), probes, count)
        position_QpK = np.broadcast_to(np.arange(count), shape).copy()
        similarity_QpK = np.full(shape, -2, np.float32)
        for number in range(self.num_lists):
            start, stop = self.start_L[number : number + 2]
            if start == stop:
                continue
            list_nD = self.vector_ND[start:stop].astype(np.float32)
            step = max(1, MAX_SIMILARITIES // len(list_nD))
            for first in range(bounds[number], bounds[number + 1], step):
                query, slot = np.divmod(order[first : min(first + step, bounds[number + 1])], probes)
                top_QK, best_QK = _take_largest(query_QD[query] @ list_nD.T, count)
                position_QpK[query, slot, : top_QK.shape[1]] = start + top_QK
                similarity_QpK[query, slot, : top_QK.shape[1]] = best_QK
        top_QK, similarity_QK = _take_largest(similarity_QpK.reshape(len(query_QD), -1), count)
        position_QK = np.take_along_axis(position_QpK.reshape(len(query_QD), -1), top_QK, axis=1)
        return self.row_N[position_QK % len(self.row_N)], similarity_QK

    def measure_recall(self, query_QD: np.ndarray) -> float:
        """Return the fraction of queries whose nearest vector, by comparing all, is among those that `search` finds."""
        exact_Q = np.full(len(query_QD), -2, np.float32)
        step = max(1, MAX_SIMILARITIES // max(1, len(query_QD)))
        for first in range(0, len(self.vector_ND), step):
            similarity_QN = query_QD @ self.vector_ND[first : first + step].astype(np.float32).T
            exact_Q = np.maximum(exact_Q, similarity_QN.max(axis=1))
        best_Q = self.search(query_QD, 1)[1][:, 0]
        return float((best_Q >= exact_Q - TOLERANCE).mean())


def _take_largest(value_QN: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns (Q, K) of the largest values of each row, and the values, unordered."""
    count = min(count, value_QN.shape[1])
    column_QK = np.argpartition(-value_QN, count - 1, axis=1)[:, :count]
    return column_QK, np.take_along_axis(value_QN, column_QK, axis=1)


def _cluster(vector_ND: np.ndarray, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the centers (L, D) of k-means by cosine, computed from some of the rows."""
    if not len(rows):
        return np.zeros((1, vector_ND.shape[1]), np.float32)
    rows = rng.permutation(rows)[:MAX_TRAINING_ROWS]
    center_LD = vector_ND[rows[:count]].astype(np.float32)
    rows = np.sort(rows)
    for _ in range(NUM_ROUNDS):
        list_N = _assign(vector_ND, rows, center_LD)
        order = np.argsort(list_N, kind="stable")
        filled, start = np.unique(list_N[order], return_index=True)
        sum_LD = np.add.reduceat(vector_ND[rows[order]], start, axis=0, dtype=np.float32)
        center_LD[filled] = sum_LD / np.maximum(np.linalg.norm(sum_LD, axis=1, keepdims=True), 1e-6)
    return center_LD


def _assign(vector_ND: np.ndarray, rows: np.ndarray, center_LD: np.ndarray) -> np.ndarray:
    """Return the list (n,) of each row: that of the most similar center."""
    list_N = np.empty(len(rows), np.int64)
    for first in range(0, len(rows), QUERY_BLOCK):
        block = rows[first : first + QUERY_BLOCK]
        list_N[first : first + QUERY_BLOCK] = (vector_ND[block].astype(np.float32) @ center_LD.T).argmax(axis=1)
    return list_N
