"""Plot a confusion matrix, readable from 2 to 100 classes.

K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: with more classes the edges show class numbers
_MAX_NAMED = 40
#: with more classes the cells show no counts
_MAX_COUNTED = 25
#: width of the list of mistakes, in units
_LIST_WIDTH = 290
_MAX_MISTAKES = 18


@style.as_image
def plot_confusion(matrix: np.ndarray, classes: Sequence[str], title: str = "") -> Figure:
    """Plot a confusion matrix beside a list of the most frequent mistakes.

    Correct predictions are blue and mistakes orange, each on its own scale, because mistakes are few; the darkest
    orange is the largest fraction of a class that is mistaken for one other.

    Args:
        matrix: Counts (K, K); a row is a true class, a column a predicted one.
        classes: The class names.
        title: Title of the figure.

    Returns:
        The figure.
    """
    matrix = np.asarray(matrix)
    count = len(classes)
    font_size = _label_font_size(count)
    names = []
    if count <= _MAX_NAMED:
        names = [style.fit_text(name, 110, font_size) for name in classes]
    longest = max((style.text_width(name, font_size) for name in names), default=20)
    left = longest + 50
    top = 60 if title else 30
    side = min(style.WIDTH - left - _LIST_WIDTH, 160 + 45 * count)
    rotation = 0
    label_height = 55
    if longest >= side / count - 6:
        rotation = 90
        label_height = longest + 50
    list_height = 38 + 20 * min(_MAX_MISTAKES, int(np.count_nonzero(matrix)))
    fig, page = style.canvas(style.WIDTH, top + max(side + label_height, list_height))
    if title:
        page.text(8, 20, title, va="center", fontweight="bold", fontsize=11.5)
    axes = style.add_axes(fig, left, top, side, side)
    axes.imshow(_cell_colors(matrix), interpolation="nearest", aspect="auto")
    _label_edges(axes, names, font_size, rotation)
    if count <= _MAX_COUNTED:
        _draw_counts(axes, matrix)
    _list_mistakes(page, (left + side + 30, top), matrix, classes)
    return fig


def _label_font_size(count: int) -> float:
    if count <= 12:
        return 9.5
    if count <= _MAX_COUNTED:
        return 8
    return 6.5


def _cell_colors(matrix: np.ndarray) -> np.ndarray:
    """Return RGB (K, K, 3) in [0, 1]: blue on the diagonal, orange elsewhere, darker with the fraction of the row."""
    is_correct = np.eye(len(matrix), dtype=bool)
    fraction = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    wrong = fraction * ~is_correct
    # the square root keeps small fractions visible, such as one mistake in a thousand
    wrong_depth = np.sqrt(wrong / max(wrong.max(initial=0), 1e-12))
    depth = np.where(is_correct, fraction, wrong_depth)
    strongest = np.where(is_correct[..., None], to_rgb(style.CORRECT_COLOR), to_rgb(style.WRONG_COLOR))
    return 1 - 0.85 * depth[..., None] * (1 - strongest)


def _label_edges(axes: Axes, names: Sequence[str], font_size: float, rotation: float) -> None:
    axes.spines[:].set_visible(False)
    axes.grid(False)
    if not names:
        axes.set(xlabel="predicted class (number, from 0)", ylabel="true class (number, from 0)")
        return
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(len(names)), names, fontsize=font_size, rotation=rotation)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)
    axes.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor")


def _draw_counts(axes: Axes, matrix: np.ndarray) -> None:
    is_dark = _cell_colors(matrix).mean(2) < 0.6
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = style.choose_text_color(is_dark[row, column])
        count = int(matrix[row, column])
        font_size = _count_font_size(count, len(matrix))
        axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=font_size)


def _count_font_size(count: int, classes: int) -> float:
    """Return the font size of a count; more than four digits get smaller in matrices of more than six classes."""
    font_size = 10
    if classes > 12:
        font_size = 7
    digits = len(str(count))
    if classes > 6 and digits > 4:
        return font_size * 4 / digits
    return font_size


def _list_mistakes(page: Axes, corner: tuple[float, float], matrix: np.ndarray, classes: Sequence[str]) -> None:
    """List the most frequent mistakes below a corner (left, top)."""
    left, top = corner
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    page.text(left, top, f"{wrong.sum()} of {matrix.sum()} wrong", va="top", fontweight="bold")
    count = min(_MAX_MISTAKES, int(np.count_nonzero(wrong)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    names = list(classes)
    if len(classes) > _MAX_NAMED:
        # the edges show only numbers
        for k, name in enumerate(classes):
            names[k] = f"{k} {name}"
    lines = []
    if count:
        lines.append(("count", "true → predicted"))
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        true_name = style.fit_text(names[true], 86, 9)
        predicted_name = style.fit_text(names[predicted], 86, 9)
        lines.append((str(wrong[true, predicted]), f"{true_name} → {predicted_name}"))
    for index, (times, pair) in enumerate(lines):
        y = top + 38 + 20 * index
        page.text(left + 36, y, times, ha="right", fontsize=9)
        page.text(left + 48, y, pair, fontsize=9)
