"""Which classes are taken for which: the confusion matrix, readable from 2 to 100 classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: more classes than this are numbered along the edges, and numbers leave the cells
_MAX_NAMED, _MAX_COUNTED = 40, 25
#: units of width for the list of mistakes
_LIST_WIDTH = 290


@style.as_image
def plot_confusion(matrix: np.ndarray, classes: Sequence[str], title: str = "") -> Figure:
    """Draws counts (K, K), row the truth, column the answer, beside the list of what was most often mistaken.

    Right answers are blue and mistakes orange, each with a scale of its own, since mistakes are few; the darkest orange
    is the largest share of a class that was mistaken for one other.
    """
    matrix = np.asarray(matrix)
    count = len(classes)
    size = 9.5 if count <= 12 else 8 if count <= _MAX_COUNTED else 6.5
    names = [style.fit_text(name, 110, size) for name in classes] if count <= _MAX_NAMED else []
    longest = max((style.text_width(name, size) for name in names), default=20)
    left, top = longest + 50, 60 if title else 30
    side = min(style.WIDTH - left - _LIST_WIDTH, 160 + 45 * count)
    upright = longest < side / count - 6
    height = top + max(side + (55 if upright else longest + 50), 38 + 20 * min(18, np.count_nonzero(matrix)))
    made, page = style.canvas(style.WIDTH, height)
    if title:
        page.text(8, 20, title, va="center", fontweight="bold", fontsize=11.5)
    axes = style.add_axes(made, left, top, side, side)
    axes.imshow(_cell_colors(matrix), interpolation="nearest", aspect="auto")
    _label_edges(axes, names, size, upright)
    if count <= _MAX_COUNTED:
        _draw_counts(axes, matrix)
    _list_mistakes(page, left + side + 30, top, matrix, classes)
    return made


def _cell_colors(matrix: np.ndarray) -> np.ndarray:
    """RGB (K, K, 3) in [0, 1]: blue on the diagonal and orange beside it, deeper with the share of the row."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    wrong = share * ~np.eye(len(matrix), dtype=bool)
    # the square root brings out small shares; an only mistake among thousands should still be seen
    depth = np.where(np.eye(len(matrix), dtype=bool), share, np.sqrt(wrong / max(wrong.max(initial=0), 1e-12)))
    ink = np.where(np.eye(len(matrix), dtype=bool)[..., None], to_rgb(style.CORRECT_COLOR), to_rgb(style.WRONG_COLOR))
    return 1 - 0.85 * depth[..., None] * (1 - ink)


def _label_edges(axes: Axes, names: Sequence[str], size: float, upright: bool) -> None:
    axes.spines[:].set_visible(False)
    axes.grid(False)
    if not names:
        axes.set(xlabel="answer (number of the class, from 0)", ylabel="truth (number of the class, from 0)")
        return
    axes.set(xlabel="answer", ylabel="truth")
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=0 if upright else 90)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor")


def _draw_counts(axes: Axes, matrix: np.ndarray) -> None:
    size = 10 if len(matrix) <= 12 else 7
    dark = _cell_colors(matrix).mean(2) < 0.6
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = style.WHITE if dark[row, column] else style.BLACK
        value = int(matrix[row, column])
        digits = len(str(value)) if len(matrix) > 6 else 3
        small = size if digits <= 4 else size * 4 / digits
        axes.text(column, row, value, ha="center", va="center", color=colour, fontsize=small)


def _list_mistakes(page: Axes, left: float, top: float, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """The most frequent mistakes in words, down the right side of the page."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    page.text(left, top, f"{wrong.sum()} of {matrix.sum()} mistaken", va="top", fontweight="bold")
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(18, np.count_nonzero(wrong))]
    # names are told apart by their numbers where only numbers stand along the edges
    names = [f"{k} {name}" if len(classes) > _MAX_NAMED else name for k, name in enumerate(classes)]
    lines = [("times", "truth → answer")] if len(order) else []
    for truth, answer in zip(*np.unravel_index(order, wrong.shape), strict=True):
        lines.append((str(wrong[truth, answer]), " → ".join(style.fit_text(names[k], 86, 9) for k in (truth, answer))))
    for number, (times, pair) in enumerate(lines):
        page.text(left + 36, top + 38 + 20 * number, times, ha="right", fontsize=9)
        page.text(left + 48, top + 38 + 20 * number, pair, fontsize=9)
