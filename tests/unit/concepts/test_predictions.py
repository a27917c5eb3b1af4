"""Predictions on a test set against scikit-learn, SciPy, closed forms, and the metrics of the run itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import entropy as scipy_entropy
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.predictions.compute import PredictionSettings, entropy, predictions
from thalweg.concepts.predictions.projection import pca, trustworthiness, tsne
from thalweg.config.options import parse_options
from thalweg.errors import DataError, NonFiniteError, OptionError
from thalweg.inference.inputs import test_predictions as predictions_input
from thalweg.plots import style

# --- projection to two dimensions -------------------------------------------------------------------------------------


@given(st.integers(3, 40), st.integers(2, 30), st.integers(0, 10**6))
def test_principal_components_match_scikit_learn(count, size, seed):
    random = np.random.default_rng(seed)
    x_ND = random.normal(size=(count, size)) * np.linspace(1, 4, size) + random.normal(size=size)
    points_N2, fractions = pca(x_ND)
    reference = PCA(2, svd_solver="full").fit(x_ND)
    expected_N2 = reference.transform(x_ND)
    signs = np.sign((points_N2 * expected_N2).sum(0))
    np.testing.assert_allclose(points_N2 * signs, expected_N2, atol=1e-8)
    np.testing.assert_allclose(fractions, reference.explained_variance_ratio_, atol=1e-10)


@pytest.mark.parametrize("x_ND", [np.ones((5, 4)), np.arange(6.0)[:, None], np.zeros((2, 3))])
def test_missing_components_are_zero(x_ND):
    points_N2, fractions = pca(x_ND)
    assert points_N2.shape == (len(x_ND), 2)
    assert np.allclose(points_N2[:, 1], 0)
    assert fractions[1] < 1e-12
    assert np.isfinite(points_N2).all()


@given(st.integers(6, 60), st.integers(1, 8), st.integers(0, 10**6))
def test_trustworthiness_matches_scikit_learn(count, neighbors, seed):
    random = np.random.default_rng(seed)
    neighbors = min(neighbors, (count - 1) // 2)
    x_ND = random.normal(size=(count, 5))
    for y_N2 in (random.normal(size=(count, 2)), x_ND[:, :2]):
        expected = sklearn_trustworthiness(x_ND, y_N2, n_neighbors=neighbors)
        assert trustworthiness(x_ND, y_N2, neighbors) == pytest.approx(expected)
    assert trustworthiness(x_ND, x_ND, neighbors) == 1


def test_trustworthiness_of_several_batches_matches_scikit_learn():
    x_ND = np.random.default_rng(0).normal(size=(1100, 4))
    expected = sklearn_trustworthiness(x_ND, x_ND[:, :2], n_neighbors=10)
    assert trustworthiness(x_ND, x_ND[:, :2], 10) == pytest.approx(expected)


def test_t_sne_preserves_neighbors_and_is_reproducible():
    random = np.random.default_rng(0)
    x_ND = np.concatenate([random.normal(size=(25, 20)) + 12 * k for k in range(4)])
    points_N2 = tsne(x_ND, 30, 1)
    np.testing.assert_array_equal(points_N2, tsne(x_ND, 30, 1))
    assert trustworthiness(x_ND, points_N2, 5) > 0.9


def test_t_sne_accepts_fewer_examples_than_the_perplexity():
    points_N2 = tsne(np.random.default_rng(0).normal(size=(5, 20)), 30, 1)
    assert points_N2.shape == (5, 2)
    assert np.isfinite(points_N2).all()


# --- entropy and single examples --------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_entropy_matches_scipy(num_classes, seed):
    p_NK = np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.3), 7)
    np.testing.assert_allclose(entropy(p_NK), scipy_entropy(p_NK, base=2, axis=1), atol=1e-12)


def test_entropy_matches_closed_forms():
    p_NK = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0.5, 0.25, 0.125, 0.125]]
    assert entropy(np.array(p_NK)).tolist() == [0, 1, 2, 1.75]


def explain(logits, labels, classes=None, **settings):
    """Explain these logits, which are also the features."""
    logits_NK = np.asarray(logits, np.float64)
    count, num_classes = logits_NK.shape
    return predictions(
        PredictionSettings(**settings),
        images=np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), np.uint8),
        labels=np.asarray(labels),
        classes=classes or [f"class {k}" for k in range(num_classes)],
        logits=logits_NK,
        features=logits_NK,
        sources=[f"image {n}" for n in range(count)],
    )


def test_the_worst_mistakes_and_the_least_certain_predictions_come_first():
    p_NK = np.array([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.7, 0.3], [0.501, 0.499], [0.99, 0.01]])
    numbers = explain(np.log(p_NK), [0, 0, 0, 1, 1, 0], images=3).numbers
    mistakes = numbers["mistakes"]
    assert [example["index"] for example in mistakes] == [1, 3, 2]
    assert [example["label_probability"] for example in mistakes] == pytest.approx([0.2, 0.3, 0.45])
    assert [example["index"] for example in numbers["uncertain"]] == [4, 2, 3]
    assert mistakes[0]["prediction"] == 1 and mistakes[0]["runner_up"] == 0
    assert numbers["metrics"]["accuracy"] == pytest.approx(2 / 6)


def test_predictions_without_mistakes_can_be_plotted():
    result = explain(8 * np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0])
    assert result.numbers["mistakes"] == []
    assert len({frame.draw().size for frame in result.frames}) == 1


def test_one_mistake_is_counted_in_the_singular():
    result = explain(8 * np.eye(2)[[0, 1, 0]], [0, 1, 1])
    assert len(result.numbers["mistakes"]) == 1
    frame = result.frames[4]
    assert frame.plot.__wrapped__(*frame.args).axes[-1].get_title().endswith("1 wrong prediction")


def test_class_names_are_complete_where_they_fit_and_stay_inside_the_axes():
    logits = [[2.0, 1.0], [1.0, 2.0], [1.5, 1.0]]
    frames = explain(logits, [1, 0, 0], ["automobile", "a name longer than that"]).frames
    (axes,) = frames[2].plot.__wrapped__(*frames[2].args).axes
    texts = {text.get_text() for text in axes.texts}
    assert "automobile" in texts
    assert any(text.endswith(" automobile") for text in texts)
    (axes,) = frames[0].plot.__wrapped__(*frames[0].args).axes
    left, right = axes.get_xlim()
    for text in axes.texts:
        x = text.get_position()[0]
        half_width = style.text_width(text.get_text(), 12) / 2 * (right - left) / 820
        assert left <= x - half_width and x + half_width <= right


def test_logits_of_nan_are_rejected():
    with pytest.raises(NonFiniteError):
        explain([[0.0, np.nan], [1.0, 0.0]], [0, 1])


@pytest.mark.parametrize("num_classes", [1, 2, 7, 40])
def test_any_number_of_classes_can_be_plotted(num_classes):
    random = np.random.default_rng(0)
    result = explain(random.normal(size=(30, num_classes)), random.integers(0, num_classes, 30))
    assert len({frame.draw().size for frame in result.frames}) == 1


# --- runs and data ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("predictions") / "run"
    return thalweg.train("classify", "digits", model="lenet", steps=40, cpu_threads=1, out=out, report=False)


@pytest.fixture(scope="module")
def run_result(run):
    return thalweg.explain("predictions", str(run.path)).result


def test_metrics_match_those_of_the_run(run, run_result):
    metrics = run.evaluate()["metrics"]
    for key in ("examples", "accuracy", "accuracy_low", "accuracy_high"):
        assert run_result.numbers["metrics"][key] == metrics[key]
    assert run_result.numbers["calibration"]["error"] == pytest.approx(metrics["calibration_error"], abs=1e-5)
    assert not run_result.notes


def test_calibration_error_matches_its_definition(run_result):
    numbers = run_result.numbers
    confidence_N = np.array(numbers["confidence"])
    is_correct_N = np.array(numbers["predictions"]) == numbers["labels"]
    bin_N = np.minimum(np.ceil(confidence_N * 15).astype(int) - 1, 14)
    gaps = []
    for b in set(bin_N):
        in_bin = bin_N == b
        gaps.append(abs(is_correct_N[in_bin].mean() - confidence_N[in_bin].mean()) * np.mean(in_bin))
    assert numbers["calibration"]["error"] == pytest.approx(sum(gaps))


def test_features_are_the_input_of_the_last_layer(run):
    data = predictions_input.load_input([run], PredictionSettings(), None, True)
    head = run.model.head
    logits = head(torch.from_numpy(data["features"])).detach().numpy()
    np.testing.assert_allclose(logits, data["logits"], atol=1e-4)
    assert data["features"].shape == (len(run.load_data().test), 500)
    assert not head._forward_pre_hooks


def test_feature_maps_are_averaged_over_pixels(tmp_path):
    run = thalweg.train(
        "classify",
        "digits",
        model="squeezenet1_1",
        steps=1,
        image_size=32,
        batch_size=8,
        cpu_threads=1,
        out=tmp_path / "a",
        report=False,
        model_kwargs={},
    )
    projection = thalweg.explain("predictions", run, examples=20).result.numbers["projection"]
    assert projection["num_features"] == 512
    assert len(projection["points"]) == 20


def test_a_sample_of_examples_depends_on_the_seed(run):
    first, other = (thalweg.explain("predictions", run, examples=30, seed=seed).result for seed in (0, 1))
    count = len(run.load_data().test)
    assert len(first.notes) == 1
    assert "30" in first.notes[0] and str(count) in first.notes[0]
    assert first.numbers["metrics"]["examples"] == 30
    assert first.numbers["labels"] != other.numbers["labels"]
    assert not thalweg.explain("predictions", run, examples=count).result.notes


def test_data_of_two_images_can_be_explained(run, tmp_path):
    for name in ("3", "8"):
        (tmp_path / "few" / name).mkdir(parents=True)
        stroke = np.zeros((8, 8), np.uint8)
        stroke[1:7, int(name) // 2] = 200
        Image.fromarray(stroke).save(tmp_path / "few" / name / "a.png")
    rendered = thalweg.explain("predictions", run, tmp_path / "few")
    assert rendered.result.numbers["labels"] == [3, 8]
    assert rendered.result.numbers["projection"]["trustworthiness"] is None
    assert rendered.draw(1).size == rendered.draw(5).size


def test_data_without_usable_images_is_rejected(run, tmp_path):
    for name in ("3", "8"):
        (tmp_path / "blank" / name).mkdir(parents=True)
        Image.new("L", (40, 40), 255).save(tmp_path / "blank" / name / "a.png")
    with pytest.raises(DataError) as error:
        thalweg.explain("predictions", run, tmp_path / "blank")
    assert "blank" in error.value.message


def test_t_sne_replaces_pca(run):
    result = thalweg.explain("predictions", run, projection="t-sne", examples=60).result
    projection = result.numbers["projection"]
    assert projection["method"] == "t-sne"
    assert projection["explained_variance"] is None
    assert 0.5 < projection["trustworthiness"] <= 1
    assert "t-SNE" in result.frames[0].caption


def test_unknown_classes_are_rejected(run, tmp_path, capsys):
    for level, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 90 * level, np.uint8)).save(tmp_path / "pets" / name / "a.png")
    assert cli.invoke(["explain", "predictions", str(run.path), str(tmp_path / "pets")]) == 3
    assert "cat, dog" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "predictions"),
        (["."], 4, "."),
        (["digits"], 2, "digits"),
        (["no-such-run"], 2, "'no-such-run'"),
        (["digits-lenet", "digits", "more"], 2, "more"),
        (["digits-lenet", "no-such-data"], 2, "'no-such-data'"),
        (["digits-lenet", "digits", "--set", "projection=umap"], 2, "pca, t-sne"),
        (["digits-lenet", "digits", "--set", "examples=1"], 2, "examples"),
    ],
)
def test_invalid_arguments_are_rejected(words, code, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "predictions", *words]) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"examples": 1}, {"projection": "umap"}, {"images": 19}], ids=str)
def test_settings_out_of_range_are_rejected(settings):
    with pytest.raises(OptionError):
        parse_options(settings, PredictionSettings)
