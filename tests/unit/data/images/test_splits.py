"""The division: a function of content alone, the same for every order, and nothing on two sides."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.images import corpus
from thalweg.data.images.dataset import ImageSplit
from thalweg.data.images.raw_dataset import RawDataset
from thalweg.data.images.splits import (
    TEST_FRACTION,
    assign_splits,
    duplicate_groups,
    hash_keys,
    sha256_rows,
)
from thalweg.errors import DataError, OptionError


def images(content: list[int]) -> np.ndarray:
    """(N, 2, 2, 1) pictures; equal numbers give equal pictures."""
    return np.array([[c % 256, c // 256 % 256, c // 65536, 7] for c in content], np.uint8).reshape(-1, 2, 2, 1)


def found(content, labels, groups=None, **parts) -> RawDataset:
    pictures = images(content)
    classes = tuple(str(c) for c in range(max(labels) + 1))
    train = ImageSplit(pictures, np.array(labels, np.int64), [str(c) for c in content])
    groups = None if groups is None else np.array(groups, np.uint64)
    return RawDataset("test", "here", classes, {"train": train, **parts}, groups=groups)


def placed(data) -> dict[str, str]:
    """picture -> part."""
    return {name: part for part, split in data.splits.items() for name in split.sources}


@st.composite
def sets(draw):
    """Pictures with copies, labels 0 to 2 of which each occurs on two different pictures at least."""
    content = draw(st.lists(st.integers(0, 40), min_size=0, max_size=60)) + [100, 101, 200, 201, 300, 301]
    return content, [c % 3 if c < 100 else c // 100 - 1 for c in content]


@given(sets(), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_files_does_not_matter(given_set, random, valid):
    content, labels = given_set
    rows = list(range(len(content)))
    random.shuffle(rows)
    one = corpus.split(found(content, labels), valid)
    two = corpus.split(found([content[r] for r in rows], [labels[r] for r in rows]), valid)
    assert placed(one) == placed(two)


@given(sets(), st.integers(2, 12), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_nothing_leaks_and_nothing_is_lost(given_set, number_of_groups, valid):
    content, labels = given_set
    groups = [c % number_of_groups for c in content[:-6]] + [1000, 1001, 1002, 1003, 1004, 1005]
    data = corpus.split(found(content, labels, groups), valid)
    names = [name for split in data.splits.values() for name in split.sources]
    assert sorted(names) == sorted(map(str, content))
    part = placed(data)
    sides = {}
    for c, g in zip(content, groups, strict=True):
        sides.setdefault(g, set()).add(part[str(c)])
    assert all(len(side) == 1 for side in sides.values())
    for split in data.splits.values():
        assert split.labels.tolist() == [labels[content.index(int(n))] for n in split.sources]
        assert np.array_equal(split.images, images([int(n) for n in split.sources]))


@given(sets(), st.sampled_from([0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_every_class_is_trained_on_and_no_part_is_empty(given_set, valid):
    data = corpus.split(found(*given_set), valid)
    assert set(data.train.labels) == {0, 1, 2}
    assert len(data.val) and len(data.test)


def test_the_rule_is_the_one_written_down():
    content = list(range(3000))
    data = corpus.split(found(content, [c % 2 for c in content]), 0.25)
    part = placed(data)
    for c in content:
        place = int.from_bytes(hashlib.sha256(images([c]).tobytes()).digest()[:8], "big") / 2**64
        rest = (place - TEST_FRACTION) / (1 - TEST_FRACTION)
        assert part[str(c)] == ("test" if place < TEST_FRACTION else "val" if rest < 0.25 else "train")


def test_more_pictures_move_none_that_were_there():
    few, many = list(range(500)), list(range(900))
    one, two = (placed(corpus.split(found(c, [k % 2 for k in c]), 0.1)) for c in (few, many))
    assert all(two[name] == part for name, part in one.items())


def test_another_share_for_validation_leaves_the_test_set_alone():
    content = list(range(500))
    tests = [corpus.split(found(content, [c % 2 for c in content]), v).test.sources for v in (0.0, 0.1, 0.4)]
    assert tests[0] == tests[1] == tests[2]


def test_a_class_of_ten_is_in_every_part():
    content = list(range(2000))
    data = corpus.split(found(content, [c % 200 for c in content]), 0.1)
    for split in data.splits.values():
        assert len(set(split.labels.tolist())) == 200


def test_the_official_parts_stay_as_they_are():
    content = list(range(300))
    test = ImageSplit(images([5000, 5001]), np.array([0, 1]), ["a", "b"])
    valid = ImageSplit(images([6000]), np.array([0]), ["c"])
    data = corpus.split(found(content, [c % 2 for c in content], test=test), 0.1)
    assert data.test is test and 15 <= len(data.val) <= 45
    data = corpus.split(found(content, [c % 2 for c in content], test=test, val=valid), 0.1)
    assert (data.test, data.val, len(data.train)) == (test, valid, 300)
    data = corpus.split(found(content, [c % 2 for c in content], val=valid), 0.1)
    assert data.val is valid and 15 <= len(data.test) <= 45


def test_an_image_in_two_official_splits_is_reported():
    test = ImageSplit(images([7, 8, 5000]), np.array([0, 1, 1]), ["a", "b", "c"])
    data = corpus.split(found(list(range(20)), [c % 2 for c in range(20)], test=test), 0.0)
    assert any("2 pictures of the test set also in the train set" in note for note in data.warnings)


def test_what_is_linked_by_any_identity_is_one_unit():
    groups = np.array([1, 1, 2, 3, 4, 4], np.uint64)
    content = np.array([9, 8, 8, 7, 6, 9], np.uint64)
    unit, key = duplicate_groups(groups, content)
    assert unit.tolist() == [0, 0, 0, 1, 0, 0] and key.tolist() == [1, 3]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_units_are_the_connected_components(links):
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


def test_digests_are_those_of_the_pictures():
    pictures = images([1, 2, 70000])
    expected = [hashlib.sha256(p.tobytes()).digest() for p in pictures]
    assert [bytes(d) for d in sha256_rows(pictures)] == expected
    assert hash_keys(sha256_rows(pictures)).tolist() == [int.from_bytes(e[:8], "big") for e in expected]


def test_the_fingerprint_sees_every_pixel_label_class_and_place():
    content, labels = list(range(40)), [c % 2 for c in range(40)]
    base = corpus.split(found(content, labels), 0.1).fingerprint
    assert base == corpus.split(found(content, labels), 0.1, "another name").fingerprint
    changed = [
        found([*content[:-1], 999], labels),
        found(content, [*labels[:-1], 1 - labels[-1]]),
        found(content[::-1], labels[::-1]),
        found(content[:-1], labels[:-1]),
    ]
    renamed = found(content, labels)
    renamed.classes = ("0", "one")
    prints = [corpus.split(f, 0.1).fingerprint for f in (*changed, renamed)] + [
        corpus.split(found(content, labels), 0.5).fingerprint
    ]
    assert len({base, *prints}) == 7


@pytest.mark.parametrize("content, labels", [([1, 2, 3], [0, 0, 0]), ([], []), ([5], [0])])
def test_fewer_than_two_classes_are_refused(content, labels):
    made = RawDataset("test", "here", ("a",), {"train": ImageSplit(images(content), np.array(labels, np.int64), [])})
    with pytest.raises(DataError, match="two or more"):
        corpus.split(made, 0.1)


def test_a_class_without_a_picture_is_refused():
    made = found([1, 2, 3, 4], [0, 0, 2, 2])
    with pytest.raises(DataError, match="'1'"):
        corpus.split(made, 0.1)


def test_a_set_that_cannot_spare_a_test_picture_is_refused():
    with pytest.raises(DataError, match="cannot be divided"):
        corpus.split(found([1, 2], [0, 1]), 0.1)


@pytest.mark.parametrize("valid", [-0.1, 1.0, 2.0])
def test_a_share_outside_zero_to_one_is_refused(valid):
    with pytest.raises(OptionError, match="--val-fraction"):
        corpus.split(found([1, 2, 3, 4], [0, 1, 0, 1]), valid)


def test_three_pictures_of_a_class_fill_all_three_parts():
    part = assign_splits(np.arange(4), np.array([2**63] * 4, np.uint64), np.array([0, 0, 0, 1]), 0.1, 0.1)
    assert sorted(part[:3]) == [0, 1, 2] and part[3] == 0


# --- folds -----------------------------------------------------------------------------------------------------------


@given(sets(), st.integers(2, 6), st.one_of(st.none(), st.integers(2, 12)))
@settings(max_examples=60, deadline=None)
def test_every_training_picture_is_in_exactly_one_fold_and_groups_are_in_one(given_set, count, number_of_groups):
    content, labels = given_set
    groups = None
    if number_of_groups:
        groups = [c % number_of_groups for c in content[:-6]] + [1000, 1001, 1002, 1003, 1004, 1005]
    plain = corpus.split(found(content, labels, groups), 0.1)
    unit, _ = duplicate_groups(np.array(content, np.uint64), np.array(groups or content, np.uint64))
    left = {u for u, c in zip(unit.tolist(), content, strict=True) if str(c) not in plain.test.sources}
    if len(left) < count:
        with pytest.raises(OptionError, match=f"into {len(left)} parts at most"):
            corpus.split(found(content, labels, groups), 0.1, fold=f"1/{count}")
        return
    folds = [corpus.split(found(content, labels, groups), 0.1, fold=f"{n}/{count}") for n in range(1, count + 1)]
    for data in folds:
        assert data.test.sources == plain.test.sources
        assert len(data.val) and len(data.train) + len(data.val) == len(content) - len(data.test)
        assert not set(data.train.sources) & set(data.val.sources)
    assert sorted(name for data in folds for name in data.val.sources) == sorted(
        name for name in map(str, content) if name not in plain.test.sources
    )
    for data in folds if groups else ():
        part = placed(data)
        sides = {}
        for c, g in zip(content, groups, strict=True):
            sides.setdefault(g, set()).add(part[str(c)])
        assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("count", [2, 5, 7])
def test_folds_are_stratified_and_equally_large(count):
    content = list(range(523))
    labels = [0 if c < 300 else 1 if c < 500 else 2 for c in content]
    folds = [corpus.split(found(content, labels), 0.1, fold=f"{n}/{count}") for n in range(1, count + 1)]
    per_class = np.array([np.bincount(data.val.labels, minlength=3) for data in folds])
    assert (np.ptp(per_class, axis=0) <= 1).all() and np.ptp(per_class.sum(1)) <= 1
    assert len({data.fingerprint for data in folds}) == count


def test_folds_depend_on_content_alone():
    content, labels = list(range(200)), [c % 2 for c in range(200)]
    one = placed(corpus.split(found(content, labels), 0.1, fold="2/5"))
    assert one == placed(corpus.split(found(content[::-1], labels[::-1]), 0.1, fold="2/5"))
    assert one == placed(corpus.split(found(content, labels), 0.4, fold="2/5")), "the share of --valid is not used"


def test_folds_leave_a_given_test_set_alone_and_refuse_a_given_validation_set():
    content, labels = list(range(100)), [c % 2 for c in range(100)]
    test = ImageSplit(images([5000, 5001]), np.array([0, 1]), ["a", "b"])
    folds = [corpus.split(found(content, labels, test=test), 0.1, fold=f"{n}/4") for n in range(1, 5)]
    assert all(data.test is test and len(data.val) == 25 for data in folds)
    with pytest.raises(DataError, match="validation set of its own") as error:
        corpus.split(found(content, labels, val=test), 0.1, fold="1/4")
    assert "--fold" in error.value.cure


@pytest.mark.parametrize(
    "text", ["0/5", "6/5", "1/1", "0/0", "1", "1/", "/5", "a/b", "1/5/2", "-1/5", "1.0/5", "1 / 5"]
)
def test_a_text_that_is_no_fold_is_refused(text):
    with pytest.raises(OptionError, match=f"--fold {text} is no fold"):
        corpus.split(found(list(range(20)), [c % 2 for c in range(20)]), 0.1, fold=text)


def test_a_part_without_a_picture_of_some_class_is_told():
    lone = corpus.split(found(range(11), [0] * 10 + [1]), 0.1)
    absent = [part for part, split in lone.splits.items() if not (split.labels == 1).any()]
    assert absent == ["val", "test"]
    assert [note for note in lone.warnings if "no picture of" in note] == [
        f"The {part} set has no picture of {lone.classes[1]}." for part in absent
    ]
    assert not any("no picture of" in note for note in corpus.split(found(range(40), [0, 1] * 20), 0.1).warnings)
