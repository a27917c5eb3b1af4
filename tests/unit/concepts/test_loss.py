"""The loss of a batch, step by step, against NumPy, scikit-learn and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.loss.compute import LossSettings, loss
from thalweg.errors import NonFiniteError, OptionError


def compute(logits, labels, **settings):
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(labels)
    return loss(
        LossSettings(**settings),
        images=np.zeros((len(labels), 4, 4, 1), np.uint8),
        labels=labels,
        classes=[f"class {k}" for k in range(logits.shape[1])],
        logits=logits,
        sources=[f"image {n}" for n in range(len(labels))],
    )


def random_batch(seed, count=6, classes=5, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, classes)) * scale, rng.integers(0, classes, count)


def expected_losses(logits_BK, labels, name, label_smoothing, temperature):
    """Losses (B,) by the formulas alone."""
    z_BK = logits_BK / temperature
    target_BK = (1 - label_smoothing) * np.eye(z_BK.shape[1])[labels] + label_smoothing / z_BK.shape[1]
    if name == "squared-error":
        return ((z_BK - target_BK) ** 2).sum(1)
    return -(target_BK * (z_BK - np.log(np.exp(z_BK).sum(1, keepdims=True)))).sum(1)


@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(2, 20),
    st.sampled_from(["cross-entropy", "squared-error"]),
    st.floats(0, 1),
    st.floats(0.1, 10),
)
def test_losses_match_the_formulas(seed, count, classes, name, label_smoothing, temperature):
    logits_BK, labels = random_batch(seed, count, classes)
    settings = {"loss": name, "label_smoothing": label_smoothing, "temperature": temperature}
    numbers = compute(logits_BK, labels, **settings).numbers
    expected = expected_losses(logits_BK, labels, name, label_smoothing, temperature)
    np.testing.assert_allclose(numbers["losses"], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.sum(numbers["terms"], 1), expected, rtol=1e-9, atol=1e-9)
    assert numbers["mean_loss"] == pytest.approx(expected.mean(), rel=1e-9)
    p_BK = np.exp(logits_BK / temperature) / np.exp(logits_BK / temperature).sum(1, keepdims=True)
    np.testing.assert_allclose(numbers["probabilities"], p_BK, atol=1e-12)
    normalized = np.array(numbers["exponentials"]) / np.array(numbers["exponential_sums"])[:, None]
    np.testing.assert_allclose(normalized, p_BK, atol=1e-12)
    assert np.max(numbers["exponentials"], 1) == pytest.approx(1)


@given(st.integers(0, 10**6))
def test_mean_loss_and_accuracy_match_scikit_learn(seed):
    logits_BK, labels = random_batch(seed)
    numbers = compute(logits_BK, labels).numbers
    assert numbers["mean_loss"] == pytest.approx(log_loss(labels, numbers["probabilities"], labels=range(5)), rel=1e-9)
    assert numbers["accuracy"] == accuracy_score(labels, np.argmax(logits_BK, 1))
    pairs = zip(labels, numbers["predictions"], strict=True)
    assert numbers["correct"] == [label == prediction for label, prediction in pairs]


@pytest.mark.parametrize("name", ["cross-entropy", "squared-error"])
def test_gradient_matches_finite_differences(name):
    logits_BK, labels = random_batch(1)
    numbers = compute(logits_BK, labels, loss=name, label_smoothing=0.1).numbers
    for row, column in np.ndindex(logits_BK.shape):
        losses = []
        for step in (1e-5, -1e-5):
            moved_BK = logits_BK.copy()
            moved_BK[row, column] += step
            losses.append(expected_losses(moved_BK, labels, name, 0.1, 1)[row])
        assert numbers["gradient"][row][column] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-8)
    if name == "cross-entropy":
        difference = np.subtract(numbers["probabilities"], numbers["targets"])
        np.testing.assert_allclose(numbers["gradient"], difference, atol=1e-12)


@pytest.mark.parametrize(("classes", "expected"), [(2, np.log(2)), (10, np.log(10)), (1000, np.log(1000))])
def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(classes, expected):
    numbers = compute(np.zeros((3, classes)), [0, 1, 1]).numbers
    assert numbers["uniform_loss"] == pytest.approx(expected) and numbers["mean_loss"] == pytest.approx(expected)
    squared = compute(np.zeros((3, classes)), [0, 1, 1], loss="squared-error").numbers
    assert squared["uniform_loss"] == pytest.approx(1 - 1 / classes)


def test_huge_logits_do_not_overflow():
    result = compute([[1000.0, -1000.0], [-1000.0, 1000.0]], [0, 0])
    assert result.numbers["losses"] == [0, 2000] and result.numbers["probabilities"] == [[1, 0], [0, 1]]
    assert [frame.draw().mode for frame in result.frames] == ["RGB"] * 6


def test_with_many_classes_the_true_ones_have_columns():
    logits_BK, labels = random_batch(2, 12, 200)
    result = compute(logits_BK, labels)
    assert len(result.numbers["columns"]) == 12 and set(labels.tolist()) <= set(result.numbers["columns"])
    assert len({frame.draw().size for frame in result.frames}) == 1


def test_nan_logits_are_rejected():
    with pytest.raises(NonFiniteError) as error:
        compute([[0.0, 1.0], [np.nan, 1.0]], [0, 1])
    assert error.value.indices == (1,) and "image 1" in error.value.message


# --- models and data of the user -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("loss") / "run"
    return thalweg.train(
        "classify", "digits", model="mlp", steps=40, loss="squared-error", cpu_threads=1, out=out, report=False
    )


def test_the_default_input_is_the_bundled_model_on_bundled_data():
    numbers = thalweg.explain("loss").result.numbers
    assert numbers["title"] == "digits-lenet on digits" and len(numbers["labels"]) == 8
    assert 0 < numbers["mean_loss"] < numbers["uniform_loss"]
    same = thalweg.explain("one_hot", fit_examples=10).result.numbers
    assert same["labels"] == numbers["labels"] and same["sources"] == numbers["sources"]


def test_the_probabilities_of_a_run_are_those_of_its_predictions(run):
    result = thalweg.explain("loss", str(run.path), examples=5, seed=3).result
    numbers = result.numbers
    test = run.load_data().test
    rows = [list(test.sources).index(source) for source in numbers["sources"]]
    assert len(set(rows)) == 5 and numbers["labels"] == test.labels[rows].tolist()
    predictions = list(run.predict([image for image in test.images[rows]], raw=True))
    expected = [prediction.probabilities for prediction in predictions]
    np.testing.assert_allclose(numbers["probabilities"], expected, atol=1e-5)
    assert len(result.notes) == 1 and "loss=squared-error" in result.notes[0]
    squared = thalweg.explain("loss", run, examples=12, loss="squared-error").result
    assert not squared.notes and squared.numbers["mean_loss"] > 0


def test_a_model_with_weights_and_data_is_an_input(run):
    numbers = thalweg.explain("loss", "mlp", "digits", weights=str(run.path), seed=3, offline=True).result.numbers
    assert numbers["title"] == "mlp on digits" and numbers["accuracy"] > 0.3


def test_data_smaller_than_the_batch_is_used_up(run, tmp_path):
    for name, gray in (("3", 90), ("8", 200)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for n in range(2):
            drawing = np.zeros((8, 8), np.uint8)
            drawing[1:7, 3 + n : 5 + n] = gray
            Image.fromarray(drawing).save(tmp_path / "few" / name / f"{n}.png")
    result = thalweg.explain("loss", run, tmp_path / "few").result
    assert sorted(result.numbers["labels"]) == [3, 3, 8, 8] and len(result.numbers["classes"]) == 10
    assert any("8 examples" in note for note in result.notes)


def test_classes_unknown_to_the_model_are_rejected(run, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(np.full((8, 8), 40 * n + len(name), np.uint8)).save(tmp_path / "pets" / name / f"{n}.png")
    assert cli.invoke(["explain", "loss", str(run.path), str(tmp_path / "pets")]) == 3
    message = capsys.readouterr().err
    assert "cat, dog" in message and "0, 1, 2" in message


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["."], 4, "run"),
        (["no-such-run"], 2, "'no-such-run'"),
        (["digits"], 2, "digits-lenet digits"),
        (["digits-lenet", "digits", "more"], 2, "more"),
        (["digits-lenet", "no-such-data"], 2, "'no-such-data'"),
        (["--weights", "a.pth"], 2, "--weights"),
        (["--set", "examples=0"], 2, "1 to 12"),
        (["--set", "temperature=0"], 2, "0.01 to 100"),
        (["--set", "loss=hinge"], 2, "cross-entropy, squared-error"),
    ],
)
def test_invalid_inputs_and_settings_are_rejected(words, code, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "loss", *words]) == code
    assert expected in capsys.readouterr().err


def test_an_array_is_not_a_model():
    for concept, more in (("loss", ["digits"]), ("one_hot", [])):
        with pytest.raises(OptionError) as error:
            thalweg.explain(concept, np.zeros((8, 8)), *more)
        assert "ndarray" in error.value.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.004, "< .01"), (-0.004, "> -.01"), (0.25, "0.25"), (-9.994, "-9.99"), (9.996, "10.0"), (99.96, "100")]
    + [(-123.4, "-123"), (123456, "1.23e+05")],
)
def test_numbers_in_cells_are_short_and_only_zero_is_zero(value, expected):
    from thalweg.plots.value_rows import format_number

    assert format_number(value) == expected
