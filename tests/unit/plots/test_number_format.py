"""Numbers for people: what is told is the number, to as many digits as there is room for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.plots.number_format import format_number


def read(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.parametrize(
    "value, told",
    [
        *[(0.0, "0"), (-0.0, "0"), (0.1, "0.1"), (-0.00043857123, "−0.00043857"), (1500, "1500"), (99999.7, "100000")],
        *[(123456.7, "123457"), (1e7, "1e7"), (-1.77442e9, "−1.7744e9"), (3e-9, "3e−9"), (0.000035102, "0.000035102")],
    ],
)
def test_five_digits_and_powers_of_ten_only_where_they_help(value, told):
    assert format_number(value) == told


@given(st.floats(-1e30, 1e30), st.integers(1, 10))
def test_it_is_the_number_to_so_many_digits(value, digits):
    assert read(format_number(value, digits)) == pytest.approx(value, rel=0.5001 * 10 ** (1 - digits), abs=0)


@given(st.floats(-1e30, 1e30), st.integers(7, 12))
def test_it_keeps_to_the_room_and_to_two_digits_at_least(value, most):
    text = format_number(value, 5, most)
    assert len(text) <= most
    assert read(text) == pytest.approx(value, rel=0.5001, abs=1e-300)
