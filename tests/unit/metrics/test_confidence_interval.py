import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from thalweg.metrics.confidence_interval import wilson_interval


@given(trials=st.integers(1, 100_000), share=st.floats(0, 1), level=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_it_is_the_interval_of_scipy(trials, share, level):
    successes = round(trials * share)
    theirs = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson_interval(successes, trials, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(trials=st.integers(1, 100_000), share=st.floats(0, 1))
def test_it_holds_the_share_and_stays_between_0_and_1(trials, share):
    successes = round(trials * share)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


def test_a_perfect_test_is_not_proof_of_perfection():
    low, high = wilson_interval(100, 100)
    assert high == 1.0 and low == pytest.approx(0.96300, abs=1e-5)


def test_no_trials_tell_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
