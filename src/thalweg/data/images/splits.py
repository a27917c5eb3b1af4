"""Split a dataset into training, validation and test images by content, so that nothing leaks.

The split of an image depends on the SHA-256 of its content, never on its name or its place in a list. Copies of an
image, and all images of a group, form one group and stay in one split. There are two methods:

    stratified    in each class, the groups with the lowest hashes go to test, the next to val (the default)
    hash          each group on its own, by its hash alone: images that are added later move no other image

Both repair very small sets, so that every class has a training image and neither val nor test is empty.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError, OptionError, pluralize
from ..base import SPLITS, DataRequest
from .dataset import ImageDataset, ImageSplit, summarize_images
from .raw_dataset import RawDataset, look_like_numbers, quote_names

#: fraction of the images that becomes the test split where the source has none
TEST_FRACTION = 0.1

#: a class with this many groups has at least one image in val and, with the hash method, in test
MIN_EXPECTED_PER_CLASS = 10

#: with the stratified method, a class with this many images has at least one image in test
MIN_IMAGES_FOR_TEST = 3

#: indices into SPLITS
TRAIN = 0
VAL = 1
TEST = 2

# Shapes: N images, G groups


@dataclass(frozen=True)
class ImageGroups:
    """Images that must stay together.

    Attributes:
        group_N: Group of each image, int64, from 0.
        key_G: Hash that decides on each group, uint64.
        label_N: Label of each image.
    """

    group_N: np.ndarray
    key_G: np.ndarray
    label_N: np.ndarray


def hash_keys(digests: np.ndarray) -> np.ndarray:
    """Return the first 64 bits of each digest: (N, 32) uint8 to (N,) uint64."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def duplicate_groups(*identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group rows that agree in any of the identities, each (N,) uint64.

    Returns the group of each row (N,) int64, and the key of each group (G,) uint64: its smallest first identity.
    """
    _, group_N = np.unique(identities[0], return_inverse=True)
    for identity in identities[1:]:
        _, other_N = np.unique(identity, return_inverse=True)
        group_N = _merge_groups(group_N, other_N)
    key_G = np.full(group_N.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(key_G, group_N, identities[0])
    return group_N, key_G


def _merge_groups(first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
    """Return the connected components of rows that share a value of `first_N` or `second_N`, numbered from 0."""
    label_N = first_N.copy()
    while True:
        previous_N = label_N
        for value_N in (second_N, first_N):
            lowest = np.full(value_N.max(initial=-1) + 1, len(label_N), label_N.dtype)
            np.minimum.at(lowest, value_N, label_N)
            label_N = lowest[value_N]
        if np.array_equal(previous_N, label_N):
            return np.unique(label_N, return_inverse=True)[1]


def assign_by_hash(groups: ImageGroups, test_fraction: float, val_fraction: float) -> np.ndarray:
    """Return the split (G,) int8 of each group, by its hash alone: 0 train, 1 val, 2 test.

    `val_fraction` is a fraction of the images that are not in test, so that changing it leaves the test split alone.
    """
    position_G = groups.key_G.astype(np.float64) / 2.0**64
    is_val_G = (position_G - test_fraction) / (1 - test_fraction) < val_fraction
    split_G = np.where(position_G < test_fraction, TEST, np.where(is_val_G, VAL, TRAIN)).astype(np.int8)
    pairs = _class_group_pairs(groups)
    groups_by_class = np.split(pairs[1], np.flatnonzero(np.diff(pairs[0])) + 1)
    wanted = [split for split, fraction in ((TEST, test_fraction), (VAL, val_fraction)) if fraction > 0]
    for members in groups_by_class:
        if len(members) >= MIN_EXPECTED_PER_CLASS:
            _add_missing_splits(split_G, members, wanted)
    for members in groups_by_class:
        if not (split_G[members] == TRAIN).any():
            split_G[members[-1]] = TRAIN
    for split in wanted:
        if not (split_G == split).any():
            split_G[_movable_group(split_G, groups.key_G, pairs)] = split
    return split_G


def _add_missing_splits(split_G: np.ndarray, members: np.ndarray, wanted: Sequence[int]) -> None:
    """Move the training group of a class with the lowest hash to each split that has no group of it, in `split_G`."""
    for split in wanted:
        if not (split_G[members] == split).any():
            training = members[split_G[members] == TRAIN]
            split_G[training[:1]] = split


def assign_stratified(groups: ImageGroups, test_fraction: float, val_fraction: float) -> np.ndarray:
    """Return the split (G,) int8 of each group, so that the fractions hold in each class: 0 train, 1 val, 2 test.

    `val_fraction` is a fraction of the images that are not in test, so that changing it leaves the test split alone.
    """
    split_G = np.zeros(len(groups.key_G), np.int8)
    pairs = _class_group_pairs(groups)
    for split, fraction in ((TEST, test_fraction), (VAL, val_fraction)):
        if fraction <= 0:
            continue
        _assign_lowest_hashes(split_G, groups, split, fraction)
        _restore_training_classes(split_G, pairs, split)
        if not (split_G == split).any():
            split_G[_movable_group(split_G, groups.key_G, pairs)] = split
    return split_G


def _assign_lowest_hashes(split_G: np.ndarray, groups: ImageGroups, split: int, fraction: float) -> None:
    """Move the training groups with the lowest hashes of each class to `split`, in `split_G`.

    Classes that are too small for an image of their own share one: the fraction that is left over is carried on.
    """
    size_G = np.bincount(groups.group_N, minlength=len(split_G))
    label_G = _majority_labels(groups)
    ordered = np.lexsort((groups.key_G, label_G))
    carry = 0.0
    for members in np.split(ordered, np.flatnonzero(np.diff(label_G[ordered])) + 1):
        candidates = members[split_G[members] == TRAIN]
        sizes = size_G[candidates]
        target = fraction * float(sizes.sum())
        is_small = target <= 0.5
        if is_small:
            target += carry
        chosen = _choose_nearest_to(target, sizes)
        if split == TEST:
            is_expected = sizes.sum() >= MIN_IMAGES_FOR_TEST
        else:
            is_expected = len(members) >= MIN_EXPECTED_PER_CLASS
        if is_expected and not chosen:
            chosen = [int(sizes.argmin())]
        if len(chosen) == len(candidates):
            chosen = chosen[:-1]
        if is_small:
            carry = float(np.clip(target - sizes[chosen].sum(), -0.5, 0.5))
        split_G[candidates[chosen]] = split


def _choose_nearest_to(target: float, sizes: np.ndarray) -> list[int]:
    """Choose groups in order, skipping those that are too large, so that their sizes add up to about `target`."""
    chosen = []
    total = 0
    for index, size in enumerate(sizes.tolist()):
        if total >= target:
            break
        if abs(total + size - target) <= abs(total - target):
            chosen.append(index)
            total += size
    return chosen


def _restore_training_classes(split_G: np.ndarray, pairs: np.ndarray, split: int) -> None:
    """Move a group from `split` back to training for each class that has no training image, in `split_G`."""
    for members in np.split(pairs[1], np.flatnonzero(np.diff(pairs[0])) + 1):
        movable = members[split_G[members] == split]
        if len(movable) and not (split_G[members] == TRAIN).any():
            split_G[movable[-1]] = TRAIN


def _class_group_pairs(groups: ImageGroups) -> np.ndarray:
    """Return all pairs of a class and a group of it (2, P), ordered by class, then by key."""
    pairs = np.unique(np.stack([groups.label_N, groups.group_N]), axis=1)
    return pairs[:, np.lexsort((groups.key_G[pairs[1]], pairs[0]))]


def _majority_labels(groups: ImageGroups) -> np.ndarray:
    """Return the most frequent label (G,) of each group; the lowest one of several."""
    pairs, counts = np.unique(np.stack([groups.group_N, groups.label_N]), axis=1, return_counts=True)
    pairs = pairs[:, np.lexsort((pairs[1], -counts, pairs[0]))]
    _, first = np.unique(pairs[0], return_index=True)
    return pairs[1, first]


def _movable_group(split_G: np.ndarray, key_G: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return a training group that can move without emptying a class, (1,) int64, or (0,) if there is none."""
    training = pairs[:, split_G[pairs[1]] == TRAIN]
    is_last = np.bincount(training[0])[training[0]] < 2
    free = np.setdiff1d(training[1], training[1][is_last])
    return free[np.argsort(key_G[free])[:1]]


