"""One-hot rows and linear fits to both label encodings, against NumPy and scikit-learn."""

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
def numbers():
    return thalweg.explain("one_hot", examples=6, fit_examples=60).result.numbers


@given(st.integers(2, 30), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_linear_fit_is_ridge_regression(count, size, outputs, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, size))
    y = rng.normal(size=(count, outputs))
    x_test = rng.normal(size=(5, size))
    predicted = fit_linear(*map(torch.from_numpy, (x, y, x_test)))
    expected = Ridge(alpha=ridge_penalty(torch.from_numpy(x)), solver="cholesky").fit(x, y).predict(x_test)
    np.testing.assert_allclose(predicted.numpy(), expected.reshape(predicted.shape), rtol=1e-6, atol=1e-8)


def test_rows_are_those_of_an_identity_matrix(numbers):
    np.testing.assert_array_equal(numbers["rows"], np.eye(10)[numbers["labels"]])
    smoothed = thalweg.explain("one_hot", examples=6, fit_examples=60, label_smoothing=0.2).result.numbers
    np.testing.assert_allclose(smoothed["rows"], 0.8 * np.eye(10)[numbers["labels"]] + 0.02)
    assert smoothed["labels"] == numbers["labels"]


def test_one_hot_rows_are_equidistant_and_class_indices_are_not(numbers):
    distances = numbers["distances"]
    np.testing.assert_allclose(distances["one_hot"], 2**0.5 * (1 - np.eye(10)), atol=1e-12)
    np.testing.assert_allclose(distances["class_index"], np.abs(np.subtract.outer(range(10), range(10))))


def test_accuracies_match_fits_of_scikit_learn():
    data = make_bars(240, seed=3)
    train = data.train
    test = data.test
    fits = compare_encodings((train.images, train.labels), (test.images, test.labels), 4, seed=1)
    x_train = train.images.reshape(len(train), -1) / 255
    x_test = test.images.reshape(len(test), -1) / 255
    ridge = Ridge(alpha=ridge_penalty(torch.from_numpy(x_train)))
    predicted = ridge.fit(x_train, train.labels).predict(x_test)
    np.testing.assert_allclose(fits.predicted_index, predicted, atol=1e-6)
    assert fits.index_accuracy == np.mean(np.clip(np.round(predicted), 0, 3) == test.labels)
    permutation = np.array(fits.permutation)
    assert sorted(permutation) == [0, 1, 2, 3]
    predicted = ridge.fit(x_train, permutation[train.labels]).predict(x_test)
    assert fits.permuted_index_accuracy == np.mean(np.clip(np.round(predicted), 0, 3) == permutation[test.labels])
    for order in (np.arange(4), permutation):  # one-hot rows do not depend on the class order
        predicted = ridge.fit(x_train, np.eye(4)[order[train.labels]]).predict(x_test)
        assert fits.one_hot_accuracy == np.mean(predicted.argmax(1) == order[test.labels])


def test_with_two_classes_both_encodings_give_the_same_accuracy():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (rng.integers(0, 120, (40, 6, 6, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    fits = compare_encodings((images[:20], labels[:20]), (images[20:], labels[20:]), 2, 0)
    assert fits.index_accuracy == fits.permuted_index_accuracy == fits.one_hot_accuracy > 0.5


def test_large_images_are_averaged():
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    blocks = image.reshape(2, IMAGE_SIZE, 4, IMAGE_SIZE, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(2, -1) / 255
    np.testing.assert_allclose(flatten_images(image), blocks, atol=1e-6)


def test_identical_images_can_be_fitted():
    images = np.zeros((12, 4, 4, 1), np.uint8)
    labels = np.arange(12) % 3
    fits = compare_encodings((images, labels), (images, labels), 3, 0)
    assert fits.one_hot_accuracy == pytest.approx(1 / 3) and np.allclose(fits.predicted_index, 1)


# --- data of the user -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty classes of three random color images."""
    root = tmp_path_factory.mktemp("data") / "many"
    rng = np.random.default_rng(0)
    for k in range(30):
        (root / f"class {k:02d}").mkdir(parents=True)
        for n in range(3):
            image = rng.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(image).save(root / f"class {k:02d}" / f"{n}.png")
    return root


def test_an_image_folder_is_an_input(folder):
    result = thalweg.explain("one_hot", folder, examples=5).result
    numbers = result.numbers
    assert len(numbers["classes"]) == 30 and len(numbers["columns"]) == 12
    assert set(numbers["labels"]) <= set(numbers["columns"]) and len(set(numbers["columns"])) == 12
    for row, label, source in zip(numbers["rows"], numbers["labels"], numbers["sources"], strict=True):
        assert sum(row) == 1 and row[label] == 1 and numbers["classes"][label] in str(source)
    assert len({frame.draw().size for frame in (result.frames[0], *result.frames[-2:])}) == 1


def test_small_data_in_memory_is_used_up_with_two_notes():
    result = thalweg.explain("one_hot", make_bars(24), examples=12).result
    count = len(make_bars(24).test)
    assert count < 12 and len(result.numbers["labels"]) == count
    assert len(result.notes) == 2 and all(str(count) in note for note in result.notes)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["a", "b", "c"], 2, "c"),
        (["no/such/thing"], 2, "no/such/thing"),
        (["digits", "--weights", "a.pth"], 2, "--weights"),
        (["--set", "examples=13"], 2, "1 to 12"),
        (["digits-lenet", "digits:0,11"], 3, "'11'"),
    ],
)
def test_invalid_data_and_settings_are_rejected(words, code, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "one_hot", *words]) == code
    assert expected in capsys.readouterr().err


def test_empty_data_is_rejected():
    data = make_bars(24)
    empty = {name: split.take(np.array([], np.int64)) for name, split in data.splits.items()}
    with pytest.raises(DataError):
        thalweg.explain("one_hot", replace(data, splits=empty))


def test_a_broken_file_is_rejected(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert cli.invoke(["explain", "one_hot", str(tmp_path / "a.png")]) == 3
    assert "a.png" in capsys.readouterr().err
