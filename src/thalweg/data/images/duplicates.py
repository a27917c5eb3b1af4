"""Find images that occur in two splits: exact duplicates by their hash, near duplicates by fitting one to the other.

A near duplicate (recompressed, resized, brightened, mirrored) is the original passed through a small filter. Images are
compared as thumbnails. The nearest few of an image in the other splits are fitted: the 3 x 3 filter of the original
that explains the image best, and the fraction of variance that stays unexplained. An acceptable fraction depends on the
subject, because two ones of different writers are more alike than a cat and its own JPEG. A duplicate is therefore an
image that one candidate explains far better than the other candidates do (ratio test of Lowe 2004,
doi:10.1023/B:VISI.0000029664.99615.94).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...io.download import cache_dir
from .dataset import ImageSplit, sha256_rows
from .near_index import NUM_PROBES, NearIndex
from .stored_images import ImageArray, StoredImages
from .thumbnails import area_weights, make_thumbnails

#: side of the vectors by which thumbnails are compared, in pixels
COARSE_SIZE = 12
#: number of nearest images that are fitted
NUM_CANDIDATES = 8
#: minimum correlation of a near duplicate and its original
MIN_CORRELATION = 0.85
#: maximum fraction of the variance of a near duplicate that its original leaves unexplained
MAX_RESIDUAL = 0.08
#: maximum ratio of the residual standard deviation for the original to that for the median candidate
MAX_RESIDUAL_RATIO = 0.45
#: a residual below this is a duplicate even if many candidates are alike, such as the frames of a video
IDENTICAL_RESIDUAL = 0.005
#: images that are compared, and that are fitted, at once
QUERY_BLOCK = 256
#: more images than these are searched by an index instead of one by one
MAX_EXACT = 16_384
#: images whose nearest neighbor is also searched one by one, to measure what the index misses
RECALL_SAMPLES = 500
#: images that are searched by an index at once, and thumbnails that become vectors at once
INDEX_BLOCK = 4096
VECTOR_BLOCK = 1024
#: part of the key of cached rows: raise it when duplicates are found in another way
CACHE_VERSION = 2

# Shapes: N images of a set, Q images that are compared with them, S height and width of a thumbnail, K candidates,
# D values of a vector, P pixels of a thumbnail


@dataclass(frozen=True)
class DuplicatePair:
    """Two examples, (split, row), that show the same; `first` is in the earlier split or row."""

    first: tuple[str, int]
    second: tuple[str, int]
    mirrored: bool = False


@dataclass(frozen=True)
class NearSearch:
    """How near duplicates were searched for.

    Attributes:
        method: "exact" compares all images, "lists" those in the nearest lists of an index.
        lists: Lists of the index.
        probes: Lists in which an image is searched.
        samples: Images whose nearest neighbor was also searched among all.
        recall: Fraction of them for which the index has it too.
    """

    method: str = "exact"
    lists: int = 0
    probes: int = 0
    samples: int = 0
    recall: float = 1.0

    def describe(self) -> str:
        """Say it in one sentence."""
        if self.method == "exact":
            return "Near duplicates were searched for among all images."
        return (
            f"Near duplicates were searched for in the {self.probes} nearest of {self.lists:,} lists: of "
            f"{self.samples:,} sampled images, the nearest of all was in them for {100 * self.recall:.1f} %."
        )


@dataclass(frozen=True)
class NearDuplicates:
    """Near duplicates across splits, and how they were searched for."""

    pairs: list[DuplicatePair] = field(default_factory=list)
    search: NearSearch = NearSearch()


def find_exact_duplicates(splits: Mapping[str, ImageSplit]) -> list[DuplicatePair]:
    """Pair each image with the first identical image in its own or an earlier split."""
    examples = _Examples({name: len(split) for name, split in splits.items()})
    key_N = np.concatenate([split.keys() for split in splits.values()])
    _, first_M, inverse_N = np.unique(key_N, return_index=True, return_inverse=True)
    first_N = first_M[inverse_N]
    pairs = []
    for row in np.flatnonzero(first_N < np.arange(len(key_N))).tolist():
        pairs.append(DuplicatePair(examples.locate(int(first_N[row])), examples.locate(row)))
    return pairs


class _Examples:
    """Number the examples of all splits, one split after the other."""

    def __init__(self, sizes: Mapping[str, int]):
        self.names = list(sizes)
        self.starts = np.cumsum([0, *sizes.values()])

    def locate(self, number: int) -> tuple[str, int]:
        """Return the split and the row of an example."""
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.names[index], number - int(self.starts[index])


def find_near_duplicates(splits: Mapping[str, ImageSplit], exact: Sequence[DuplicatePair]) -> list[DuplicatePair]:
    """Pair each image with its near duplicate in an earlier split, except where `exact` has a pair across splits."""
    thumbnails = {name: make_thumbnails(split.images).pixels for name, split in splits.items()}
    return search_near_duplicates(thumbnails, exact).pairs


def search_near_duplicates(thumbnails: Mapping[str, np.ndarray], exact: Sequence[DuplicatePair]) -> NearDuplicates:
    """Do what `find_near_duplicates` does with thumbnails (N, S, S) uint8 of each split, and say how."""
    exact_examples = {pair.second for pair in exact if pair.first[0] != pair.second[0]}
    sizes = {name: len(pixels) for name, pixels in thumbnails.items() if len(pixels)}
    examples = _Examples(sizes)
    pairs: list[DuplicatePair] = []
    search = NearSearch()
    base: list[np.ndarray] = []
    for name in sizes:
        if base:
            matcher = _Matcher(base)
            for row, base_row, mirrored in matcher.match(thumbnails[name]):
                if (name, row) not in exact_examples:
                    pairs.append(DuplicatePair(examples.locate(base_row), (name, row), mirrored))
            search = matcher.describe(thumbnails[name])
        base.append(thumbnails[name])
    return NearDuplicates(pairs, search)


def leaked_rows(train: ImageSplit, test: ImageSplit) -> np.ndarray:
    """Return the test rows (n,) int64, ascending, that are exact or near duplicates of training images."""
    splits = {"train": train, "test": test}
    exact = find_exact_duplicates(splits)
    across = [pair for pair in exact if pair.first[0] != pair.second[0]]
    pairs = across + find_near_duplicates(splits, exact)
    return np.unique(np.array([pair.second[1] for pair in pairs], np.int64))


def leaked_test_rows(train: ImageSplit, test: ImageSplit) -> np.ndarray:
    """Return what `leaked_rows` returns, cached by the hash of the images: 10k x 50k takes about a minute."""
    sha = hashlib.sha256(str(CACHE_VERSION).encode())
    for split in (train, test):
        resize = split.images.resize if isinstance(split.images, StoredImages) else None
        sha.update(f"{split.images.shape} {resize}".encode())
        sha.update(np.ascontiguousarray(split.digests()).data)
    path = cache_dir() / "duplicates" / f"{sha.hexdigest()[:32]}.json"
    rows = _load_rows(path, len(test))
    if rows is None:
        rows = leaked_rows(train, test)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows.tolist()), encoding="utf-8")
    return rows


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


def near_duplicate_pairs(queries: ImageArray, base: Sequence[ImageArray]) -> list[tuple[int, int, bool]]:
    """Return (row of `queries`, row of the concatenated `base`, mirrored) for every near duplicate.

    Images are (N, H, W, C) uint8.
    """
    matcher = _Matcher([make_thumbnails(images).pixels for images in base])
    return list(matcher.match(make_thumbnails(queries).pixels))


class _Matcher:
    """Finds the near duplicates of thumbnails among those of `base`, a list of arrays (N, S, S) uint8.

    The order of the images does not matter, because all of it depends on their order by hash.
    """

    def __init__(self, base: list[np.ndarray]):
        self.base = base
        key_N = np.concatenate([_content_keys(pixels) for pixels in base])
        self.order_N = np.argsort(key_N, kind="stable")
        count = len(key_N)
        if count > MAX_EXACT:
            self.index = NearIndex(self._base_vectors(np.float16))
            return
        self.index = None
        self.strides = max(1, min(32, count // (4 * NUM_CANDIDATES)))
        padded_count = -(-count // self.strides) * self.strides
        self.vector_ND = self._base_vectors(np.float32)[np.arange(padded_count) % count]

    def _base_vectors(self, dtype: type[np.floating]) -> np.ndarray:
        """Return the vectors of the base (N, D) in the order of their hashes."""
        return np.concatenate([_coarse_vectors(pixels, dtype) for pixels in self.base])[self.order_N]

    def match(self, query_QSS: np.ndarray) -> Iterator[tuple[int, int, bool]]:
        """Yield (row of the queries, row of the concatenated base, mirrored) for every near duplicate."""
        block_size = INDEX_BLOCK if self.index else QUERY_BLOCK
        for first in range(0, len(query_QSS), block_size):
            block = query_QSS[first : first + block_size]
            best_Q = np.full(len(block), np.inf)
            match_Q = np.zeros(len(block), np.int64)
            mirrored_Q = np.zeros(len(block), bool)
            for flip in (False, True):
                image_QSS = block[:, :, ::-1] if flip else block
                score_Q, winner_Q = self._score(image_QSS)
                better = score_Q < best_Q
                best_Q[better] = score_Q[better]
                match_Q[better] = winner_Q[better]
                mirrored_Q[better] = flip
            for row in np.flatnonzero(best_Q < MAX_RESIDUAL_RATIO):
                yield first + int(row), int(match_Q[row]), bool(mirrored_Q[row])

    def _score(self, image_QSS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each image the distinctiveness of its best candidate, and the row of that in the base."""
        query_QD = _coarse_vectors(image_QSS, np.float32)
        if self.index:
            row_QK, similarity_QK = self.index.search(query_QD, NUM_CANDIDATES)
        else:
            row_QK, similarity_QK = _nearest_neighbors(query_QD, self.vector_ND, self.strides)
        row_QK = self.order_N[row_QK % len(self.order_N)]
        score_Q = np.full(len(image_QSS), np.inf)
        match_Q = np.zeros(len(image_QSS), np.int64)
        similar = np.flatnonzero(similarity_QK.max(axis=1) > MIN_CORRELATION)
        for first in range(0, len(similar), QUERY_BLOCK):
            rows = similar[first : first + QUERY_BLOCK]
            residual_QK = _residual_variance(image_QSS[rows], _take_rows(self.base, row_QK[rows]))
            score_Q[rows], winner = _distinctiveness(residual_QK)
            match_Q[rows] = row_QK[rows, winner]
        return score_Q, match_Q

    def describe(self, query_QSS: np.ndarray) -> NearSearch:
        """Say how these thumbnails were searched, and measure what an index misses."""
        if self.index is None:
            return NearSearch()
        order_Q = np.argsort(_content_keys(query_QSS), kind="stable")
        sample = np.random.default_rng(0).permutation(order_Q)[:RECALL_SAMPLES]
        recall = self.index.measure_recall(_coarse_vectors(query_QSS[sample], np.float32))
        probes = min(NUM_PROBES, self.index.num_lists)
        return NearSearch("lists", self.index.num_lists, probes, len(sample), recall)