def assign_fold(raw: RawDataset, fold: str, split_G: np.ndarray, groups: ImageGroups) -> None:
    """Make one of several equal parts of the training groups the validation split, in `split_G`.

    Groups of each class are dealt out in turn, in the order of their keys, so that every group is in exactly one fold.

    Args:
        raw: The dataset.
        fold: "2/5" for the second of five parts.
        split_G: Split of each group.
        groups: The groups of the training images.

    Raises:
        OptionError: `fold` is not of this form, or there are fewer groups than folds.
        DataError: The source has a validation split.
    """
    number, count = _parse_fold(fold)
    if "val" in raw.splits:
        raise DataError(
            f"{raw.path}: the dataset has a validation split of its own.",
            cure="Leave out --fold, or move its images to train.",
            path=raw.path,
            option="fold",
        )
    first_row_G = np.unique(groups.group_N, return_index=True)[1]
    free = np.flatnonzero(split_G != TEST)
    if len(free) < count:
        raise OptionError(
            f"--fold: {fold}; the training images form only {len(free)} independent groups.",
            cure=f"Use at most {len(free)} folds.",
            option="fold",
            value=fold,
        )
    dealt = free[np.lexsort((groups.key_G[free], groups.label_N[first_row_G][free]))]
    split_G[dealt] = np.where(np.arange(len(dealt)) % count == number - 1, VAL, TRAIN)


