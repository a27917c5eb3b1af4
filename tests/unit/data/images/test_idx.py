"""IDX files are read exactly, and every error has the name of the file."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.unit.data.images import corpus
from thalweg.data.images.idx import LazyNames, file_pairs, is_idx, parse_idx, read_idx
from thalweg.errors import DataError

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7)), st.booleans())
@settings(max_examples=80, deadline=None)
def test_arrays_survive_writing_and_reading(values, gzipped):
    content = gzip.compress(corpus.idx(values)) if gzipped else corpus.idx(values)
    assert np.array_equal(parse_idx(content, 3, "x"), values)


@given(st.binary(max_size=200), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_array_or_an_error_with_the_file_name(content, dimensions, gzipped):
    content = gzip.compress(content) if gzipped else content
    try:
        assert parse_idx(content, dimensions, "some-file").ndim == dimensions
    except DataError as error:
        assert "some-file" in str(error) and error.cure


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("cut", [0, 3, 15, 16, 60, -9, -1])
def test_a_truncated_file_is_rejected(gzipped, cut):
    content = gzip.compress(corpus.idx(IMAGES)) if gzipped else corpus.idx(IMAGES)
    with pytest.raises(DataError) as error:
        parse_idx(content[:cut], 3, "train")
    assert error.value.path == "train"


def test_more_bytes_than_announced_are_rejected():
    for content in (corpus.idx(IMAGES) + b"x", gzip.compress(corpus.idx(IMAGES) + b"x")):
        with pytest.raises(DataError, match="announces 120 bytes"):
            parse_idx(content, 3, "x")


def test_a_damaged_checksum_is_rejected():
    content = bytearray(gzip.compress(corpus.idx(IMAGES)))
    content[-6] ^= 1
    with pytest.raises(DataError, match="damaged"):
        parse_idx(bytes(content), 3, "x")


def test_a_file_that_decompresses_to_too_much_is_rejected_early():
    content = gzip.compress(corpus.idx(IMAGES) + bytes(50_000_000))
    with pytest.raises(DataError, match="more"):
        parse_idx(content, 3, "x")


@pytest.mark.parametrize("dimensions, expected", [(3, "2051"), (1, "2049")])
def test_a_wrong_magic_number_is_rejected(dimensions, expected):
    content = corpus.idx(LABELS if dimensions == 3 else IMAGES) + bytes(20)
    with pytest.raises(DataError, match=expected):
        parse_idx(content, dimensions, "x")


def write_pair(root, images=IMAGES, labels=LABELS, split="train", end="-ubyte"):
    (root / f"{split}-images-idx3{end}").write_bytes(corpus.idx(images))
    (root / f"{split}-labels-idx1{end}").write_bytes(corpus.idx(labels))
    return root


@pytest.mark.parametrize("end", ["-ubyte", ".ubyte"])
def test_a_folder_gives_train_and_test(tmp_path, end):
    write_pair(write_pair(tmp_path, end=end), IMAGES[:2], LABELS[:2], "t10k", end)
    raw = read_idx(tmp_path)
    assert set(raw.splits) == {"train", "test"} and raw.classes == ("0", "1", "2")
    assert np.array_equal(raw.splits["train"].images[..., 0], IMAGES)
    assert np.array_equal(raw.splits["test"].labels, LABELS[:2])
    assert raw.splits["train"].sources[3] == f"train-images-idx3{end}[3]"


def test_one_file_gives_its_pair(tmp_path):
    write_pair(write_pair(tmp_path), IMAGES[:2], LABELS[:2], "t10k")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        assert len(read_idx(tmp_path / name).splits["train"]) == 6


def test_decompressed_files_next_to_gzipped_ones_are_one_dataset(tmp_path):
    write_pair(tmp_path)
    for file in list(tmp_path.iterdir()):
        (tmp_path / (file.name + ".gz")).write_bytes(gzip.compress(file.read_bytes()))
    assert list(file_pairs(tmp_path)) == ["train"]


def test_labels_keep_their_numbers_as_class_names(tmp_path):
    raw = read_idx(write_pair(tmp_path, labels=LABELS + 5))
    assert raw.classes == ("5", "6", "7") and raw.splits["train"].labels.tolist() == LABELS.tolist()


def test_a_label_without_a_class_is_rejected(tmp_path):
    with pytest.raises(DataError) as error:
        read_idx(write_pair(tmp_path), ("a", "b"))
    assert error.value.value == 2 and "images-idx3-ubyte[2]" in error.value.message


def test_different_numbers_of_images_and_labels_are_rejected(tmp_path):
    with pytest.raises(DataError) as error:
        read_idx(write_pair(tmp_path, labels=LABELS[:5]))
    assert error.value.value == [6, 5]


def test_a_missing_file_of_labels_is_reported(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as error:
        read_idx(tmp_path)
    assert error.value.value == "train-labels-idx1-ubyte"


def test_two_datasets_in_one_folder_are_rejected(tmp_path):
    write_pair(write_pair(tmp_path, split="train"), split="letters-train")
    with pytest.raises(DataError) as error:
        read_idx(tmp_path)
    assert len(error.value.value) == 2


def test_a_folder_without_training_images_is_rejected(tmp_path):
    with pytest.raises(DataError, match="training images"):
        read_idx(write_pair(tmp_path, split="t10k"))


def test_idx_files_are_recognized_by_name(tmp_path):
    names = {"train-images-idx3-ubyte.gz": True, "emnist-letters-train-labels-idx1-ubyte": True, "images.png": False}
    assert {n: is_idx(tmp_path / n) for n in names} == names


def test_lazy_names_are_a_sequence():
    names = LazyNames("file", 3)
    assert list(names) == ["file[0]", "file[1]", "file[2]"] and names[-1] == "file[2]" and len(names) == 3
    assert names[1:] == ["file[1]", "file[2]"]
    with pytest.raises(IndexError):
        names[3]
