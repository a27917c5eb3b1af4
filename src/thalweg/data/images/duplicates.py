"""Find images that occur in two splits: exact duplicates by their hash, near duplicates by fitting one to the other.

A near duplicate (recompressed, resized, brightened, mirrored) is the original passed through a small filter. Every
image is first compared with all images of the other split as thumbnails. The nearest few are then fitted: the 3 x 3
filter of the original that explains the image best, and the fraction of variance that stays unexplained. An acceptable
fraction depends on the subject, because two ones of different writers are more alike than a cat and its own JPEG. A
duplicate is therefore an image that one candidate explains far better than the other candidates do (ratio test of
Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...io.download import cache_dir
from .dataset import ImageSplit
from .stored_images import ImageArray, StoredImages, iter_image_batches

#: side of the thumbnails that are compared, and of the images that are fitted, in pixels
COARSE_SIZE = 12
FINE_SIZE = 32
#: number of nearest images that are fitted
NUM_CANDIDATES = 8
#: minimum correlation of the thumbnails of a near duplicate and its original
MIN_CORRELATION = 0.85
#: maximum fraction of the variance of a near duplicate that its original leaves unexplained
MAX_RESIDUAL = 0.08
#: maximum ratio of the residual standard deviation for the original to that for the median candidate
MAX_RESIDUAL_RATIO = 0.45
#: a residual below this is a duplicate even if many candidates are alike, such as the frames of a video
IDENTICAL_RESIDUAL = 0.005
#: images that are compared at once
QUERY_BLOCK = 256

# Shapes: N images of a set, Q images that are compared with them, S height and width, K candidates, D pixels of a
# thumbnail, P pixels of a fitted image


@dataclass(frozen=True)
class DuplicatePair:
    """Two examples, (split, row), that show the same; `first` is in the earlier split or row."""

    first: tuple[str, int]
    second: tuple[str, int]
    mirrored: bool = False


def find_exact_duplicates(splits: Mapping[str, ImageSplit]) -> list[DuplicatePair]:
    """Pair each image with the first identical image in its own or an earlier split."""
    pairs = []
    earlier: dict[int, tuple[str, int]] = {}
    for name, split in splits.items():
        for row, key in enumerate(split.keys().tolist()):
            first = earlier.setdefault(key, (name, row))
            if first != (name, row):
                pairs.append(DuplicatePair(first, (name, row)))
    return pairs


def find_near_duplicates(splits: Mapping[str, ImageSplit], exact: Sequence[DuplicatePair]) -> list[DuplicatePair]:
    """Pair each image with its near duplicate in an earlier split, except where `exact` has a pair across splits."""
    known = {pair.second for pair in exact if pair.first[0] != pair.second[0]}
    pairs = []
    base_images: list[np.ndarray] = []
    base_examples: list[tuple[str, int]] = []
    for name, split in splits.items():
        if not len(split):
            continue
        images = shrink_images(split.images)
        if base_images:
            for row, base_row, mirrored in near_duplicate_pairs(images, base_images):
                if (name, row) not in known:
                    pairs.append(DuplicatePair(base_examples[base_row], (name, row), mirrored))
        base_images.append(images)
        base_examples += [(name, row) for row in range(len(split))]
    return pairs


def leaked_rows(train: ImageSplit, test: ImageSplit) -> np.ndarray:
    """Return the test rows (n,) int64, ascending, that are exact or near duplicates of training images."""
    splits = {"train": train, "test": test}
    exact = find_exact_duplicates(splits)
    across = [pair for pair in exact if pair.first[0] != pair.second[0]]
    pairs = across + find_near_duplicates(splits, exact)
    return np.unique(np.array([pair.second[1] for pair in pairs], np.int64))


def leaked_test_rows(train: ImageSplit, test: ImageSplit) -> np.ndarray:
    """Return what `leaked_rows` returns, cached by the hash of the images: 10k x 50k takes about a minute."""
    sha = hashlib.sha256()
    for split in (train, test):
        content = split.images.digests if isinstance(split.images, StoredImages) else split.images
        sha.update(np.ascontiguousarray(content).data)
    path = cache_dir() / "duplicates" / f"{sha.hexdigest()[:32]}.json"
    rows = _load_rows(path, len(test))
    if rows is None:
        rows = leaked_rows(train, test)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows.tolist()), encoding="utf-8")
    return rows


def shrink_images(images: ImageArray) -> np.ndarray:
    """Return stored images as small gray ones in memory, black where they cannot be read; others as they are."""
    if not isinstance(images, StoredImages):
        return images
    resize = None if images.resize is None else round(images.resize * FINE_SIZE / min(images.size))
    small = replace(images, size=(FINE_SIZE, FINE_SIZE), resize=resize, channels=1)
    array = np.zeros(small.shape, np.uint8)
    for batch in iter_image_batches(small, QUERY_BLOCK):
        array[batch.rows] = batch.images
    return array


def _load_rows(path: Path, count: int) -> np.ndarray | None:
    """Load cached rows; None unless they are ascending row numbers below `count`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        return None
    if values != sorted(set(values)) or (values and not 0 <= values[0] <= values[-1] < count):
        return None
    return np.array(values, np.int64)


