"""One-hot rows and the two linear fits, against NumPy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import Ridge

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.one_hot.compute import IMAGE_SIZE, compare_encodings, fit_linear, flatten_images, ridge_penalty
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import DataError


@pytest.fixture(scope="module")
def shown():
    return thalweg.explain("one_hot", examples=6, fitted=60)


@given(st.integers(2, 30), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_the_fit_is_scikit_learns_ridge(count, size, outputs, seed):
    random = np.random.default_rng(seed)
    x, y, other = random.normal(size=(count, size)), random.normal(size=(count, outputs)), random.normal(size=(5, size))
    found = fit_linear(*map(torch.from_numpy, (x, y, other)))
    true = Ridge(alpha=ridge_penalty(torch.from_numpy(x)), solver="cholesky").fit(x, y).predict(other)
    np.testing.assert_allclose(found.numpy(), true.reshape(found.shape), rtol=1e-6, atol=1e-8)


def test_rows_are_those_of_an_identity_matrix(shown):
    numbers = shown.result.numbers
    np.testing.assert_array_equal(numbers["rows"], np.eye(10)[numbers["labels"]])
    smoothed = thalweg.explain("one_hot", examples=6, fitted=60, smoothing=0.2).result.numbers
    np.testing.assert_allclose(smoothed["rows"], 0.8 * np.eye(10)[numbers["labels"]] + 0.02)
    assert smoothed["labels"] == numbers["labels"]


def test_rows_are_equally_far_apart_and_numbers_are_not(shown):
    found = shown.result.numbers["distances"]
    np.testing.assert_allclose(found["as_rows"], 2**0.5 * (1 - np.eye(10)), atol=1e-12)
    np.testing.assert_allclose(found["as_numbers"], np.abs(np.subtract.outer(range(10), range(10))))


def test_the_shares_are_those_of_fits_made_elsewhere():
    data = make_bars(240, seed=3)
    learned, tested = (data.train.images, data.train.labels), (data.test.images, data.test.labels)
    found = compare_encodings(learned, tested, 4, seed=1)
    x, other = (part.images.reshape(len(part), -1) / 255 for part in (data.train, data.test))
    ridge = Ridge(alpha=ridge_penalty(torch.from_numpy(x)))
    answers = ridge.fit(x, data.train.labels).predict(other)
    np.testing.assert_allclose(found["answers"], answers, atol=1e-6)
    assert found["numbers_accuracy"] == np.mean(np.clip(np.round(answers), 0, 3) == data.test.labels)
    order = np.array(found["other_order"])
    assert sorted(order) == [0, 1, 2, 3]
    answers = ridge.fit(x, order[data.train.labels]).predict(other)
    assert found["other_accuracy"] == np.mean(np.clip(np.round(answers), 0, 3) == order[data.test.labels])
    for renamed in (np.arange(4), order):  # rows answer alike in any order
        answers = ridge.fit(x, np.eye(4)[renamed[data.train.labels]]).predict(other)
        assert found["rows_accuracy"] == np.mean(answers.argmax(1) == renamed[data.test.labels])


def test_with_two_classes_numbers_and_rows_are_the_same():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (random.integers(0, 120, (40, 6, 6, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    found = compare_encodings((images[:20], labels[:20]), (images[20:], labels[20:]), 2, 0)
    assert found["numbers_accuracy"] == found["other_accuracy"] == found["rows_accuracy"] > 0.5


def test_large_pictures_are_averaged():
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    blocks = image.reshape(2, IMAGE_SIZE, 4, IMAGE_SIZE, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(2, -1) / 255
    np.testing.assert_allclose(flatten_images(image), blocks, atol=1e-6)


def test_pictures_that_are_all_alike_can_be_fitted():
    images, labels = np.zeros((12, 4, 4, 1), np.uint8), np.arange(12) % 3
    found = compare_encodings((images, labels), (images, labels), 3, 0)
    assert found["rows_accuracy"] == pytest.approx(1 / 3) and np.allclose(found["answers"], 1)


# --- the user's own ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty classes of three pictures in two colours."""
    root, random = tmp_path_factory.mktemp("data") / "many", np.random.default_rng(0)
    for k in range(30):
        (root / f"class {k:02d}").mkdir(parents=True)
        for n in range(3):
            picture = random.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(picture).save(root / f"class {k:02d}" / f"{n}.png")
    return root


def test_a_folder_of_pictures_without_any_network(folder):
    found = thalweg.explain("one_hot", folder, examples=5).result
    numbers = found.numbers
    assert len(numbers["classes"]) == 30 and len(numbers["columns"]) == 12
    assert set(numbers["labels"]) <= set(numbers["columns"]) and len(set(numbers["columns"])) == 12
    for row, label, source in zip(numbers["rows"], numbers["labels"], numbers["sources"], strict=True):
        assert sum(row) == 1 and row[label] == 1 and numbers["classes"][label] in str(source)
    assert [frame.draw().size for frame in (found.frames[0], found.frames[-1])] == [found.frames[-2].draw().size] * 2


def test_data_in_memory_and_a_set_that_is_smaller_than_asked(folder):
    found = thalweg.explain("one_hot", make_bars(24), examples=12)
    count = len(make_bars(24).test)
    assert count < 12 and len(found.result.numbers["labels"]) == count
    few = f"The fits are tested on {count} pictures only; with others the shares may be far off."
    assert found.result.notes == [f"12 examples were asked for; there are {count}.", few]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["a", "b", "c"], 2, "one word too many"),
        (["no/such/thing"], 2, "no/such/thing"),
        (["digits", "--weights", "a.pth"], 2, "none is named"),
        (["--set", "examples=13"], 2, "not from 1 to 12"),
        (["digits-lenet", "digits:0,11"], 3, "no class '11'"),
    ],
)
def test_what_is_no_data_is_refused(words, code, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "one_hot", *words]) == code
    assert told in capsys.readouterr().err


def test_data_without_any_example_is_refused():
    data = make_bars(24)
    nothing = {part: split.take(np.array([], np.int64)) for part, split in data.splits.items()}
    with pytest.raises(DataError, match="has no examples"):
        thalweg.explain("one_hot", replace(data, **nothing))


def test_a_file_that_is_no_data_is_refused(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert cli.invoke(["explain", "one_hot", str(tmp_path / "a.png")]) == 3
    assert "no data set" in capsys.readouterr().err
