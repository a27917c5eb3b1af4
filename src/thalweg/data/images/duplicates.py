"""Pictures that stand in two sets: exact copies by their digest, near copies by fitting one to the other.

A near copy (saved again as JPEG, resized, brightened, mirrored) is the original passed through a small filter. So each
picture is compared coarsely with all of the other set, and the few nearest are then fitted: the 3 x 3 filter of the
original that explains the picture best, and the share of its variance that stays unexplained. How small that share must
be depends on the subject, because two ones of different people are more alike than a cat and its own JPEG; a copy is
therefore what is explained far better by one picture than by the others nearest to it (the ratio test of Lowe 2004,
doi:10.1023/B:VISI.0000029664.99615.94).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .dataset import Split
from .splits import hash_keys, sha256_rows

#: side of the coarse pictures, and of those that are fitted
COARSE_SIZE, FINE_SIZE = 12, 32
#: how many of the nearest are fitted
NUM_CANDIDATES = 8
#: a near copy correlates at least so much with its original when both are coarse ...
MIN_CORRELATION = 0.85
#: ... leaves at most this share of its variance unexplained ...
MAX_RESIDUAL = 0.08
#: ... and deviates from its original by at most this ratio of its deviation from the middle one of the nearest
MAX_RESIDUAL_RATIO = 0.45
#: what leaves less than this is a copy whatever else is like it: one of many frames of a film, for instance
IDENTICAL_RESIDUAL = 0.005

# Shapes: N pictures of a set, Q of another that are compared with them, S the side of a picture, K candidates


@dataclass(frozen=True)
class DuplicatePair:
    """Two examples, (split, row), that show the same; `one` comes first."""

    one: tuple[str, int]
    two: tuple[str, int]
    mirrored: bool = False


def find_exact_duplicates(splits: dict[str, Split]) -> list[DuplicatePair]:
    """Each picture that occurs, pixel for pixel, before, in its own split or an earlier one; one pair per picture."""
    found, earlier = [], {}
    for part, split in splits.items():
        for row, key in enumerate(hash_keys(sha256_rows(split.images)).tolist()):
            first = earlier.setdefault(key, (part, row))
            if first != (part, row):
                found.append(DuplicatePair(first, (part, row)))
    return found


def find_near_duplicates(splits: dict[str, Split], exact: list[DuplicatePair]) -> list[DuplicatePair]:
    """Each picture that is a near copy of one in an earlier split, unless `exact` pairs it across splits already."""
    told = {pair.two for pair in exact if pair.one[0] != pair.two[0]}
    found, before = [], []
    for part, split in splits.items():
        base = [(p, splits[p]) for p in before if len(splits[p])]
        before.append(part)
        if not base or not len(split):
            continue
        images = [s.images for _, s in base]
        place = [(p, row) for p, s in base for row in range(len(s))]
        for row, other, mirrored in near_duplicate_pairs(split.images, images):
            if (part, row) not in told:
                found.append(DuplicatePair(place[other], (part, row), mirrored))
    return found


def leaked_rows(train: Split, test: Split) -> np.ndarray:
    """The rows of the test set, int64 in order, that are exact or near copies of pictures of the training set."""
    splits = {"train": train, "test": test}
    exact = find_exact_duplicates(splits)
    pairs = [pair for pair in exact if pair.one[0] != pair.two[0]] + find_near_duplicates(splits, exact)
    return np.unique(np.array([pair.two[1] for pair in pairs], np.int64))


def near_duplicate_pairs(queries: np.ndarray, base: list[np.ndarray]) -> Iterator[tuple[int, int, bool]]:
    """(row of `queries`, row of `base` joined, mirrored) for every near copy. Pictures (N, S, S, C) uint8."""
    coarse_ND = np.concatenate([_thumbnail_vectors(images) for images in base])
    count = len(coarse_ND)
    strides = max(1, min(32, count // (4 * NUM_CANDIDATES)))
    coarse_ND = coarse_ND[np.arange(-(-count // strides) * strides) % count]
    starts = np.cumsum([0] + [len(images) for images in base])
    for first in range(0, len(queries), 256):
        block = queries[first : first + 256]
        best = np.full(len(block), np.inf)
        other, mirrored = np.zeros(len(block), np.int64), np.zeros(len(block), bool)
        for flip in (False, True):
            seen = block[:, :, ::-1] if flip else block
            rows_QK, alike_QK = _nearest_neighbors(_thumbnail_vectors(seen), coarse_ND, strides)
            rows_QK %= count
            chosen = np.flatnonzero(alike_QK.max(axis=1) > MIN_CORRELATION)
            if not len(chosen):
                continue
            left_QK = _residual_variance(seen[chosen], _take_rows(base, starts, rows_QK[chosen]))
            score, winner = _distinctiveness(left_QK)
            better = score < best[chosen]
            best[chosen[better]] = score[better]
            other[chosen[better]] = rows_QK[chosen, winner][better]
            mirrored[chosen[better]] = flip
        for row in np.flatnonzero(best < MAX_RESIDUAL_RATIO):
            yield first + int(row), int(other[row]), bool(mirrored[row])


def _thumbnail_vectors(images: np.ndarray) -> np.ndarray:
    """Pictures as unit vectors without their mean, (N, COARSE²) float32; those without any contrast as zeros."""
    flat_ND = _gray_thumbnails(images, COARSE_SIZE).reshape(len(images), -1)
    flat_ND = flat_ND - flat_ND.mean(axis=1, keepdims=True)
    norm_N1 = np.linalg.norm(flat_ND, axis=1, keepdims=True)
    return np.where(norm_N1 > flat_ND.shape[1] ** 0.5, flat_ND / np.maximum(norm_N1, 1e-6), 0)


def _gray_thumbnails(images: np.ndarray, side: int) -> np.ndarray:
    """Grey pictures at most `side` pixels across, by averaging areas: (N, S, S, C) uint8 to (N, side, side) float32."""
    size = images.shape[1]
    side = min(side, size)
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    weights = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = (np.maximum(weights, 0) * (side / size)).astype(np.float32)
    made = np.empty((len(images), side, side), np.float32)
    for first in range(0, len(images), 1024):
        grey = images[first : first + 1024].mean(axis=-1, dtype=np.float32)
        made[first : first + 1024] = grey if side == size else weights @ grey @ weights.T
    return made


def _nearest_neighbors(queries_QD: np.ndarray, base_ND: np.ndarray, strides: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q, K) of the base that correlate best with each query, and the correlations, in no order.

    Rows that lie N / strides apart form a column, and of each column only its best is a candidate: that costs a maximum
    where a sort would be needed, and loses a near one only where it shares a column with a nearer one.
    """
    length = len(base_ND) // strides
    alike_QSL = (queries_QD @ base_ND.T).reshape(len(queries_QD), strides, length)
    best_QL = alike_QSL.max(axis=1)
    most = min(NUM_CANDIDATES, length)
    column_QK = np.argpartition(-best_QL, most - 1, axis=1)[:, :most]
    stride_QK = np.take_along_axis(alike_QSL, column_QK[:, None, :], axis=2).argmax(axis=1)
    return stride_QK * length + column_QK, np.take_along_axis(best_QL, column_QK, axis=1)