def _content_keys(pixels: np.ndarray) -> np.ndarray:
    """Return the first 64 bits of the SHA-256 of each thumbnail (N,) uint64."""
    return np.ascontiguousarray(sha256_rows(pixels)[:, :8]).view(np.uint64).reshape(-1)


def _coarse_vectors(pixels: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Return smaller thumbnails (N, D) as unit vectors with zero mean; images without contrast are zero."""
    side = min(COARSE_SIZE, pixels.shape[1])
    weights = area_weights(pixels.shape[1], side)
    vector_ND = np.empty((len(pixels), side * side), dtype)
    for first in range(0, len(pixels), VECTOR_BLOCK):
        block = pixels[first : first + VECTOR_BLOCK].astype(np.float32)
        flat_nD = (weights @ block @ weights.T).reshape(len(block), -1)
        flat_nD -= flat_nD.mean(axis=1, keepdims=True)
        norm_n1 = np.linalg.norm(flat_nD, axis=1, keepdims=True)
        has_contrast = norm_n1 > flat_nD.shape[1] ** 0.5
        vector_ND[first : first + VECTOR_BLOCK] = np.where(has_contrast, flat_nD / np.maximum(norm_n1, 1e-6), 0)
    return vector_ND


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
    """Return the thumbnails (Q, K, S, S) at rows of the concatenated base."""
    taken = np.empty((*row_QK.shape, *base[0].shape[1:]), np.uint8)
    start = 0
    for images in base:
        inside = (row_QK >= start) & (row_QK < start + len(images))
        taken[inside] = images[row_QK[inside] - start]
        start += len(images)
    return taken


def _residual_variance(images: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the fraction (Q, K) of each image's variance that the best 3 x 3 filter of each candidate leaves."""
    target_QSS = images.astype(np.float32)
    count, side = target_QSS.shape[:2]
    target_QP = target_QSS.reshape(count, -1) - target_QSS.mean(axis=(1, 2))[:, None]
    total_Q = np.maximum((target_QP**2).sum(axis=1), side * side)
    residual_QK = np.empty(candidates.shape[:2])
    for k in range(candidates.shape[1]):
        padded = np.pad(candidates[:, k].astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
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
