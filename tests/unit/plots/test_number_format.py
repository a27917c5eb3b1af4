"""Formatted numbers equal the number, to as many digits as fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.plots.number_format import format_number


def parse(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-0.00043857123, "−0.00043857"),
        (1500, "1500"),
        (99999.7, "100000"),
        (123456.7, "123457"),
        (1e7, "1e7"),
        (-1.77442e9, "−1.7744e9"),
        (3e-9, "3e−9"),
        (0.000035102, "0.000035102"),
    ],
)
def test_numbers_have_five_digits_and_powers_of_ten_only_where_they_are_shorter(value, text):
    assert format_number(value) == text


@given(st.floats(-1e30, 1e30), st.integers(1, 10))
def test_text_equals_the_number_to_its_digits(value, digits):
    assert parse(format_number(value, digits)) == pytest.approx(value, rel=0.5001 * 10 ** (1 - digits), abs=0)


@given(st.floats(-1e30, 1e30), st.integers(7, 12))
def test_text_has_at_most_max_length_characters_and_at_least_one_digit(value, max_length):
    text = format_number(value, 5, max_length)
    assert len(text) <= max_length
    assert parse(text) == pytest.approx(value, rel=0.5001, abs=1e-300)
