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


def accumulate(probabilities, labels, cuts=()) -> MetricAccumulator:
    scores = MetricAccumulator(probabilities.shape[1])
    for p_NK, label_N in zip(np.split(probabilities, cuts), np.split(labels, cuts), strict=True):
        scores.add(p_NK, label_N)
    return scores


@given(predictions())
@settings(deadline=None)
def test_accuracy_and_macro_means_match_scikit_learn(case):
    """The macro means are over the classes that occur in the labels, for all three metrics."""
    probabilities, labels = case
    predicted = probabilities.argmax(1)
    results = accumulate(probabilities, labels).results()
    occurring = np.unique(labels)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        labels, predicted, labels=occurring, average="macro", zero_division=0
    )
    assert results["macro_classes"] == len(occurring)
    assert results["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted), abs=1e-12)
    assert results["macro_precision"] == pytest.approx(precision, abs=1e-12)
    assert results["macro_recall"] == pytest.approx(recall, abs=1e-12)
    assert results["macro_f1"] == pytest.approx(f1, abs=1e-12)
    assert results["accuracy_low"] <= results["accuracy"] <= results["accuracy_high"]


@given(predictions())
@settings(deadline=None)
def test_per_class_metrics_and_confusion_match_scikit_learn(case):
    probabilities, labels = case
    predicted = probabilities.argmax(1)
    classes = range(probabilities.shape[1])
    scores = accumulate(probabilities, labels)
    assert np.array_equal(scores.confusion, oracle.confusion_matrix(labels, predicted, labels=classes))
    theirs = oracle.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    for key, values in zip(("precision", "recall", "f1", "examples"), theirs, strict=True):
        values = [None if math.isnan(v) else pytest.approx(v, abs=1e-12) for v in values]
        assert [row[key] for row in scores.per_class] == values


@given(predictions())
@settings(deadline=None)
def test_log_loss_matches_scikit_learn_for_positive_probabilities(case):
    probabilities, labels = case
    probabilities = 0.9 * probabilities + 0.1 / probabilities.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = oracle.log_loss(labels, probabilities, labels=range(probabilities.shape[1]))
    assert accumulate(probabilities, labels).results()["loss"] == pytest.approx(theirs, abs=1e-12)


@given(predictions(), st.integers(1, 7))
@settings(deadline=None)
def test_top_k_accuracy_matches_scikit_learn_without_ties(case, k):
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
def test_rank_0_means_correct_also_with_ties(case):
    predictions = ours.score_predictions(*case)
    assert np.array_equal(predictions.rank_N == 0, predictions.predicted_N == predictions.label_N)


def test_top_5_of_three_classes_is_1():
    assert accumulate(np.array([[1.0, 0.0, 0.0]]), np.array([2])).results()["top5"] == 1.0


def test_the_loss_of_a_true_class_with_probability_0_is_finite():
    loss = accumulate(np.array([[1.0, 0.0]]), np.array([1])).results()["loss"]
    assert loss == pytest.approx(87.3365, abs=1e-3)


@given(predictions(), st.lists(st.integers(0, 40), max_size=5))
@settings(deadline=None)
def test_metrics_do_not_depend_on_the_batches(case, cuts):
    full = accumulate(*case)
    batches = accumulate(*case, sorted(cuts))
    assert full.results() == batches.results()
    assert full.per_class == batches.per_class
    assert np.array_equal(full.confusion, batches.confusion)
    assert np.array_equal(full.worst_mistakes(9), batches.worst_mistakes(9))


@given(predictions(), st.integers(0, 99))
@settings(deadline=None)
def test_metrics_do_not_depend_on_the_order_of_the_examples(case, seed):
    order = np.random.default_rng(seed).permutation(len(case[1]))
    assert accumulate(*case).results() == accumulate(case[0][order], case[1][order]).results()


def test_metrics_are_available_between_batches():
    probabilities = np.eye(3)
    labels = np.arange(3)
    scores = MetricAccumulator(3)
    for n in range(3):
        scores.add(probabilities[n : n + 1], labels[n : n + 1])
        assert scores.results()["examples"] == len(scores) == n + 1


def test_metrics_of_no_examples_are_none():
    results = MetricAccumulator(3).results()
    assert results.pop("examples") == results.pop("macro_classes") == 0
    assert (results.pop("accuracy_low"), results.pop("accuracy_high")) == (0.0, 1.0)
    assert set(results.values()) == {None}
    assert {tuple(row.values()) for row in MetricAccumulator(3).per_class} == {(None, None, None, 0)}


@given(predictions(smallest=0))
@settings(deadline=None)
def test_results_are_strict_json(case):
    scores = accumulate(*case)
    for value in (scores.results(), scores.per_class):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_float32_and_float64_give_the_same_metrics():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 50).astype(np.float32)
    labels = np.arange(50) % 4
    assert accumulate(probabilities, labels).results() == accumulate(probabilities.astype(np.float64), labels).results()