def _parse_fold(fold: str) -> tuple[int, int]:
    """Parse "2/5" as (2, 5). Raises OptionError."""
    match = re.fullmatch(r"(\d+)/(\d+)", fold, re.ASCII)
    if match:
        number = int(match[1])
        count = int(match[2])
        if 1 <= number <= count and count >= 2:
            return number, count
    raise OptionError(f"--fold: '{fold}' is not K/N, e.g. 2/5.", cure="Use 1/5, 2/5, … 5/5.", option="fold", value=fold)


def split_dataset(raw: RawDataset, name: str, request: DataRequest) -> ImageDataset:
    """Return the dataset with all three splits: official splits stay, the others are taken from training images.

    Raises:
        OptionError: `request.val_fraction` or `request.fold` is out of range.
        DataError: The dataset cannot be split.
    """
    if not 0 <= request.val_fraction < 1:
        raise OptionError(
            f"--val-fraction: {request.val_fraction}; expected 0 or more and less than 1.",
            cure="Use a fraction such as 0.1.",
            option="val_fraction",
            value=request.val_fraction,
        )
    _drop_empty_splits(raw)
    _check_classes(raw)
    digests = {split_name: split.digests() for split_name, split in raw.splits.items()}
    split_N = _assign_rows(raw, digests["train"], request)
    source = raw.splits["train"]
    splits: dict[str, ImageSplit] = {}
    for number, split_name in enumerate(SPLITS):
        if split_name in raw.splits and split_name != "train":
            splits[split_name] = raw.splits[split_name]
            continue
        rows = np.flatnonzero(split_N == number)
        splits[split_name] = source if len(rows) == len(source) else source.take(rows)
    for number, split_name in enumerate(SPLITS[1:], 1):
        if split_name not in raw.splits:
            digests[split_name] = digests["train"][split_N == number]
    digests["train"] = digests["train"][split_N == TRAIN]
    if request.make_splits and not len(splits["test"]):
        raise _not_splittable_error(raw)
    return ImageDataset(
        name=name,
        format=raw.format,
        path=raw.path,
        splits=splits,
        fingerprint=compute_fingerprint(raw.classes, splits, digests),
        summary=summarize_images(raw.classes, source.images),
        official_splits=tuple(raw.splits),
        unreadable=tuple(raw.unreadable),
        warnings=(*raw.warnings, *_split_warnings(raw.classes, splits, digests)),
        classes=raw.classes,
        is_handwriting=raw.is_handwriting,
        sizes=raw.sizes,
    )


def _check_classes(raw: RawDataset) -> None:
    """Raise DataError unless there are at least two classes and each has a training image."""
    if len(raw.classes) < 2:
        classes = f"only one class, '{raw.classes[0]}'" if raw.classes else "no class"
        raise DataError(
            f"{raw.path}: {classes}; a classifier needs two or more.",
            cure="Give every class its own folder, or its own name in the label column.",
            path=raw.path,
            value=list(raw.classes),
        )
    counts = np.bincount(raw.splits["train"].labels, minlength=len(raw.classes))
    empty = [raw.classes[label] for label in np.flatnonzero(counts == 0)]
    if empty:
        reason = ""
        if raw.unreadable:
            reason = f" {raw.unreadable[0].path}: {raw.unreadable[0].reason}."
        raise DataError(
            f"{raw.path}: no readable training image for {quote_names(empty)}.{reason}",
            cure="Add training images of it, or remove the class everywhere.",
            path=raw.path,
            value=empty,
        )


def _not_splittable_error(raw: RawDataset) -> DataError:
    """Return the error for a dataset without two different images of one class."""
    count = len(raw.splits["train"])
    if len(raw.classes) == count and count > 2:
        numbers = "; they look like numbers" if look_like_numbers(raw.classes) else ""
        return DataError(
            f"{raw.path}: {count:,} different labels for {count:,} images{numbers}: classification expects classes.",
            cure="Give several images the same label; for numbers, use the range that each falls into.",
            path=raw.path,
            value=raw.classes[0],
        )
    return DataError(
        f"{raw.path}: {pluralize(count, 'image')} cannot be split into training and test.",
        cure="Add images: at least one class needs two that differ.",
        path=raw.path,
    )


