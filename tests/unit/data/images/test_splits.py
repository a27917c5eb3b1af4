"""Splits depend only on content, for every order of files, and nothing is in two splits."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.images import corpus
from thalweg.data.images.dataset import ImageSplit, sha256_rows
from thalweg.data.images.raw_dataset import RawDataset
from thalweg.data.images.splits import (
    TEST_FRACTION,
    ImageGroups,
    assign_by_hash,
    assign_stratified,
    duplicate_groups,
    hash_keys,
)
from thalweg.errors import DataError, OptionError

METHODS = ["stratified", "hash"]


def images(content: list[int]) -> np.ndarray:
    """Return images (N, 2, 2, 1); equal numbers give equal images."""
    return np.array([[c % 256, c // 256 % 256, c // 65536, 7] for c in content], np.uint8).reshape(-1, 2, 2, 1)


def raw_dataset(content, labels, groups=None, method="stratified", **splits) -> RawDataset:
    classes = tuple(str(c) for c in range(max(labels) + 1))
    train = ImageSplit(images(content), np.array(labels, np.int64), [str(c) for c in content])
    groups = None if groups is None else np.array(groups, np.uint64)
    return RawDataset("test", "here", classes, {"train": train, **splits}, groups=groups, split_method=method)


def split_by_name(data) -> dict[str, str]:
    """Return the split of each image."""
    return {name: split_name for split_name, split in data.splits.items() for name in split.sources}


@st.composite
def labeled_datasets(draw):
    """Images with copies; each of the labels 0 to 2 has at least two different images."""
    content = draw(st.lists(st.integers(0, 40), min_size=0, max_size=60)) + [100, 101, 200, 201, 300, 301]
    return content, [c % 3 if c < 100 else c // 100 - 1 for c in content]


@given(labeled_datasets(), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_split_does_not_depend_on_the_order_of_files(labeled_images, random, val_fraction):
    content, labels = labeled_images
    rows = list(range(len(content)))
    random.shuffle(rows)
    one = corpus.split(raw_dataset(content, labels), val_fraction)
    two = corpus.split(raw_dataset([content[r] for r in rows], [labels[r] for r in rows]), val_fraction)
    assert split_by_name(one) == split_by_name(two)


@given(labeled_datasets(), st.integers(2, 12), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_groups_stay_together_and_no_image_is_lost(labeled_images, num_groups, val_fraction):
    content, labels = labeled_images
    groups = [c % num_groups for c in content[:-6]] + [1000, 1001, 1002, 1003, 1004, 1005]
    data = corpus.split(raw_dataset(content, labels, groups), val_fraction)
    names = [name for split in data.splits.values() for name in split.sources]
    assert sorted(names) == sorted(map(str, content))
    part = split_by_name(data)
    sides = {}
    for c, g in zip(content, groups, strict=True):
        sides.setdefault(g, set()).add(part[str(c)])
    assert all(len(side) == 1 for side in sides.values())
    for split in data.splits.values():
        assert split.labels.tolist() == [labels[content.index(int(n))] for n in split.sources]
        assert np.array_equal(split.images, images([int(n) for n in split.sources]))


@given(labeled_datasets(), st.sampled_from([0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_every_class_has_training_images_and_no_split_is_empty(labeled_images, val_fraction):
    data = corpus.split(raw_dataset(*labeled_images), val_fraction)
    assert set(data.train.labels) == {0, 1, 2}
    assert len(data.val) and len(data.test)


def test_hash_split_follows_the_documented_rule():
    content = list(range(3000))
    data = corpus.split(raw_dataset(content, [c % 2 for c in content], method="hash"), 0.25)
    part = split_by_name(data)
    for c in content:
        place = int.from_bytes(hashlib.sha256(images([c]).tobytes()).digest()[:8], "big") / 2**64
        rest = (place - TEST_FRACTION) / (1 - TEST_FRACTION)
        assert part[str(c)] == ("test" if place < TEST_FRACTION else "val" if rest < 0.25 else "train")


def test_hash_split_of_an_image_does_not_change_when_images_are_added():
    few, many = list(range(500)), list(range(900))
    one, two = (
        split_by_name(corpus.split(raw_dataset(c, [k % 2 for k in c], method="hash"), 0.1)) for c in (few, many)
    )
    assert all(two[name] == part for name, part in one.items())


@given(labeled_datasets(), st.integers(2, 12), st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_changing_val_fraction_leaves_the_test_split_alone(labeled_images, num_groups, method):
    content, labels = labeled_images
    groups = [c % num_groups for c in content[:-6]] + [1000, 1001, 1002, 1003, 1004, 1005]
    tests = []
    for val_fraction in (0.0, 0.1, 0.4, 0.9) if method == "stratified" else (0.0, 0.1, 0.4):
        tests.append(corpus.split(raw_dataset(content, labels, groups, method), val_fraction).test.sources)
    assert all(sources == tests[0] for sources in tests)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_of_ten_images_is_in_every_split(method):
    content = list(range(2000))
    data = corpus.split(raw_dataset(content, [c % 200 for c in content], method=method), 0.1)
    for split in data.splits.values():
        assert len(set(split.labels.tolist())) == 200


def test_official_splits_are_unchanged():
    content = list(range(300))
    test = ImageSplit(images([5000, 5001]), np.array([0, 1]), ["a", "b"])
    val = ImageSplit(images([6000]), np.array([0]), ["c"])
    data = corpus.split(raw_dataset(content, [c % 2 for c in content], test=test), 0.1)
    assert data.test is test and len(data.val) == 30
    data = corpus.split(raw_dataset(content, [c % 2 for c in content], test=test, val=val), 0.1)
    assert data.test is test and data.val is val and len(data.train) == 300
    assert data.official_splits == ("train", "test", "val")
    data = corpus.split(raw_dataset(content, [c % 2 for c in content], val=val), 0.1)
    assert data.val is val and len(data.test) == 30


def test_an_image_in_two_official_splits_is_reported():
    test = ImageSplit(images([7, 8, 5000]), np.array([0, 1, 1]), ["a", "b", "c"])
    data = corpus.split(raw_dataset(list(range(20)), [c % 2 for c in range(20)], test=test), 0.0)
    warning = next(line for line in data.warnings if "also in the train split" in line)
    assert "2 test images" in warning and "a, b" in warning


def test_rows_that_share_any_identity_form_one_group():
    groups = np.array([1, 1, 2, 3, 4, 4], np.uint64)
    content = np.array([9, 8, 8, 7, 6, 9], np.uint64)
    unit, key = duplicate_groups(groups, content)
    assert unit.tolist() == [0, 0, 0, 1, 0, 0] and key.tolist() == [1, 3]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_groups_are_the_connected_components(links):
    unit, _ = duplicate_groups(*(np.array(column, np.uint64) for column in zip(*links, strict=True)))
    groups = [{k} for k in range(len(links))]
    for k, (a, b) in enumerate(links):
        for j in range(k):
            if links[j][0] == a or links[j][1] == b:
                one, two = (next(g for g in groups if m in g) for m in (j, k))
                if one is not two:
                    one |= two
                    groups.remove(two)
    assert {frozenset(np.flatnonzero(unit == u)) for u in set(unit)} == {frozenset(g) for g in groups}


def test_digests_are_the_sha256_of_each_image():
    pictures = images([1, 2, 70000])
    expected = [hashlib.sha256(p.tobytes()).digest() for p in pictures]
    assert [bytes(d) for d in sha256_rows(pictures)] == expected
    assert hash_keys(sha256_rows(pictures)).tolist() == [int.from_bytes(e[:8], "big") for e in expected]


def test_fingerprint_depends_on_pixels_labels_classes_and_splits():
    content, labels = list(range(40)), [c % 2 for c in range(40)]
    base = corpus.split(raw_dataset(content, labels), 0.1).fingerprint
    assert base == corpus.split(raw_dataset(content, labels), 0.1, "another name").fingerprint
    changed = [
        raw_dataset([*content[:-1], 999], labels),
        raw_dataset(content, [*labels[:-1], 1 - labels[-1]]),
        raw_dataset(content[::-1], labels[::-1]),
        raw_dataset(content[:-1], labels[:-1]),
    ]
    renamed = raw_dataset(content, labels)
    renamed.classes = ("0", "one")
    prints = [corpus.split(f, 0.1).fingerprint for f in (*changed, renamed)] + [
        corpus.split(raw_dataset(content, labels), 0.5).fingerprint
    ]
    assert len({base, *prints}) == 7


@pytest.mark.parametrize("content, labels", [([1, 2, 3], [0, 0, 0]), ([], []), ([5], [0])])
def test_fewer_than_two_classes_are_rejected(content, labels):
    raw = RawDataset("test", "here", ("a",), {"train": ImageSplit(images(content), np.array(labels, np.int64), [])})
    with pytest.raises(DataError) as error:
        corpus.split(raw, 0.1)
    assert error.value.value == ["a"] and error.value.path == "here"


def test_a_class_without_images_is_rejected():
    with pytest.raises(DataError) as error:
        corpus.split(raw_dataset([1, 2, 3, 4], [0, 0, 2, 2]), 0.1)
    assert error.value.value == ["1"]


def test_a_dataset_too_small_for_a_test_image_is_rejected():
    with pytest.raises(DataError, match="cannot be split"):
        corpus.split(raw_dataset([1, 2], [0, 1]), 0.1)


@pytest.mark.parametrize("val_fraction", [-0.1, 1.0, 2.0])
def test_val_fraction_out_of_range_is_rejected(val_fraction):
    with pytest.raises(OptionError) as error:
        corpus.split(raw_dataset([1, 2, 3, 4], [0, 1, 0, 1]), val_fraction)
    assert error.value.option == "val_fraction" and error.value.value == val_fraction


@pytest.mark.parametrize("assign", [assign_by_hash, assign_stratified])
def test_three_images_of_a_class_fill_all_three_splits(assign):
    groups = ImageGroups(np.arange(4), np.array([2**63] * 4, np.uint64), np.array([0, 0, 0, 1]))
    split_G = assign(groups, 0.1, 0.1)
    assert sorted(split_G[:3]) == [0, 1, 2] and split_G[3] == 0


# --- stratified ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.sampled_from([0.0, 0.05, 0.1, 0.3]))
@settings(max_examples=60, deadline=None)
def test_fractions_hold_in_every_class(class_sizes, val_fraction):
    labels = [label for label, size in enumerate(class_sizes) for _ in range(size)]
    if max(class_sizes) < 3:
        return
    data = corpus.split(raw_dataset(list(range(len(labels))), labels), val_fraction)
    counts = {name: np.bincount(split.labels, minlength=len(class_sizes)) for name, split in data.splits.items()}
    for label, size in enumerate(class_sizes):
        assert counts["train"][label] >= 1
        assert counts["test"][label] >= (1 if size >= 3 else 0)
        assert abs(counts["test"][label] - TEST_FRACTION * size) <= 1
        rest = size - counts["test"][label]
        assert abs(counts["val"][label] - val_fraction * rest) <= 1
        if size >= 12 and val_fraction:
            assert counts["val"][label] >= 1


def test_the_lowest_hashes_of_a_class_are_the_test_split():
    content = list(range(400))
    data = corpus.split(raw_dataset(content, [c % 2 for c in content]), 0.25)
    for label in (0, 1):
        mine = [c for c in content if c % 2 == label]
        mine.sort(key=lambda c: hashlib.sha256(images([c]).tobytes()).digest()[:8])
        names = [[int(name) for name in split.sources if int(name) % 2 == label] for split in data.splits.values()]
        assert sorted(names[2]) == sorted(mine[:20])
        assert sorted(names[1]) == sorted(mine[20:65])
        assert sorted(names[0]) == sorted(mine[65:])


def test_many_small_classes_keep_the_fraction_of_validation_images():
    content = list(range(500))
    data = corpus.split(raw_dataset(content, [c % 100 for c in content]), 0.1)
    assert len(data.test) == 100 and 38 <= len(data.val) <= 42


def test_a_large_group_does_not_exceed_the_fraction_of_test_images():
    content = list(range(100))
    groups = [0 if c < 50 else c for c in content]
    data = corpus.split(raw_dataset(content, [c % 2 for c in content], groups), 0.1)
    assert len({split_name for name, split_name in split_by_name(data).items() if int(name) < 50}) == 1
    assert 8 <= len(data.test) <= 12 and 7 <= len(data.val) <= 11


def test_groups_across_classes_leave_every_class_in_training():
    content = list(range(30))
    labels = [c % 3 for c in content]
    groups = [c // 10 for c in content]
    data = corpus.split(raw_dataset(content, labels, groups), 0.1)
    assert set(data.train.labels) == {0, 1, 2}
    assert len({split_by_name(data)[str(c)] for c in range(10)}) == 1


# --- conflicting labels ----------------------------------------------------------------------------------------------


def test_images_with_different_labels_are_reported():
    content = [*range(40), 7, 8, 8, 9]
    labels = [*[c % 2 for c in range(40)], 0, 1, 1, 1]
    data = corpus.split(raw_dataset(content, labels), 0.1)
    warning = next(line for line in data.warnings if "different labels" in line)
    assert "2 images" in warning and "7" in warning and "8" in warning


def test_an_official_test_image_with_another_label_is_reported():
    test = ImageSplit(images([7, 5000]), np.array([0, 1]), ["a", "b"])
    data = corpus.split(raw_dataset(list(range(20)), [c % 2 for c in range(20)], test=test), 0.0)
    assert any("1 image occurs with different labels" in line for line in data.warnings)


def test_copies_with_equal_labels_are_not_reported_as_conflicts():
    content = [*range(40), 7, 8]
    data = corpus.split(raw_dataset(content, [*[c % 2 for c in range(40)], 1, 0]), 0.1)
    assert not any("different labels" in line for line in data.warnings)


# --- folds -----------------------------------------------------------------------------------------------------------


@given(labeled_datasets(), st.integers(2, 6), st.one_of(st.none(), st.integers(2, 12)))
@settings(max_examples=60, deadline=None)
def test_every_training_image_and_group_is_in_exactly_one_fold(labeled_images, count, num_groups):
    content, labels = labeled_images
    groups = None
    if num_groups:
        groups = [c % num_groups for c in content[:-6]] + [1000, 1001, 1002, 1003, 1004, 1005]
    plain = corpus.split(raw_dataset(content, labels, groups), 0.1)
    unit, _ = duplicate_groups(np.array(content, np.uint64), np.array(groups or content, np.uint64))
    left = {u for u, c in zip(unit.tolist(), content, strict=True) if str(c) not in plain.test.sources}
    if len(left) < count:
        with pytest.raises(OptionError) as error:
            corpus.split(raw_dataset(content, labels, groups), 0.1, fold=f"1/{count}")
        assert error.value.option == "fold" and f"at most {len(left)} folds" in error.value.cure
        return
    folds = [corpus.split(raw_dataset(content, labels, groups), 0.1, fold=f"{n}/{count}") for n in range(1, count + 1)]
    for data in folds:
        assert data.test.sources == plain.test.sources
        assert len(data.val) and len(data.train) + len(data.val) == len(content) - len(data.test)
        assert not set(data.train.sources) & set(data.val.sources)
    assert sorted(name for data in folds for name in data.val.sources) == sorted(
        name for name in map(str, content) if name not in plain.test.sources
    )
    for data in folds if groups else ():
        part = split_by_name(data)
        sides = {}
        for c, g in zip(content, groups, strict=True):
            sides.setdefault(g, set()).add(part[str(c)])
        assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("count", [2, 5, 7])
def test_folds_are_stratified_and_equal_in_size(count):
    content = list(range(523))
    labels = [0 if c < 300 else 1 if c < 500 else 2 for c in content]
    folds = [corpus.split(raw_dataset(content, labels), 0.1, fold=f"{n}/{count}") for n in range(1, count + 1)]
    per_class = np.array([np.bincount(data.val.labels, minlength=3) for data in folds])
    assert (np.ptp(per_class, axis=0) <= 1).all() and np.ptp(per_class.sum(1)) <= 1
    assert len({data.fingerprint for data in folds}) == count


def test_folds_depend_only_on_content():
    content, labels = list(range(200)), [c % 2 for c in range(200)]
    one = split_by_name(corpus.split(raw_dataset(content, labels), 0.1, fold="2/5"))
    assert one == split_by_name(corpus.split(raw_dataset(content[::-1], labels[::-1]), 0.1, fold="2/5"))
    assert one == split_by_name(corpus.split(raw_dataset(content, labels), 0.4, fold="2/5")), "val_fraction is not used"


def test_folds_leave_an_official_test_split_alone_and_reject_an_official_val_split():
    content, labels = list(range(100)), [c % 2 for c in range(100)]
    test = ImageSplit(images([5000, 5001]), np.array([0, 1]), ["a", "b"])
    folds = [corpus.split(raw_dataset(content, labels, test=test), 0.1, fold=f"{n}/4") for n in range(1, 5)]
    assert all(data.test is test and len(data.val) == 25 for data in folds)
    with pytest.raises(DataError) as error:
        corpus.split(raw_dataset(content, labels, val=test), 0.1, fold="1/4")
    assert error.value.option == "fold" and "--fold" in error.value.cure


@pytest.mark.parametrize(
    "text", ["0/5", "6/5", "1/1", "0/0", "1", "1/", "/5", "a/b", "1/5/2", "-1/5", "1.0/5", "1 / 5"]
)
def test_invalid_fold_is_rejected(text):
    with pytest.raises(OptionError) as error:
        corpus.split(raw_dataset(list(range(20)), [c % 2 for c in range(20)]), 0.1, fold=text)
    assert error.value.option == "fold" and error.value.value == text


def test_a_split_without_images_of_a_class_is_reported():
    data = corpus.split(raw_dataset(range(11), [0] * 10 + [1]), 0.1)
    missing = [name for name, split in data.splits.items() if not (split.labels == 1).any()]
    assert missing == ["val", "test"]
    warnings = [line for line in data.warnings if "no image of" in line]
    assert len(warnings) == 2 and "val" in warnings[0] and "test" in warnings[1]
    data = corpus.split(raw_dataset(range(40), [0, 1] * 20), 0.1)
    assert not any("no image of" in line for line in data.warnings)
