"""Cells with numbers: how numbers are formatted, that they fit, and what colors mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.plots import style
from thalweg.plots.value_grid import diverging_colors, draw_cells, fit_font_size, format_cell, gray_colors, to_array

FORMATTED = [
    (0, "0"),
    (-0.0, "0"),
    (186.0, "186"),
    (-2040, "−2040"),
    (1 / 9, "0.111"),
    (1 / 256, "0.00391"),
    (-1 / 256, "−0.0039"),
    (99.32, "99.3"),
    (0.0015, "0.0015"),
    (-0.00012, "−1.2e−4"),
    (9.9e7, "9.9e7"),
    (-1.5, "−1.5"),
    (12.96, "13"),
    (1234.56, "1235"),
    (1e-5, "0.00001"),
    (30 - 1e-13, "30"),
    (-123456, "−123456"),
]


@pytest.mark.parametrize(("value", "text"), FORMATTED)
def test_cells_have_three_digits_and_a_minus_sign(value, text):
    assert format_cell(value) == text


@given(st.floats(-9999, 9999))
def test_formatted_cells_are_near_the_value(value):
    assert float(format_cell(value).replace("−", "-")) == pytest.approx(value, rel=0.06, abs=1e-8)


@given(st.floats(-9999, 9999) | st.floats(-0.1, 0.1) | st.floats(-1e-3, 1e-3))
def test_formatted_cells_have_at_least_two_digits_and_at_most_seven_characters(value):
    text = format_cell(value)
    number = float(text.replace("−", "-"))
    assert number == pytest.approx(value, rel=0.0501, abs=1e-9)
    assert number == pytest.approx(value, rel=0.00501 if abs(value) >= 0.1 else 1, abs=0)
    assert len(text) <= 7 or 0 < abs(value) < 1e-99


def test_the_font_size_is_that_at_which_the_widest_text_fits():
    texts = ["1", "−2040"]
    size = fit_font_size(texts, 30)
    assert style.text_width("−2040", size) == pytest.approx(30, rel=0.02)
    assert fit_font_size(texts, 500) == 9.5 and fit_font_size(texts, 1) == 5.0 and fit_font_size([], 9) == 9.5


def test_gray_colors_are_clipped_and_diverging_colors_are_white_at_0():
    assert gray_colors(np.array([0.0, 255, 400, -9])).tolist() == [[0] * 3, [1] * 3, [1] * 3, [0] * 3]
    zero, positive, negative = diverging_colors(np.array([0.0, 8, -8]), 4)
    assert zero.tolist() == [1, 1, 1] and positive[2] > positive[0] and negative[0] > negative[2]


def test_cells_of_nan_are_empty():
    _, axes = style.canvas(300, 300)
    values = to_array([[1, None], [None, 4]])
    grid = draw_cells(axes, values, gray_colors(values), (10, 20, 100, 60))
    assert [text.get_text() for text in axes.texts] == ["1", "4"]
    assert grid == (10, 20, 30, 2, 2)


def test_numbers_that_would_be_too_small_are_left_out():
    _, axes = style.canvas(300, 300)
    draw_cells(axes, np.full((20, 20), 12345.0), np.ones((20, 20, 3)), (0, 0, 200, 200))
    assert not axes.texts
