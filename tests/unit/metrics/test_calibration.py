import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve

from thalweg.metrics.calibration import expected_calibration_error, reliability_bins

confidences = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1))


@given(confidences, st.integers(1, 20), st.integers(0, 99))
def test_bins_match_scikit_learn(confidence, num_bins, seed):
    correct = np.random.default_rng(seed).random(len(confidence)) < 0.5
    ours = reliability_bins(confidence, correct, num_bins)
    accuracy, mean_confidence = calibration_curve(correct, confidence, pos_label=True, n_bins=num_bins)
    filled = ours.count_M > 0
    assert np.allclose(ours.accuracy_M[filled], accuracy, rtol=0, atol=1e-12)
    assert np.allclose(ours.confidence_M[filled], mean_confidence, rtol=0, atol=1e-12)
    assert ours.count_M.sum() == len(confidence)
    assert np.isnan(ours.accuracy_M[~filled]).all() and np.isnan(ours.confidence_M[~filled]).all()


def test_an_edge_belongs_to_the_lower_bin():
    assert reliability_bins(np.array([0.0, 0.5, 0.500001, 1.0]), np.ones(4, bool), 2).count_M.tolist() == [2, 2]


@given(confidences, st.integers(0, 99))
def test_the_error_is_the_mean_gap_between_confidence_and_accuracy(confidence, seed):
    correct = np.random.default_rng(seed).random(len(confidence)) < 0.5
    gaps = []
    for m in range(15):
        inside = [i for i, c in enumerate(confidence) if m / 15 < c <= (m + 1) / 15 or (m == 0 and c == 0)]
        if inside:
            gaps.append(abs(sum(correct[i] for i in inside) - sum(confidence[i] for i in inside)))
    expected = sum(gaps) / len(confidence)
    assert expected_calibration_error(reliability_bins(confidence, correct)) == pytest.approx(expected, abs=1e-12)


@given(confidences, st.integers(0, 99))
def test_bins_do_not_depend_on_the_order_of_the_examples(confidence, seed):
    generator = np.random.default_rng(seed)
    correct = generator.random(len(confidence)) < 0.5
    order = generator.permutation(len(confidence))
    bins = reliability_bins(confidence, correct)
    shuffled = reliability_bins(confidence[order], correct[order])
    for first, second in zip(bins, shuffled, strict=True):
        assert np.array_equal(first, second, equal_nan=True)


def test_calibrated_confidence_has_error_0():
    confidence = np.full(10, 0.7)
    correct = np.arange(10) < 7
    assert expected_calibration_error(reliability_bins(confidence, correct)) == pytest.approx(0, abs=1e-15)


def test_full_confidence_in_wrong_predictions_has_error_1():
    assert expected_calibration_error(reliability_bins(np.ones(3), np.zeros(3, bool))) == 1.0


def test_the_error_of_no_examples_is_nan():
    assert math.isnan(expected_calibration_error(reliability_bins(np.empty(0), np.empty(0, bool))))
