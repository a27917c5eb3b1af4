"""Sentence pairs by split. Where a source has no splits, all pairs of a source sentence go into the same one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError, OptionError, pluralize
from ..base import SPLITS, DataRequest, Dataset
from .pair_files import PairLines
from .tokens import normalize_text

#: fraction of the sentences that becomes the test split where the source has none, but no more than so many
TEST_FRACTION = 0.1
MAX_TEST_SENTENCES = 5000
#: fewer pairs make no three splits
MIN_PAIRS = 10


@dataclass(frozen=True)
class PairSplit:
    """Sentences, and the translation of each."""

    file: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return file and line of the pairs at `rows`."""
        return [f"{self.file}, line {self.lines[row]:,}" for row in rows]

    def keys(self) -> np.ndarray:
        """Return a hash (N,) uint64 of each source: another translation of the same sentence is no new example."""
        keys = np.empty(len(self), np.uint64)
        for row, source in enumerate(self.sources):
            keys[row] = hash_source(source)
        return keys

    def take(self, rows: Iterable[int]) -> PairSplit:
        """Return the pairs at `rows`, in that order."""
        chosen = list(map(int, rows))
        return PairSplit(
            self.file,
            tuple(self.sources[row] for row in chosen),
            tuple(self.targets[row] for row in chosen),
            tuple(self.lines[row] for row in chosen),
        )


@dataclass(frozen=True)
class PairDataset(Dataset[PairSplit]):
    """Sentence pairs of the three splits, and the names of their languages."""

    languages: tuple[str, str] = ("source", "target")


@dataclass(frozen=True)
class RawPairs:
    """What was read: pairs by split ("all" where the source has no splits)."""

    name: str
    format: str
    path: str
    languages: tuple[str, str]
    pairs: Mapping[str, PairLines]
    warnings: tuple[str, ...] = ()


def hash_source(source: str) -> int:
    """Return the first 64 bits of the SHA-256 of a sentence, whatever its case and its spaces."""
    content = normalize_text(source).lower().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def build_pair_dataset(raw: RawPairs, request: DataRequest, max_length: int) -> PairDataset:
    """Build a dataset of what was read.

    Args:
        raw: Pairs by split.
        request: Says how much becomes validation split.
        max_length: Pairs of which one side has more words are left out.

    Returns:
        The dataset.

    Raises:
        DataError: For a source without pairs, and for one that is too small to be trained on.
        OptionError: For a fold that is none.
    """
    warnings = list(raw.warnings)
    parts: dict[str, PairSplit] = {}
    for name, lines in raw.pairs.items():
        warnings += lines.warnings
        split, num_long = _drop_long(lines, max_length)
        if num_long:
            warnings.append(
                f"{lines.name}: {pluralize(num_long, 'pair')} of more than {max_length:,} words skipped; see "
                "--max-length"
            )
        parts[name] = split
    splits = _make_splits(parts, request)
    _check_size(raw, splits, request)
    warnings += _describe_leaks(splits)
    official_splits = tuple(name for name in SPLITS if name in raw.pairs)
    total = sum(map(len, splits.values()))
    return PairDataset(
        name=raw.name,
        format=raw.format,
        path=raw.path,
        splits=splits,
        fingerprint=_fingerprint(splits),
        summary=f"{total:,} pairs, {raw.languages[0]} to {raw.languages[1]}",
        unit="pair",
        official_splits=official_splits,
        warnings=tuple(warnings),
        languages=raw.languages,
    )


def _drop_long(lines: PairLines, max_length: int) -> tuple[PairSplit, int]:
    """Return the pairs of which neither side is too long, and the number of the others."""
    split = PairSplit(lines.name, lines.sources, lines.targets, lines.lines)
    rows = []
    for row, (source, target) in enumerate(zip(lines.sources, lines.targets, strict=True)):
        if max(len(source.split()), len(target.split())) <= max_length:
            rows.append(row)
    if len(rows) == len(split):
        return split, 0
    return split.take(rows), len(split) - len(rows)


def _make_splits(parts: Mapping[str, PairSplit], request: DataRequest) -> dict[str, PairSplit]:
    """Return train, val and test; those that the source lacks are taken from train, sentence by sentence."""
    train = parts.get("train", parts.get("all"))
    if train is None:
        train = next(iter(parts.values())).take([])
    nothing = train.take([])
    splits = {"train": train, "val": parts.get("val", nothing), "test": parts.get("test", nothing)}
    if not request.make_splits:
        return splits
    if "val" in parts and request.fold is not None:
        raise DataError(
            f"{request.source} has a validation split of its own; --fold needs one that is taken from train.",
            "Leave --fold out, or join the files.",
            path=str(request.source),
        )
    keys_N = train.keys()
    order = np.unique(keys_N)  # sorted by hash, which is as good as shuffled
    if "test" not in parts:
        count = min(MAX_TEST_SENTENCES, _count_held_out(len(order), TEST_FRACTION))
        splits["test"] = train.take(np.flatnonzero(np.isin(keys_N, order[:count])))
        order = order[count:]
    if "val" not in parts:
        held_out, order = _cut_validation(order, request)
        splits["val"] = train.take(np.flatnonzero(np.isin(keys_N, held_out)))
    splits["train"] = train.take(np.flatnonzero(np.isin(keys_N, order)))
    return splits


def _cut_validation(order: np.ndarray, request: DataRequest) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the validation split, and those that are left for train."""
    if request.fold is None:
        start = 0
        stop = _count_held_out(len(order), request.val_fraction)
    else:
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", request.fold)
        if not match or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
            raise OptionError(
                f"--fold: {request.fold!r} is not allowed; expected k/n with k from 1 to n, such as 2/5.",
                option="fold",
                value=request.fold,
            )
        start = len(order) * (int(match[1]) - 1) // int(match[2])
        stop = len(order) * int(match[1]) // int(match[2])
    return order[start:stop], np.concatenate([order[:start], order[stop:]])


def _count_held_out(count: int, fraction: float) -> int:
    """Return how many of `count` sentences are held out: at least one, where there are several."""
    if not fraction or count < 2:
        return 0
    return max(1, min(count - 1, round(count * fraction)))


def _check_size(raw: RawPairs, splits: Mapping[str, PairSplit], request: DataRequest) -> None:
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    total = sum(map(len, splits.values()))
    min_pairs = 1
    has_empty_split = False
    if request.make_splits:
        min_pairs = MIN_PAIRS
        has_empty_split = any(not len(splits[name]) for name in SPLITS if name != "val" or request.val_fraction)
    if total < min_pairs or has_empty_split:
        raise DataError(
            f"{raw.path}: {pluralize(total, 'pair')} ({sizes}); expected at least {min_pairs}, and no empty split.",
            "Give more pairs; 20,000 or more are a good start.",
            path=raw.path,
            value=total,
            allowed=[min_pairs],
        )


def _describe_leaks(splits: Mapping[str, PairSplit]) -> list[str]:
    """Return a warning for each split of the source's own that has sentences of train."""
    warnings = []
    train = splits["train"].keys()
    for name in SPLITS[1:]:
        count = int(np.isin(splits[name].keys(), train).sum())
        if count and name != "train":
            warnings.append(f"{name}: {count:,} of {pluralize(len(splits[name]), 'source')} are in train as well")
    return warnings


def _fingerprint(splits: Mapping[str, PairSplit]) -> str:
    sha = hashlib.sha256()
    for name in SPLITS:
        split = splits[name]
        sha.update(f"{name} {len(split)}\n".encode())
        for source, target in zip(split.sources, split.targets, strict=True):
            sha.update(f"{source}\t{target}\n".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()
