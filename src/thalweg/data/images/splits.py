"""Division into training, validation and test sets by a rule that never leaks and never changes.

Where a picture goes depends on its content alone (SHA-256), not on its name, its place or the other pictures: copies of
one picture, and all pictures of one group, always stay on one side. Only very small sets are repaired afterwards, so
that every class can be trained on and neither validation nor test is empty.
"""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np

from ...errors import DataError, OptionError, pluralize
from ..base import SPLITS, DataRequest
from .dataset import ImageDataset, ImageSplit, summarize_images
from .raw_dataset import RawDataset, check_classes

#: share of the pictures that become the test set where the source has none of its own
TEST_FRACTION = 0.1

#: from this many independent pictures on, a class is represented in validation and test as well
MIN_EXPECTED_PER_CLASS = 10


def sha256_rows(images: np.ndarray) -> np.ndarray:
    """SHA-256 of every picture: images (N, H, W, C) uint8 to (N, 32) uint8."""
    flat = np.ascontiguousarray(images).reshape(-1)
    view, size, sha = memoryview(flat), int(np.prod(images.shape[1:])), hashlib.sha256
    joined = b"".join([sha(view[i : i + size]).digest() for i in range(0, len(flat), size or 1)])
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


def hash_keys(digest: np.ndarray) -> np.ndarray:
    """The first 64 bits of each digest: (N, 32) uint8 to (N,) uint64."""
    return np.ascontiguousarray(digest[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def duplicate_groups(*identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What must stay together. identities: arrays (N,) uint64; two rows that agree in any of them belong to one unit.

    Returns the unit of each row (N,) int64 and the key of each unit (U,) uint64: the smallest first identity in it.
    """
    _, unit = np.unique(identities[0], return_inverse=True)
    for other in identities[1:]:
        _, also = np.unique(other, return_inverse=True)
        unit = _merge_groups(unit, also)
    key = np.full(unit.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(key, unit, identities[0])
    return unit, key


def _merge_groups(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Connected components of rows that share a value of `one` or of `two`, numbered from 0."""
    label = one.copy()
    while True:
        before = label
        for values in (two, one):
            lowest = np.full(values.max(initial=-1) + 1, len(label), label.dtype)
            np.minimum.at(lowest, values, label)
            label = lowest[values]
        if np.array_equal(before, label):
            return np.unique(label, return_inverse=True)[1]


def assign_splits(unit: np.ndarray, key: np.ndarray, labels: np.ndarray, test: float, valid: float) -> np.ndarray:
    """The part of each unit (U,) int8: 0 train, 1 valid, 2 test. unit, labels (N,); key (U,) uint64.

    `test` is a share of the whole, `valid` a share of the rest, so that changing `valid` leaves the test set alone.
    """
    place = key.astype(np.float64) / 2.0**64
    part = np.where(place < test, 2, np.where((place - test) / (1 - test) < valid, 1, 0)).astype(np.int8)
    pairs = np.unique(np.stack([labels, unit]), axis=1)
    wanted = [p for p, share in ((2, test), (1, valid)) if share > 0]
    ordered = pairs[:, np.lexsort((key[pairs[1]], pairs[0]))]
    of_class = np.split(ordered[1], np.flatnonzero(np.diff(ordered[0])) + 1)
    for mine in of_class:
        for p in wanted if len(mine) >= MIN_EXPECTED_PER_CLASS else ():
            if not (part[mine] == p).any():
                part[mine[part[mine] == 0][:1]] = p
    for mine in of_class:
        if not (part[mine] == 0).any():
            part[mine[-1]] = 0
    for p in wanted:
        if not (part == p).any():
            part[_movable_group(part, key, ordered)] = p
    return part


def _movable_group(part: np.ndarray, key: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The training unit, as (0,) or (1,) int64, that no class needs. pairs (2, P): a class and a unit of it."""
    training = pairs[:, part[pairs[1]] == 0]
    alone = np.bincount(training[0])[training[0]] < 2
    free = np.setdiff1d(training[1], training[1][alone])
    return free[np.argsort(key[free])[:1]]


def assign_fold(found: RawDataset, fold: str, part: np.ndarray, unit: np.ndarray, key: np.ndarray) -> None:
    """Makes one of several equal parts of the training units the validation set, in `part` (U,): stratified.

    `fold` is "2/5" for the second of five. Units of each class are dealt out in turn, in the order of their keys, so
    that every unit is in exactly one of the folds. Raises OptionError for no fold, or one without pictures; DataError
    where validation is given.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", fold)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise OptionError(f"--fold {fold} is no fold.", cure="Give 1/5, 2/5, … 5/5.")
    if "val" in found.splits:
        raise DataError(
            f"{found.path} has a validation set of its own.", cure="Leave --fold out, or move its pictures to train."
        )
    labels = found.splits["train"].labels
    first = np.unique(unit, return_index=True)[1]  # the class of a unit is that of its first row
    left = np.flatnonzero(part != 2)
    if len(left) < count:
        raise OptionError(f"--fold {fold}: the training set can be divided into {len(left)} parts at most.")
    dealt = left[np.lexsort((key[left], labels[first][left]))]
    part[dealt] = np.where(np.arange(len(dealt)) % count == number - 1, 1, 0)


def split_dataset(found: RawDataset, name: str, request: DataRequest) -> ImageDataset:
    """The data set with all three parts: those that the source names stay, the others are taken from its training part.

    `valid` is the share of the training part, 0 to 1; `fold` names one of several equal parts instead; with `divided`
    False no test set is taken. Raises OptionError for another share, DataError for a set that cannot be divided.
    """
    divided = request.make_splits
    valid = request.val_fraction if divided else 0.0
    fold = request.fold if divided else None
    if not 0 <= valid < 1:
        raise OptionError(
            f"--val-fraction: {valid}; expected 0 or more and less than 1.",
            cure="Use a fraction such as 0.1.",
            option="val_fraction",
            value=valid,
        )
    for part in [p for p in ("val", "test") if p in found.splits and not len(found.splits[p])]:
        del found.splits[part]
        found.warnings.append(f"The {part} set given is empty; one is taken from the training set.")
    check_classes(found)
    hashes = {part: sha256_rows(split.images) for part, split in found.splits.items()}
    given = tuple(found.splits)
    whole, content = found.splits["train"], hash_keys(hashes["train"])
    identities = [i for i in (found.groups, found.files, content) if i is not None]
    unit, key = duplicate_groups(*identities)
    test = TEST_FRACTION if divided and "test" not in found.splits else 0.0
    shares = (test, valid if "val" not in found.splits else 0.0)
    part_of_unit = assign_splits(unit, key, whole.labels, *shares)
    if fold:
        assign_fold(found, fold, part_of_unit, unit, key)
    row_part = part_of_unit[unit]
    splits = dict(found.splits)
    for number, part in enumerate(SPLITS):
        if part in found.splits and part != "train":
            continue
        rows = np.flatnonzero(row_part == number)
        splits[part] = whole if len(rows) == len(whole) else whole.take(rows)
        hashes[part] = hashes["train"][rows] if part != "train" else hashes[part]
    hashes["train"] = hashes["train"][row_part == 0]
    if divided and not len(splits["test"]):
        raise DataError(
            f"{found.path}: {pluralize(len(whole), 'picture')} cannot be divided into training and test.",
            cure="Add pictures: at least one class needs two that differ.",
        )
    notes = [*found.warnings, *_missing_class_warnings(found.classes, splits), *_leakage_warnings(hashes)]
    print_ = compute_fingerprint(found.classes, splits, hashes)
    return ImageDataset(
        name=name,
        format=found.format,
        path=found.path,
        splits={split_name: splits[split_name] for split_name in SPLITS},
        fingerprint=print_,
        summary=summarize_images(found.classes, whole.images),
        official_splits=given,
        unreadable=tuple(found.unreadable),
        warnings=tuple(notes),
        classes=found.classes,
        is_handwriting=found.is_handwriting,
        sizes=found.sizes,
    )


def _missing_class_warnings(classes: tuple[str, ...], splits: dict[str, ImageSplit]) -> list[str]:
    """A warning for every part without a picture of some class, as small classes may leave one."""
    found = []
    for part, split in splits.items():
        missing = [
            name
            for name, count in zip(classes, np.bincount(split.labels, minlength=len(classes)), strict=True)
            if not count
        ]
        if missing and len(split):
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            found.append(f"The {part} set has no picture of {', '.join(missing[:5])}{more}.")
    return found


def _leakage_warnings(hashes: dict[str, np.ndarray]) -> list[str]:
    """A warning for every two parts that hold the same picture, which only a division made by others can do."""
    found = []
    for one, two in (("train", "test"), ("train", "val"), ("val", "test")):
        count = int(np.isin(hash_keys(hashes[two]), hash_keys(hashes[one])).sum())
        if count:
            found.append(f"{pluralize(count, 'picture')} of the {two} set also in the {one} set: scores will flatter.")
    return found


def compute_fingerprint(classes: tuple[str, ...], splits: dict[str, ImageSplit], hashes: dict[str, np.ndarray]) -> str:
    """SHA-256, in hex, over the names of the classes and, in order, the labels and the digest of every picture."""
    whole = hashlib.sha256(json.dumps([list(classes), list(splits["train"].images.shape[1:])]).encode())
    for part in SPLITS:
        # 'valid', the former name of the split, so that fingerprints of saved runs stay valid
        label = "valid" if part == "val" else part
        whole.update(f"{label} {len(splits[part])} ".encode())
        whole.update(splits[part].labels.astype("<i8").tobytes())
        whole.update(hashes[part].tobytes())
    return whole.hexdigest()