def _drop_empty_splits(raw: RawDataset) -> None:
    """Remove official splits that are empty, with a warning."""
    for split_name in ("val", "test"):
        if split_name in raw.splits and not len(raw.splits[split_name]):
            del raw.splits[split_name]
            raw.warnings.append(f"The official {split_name} split is empty; one is taken from the training images.")


def _assign_rows(raw: RawDataset, digests: np.ndarray, request: DataRequest) -> np.ndarray:
    """Return the split (N,) int8 of each training image of the source."""
    identities = [hash_keys(digests)]
    if raw.files is not None:
        identities.insert(0, raw.files)
    if raw.groups is not None:
        identities.insert(0, raw.groups)
    group_N, key_G = duplicate_groups(*identities)
    groups = ImageGroups(group_N, key_G, raw.splits["train"].labels)
    test_fraction = 0.0
    val_fraction = 0.0
    if request.make_splits and "test" not in raw.splits:
        test_fraction = TEST_FRACTION
    if request.make_splits and "val" not in raw.splits:
        val_fraction = request.val_fraction
    if raw.split_method == "hash":
        split_G = assign_by_hash(groups, test_fraction, val_fraction)
    else:
        split_G = assign_stratified(groups, test_fraction, val_fraction)
    if request.fold and request.make_splits:
        assign_fold(raw, request.fold, split_G, groups)
    return split_G[group_N]


def _split_warnings(
    classes: Sequence[str], splits: Mapping[str, ImageSplit], digests: Mapping[str, np.ndarray]
) -> list[str]:
    """Return warnings about missing classes, images in two splits and images with two labels."""
    keys = {split_name: hash_keys(digests[split_name]) for split_name in SPLITS}
    return [
        *_missing_class_warnings(classes, splits),
        *_leakage_warnings(splits, keys),
        *_conflicting_label_warnings(splits, keys),
    ]


def _missing_class_warnings(classes: Sequence[str], splits: Mapping[str, ImageSplit]) -> list[str]:
    """Return a warning for every split without an image of some class."""
    warnings = []
    for split_name, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(classes))
        missing = [classes[label] for label in np.flatnonzero(counts == 0).tolist()]
        if missing and len(split):
            warnings.append(f"The {split_name} split has no image of {quote_names(missing)}.")
    return warnings


def _leakage_warnings(splits: Mapping[str, ImageSplit], keys: Mapping[str, np.ndarray]) -> list[str]:
    """Return a warning for every two splits that share an image, which only official splits can do."""
    warnings = []
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        rows = np.flatnonzero(np.isin(keys[second], keys[first]))
        if len(rows):
            count = pluralize(len(rows), f"{second} image")
            verb = "is" if len(rows) == 1 else "are"
            examples = _format_examples(splits[second].names(rows[:3].tolist()), len(rows))
            warnings.append(f"{count} {verb} also in the {first} split, so scores are too high: {examples}.")
    return warnings


def _conflicting_label_warnings(splits: Mapping[str, ImageSplit], keys: Mapping[str, np.ndarray]) -> list[str]:
    """Return a warning if identical images have different labels."""
    key_N = np.concatenate([keys[split_name] for split_name in SPLITS])
    label_N = np.concatenate([splits[split_name].labels for split_name in SPLITS])
    _, first_row, inverse = np.unique(key_N, return_index=True, return_inverse=True)
    is_conflict_N = label_N != label_N[first_row][inverse]
    rows = np.unique(first_row[inverse[is_conflict_N]])
    if not len(rows):
        return []
    names: list[str] = []
    start = 0
    for split_name in SPLITS:
        split = splits[split_name]
        inside = rows[(rows >= start) & (rows < start + len(split))]
        names += split.names((inside[:3] - start).tolist())
        start += len(split)
    verb = "occurs" if len(rows) == 1 else "occur"
    return [f"{pluralize(len(rows), 'image')} {verb} with different labels: {_format_examples(names[:3], len(rows))}."]


def _format_examples(names: Sequence[str], count: int) -> str:
    """Join a few names, with "…" if there are more."""
    return ", ".join(names) + (", …" if count > len(names) else "")


def compute_fingerprint(
    classes: Sequence[str], splits: Mapping[str, ImageSplit], digests: Mapping[str, np.ndarray]
) -> str:
    """Return the SHA-256, in hex, of the class names, image shape, labels and images of all splits, in order."""
    shape = list(splits["train"].images.shape[1:])
    sha = hashlib.sha256(json.dumps([list(classes), shape]).encode())
    for split_name in SPLITS:
        # The fingerprints of saved runs contain the former name of the val split.
        label = "valid" if split_name == "val" else split_name
        labels = splits[split_name].labels
        sha.update(f"{label} {len(labels)} ".encode())
        sha.update(labels.astype("<i8").tobytes())
        sha.update(digests[split_name].tobytes())
    return sha.hexdigest()
