import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from thalweg.metrics.confidence_interval import wilson_interval


@given(trials=st.integers(1, 100_000), fraction=st.floats(0, 1), level=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_interval_matches_scipy(trials, fraction, level):
    successes = round(trials * fraction)
    theirs = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson_interval(successes, trials, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(trials=st.integers(1, 100_000), fraction=st.floats(0, 1))
def test_the_interval_contains_the_fraction_and_stays_in_0_to_1(trials, fraction):
    successes = round(trials * fraction)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


def test_100_of_100_do_not_prove_certainty():
    low, high = wilson_interval(100, 100)
    assert high == 1.0 and low == pytest.approx(0.96300, abs=1e-5)


def test_no_trials_give_the_full_interval():
    assert wilson_interval(0, 0) == (0.0, 1.0)
