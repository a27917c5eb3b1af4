"""The loss of a batch, step by step, against NumPy written out, scikit-learn and differences."""

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


def result(logits, labels, **asked):
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    classes = [f"class {k}" for k in range(logits.shape[1])]
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    return loss(LossSettings(**asked), images, labels, classes, logits, [f"picture {n}" for n in range(len(labels))])


def example(seed, count=6, classes=5, scale=3.0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, classes)) * scale, random.integers(0, classes, count)


def written_out(z_BK, labels, name, smoothing, temperature):
    """(B,) of the losses by the formulas alone."""
    z_BK = z_BK / temperature
    target_BK = (1 - smoothing) * np.eye(z_BK.shape[1])[labels] + smoothing / z_BK.shape[1]
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
def test_the_losses_are_those_of_the_formulas(seed, count, classes, name, smoothing, temperature):
    z_BK, labels = example(seed, count, classes)
    numbers = result(z_BK, labels, loss=name, smoothing=smoothing, temperature=temperature).numbers
    true = written_out(z_BK, labels, name, smoothing, temperature)
    np.testing.assert_allclose(numbers["losses"], true, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.sum(numbers["terms"], 1), true, rtol=1e-9, atol=1e-9)
    assert numbers["mean"] == pytest.approx(true.mean(), rel=1e-9)
    p_BK = np.exp(z_BK / temperature) / np.exp(z_BK / temperature).sum(1, keepdims=True)
    np.testing.assert_allclose(numbers["probabilities"], p_BK, atol=1e-12)
    shares = np.array(numbers["exponentials"]) / np.array(numbers["sums"])[:, None]
    np.testing.assert_allclose(shares, p_BK, atol=1e-12)
    assert np.max(numbers["exponentials"], 1) == pytest.approx(1)


@given(st.integers(0, 10**6))
def test_scikit_learn_finds_the_same(seed):
    z_BK, labels = example(seed)
    numbers = result(z_BK, labels).numbers
    assert numbers["mean"] == pytest.approx(log_loss(labels, numbers["probabilities"], labels=range(5)), rel=1e-9)
    assert numbers["accuracy"] == accuracy_score(labels, np.argmax(z_BK, 1))
    assert numbers["right"] == [k == answer for k, answer in zip(labels, numbers["answers"], strict=True)]


@pytest.mark.parametrize("name", ["cross-entropy", "squared-error"])
def test_the_slopes_are_those_of_differences(name):
    z_BK, labels = example(1)
    numbers = result(z_BK, labels, loss=name, smoothing=0.1).numbers
    for row, column in np.ndindex(z_BK.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = z_BK.copy()
            moved[row, column] += step
            sides.append(written_out(moved, labels, name, 0.1, 1)[row])
        assert numbers["slopes"][row][column] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-8)
    if name == "cross-entropy":
        np.testing.assert_allclose(
            numbers["slopes"], np.subtract(numbers["probabilities"], numbers["targets"]), atol=1e-12
        )


@pytest.mark.parametrize(("classes", "alike"), [(2, np.log(2)), (10, np.log(10)), (1000, np.log(1000))])
def test_answering_all_classes_alike_costs_the_logarithm_of_their_number(classes, alike):
    numbers = result(np.zeros((3, classes)), [0, 1, 1]).numbers
    assert numbers["alike"] == pytest.approx(alike) and numbers["mean"] == pytest.approx(alike)
    assert result(np.zeros((3, classes)), [0, 1, 1], loss="squared-error").numbers["alike"] == pytest.approx(
        1 - 1 / classes
    )


def test_huge_logits_overflow_nowhere():
    found = result([[1000.0, -1000.0], [-1000.0, 1000.0]], [0, 0])
    assert found.numbers["losses"] == [0, 2000] and found.numbers["probabilities"] == [[1, 0], [0, 1]]
    assert [frame.draw().mode for frame in found.frames] == ["RGB"] * 6


def test_of_many_classes_those_that_matter_have_columns():
    z_BK, labels = example(2, 12, 200)
    found = result(z_BK, labels)
    assert len(found.numbers["columns"]) == 12 and set(labels.tolist()) <= set(found.numbers["columns"])
    assert len({frame.draw().size for frame in found.frames}) == 1


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(NonFiniteError, match="picture 1"):
        result([[0.0, 1.0], [np.nan, 1.0]], [0, 1])


