"""Numbers in cells on the colour of their value: small parts of pictures, kernels, and what comes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import style
from .number_format import format_number

#: least size of a number, in points
_MIN_FONT = 4.5


class CellGrid(NamedTuple):
    """Where a table of cells lies: its corner in units, the side of a cell, rows and columns."""

    left: float
    top: float
    side: float
    rows: int
    columns: int

    def outline(
        self, axes: Axes, place: tuple[float, float], extent: tuple[float, float] = (1, 1), colour: str = "", **how: Any
    ) -> None:
        """A frame around `extent` (rows, columns) cells from `place` (row, column)."""
        (row, column), (high, wide) = place, extent
        corner = (self.left + column * self.side, self.top + row * self.side)
        given = {"fill": False, "edgecolor": colour or style.VERMILLION, "linewidth": 2.5, "zorder": 5} | how
        axes.add_patch(Rectangle(corner, wide * self.side, high * self.side, **given))


def format_cell(value: float) -> str:
    """A number for a cell: three digits, in at most seven characters."""
    return format_number(value, 3, 7)


def fit_font_size(texts: Sequence[str], room: float, most: float = 9.5, least: float = 5.0) -> float:
    """The font size, in points, at which the widest of the texts takes that many units."""
    widest = max((style.text_width(text) for text in set(texts)), default=0)
    return max(least, min(most, 9.5 * room / widest)) if widest else most


def gray_colors(values: np.ndarray, white: float = 255) -> np.ndarray:
    """Colours (…, 3) of values: 0 is black, `white` white, and beyond as these."""
    return np.repeat(np.clip(np.nan_to_num(values) / white, 0, 1)[..., None], 3, axis=-1)


def diverging_colors(values: np.ndarray, strongest: float) -> np.ndarray:
    """Colours (…, 3) of values: 0 is white, `strongest` blue, its negative vermillion."""
    share = np.clip(np.nan_to_num(values) / (strongest or 1), -1, 1)[..., None]
    return 1 - np.abs(share) * (1 - np.where(share > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION)))


def to_array(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    """The values as an array, NaN for None."""
    return np.array([[math.nan if value is None else value for value in row] for row in values])


def draw_cells(
    axes: Axes, values: np.ndarray, colours: np.ndarray, box: tuple[float, float, float, float], most: float = 46
) -> CellGrid:
    """Draws a number in each cell on its colour, at the top of a box (left, top, width, height); NaN is left empty.

    `most` is the longest side of a cell. Where the numbers would be too small to be read, there are only colours.
    """
    rows, columns = values.shape
    side = min(box[2] / columns, box[3] / rows, most)
    left, top = box[0], box[1]
    table = CellGrid(left, top, side, rows, columns)
    known = ~np.isnan(values)
    shown = np.where(known[..., None], colours, 1.0)
    edges = np.arange(columns + 1) * side + left, np.arange(rows + 1) * side + top
    axes.pcolormesh(*edges, shown, edgecolors=style.LIGHT_GRAY, linewidth=0.5, zorder=1)
    texts = {(row, column): format_cell(values[row, column]) for row, column in zip(*np.nonzero(known), strict=True)}
    size = fit_font_size(list(texts.values()), 0.86 * side, least=0)
    if size < _MIN_FONT:  # letters over letters would tell nothing
        texts = {}
    dark = shown @ (0.299, 0.587, 0.114) < 0.52
    for (row, column), text in texts.items():
        ink = style.WHITE if dark[row, column] else style.BLACK
        x, y = left + (column + 0.5) * side, top + (row + 0.5) * side
        axes.text(x, y, text, ha="center", va="center", fontsize=size, color=ink, zorder=3)
    return table


def draw_title(axes: Axes, x: float, y: float, text: str, room: float = style.WIDTH) -> None:
    """A bold heading from `x`, in at most `room` units."""
    # bold letters are wider than those that are measured
    axes.text(x, y, style.fit_text(text, 0.85 * room, 10.5), va="center", fontweight="bold", fontsize=10.5)
