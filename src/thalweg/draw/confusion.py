"""Which classes are taken for which: the confusion matrix, readable from 2 to 100 classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: more classes than this are numbered along the edges, and numbers leave the cells
_NAMED, _COUNTED = 40, 25


@style.picture
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str = "") -> Figure:
    """Draws counts (K, K), row the truth, column the answer, beside the list of what was most often mistaken.

    Right answers are blue and mistakes orange, each with a scale of its own, since mistakes are few; the darkest orange
    is the largest share of a class that was mistaken for one other.
    """
    matrix = np.asarray(matrix)
    count = len(classes)
    made = style.figure(min(230 + 45 * count, 560) if count <= _COUNTED else 640)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontweight="bold")
    axes, side = made.subplots(1, 2, width_ratios=[2.6, 1])
    axes.imshow(_colours(matrix), interpolation="nearest", aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="answer", ylabel="truth")
    _edges(axes, classes)
    if count <= _COUNTED:
        _counts(axes, matrix)
    _list(side, matrix, classes)
    return made


def _colours(matrix: np.ndarray) -> np.ndarray:
    """RGB (K, K, 3) in [0, 1]: blue on the diagonal and orange beside it, deeper with the share of the row."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    wrong = share * ~np.eye(len(matrix), dtype=bool)
    # the square root brings out small shares; an only mistake among thousands should still be seen
    depth = np.where(np.eye(len(matrix), dtype=bool), share, np.sqrt(wrong / max(wrong.max(initial=0), 1e-12)))
    ink = np.where(np.eye(len(matrix), dtype=bool)[..., None], to_rgb(style.RIGHT), to_rgb(style.WRONG))
    return 1 - 0.85 * depth[..., None] * (1 - ink)


def _edges(axes: Axes, classes: Sequence[str]) -> None:
    count = len(classes)
    axes.set_xticks(np.arange(-0.5, count), minor=True)
    axes.set_yticks(np.arange(-0.5, count), minor=True)
    axes.grid(True, which="minor", linewidth=0.7 if count <= _COUNTED else 0.3)
    axes.tick_params(which="minor", length=0)
    if count > _NAMED:
        axes.set(xlabel="answer (number of the class, from 0)", ylabel="truth (number of the class, from 0)")
        return
    names = [style.short(name) for name in classes]
    size = 9.5 if count <= 12 else 8 if count <= _COUNTED else 6.5
    upright = max(map(len, names)) * count <= 60
    axes.set_xticks(range(count), names, fontsize=size, rotation=0 if upright else 90)
    axes.set_yticks(range(count), names, fontsize=size)


def _counts(axes: Axes, matrix: np.ndarray) -> None:
    size = 10 if len(matrix) <= 12 else 7
    dark = _colours(matrix).mean(2) < 0.6
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = style.WHITE if dark[row, column] else style.BLACK
        value = int(matrix[row, column])
        digits = len(str(value)) if len(matrix) > 6 else 3
        small = size if digits <= 4 else size * 4 / digits
        axes.text(column, row, value, ha="center", va="center", color=colour, fontsize=small)


def _list(axes: Axes, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """The most frequent mistakes in words."""
    style.bare(axes)
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    total, mistakes = int(matrix.sum()), int(wrong.sum())
    axes.set_title(f"{mistakes} of {total} mistaken")
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(18, np.count_nonzero(wrong))]
    # names are told apart by their numbers where only numbers stand along the edges
    names = [f"{k} {name}" if len(classes) > _NAMED else name for k, name in enumerate(classes)]
    lines = [("times", "truth → answer")]
    for truth, answer in zip(*np.unravel_index(order, wrong.shape), strict=True):
        pair = f"{style.short(names[truth], 13)} → {style.short(names[answer], 13)}"
        lines.append((str(wrong[truth, answer]), pair))
    for number, (times, pair) in enumerate(lines):
        # kept out of the layout, which would shrink the matrix for long names
        look = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9, "in_layout": False}
        axes.annotate(times, (0.16, 1), (0, -14 * (number + 1)), ha="right", **look)
        axes.annotate(pair, (0.21, 1), (0, -14 * (number + 1)), **look)