# --- a network and data of the user's ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("loss") / "run"
    return thalweg.train(
        "classify", "digits", model="mlp", steps=40, loss="squared-error", threads=1, out=out, report=False
    )


def test_what_comes_along_is_shown_without_words():
    numbers = thalweg.explain("loss").result.numbers
    assert numbers["told"] == "digits-lenet on digits" and len(numbers["labels"]) == 8
    assert 0 < numbers["mean"] < numbers["alike"]
    same = thalweg.explain("one_hot", fitted=10).result.numbers
    assert same["labels"] == numbers["labels"] and same["sources"] == numbers["sources"]


def test_the_logits_of_a_run_are_those_that_it_predicts_with(run):
    found = thalweg.explain("loss", str(run.path), examples=5, seed=3)
    numbers, test = found.result.numbers, run.read().test
    rows = [list(test.sources).index(source) for source in numbers["sources"]]
    assert len(set(rows)) == 5 and numbers["labels"] == test.labels[rows].tolist()
    answers = list(run.predict([image for image in test.images[rows]], as_is=True))
    np.testing.assert_allclose(numbers["probabilities"], [one.probabilities for one in answers], atol=1e-5)
    assert found.result.notes == ["run was trained with another loss: --set loss=squared-error"]
    whole = thalweg.explain("loss", run, examples=12, loss="squared-error")
    assert not whole.result.notes and whole.result.numbers["mean"] > 0


def test_a_model_with_weights_and_data(run):
    found = thalweg.explain("loss", "mlp", "digits", weights=str(run.path), seed=3, offline=True)
    assert found.result.numbers["told"] == "mlp on digits" and found.result.numbers["accuracy"] > 0.3


def test_data_of_fewer_examples_than_asked(run, tmp_path):
    for name, shade in (("3", 90), ("8", 200)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for n in range(2):
            stroke = np.zeros((8, 8), np.uint8)
            stroke[1:7, 3 + n : 5 + n] = shade
            Image.fromarray(stroke).save(tmp_path / "few" / name / f"{n}.png")
    found = thalweg.explain("loss", run, tmp_path / "few").result
    assert sorted(found.numbers["labels"]) == [3, 3, 8, 8] and len(found.numbers["classes"]) == 10
    assert "8 examples were asked for; there are 4." in found.notes


def test_classes_that_the_network_does_not_know_are_refused(run, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(np.full((8, 8), 40 * n + len(name), np.uint8)).save(tmp_path / "pets" / name / f"{n}.png")
    assert cli.invoke(["explain", "loss", str(run.path), str(tmp_path / "pets")]) == 3
    assert "has the classes cat, dog; run knows 0, 1, 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["."], 4, "is not a run"),
        (["no-such-run"], 2, "no run or network named 'no-such-run'"),
        (["digits"], 2, "digits is data, and no run or model"),
        (["digits-lenet", "digits", "more"], 2, "more is one word too many"),
        (["digits-lenet", "no-such-data"], 2, "no data set 'no-such-data'"),
        (["--weights", "a.pth"], 2, "none is named"),
        (["--set", "examples=0"], 2, "not from 1 to 12"),
        (["--set", "temperature=0"], 2, "not from 0.01 to 100"),
        (["--set", "loss=hinge"], 2, "cross-entropy, squared-error"),
    ],
)
def test_what_cannot_be_asked_is_refused(words, code, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "loss", *words]) == code
    assert told in capsys.readouterr().err


def test_a_thing_that_is_no_network_is_refused():
    with pytest.raises(OptionError, match="ndarray is no run"):
        thalweg.explain("loss", np.zeros((8, 8)), "digits")
    with pytest.raises(OptionError, match="ndarray is no run"):
        thalweg.explain("one_hot", np.zeros((8, 8)))


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (0.004, "< .01"), (-0.004, "> -.01"), (0.25, "0.25"), (-9.994, "-9.99"), (9.996, "10.0"), (99.96, "100")]
    + [(-123.4, "-123"), (123456, "1.23e+05")],
)
def test_numbers_in_cells_are_short_and_only_zero_is_zero(value, told):
    from thalweg.plots.value_rows import format_number

    assert format_number(value) == told
