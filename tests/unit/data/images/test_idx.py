"""IDX files are read exactly, and every way to be wrong is said with the name of the file."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.unit.data.images import corpus
from thalweg.data.images.idx import LazyNames, file_pairs, is_idx, parse_idx, read_idx
from thalweg.errors import DataError

PICTURES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7)), st.booleans())
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read(values, zipped):
    content = gzip.compress(corpus.idx(values)) if zipped else corpus.idx(values)
    assert np.array_equal(parse_idx(content, 3, "x"), values)


@given(st.binary(max_size=200), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_array_or_a_named_error(content, dimensions, zipped):
    content = gzip.compress(content) if zipped else content
    try:
        assert parse_idx(content, dimensions, "some-file").ndim == dimensions
    except DataError as error:
        assert "some-file" in str(error) and error.cure


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("cut", [0, 3, 15, 16, 60, -9, -1])
def test_a_file_that_is_cut_off_is_refused(zipped, cut):
    content = gzip.compress(corpus.idx(PICTURES)) if zipped else corpus.idx(PICTURES)
    with pytest.raises(DataError, match="train"):
        parse_idx(content[:cut], 3, "train")


def test_more_than_announced_is_refused():
    for content in (corpus.idx(PICTURES) + b"x", gzip.compress(corpus.idx(PICTURES) + b"x")):
        with pytest.raises(DataError, match="announces 120 bytes"):
            parse_idx(content, 3, "x")


def test_a_damaged_checksum_is_refused():
    content = bytearray(gzip.compress(corpus.idx(PICTURES)))
    content[-6] ^= 1
    with pytest.raises(DataError, match="damaged"):
        parse_idx(bytes(content), 3, "x")


def test_a_small_file_that_unpacks_without_end_is_refused_early():
    content = gzip.compress(corpus.idx(PICTURES) + bytes(50_000_000))
    with pytest.raises(DataError, match="it holds more"):
        parse_idx(content, 3, "x")


@pytest.mark.parametrize("dimensions, expected", [(3, "2051"), (1, "2049")])
def test_a_wrong_magic_number_says_which_was_expected(dimensions, expected):
    content = corpus.idx(LABELS if dimensions == 3 else PICTURES) + bytes(20)
    with pytest.raises(DataError, match=expected):
        parse_idx(content, dimensions, "x")


def written(root, images=PICTURES, labels=LABELS, part="train", end="-ubyte"):
    (root / f"{part}-images-idx3{end}").write_bytes(corpus.idx(images))
    (root / f"{part}-labels-idx1{end}").write_bytes(corpus.idx(labels))
    return root


@pytest.mark.parametrize("end", ["-ubyte", ".ubyte"])
def test_a_folder_gives_train_and_test(tmp_path, end):
    written(written(tmp_path, end=end), PICTURES[:2], LABELS[:2], "t10k", end)
    found = read_idx(tmp_path)
    assert set(found.splits) == {"train", "test"} and found.classes == ("0", "1", "2")
    assert np.array_equal(found.splits["train"].images[..., 0], PICTURES)
    assert np.array_equal(found.splits["test"].labels, LABELS[:2])
    assert found.splits["train"].sources[3] == f"train-images-idx3{end}[3]"


def test_one_file_stands_for_its_pair(tmp_path):
    written(written(tmp_path), PICTURES[:2], LABELS[:2], "t10k")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        assert len(read_idx(tmp_path / name).splits["train"]) == 6


def test_unpacked_files_beside_the_packed_ones_are_the_same_set(tmp_path):
    written(tmp_path)
    for file in list(tmp_path.iterdir()):
        (tmp_path / (file.name + ".gz")).write_bytes(gzip.compress(file.read_bytes()))
    assert list(file_pairs(tmp_path)) == ["train"]


def test_labels_that_do_not_begin_at_zero_keep_their_numbers_as_names(tmp_path):
    found = read_idx(written(tmp_path, labels=LABELS + 5))
    assert found.classes == ("5", "6", "7") and found.splits["train"].labels.tolist() == LABELS.tolist()


def test_a_label_outside_the_classes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"images-idx3-ubyte\[2\] is 2; expected 0 to 1"):
        read_idx(written(tmp_path), ("a", "b"))


def test_pictures_and_labels_of_different_number_are_refused(tmp_path):
    with pytest.raises(DataError, match="6 pictures, train-labels-idx1-ubyte 5 labels"):
        read_idx(written(tmp_path, labels=LABELS[:5]))


def test_missing_labels_are_named(tmp_path):
    written(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="file of labels"):
        read_idx(tmp_path)


def test_two_sets_in_one_folder_are_refused(tmp_path):
    written(written(tmp_path, part="train"), part="letters-train")
    with pytest.raises(DataError, match="both"):
        read_idx(tmp_path)


def test_a_folder_without_training_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no IDX file of training"):
        read_idx(written(tmp_path, part="t10k"))


def test_names_of_idx_files_are_known(tmp_path):
    names = {"train-images-idx3-ubyte.gz": True, "emnist-letters-train-labels-idx1-ubyte": True, "images.png": False}
    assert {n: is_idx(tmp_path / n) for n in names} == names


def test_numbered_names_are_a_sequence():
    names = LazyNames("file", 3)
    assert list(names) == ["file[0]", "file[1]", "file[2]"] and names[-1] == "file[2]" and len(names) == 3
    with pytest.raises(IndexError):
        names[3]
