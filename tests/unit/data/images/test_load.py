"""Loading any dataset."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.data.images import corpus
from thalweg.data.base import SPLITS, UnreadableFile
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.errors import DataError, NotFoundError


def test_a_name_that_is_too_long_is_not_found():
    with pytest.raises(NotFoundError) as error:
        corpus.load("x" * 5000)
    assert error.value.value == "x" * 5000


def test_a_request_describes_images_and_splits(tmp_path):
    data = corpus.load(corpus.folder(tmp_path, {"a": 20, "b": 20}), val_fraction=0.25)
    assert (data.summary, data.unit, data.official_splits) == ("2 classes, 20x20 RGB", "image", ("train",))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 26, "val": 10, "test": 4}
    assert data.train.names([1, 0]) == [data.train.sources[1], data.train.sources[0]]
    assert len(data.all) == 40 and len(data.all.sources) == 40


def test_without_splits_all_images_are_in_train(tmp_path):
    data = corpus.load(corpus.folder(tmp_path, {"a": 4, "b": 4}), make_splits=False, fold="1/2")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "val": 0, "test": 0}


def test_classes_of_a_named_dataset_can_be_selected():
    data = corpus.load("digits:3,8")
    assert data.classes == ("3", "8") and data.name == "digits:3,8"
    assert sum(len(split) for split in data.splits.values()) == 183 + 174
    for name in ("digits:x", "digits:3,3"):
        with pytest.raises(DataError) as error:
            corpus.load(name)
        assert error.value.value == name[-1]


def test_messages_list_warnings_and_at_most_ten_files():
    files = tuple(UnreadableFile(f"{number}.png", "damaged") for number in range(12))
    split = ImageSplit(np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, np.int64), [])
    data = ImageDataset("x", "test", "", dict.fromkeys(SPLITS, split), "", "", unreadable=files, warnings=("careful",))
    lines = data.messages()
    assert lines[0] == "note: careful" and lines[1] == "skipped: 0.png: damaged"
    assert lines[-1] == "skipped: 2 more files" and len(lines) == 12
    assert len(replace(data, unreadable=files[:10]).messages()) == 11


def test_progress_of_a_folder_is_reported(tmp_path):
    calls = []
    request = {"progress": lambda done, total: calls.append((done, total))}
    corpus.load(corpus.folder(tmp_path, {"a": 4, "b": 4}), **request)
    assert calls[-1] == (8, 8)