def test_the_worst_mistake_has_the_least_probable_true_class():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.8, 0.2], [0.01, 0.99]])
    labels = np.array([1, 1, 1, 0, 1])
    assert accumulate(probabilities, labels).worst_mistakes(9).tolist() == [2, 0, 1]
    assert accumulate(probabilities, labels).worst_mistakes(2).tolist() == [2, 0]


def test_macro_means_ignore_classes_that_do_not_occur():
    """Two of ten classes occur: the predictions of others do not dilute precision and F1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    predicted = np.where(rng.random(300) < 0.95, labels, rng.integers(2, 10, 300))
    probabilities = 0.9 * np.eye(10)[predicted] + 0.01
    results = accumulate(probabilities, labels).results()
    assert results["macro_classes"] == 2
    assert results["macro_precision"] == 1.0
    recall = oracle.recall_score(labels, predicted, labels=[0, 1], average="macro")
    f1 = oracle.f1_score(labels, predicted, labels=[0, 1], average="macro")
    assert results["macro_recall"] == pytest.approx(recall, abs=1e-12)
    assert results["macro_f1"] == pytest.approx(f1, abs=1e-12) and f1 > 0.9


def test_the_precision_of_a_class_that_is_never_predicted_counts_as_0():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    scores = accumulate(probabilities, np.array([0, 1]))
    assert scores.per_class[1]["precision"] is None and scores.per_class[2]["recall"] is None
    results = scores.results()
    assert (results["macro_precision"], results["macro_recall"]) == (0.25, 0.5)
    assert results["macro_f1"] == pytest.approx(1 / 3) and results["macro_classes"] == 2


SHAPES = [((3, 4), (3,)), ((3, 2), (4,)), ((3, 2), (3, 1)), ((3, 3, 2), (3, 3)), ((2,), ())]


@pytest.mark.parametrize(("probabilities", "labels"), SHAPES)
def test_shapes_that_do_not_fit_are_rejected(probabilities, labels):
    with pytest.raises(DataError) as error:
        MetricAccumulator(2).add(np.zeros(probabilities), np.zeros(labels, int))
    assert error.value.value == (probabilities, labels)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_rejected(label):
    with pytest.raises(DataError) as error:
        MetricAccumulator(2).add(np.full((2, 2), 0.5), np.array([0, label]))
    assert error.value.value == label and error.value.allowed == range(2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_probability_that_is_not_finite_is_rejected_with_its_index(value):
    scores = MetricAccumulator(2)
    scores.add(np.full((4, 2), 0.5), np.zeros(4, int))
    with pytest.raises(NonFiniteError) as error:
        scores.add(np.array([[0.5, 0.5], [0.5, 0.5], [value, 0.5]]), np.zeros(3, int))
    assert error.value.indices == (6,)
    assert len(scores) == 4