def _take_rows(base: list[np.ndarray], starts: np.ndarray, rows_QK: np.ndarray) -> np.ndarray:
    """The pictures (Q, K, S, S, C) at rows of the joined base."""
    made = np.empty((*rows_QK.shape, *base[0].shape[1:]), np.uint8)
    for images, start in zip(base, starts, strict=False):
        inside = (rows_QK >= start) & (rows_QK < start + len(images))
        made[inside] = images[rows_QK[inside] - start]
    return made


def _residual_variance(seen: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Share of each picture's variance that the best 3 x 3 filter of each candidate leaves: (Q, K) float64, 0 to 1."""
    wanted = _gray_thumbnails(seen, FINE_SIZE)
    count, side = wanted.shape[:2]
    target_QP = wanted.reshape(count, -1) - wanted.mean(axis=(1, 2))[:, None]
    whole_Q = np.maximum((target_QP**2).sum(axis=1), side * side)
    left_QK = np.empty(candidates.shape[:2])
    for k in range(candidates.shape[1]):
        padded = np.pad(_gray_thumbnails(candidates[:, k], FINE_SIZE), ((0, 0), (1, 1), (1, 1)), mode="edge")
        shifted = [padded[:, i : i + side, j : j + side].reshape(count, -1) for i in range(3) for j in range(3)]
        shifts_Q9P = np.stack(shifted, axis=1)
        shifts_Q9P -= shifts_Q9P.mean(axis=2, keepdims=True)
        gram_Q99 = shifts_Q9P @ shifts_Q9P.transpose(0, 2, 1)
        product_Q91 = shifts_Q9P @ target_QP[:, :, None]
        # a little is added to the diagonal, so that flat pictures have a filter too
        ridge = 1e-4 * np.trace(gram_Q99, axis1=1, axis2=2)[:, None, None] / 9 + 1.0
        filter_Q91 = np.linalg.solve(gram_Q99 + ridge * np.eye(9, dtype=np.float32), product_Q91)
        rest_QP = target_QP - (shifts_Q9P.transpose(0, 2, 1) @ filter_Q91)[..., 0]
        left_QK[:, k] = (rest_QP**2).sum(axis=1) / whole_Q
    return left_QK


def _distinctiveness(left_QK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much less the best candidate deviates than the middle one, (Q,) 0 to 1, and which it is, (Q,) int64.

    Infinite where too much is left unexplained. With fewer than three candidates there is nothing to compare with, and
    the deviation is compared with the limit.
    """
    winner_Q = left_QK.argmin(axis=1)
    best_Q = left_QK.min(axis=1)
    middle = left_QK.shape[1] // 2
    others_Q = np.sort(left_QK, axis=1)[:, middle] if middle else np.full(len(left_QK), MAX_RESIDUAL)
    score_Q = np.sqrt(best_Q / np.maximum(others_Q, 1e-12))
    score_Q = np.where(best_Q < IDENTICAL_RESIDUAL, np.minimum(score_Q, best_Q), score_Q)
    return np.where(best_Q < MAX_RESIDUAL, score_Q, np.inf), winner_Q
