import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from thalweg.errors import DataError, NonFiniteError
from thalweg.metrics import classification as ours
from thalweg.metrics.classification import MetricAccumulator


@st.composite
def predictions(draw, smallest=1):
    """(probabilities, labels): rows that sum to 1, some classes empty, some probabilities 0, some equal."""
    rows, classes = draw(st.integers(smallest, 40)), draw(st.integers(2, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = generator.integers(0, 6, (rows, classes)).astype(float)
    if draw(st.booleans()):
        weights += generator.random((rows, classes))
    weights[weights.sum(1) == 0] = 1
    occurring = generator.choice(classes, draw(st.integers(1, classes)), replace=False)
    return weights / weights.sum(1, keepdims=True), generator.choice(occurring, rows)


def scored(probabilities, labels, cuts=()) -> MetricAccumulator:
    scores = MetricAccumulator(probabilities.shape[1])
    for p, t in zip(np.split(probabilities, cuts), np.split(labels, cuts), strict=True):
        scores.add(p, t)
    return scores


@given(predictions())
@settings(deadline=None)
def test_accuracy_and_macro_means_are_those_of_scikit_learn(case):
    probabilities, labels = case
    predicted, classes = probabilities.argmax(1), range(probabilities.shape[1])
    results = scored(probabilities, labels).results()
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        labels, predicted, labels=classes, average="macro", zero_division=np.nan
    )
    assert results["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted), abs=1e-12)
    assert results["macro_precision"] == pytest.approx(precision, abs=1e-12)
    assert results["macro_recall"] == pytest.approx(recall, abs=1e-12)
    assert results["macro_f1"] == pytest.approx(f1, abs=1e-12)
    assert results["accuracy_low"] <= results["accuracy"] <= results["accuracy_high"]


@given(predictions())
@settings(deadline=None)
def test_the_figures_per_class_and_the_confusion_are_those_of_scikit_learn(case):
    probabilities, labels = case
    predicted, classes = probabilities.argmax(1), range(probabilities.shape[1])
    scores = scored(probabilities, labels)
    assert np.array_equal(scores.confusion, oracle.confusion_matrix(labels, predicted, labels=classes))
    theirs = oracle.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    for key, values in zip(("precision", "recall", "f1", "examples"), theirs, strict=True):
        values = [None if math.isnan(v) else pytest.approx(v, abs=1e-12) for v in values]
        assert [row[key] for row in scores.per_class] == values


@given(predictions())
@settings(deadline=None)
def test_log_loss_is_that_of_scikit_learn_where_the_truth_is_possible(case):
    probabilities, labels = case
    probabilities = 0.9 * probabilities + 0.1 / probabilities.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = oracle.log_loss(labels, probabilities, labels=range(probabilities.shape[1]))
    assert scored(probabilities, labels).results()["loss"] == pytest.approx(theirs, abs=1e-12)


@given(predictions(), st.integers(1, 7))
@settings(deadline=None)
def test_top_k_is_that_of_scikit_learn_where_no_two_are_equal(case, k):
    _, labels = case
    probabilities = np.random.default_rng(k).dirichlet(np.ones(case[0].shape[1]), len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k as large as the number of classes
        if probabilities.shape[1] == 2:
            theirs = oracle.top_k_accuracy_score(labels, probabilities[:, 1], k=k, labels=[0, 1]) if k == 1 else 1.0
        else:
            theirs = oracle.top_k_accuracy_score(labels, probabilities, k=k, labels=range(probabilities.shape[1]))
    assert ours.top_k_accuracy(ours.score_predictions(probabilities, labels), k) == pytest.approx(theirs, abs=1e-12)


@given(predictions())
@settings(deadline=None)
def test_top_1_is_the_accuracy_also_among_equals(case):
    judged = ours.score_predictions(*case)
    assert np.array_equal(judged.rank_N == 0, judged.predicted_N == judged.label_N)


def test_top_5_of_three_classes_is_certain():
    assert scored(np.array([[1.0, 0.0, 0.0]]), np.array([2])).results()["top5"] == 1.0


def test_an_impossible_truth_costs_much_but_not_everything():
    loss = scored(np.array([[1.0, 0.0]]), np.array([1])).results()["loss"]
    assert loss == pytest.approx(87.3365, abs=1e-3)


@given(predictions(), st.lists(st.integers(0, 40), max_size=5))
@settings(deadline=None)
def test_how_the_batches_were_cut_cannot_be_seen(case, cuts):
    whole, parts = scored(*case), scored(*case, sorted(cuts))
    assert whole.results() == parts.results()
    assert whole.per_class == parts.per_class
    assert np.array_equal(whole.confusion, parts.confusion)
    assert np.array_equal(whole.worst(9), parts.worst(9))


@given(predictions(), st.integers(0, 99))
@settings(deadline=None)
def test_the_order_of_the_examples_cannot_be_seen(case, seed):
    order = np.random.default_rng(seed).permutation(len(case[1]))
    assert scored(*case).results() == scored(case[0][order], case[1][order]).results()


def test_figures_may_be_asked_for_between_batches():
    probabilities, labels = np.eye(3), np.arange(3)
    scores = MetricAccumulator(3)
    for n in range(3):
        scores.add(probabilities[n : n + 1], labels[n : n + 1])
        assert scores.results()["examples"] == len(scores) == n + 1


def test_without_examples_everything_is_undefined_and_still_json():
    results = MetricAccumulator(3).results()
    assert results.pop("examples") == 0
    assert (results.pop("accuracy_low"), results.pop("accuracy_high")) == (0.0, 1.0)
    assert set(results.values()) == {None}
    assert {tuple(row.values()) for row in MetricAccumulator(3).per_class} == {(None, None, None, 0)}


@given(predictions(smallest=0))
@settings(deadline=None)
def test_results_are_strict_json(case):
    scores = scored(*case)
    for value in (scores.results(), scores.per_class):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_float32_and_float64_give_one_answer():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 50).astype(np.float32)
    labels = np.arange(50) % 4
    assert scored(probabilities, labels).results() == scored(probabilities.astype(np.float64), labels).results()


def test_the_worst_mistake_is_the_one_that_held_the_truth_least_likely():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.8, 0.2], [0.01, 0.99]])
    labels = np.array([1, 1, 1, 0, 1])
    assert scored(probabilities, labels).worst(9).tolist() == [2, 0, 1]
    assert scored(probabilities, labels).worst(2).tolist() == [2, 0]


def test_shapes_that_do_not_fit_are_named():
    for probabilities, labels in [((3, 4), (3,)), ((3, 2), (4,)), ((3, 2), (3, 1)), ((3, 3, 2), (3, 3)), ((2,), ())]:
        with pytest.raises(DataError, match=r"for 2 classes") as error:
            MetricAccumulator(2).add(np.zeros(probabilities), np.zeros(labels, int))
        assert str(probabilities) in error.value.message


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused(label):
    with pytest.raises(DataError, match=f"labels from .*{label}"):
        MetricAccumulator(2).add(np.full((2, 2), 0.5), np.array([0, label]) if label > 0 else np.array([label, 0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_probability_that_is_no_number_names_its_example(value):
    scores = MetricAccumulator(2)
    scores.add(np.full((4, 2), 0.5), np.zeros(4, int))
    with pytest.raises(NonFiniteError, match="example 6") as error:
        scores.add(np.array([[0.5, 0.5], [0.5, 0.5], [value, 0.5]]), np.zeros(3, int))
    assert error.value.indices == (6,)
    assert len(scores) == 4