def near_duplicate_pairs(queries: np.ndarray, base: Sequence[np.ndarray]) -> Iterator[tuple[int, int, bool]]:
    """Yield (row of `queries`, row of the concatenated `base`, mirrored) for every near duplicate.

    Images are (N, S, S, C) uint8.
    """
    thumbnail_ND = np.concatenate([_thumbnail_vectors(images) for images in base])
    count = len(thumbnail_ND)
    strides = max(1, min(32, count // (4 * NUM_CANDIDATES)))
    padded_count = -(-count // strides) * strides
    thumbnail_ND = thumbnail_ND[np.arange(padded_count) % count]
    for first in range(0, len(queries), QUERY_BLOCK):
        block = queries[first : first + QUERY_BLOCK]
        best_Q = np.full(len(block), np.inf)
        match_Q = np.zeros(len(block), np.int64)
        mirrored_Q = np.zeros(len(block), bool)
        for flip in (False, True):
            image_QSSC = block[:, :, ::-1] if flip else block
            row_QK, correlation_QK = _nearest_neighbors(_thumbnail_vectors(image_QSSC), thumbnail_ND, strides)
            row_QK %= count
            similar = np.flatnonzero(correlation_QK.max(axis=1) > MIN_CORRELATION)
            if not len(similar):
                continue
            residual_QK = _residual_variance(image_QSSC[similar], _take_rows(base, row_QK[similar]))
            score, winner = _distinctiveness(residual_QK)
            better = score < best_Q[similar]
            rows = similar[better]
            best_Q[rows] = score[better]
            match_Q[rows] = row_QK[similar, winner][better]
            mirrored_Q[rows] = flip
        for row in np.flatnonzero(best_Q < MAX_RESIDUAL_RATIO):
            yield first + int(row), int(match_Q[row]), bool(mirrored_Q[row])


def _thumbnail_vectors(images: np.ndarray) -> np.ndarray:
    """Return thumbnails (N, D) float32 as unit vectors with zero mean; images without contrast are zero."""
    flat_ND = _gray_thumbnails(images, COARSE_SIZE).reshape(len(images), -1)
    flat_ND = flat_ND - flat_ND.mean(axis=1, keepdims=True)
    norm_N1 = np.linalg.norm(flat_ND, axis=1, keepdims=True)
    return np.where(norm_N1 > flat_ND.shape[1] ** 0.5, flat_ND / np.maximum(norm_N1, 1e-6), 0)


def _gray_thumbnails(images: np.ndarray, side: int) -> np.ndarray:
    """Shrink (N, H, W, C) uint8 to gray (N, side, side) float32 by area averaging; `side` is at most H and W."""
    height, width = images.shape[1:3]
    side = min(side, height, width)
    weights_sH = _area_weights(height, side)
    weights_sW = _area_weights(width, side)
    thumbnails = np.empty((len(images), side, side), np.float32)
    for first in range(0, len(images), 1024):
        gray = images[first : first + 1024].mean(axis=-1, dtype=np.float32)
        thumbnails[first : first + 1024] = gray if side == height == width else weights_sH @ gray @ weights_sW.T
    return thumbnails


def _area_weights(size: int, side: int) -> np.ndarray:
    """Return the fraction (side, size) of each pixel of a line in each of `side` averages."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * (side / size)).astype(np.float32)


def _nearest_neighbors(query_QD: np.ndarray, base_ND: np.ndarray, strides: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (Q, K) of the base that correlate best with each query, and the correlations, unordered.

    Rows that are N / strides apart form a column, and only the best row of each column is a candidate. That needs a
    maximum instead of a sort, and misses a near row only if it shares a column with a nearer one.
    """
    length = len(base_ND) // strides
    correlation_QSL = (query_QD @ base_ND.T).reshape(len(query_QD), strides, length)
    best_QL = correlation_QSL.max(axis=1)
    count = min(NUM_CANDIDATES, length)
    column_QK = np.argpartition(-best_QL, count - 1, axis=1)[:, :count]
    stride_QK = np.take_along_axis(correlation_QSL, column_QK[:, None, :], axis=2).argmax(axis=1)
    return stride_QK * length + column_QK, np.take_along_axis(best_QL, column_QK, axis=1)


def _take_rows(base: Sequence[np.ndarray], row_QK: np.ndarray) -> np.ndarray:
    """Return the images (Q, K, S, S, C) at rows of the concatenated base."""
    taken = np.empty((*row_QK.shape, *base[0].shape[1:]), np.uint8)
    start = 0
    for images in base:
        inside = (row_QK >= start) & (row_QK < start + len(images))
        taken[inside] = images[row_QK[inside] - start]
        start += len(images)
    return taken


def _residual_variance(images: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the fraction (Q, K) of each image's variance that the best 3 x 3 filter of each candidate leaves."""
    target_QSS = _gray_thumbnails(images, FINE_SIZE)
    count, side = target_QSS.shape[:2]
    target_QP = target_QSS.reshape(count, -1) - target_QSS.mean(axis=(1, 2))[:, None]
    total_Q = np.maximum((target_QP**2).sum(axis=1), side * side)
    residual_QK = np.empty(candidates.shape[:2])
    for k in range(candidates.shape[1]):
        padded = np.pad(_gray_thumbnails(candidates[:, k], FINE_SIZE), ((0, 0), (1, 1), (1, 1)), mode="edge")
        shifted = []
        for top in range(3):
            for left in range(3):
                shifted.append(padded[:, top : top + side, left : left + side].reshape(count, -1))
        shifted_Q9P = np.stack(shifted, axis=1)
        shifted_Q9P -= shifted_Q9P.mean(axis=2, keepdims=True)
        gram_Q99 = shifted_Q9P @ shifted_Q9P.transpose(0, 2, 1)
        product_Q91 = shifted_Q9P @ target_QP[:, :, None]
        # The ridge keeps the matrix of a flat image invertible.
        ridge = 1e-4 * np.trace(gram_Q99, axis1=1, axis2=2)[:, None, None] / 9 + 1.0
        filter_Q91 = np.linalg.solve(gram_Q99 + ridge * np.eye(9, dtype=np.float32), product_Q91)
        error_QP = target_QP - (shifted_Q9P.transpose(0, 2, 1) @ filter_Q91)[..., 0]
        residual_QK[:, k] = (error_QP**2).sum(axis=1) / total_Q
    return residual_QK


def _distinctiveness(residual_QK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare the best candidate with the median one.

    Returns (Q,) the ratio of their residual standard deviations, 0 to 1, infinite where too much is unexplained, and
    (Q,) int64 the best candidate. With fewer than three candidates the residual is compared with the limit instead.
    """
    winner_Q = residual_QK.argmin(axis=1)
    best_Q = residual_QK.min(axis=1)
    median = residual_QK.shape[1] // 2
    others_Q = np.full(len(residual_QK), MAX_RESIDUAL)
    if median:
        others_Q = np.sort(residual_QK, axis=1)[:, median]
    score_Q = np.sqrt(best_Q / np.maximum(others_Q, 1e-12))
    score_Q = np.where(best_Q < IDENTICAL_RESIDUAL, np.minimum(score_Q, best_Q), score_Q)
    return np.where(best_Q < MAX_RESIDUAL, score_Q, np.inf), winner_Q
