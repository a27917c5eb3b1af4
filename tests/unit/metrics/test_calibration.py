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
def test_the_bins_are_those_of_scikit_learn(confidence, bins, seed):
    right = np.random.default_rng(seed).random(len(confidence)) < 0.5
    ours = reliability_bins(confidence, right, bins)
    accuracy, mean_confidence = calibration_curve(right, confidence, pos_label=True, n_bins=bins)
    full = ours.count_M > 0
    assert np.allclose(ours.accuracy_M[full], accuracy, rtol=0, atol=1e-12)
    assert np.allclose(ours.confidence_M[full], mean_confidence, rtol=0, atol=1e-12)
    assert ours.count_M.sum() == len(confidence)
    assert np.isnan(ours.accuracy_M[~full]).all() and np.isnan(ours.confidence_M[~full]).all()


def test_an_edge_belongs_to_the_lower_bin():
    assert reliability_bins(np.array([0.0, 0.5, 0.500001, 1.0]), np.ones(4), 2).count_M.tolist() == [2, 2]


@given(confidences, st.integers(0, 99))
def test_the_error_is_the_mean_gap_between_saying_and_being_right(confidence, seed):
    right = np.random.default_rng(seed).random(len(confidence)) < 0.5
    gaps = []
    for m in range(15):
        inside = [i for i, c in enumerate(confidence) if m / 15 < c <= (m + 1) / 15 or (m == 0 and c == 0)]
        if inside:
            gaps.append(abs(sum(right[i] for i in inside) - sum(confidence[i] for i in inside)))
    expected = sum(gaps) / len(confidence)
    assert expected_calibration_error(reliability_bins(confidence, right)) == pytest.approx(expected, abs=1e-12)


@given(confidences, st.integers(0, 99))
def test_the_order_of_the_examples_cannot_be_seen(confidence, seed):
    generator = np.random.default_rng(seed)
    right = generator.random(len(confidence)) < 0.5
    order = generator.permutation(len(confidence))
    for one, other in zip(
        reliability_bins(confidence, right), reliability_bins(confidence[order], right[order]), strict=True
    ):
        assert np.array_equal(one, other, equal_nan=True)


def test_whoever_is_right_as_often_as_said_has_no_error():
    confidence, right = np.full(10, 0.7), np.arange(10) < 7
    assert expected_calibration_error(reliability_bins(confidence, right)) == pytest.approx(0, abs=1e-15)


def test_whoever_is_sure_and_wrong_has_error_1():
    assert expected_calibration_error(reliability_bins(np.ones(3), np.zeros(3, bool))) == 1.0


def test_no_examples_have_no_error_to_speak_of():
    assert math.isnan(expected_calibration_error(reliability_bins(np.empty(0), np.empty(0))))
