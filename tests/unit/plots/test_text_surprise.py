"""The surprise of a text: layout in 80 columns and 60 rows, colors from white to vermillion."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tests.helpers.figures import color_fraction, figure_texts, layout_figure
from thalweg.plots import style
from thalweg.plots.text_surprise import plot_text_surprise


def cell_colors(characters, nats):
    """The background (rows, 80, 3) of the text."""
    (axes,) = layout_figure(plot_text_surprise, characters, nats).axes
    return axes.collections[0].get_array()


def test_characters_are_white_without_surprise_and_vermillion_at_the_maximum():
    colors = cell_colors("abc", [0.0, 2.0, 4.0])
    np.testing.assert_allclose(colors[0, 0], (1, 1, 1))
    np.testing.assert_allclose(colors[0, 2], to_rgb(style.VERMILLION))
    assert (colors[0, 2] < colors[0, 1]).all() and (colors[0, 1] < 1).all()
    assert color_fraction(plot_text_surprise("a" * 80, [4.0] * 80), style.VERMILLION) > 0.05


def test_values_that_are_not_finite_are_white_and_do_not_set_the_scale():
    colors = cell_colors("abcd", [np.inf, np.nan, 1.0, 1.0])
    np.testing.assert_allclose(colors[0, :2], 1)
    np.testing.assert_allclose(colors[0, 2], to_rgb(style.VERMILLION))
    assert np.isfinite(cell_colors("ab", [np.nan, np.nan])).all()


@pytest.mark.parametrize(
    ("characters", "rows"),
    [("a", 1), ("a" * 80, 1), ("a" * 81, 2), ("a\nb", 2), ("a\n", 1), ("a" * 79 + "\nb", 2), ("\n" * 60, 60)],
)
def test_lines_wrap_at_80_columns_and_break_at_newlines(characters, rows):
    assert cell_colors(characters, [1.0] * len(characters)).shape == (rows, 80, 3)


def test_newlines_are_shown_as_return_marks():
    texts = figure_texts(plot_text_surprise, "a b\nc", [1.0] * 5)
    assert texts.count("↵") == 1 and {"a", "b", "c"} <= set(texts) and " " not in texts


def test_characters_beyond_60_rows_are_counted():
    short = figure_texts(plot_text_surprise, "a\n" * 60, [1.0] * 120)
    long = figure_texts(plot_text_surprise, "a\n" * 60 + "b" * 1234, [1.0] * 1354)
    assert long[: len(short)] == short or len(long) == len(short) + 1
    assert any("1,234" in text for text in long) and "b" not in long
