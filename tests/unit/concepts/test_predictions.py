"""The answers to a test set, against scikit-learn, closed forms, and the scores of the run itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import entropy as scipy_entropy
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as true_trustworthiness

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.predictions.compute import PredictionSettings, entropy, predictions
from thalweg.concepts.predictions.projection import pca, trustworthiness, tsne
from thalweg.errors import DataError, NonFiniteError
from thalweg.plots import style

# --- two dimensions ---------------------------------------------------------------------------------------------------


@given(st.integers(3, 40), st.integers(2, 30), st.integers(0, 10**6))
def test_principal_components_are_scikit_learns(count, size, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, size)) * np.linspace(1, 4, size) + random.normal(size=size)
    points, shares = pca(x)
    true = PCA(2, svd_solver="full").fit(x)
    expected = true.transform(x)
    signs = np.sign((points * expected).sum(0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-8)
    np.testing.assert_allclose(shares, true.explained_variance_ratio_, atol=1e-10)


@pytest.mark.parametrize("x", [np.ones((5, 4)), np.arange(6.0)[:, None], np.zeros((2, 3))])
def test_what_has_no_second_direction_stays_on_a_line(x):
    points, shares = pca(x)
    assert points.shape == (len(x), 2) and np.allclose(points[:, 1], 0) and shares[1] < 1e-12
    assert np.isfinite(points).all()


@given(st.integers(6, 60), st.integers(1, 8), st.integers(0, 10**6))
def test_trustworthiness_is_scikit_learns(count, near, seed):
    random = np.random.default_rng(seed)
    near = min(near, (count - 1) // 2)
    x, y = random.normal(size=(count, 5)), random.normal(size=(count, 2))
    for drawn in (y, x[:, :2]):
        assert trustworthiness(x, drawn, near) == pytest.approx(true_trustworthiness(x, drawn, n_neighbors=near))
    assert trustworthiness(x, x, near) == 1


def test_more_examples_than_one_piece_holds():
    x = np.random.default_rng(0).normal(size=(1100, 4))
    assert trustworthiness(x, x[:, :2], 10) == pytest.approx(true_trustworthiness(x, x[:, :2], n_neighbors=10))


def test_t_sne_keeps_neighbours_and_is_the_same_again():
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=(25, 20)) + 12 * k for k in range(4)])
    first, again = tsne(x, 30, 1), tsne(x, 30, 1)
    np.testing.assert_array_equal(first, again)
    assert trustworthiness(x, first, 5) > 0.9
    few = tsne(x[:5], 30, 1)
    assert few.shape == (5, 2) and np.isfinite(few).all()


# --- answers ----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_entropy_is_scipys(classes, seed):
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), 7)
    np.testing.assert_allclose(entropy(p), scipy_entropy(p, base=2, axis=1), atol=1e-12)


def test_entropy_in_closed_form():
    p = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0.5, 0.25, 0.125, 0.125]]
    assert entropy(np.array(p)).tolist() == [0, 1, 2, 1.75]


def result(logits, labels, **asked):
    logits = np.asarray(logits, np.float64)
    count, classes = logits.shape
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), np.uint8)
    names, sources = [f"class {k}" for k in range(classes)], [f"picture {n}" for n in range(count)]
    return predictions(PredictionSettings(**asked), images, np.asarray(labels), names, logits, logits, sources)


def test_the_worst_and_the_least_sure_come_first():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.7, 0.3], [0.501, 0.499], [0.99, 0.01]])
    numbers = result(np.log(p), [0, 0, 0, 1, 1, 0], pictures=3).numbers
    assert [one["row"] for one in numbers["worst"]] == [1, 3, 2]
    assert [one["truth"] for one in numbers["worst"]] == pytest.approx([0.2, 0.3, 0.45])
    assert [one["row"] for one in numbers["unsure"]] == [4, 2, 3]
    assert numbers["worst"][0]["answer"] == 1 and numbers["worst"][0]["second"] == 0
    assert numbers["results"]["accuracy"] == pytest.approx(2 / 6)


def test_of_no_mistakes_none_is_shown():
    found = result(8 * np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0])
    assert found.numbers["worst"] == [] and found.frames[2].caption == "No example was mistaken."
    assert len({frame.draw().size for frame in found.frames}) == 1


def test_a_single_mistake_is_told_as_one():
    frames = result(8 * np.eye(2)[[0, 1, 0]], [0, 1, 1]).frames
    assert "the cross is the one mistake" in frames[0].caption and frames[2].caption == "The only mistake."
    assert frames[4].plot.figure(*frames[4].args).axes[-1].get_title() == "How unsure: 1 wrong answer"


def test_names_are_whole_where_there_is_room_and_stay_in_the_picture():
    images, names = np.zeros((3, 6, 6, 3), np.uint8), ["automobile", "a name longer than that"]
    logits = np.array([[2.0, 1.0], [1.0, 2.0], [1.5, 1.0]])
    found = predictions(PredictionSettings(), images, np.array([1, 0, 0]), names, logits, logits, ["a", "b", "c"])
    (axes,) = found.frames[2].plot.figure(*found.frames[2].args).axes
    assert {"automobile", "taken for automobile"} <= {text.get_text() for text in axes.texts}
    (axes,) = found.frames[0].plot.figure(*found.frames[0].args).axes
    (left, right) = axes.get_xlim()
    for text in axes.texts:
        half = style.text_width(text.get_text(), 12) / 2 * (right - left) / 820
        assert left <= text.get_position()[0] - half and text.get_position()[0] + half <= right


def test_answers_that_are_no_numbers_are_refused():
    with pytest.raises(NonFiniteError):
        result([[0.0, np.nan], [1.0, 0.0]], [0, 1])


@pytest.mark.parametrize("classes", [1, 2, 7, 40])
def test_any_number_of_classes_can_be_drawn(classes):
    random = np.random.default_rng(0)
    found = result(random.normal(size=(30, classes)), random.integers(0, classes, 30))
    assert len({frame.draw().size for frame in found.frames}) == 1


# --- a run of the user's ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("predictions") / "run"
    return thalweg.train("classify", "digits", model="lenet", steps=40, threads=1, out=out, report=False)


@pytest.fixture(scope="module")
def shown(run):
    return thalweg.explain("predictions", str(run.path))


def test_the_scores_are_those_that_the_run_was_given(run, shown):
    numbers, measured = shown.result.numbers, run.evaluate()["metrics"]
    for key in ("examples", "accuracy", "accuracy_low", "accuracy_high"):
        assert numbers["results"][key] == measured[key]
    assert numbers["calibration"]["error"] == pytest.approx(measured["calibration_error"], abs=1e-5)
    said, right = np.array(numbers["confidence"]), np.array(numbers["answers"]) == numbers["labels"]
    bins = np.minimum(np.ceil(said * 15).astype(int) - 1, 14)
    gaps = [abs(right[bins == b].mean() - said[bins == b].mean()) * np.mean(bins == b) for b in set(bins)]
    assert numbers["calibration"]["error"] == pytest.approx(sum(gaps))
    assert not shown.result.notes


def test_the_features_are_what_the_last_layer_reads(run):
    from thalweg.inference.inputs import test_predictions as outcomes

    found = outcomes.load([run], PredictionSettings(), None, True)
    features, head = torch.from_numpy(found["features"]), run.model.head
    np.testing.assert_allclose(head(features).detach().numpy(), found["logits"], atol=1e-4)
    assert found["features"].shape == (len(run.read().test), 500)
    assert not head._forward_pre_hooks


def test_features_that_are_maps_are_averaged(tmp_path):
    out = tmp_path / "a"
    run = thalweg.train(
        "classify", "digits", model="squeezenet1_1", steps=1, size=32, batch=8, threads=1, out=out, report=False,
        arguments={},
    )  # fmt: skip
    numbers = thalweg.explain("predictions", run, examples=20).result.numbers
    assert numbers["embedding"]["features"] == 512 and len(numbers["embedding"]["points"]) == 20


def test_fewer_examples_are_drawn_by_the_seed(run):
    first, other = (thalweg.explain("predictions", run, examples=30, seed=seed).result for seed in (0, 1))
    count = len(run.read().test)
    assert first.notes == [f"30 of {count} examples are used, drawn by the seed; --set examples says how many."]
    assert first.numbers["results"]["examples"] == 30 and first.numbers["labels"] != other.numbers["labels"]
    assert not thalweg.explain("predictions", run, examples=count).result.notes


def test_other_data_of_few_pictures(run, tmp_path):
    for name in ("3", "8"):
        (tmp_path / "few" / name).mkdir(parents=True)
        stroke = np.zeros((8, 8), np.uint8)
        stroke[1:7, int(name) // 2] = 200
        Image.fromarray(stroke).save(tmp_path / "few" / name / "a.png")
    found = thalweg.explain("predictions", run, tmp_path / "few")
    assert found.result.numbers["labels"] == [3, 8]
    assert found.result.numbers["embedding"]["trustworthiness"] is None
    assert found.result.key_numbers["neighbours kept (trustworthiness)"] == "too few examples"
    assert found.draw(1).size == found.draw(5).size


def test_data_of_which_nothing_is_left_are_refused(run, tmp_path):
    for name in ("3", "8"):
        (tmp_path / "blank" / name).mkdir(parents=True)
        Image.new("L", (40, 40), 255).save(tmp_path / "blank" / name / "a.png")
    with pytest.raises(DataError, match="blank has no examples"):
        thalweg.explain("predictions", run, tmp_path / "blank")


def test_t_sne_is_a_setting(run):
    found = thalweg.explain("predictions", run, embedding="t-sne", examples=60)
    numbers = found.result.numbers["embedding"]
    assert numbers["kind"] == "t-sne" and numbers["shares"] is None and 0.5 < numbers["trustworthiness"] <= 1
    assert "t-SNE" in found.result.frames[0].caption


def test_classes_that_the_network_does_not_know_are_refused(run, tmp_path, capsys):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "dog").mkdir(parents=True)
    for n, name in enumerate(("cat", "dog")):
        Image.fromarray(np.full((8, 8), 90 * n, np.uint8)).save(tmp_path / "pets" / name / "a.png")
    assert cli.invoke(["explain", "predictions", str(run.path), str(tmp_path / "pets")]) == 3
    assert "has the classes cat, dog; run knows 0, 1, 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "no run is named"),
        (["."], 4, "is not a run"),
        (["digits"], 2, "digits is data, and no run or model"),
        (["no-such-run"], 2, "no run or network named 'no-such-run'"),
        (["digits-lenet", "digits", "more"], 2, "more is one word too many"),
        (["digits-lenet", "no-such-data"], 2, "no data set 'no-such-data'"),
        (["digits-lenet", "digits", "--set", "embedding=umap"], 2, "pca, t-sne"),
        (["digits-lenet", "digits", "--set", "examples=1"], 2, "not from 2 to 10000"),
    ],
)
def test_what_cannot_be_asked_is_refused(words, code, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "predictions", *words]) == code
    assert told in capsys.readouterr().err
