"""Draw a matrix as a grid of cells, each with its number on the color of its value: crops, kernels, outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import style
from .number_format import format_number

#: minimum font size of a number, in points
_MIN_FONT = 4.5
#: bold letters are wider than the regular ones that `style.text_width` measures
_BOLD_WIDTH_RATIO = 0.85
#: weights of red, green and blue in luma (ITU-R BT.601)
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)


class CellGrid(NamedTuple):
    """Position of a grid of cells: its upper left corner and the side of a cell in units, its rows and columns."""

    left: float
    top: float
    side: float
    rows: int
    columns: int

    def outline(
        self,
        axes: Axes,
        cell: tuple[float, float],
        size: tuple[float, float] = (1, 1),
        color: str = "",
        **options: Any,
    ) -> None:
        """Draw a frame around a block of cells.

        Args:
            axes: The axes that show the grid.
            cell: Row and column of the block's upper left cell.
            size: Rows and columns of the block.
            color: Color of the frame; vermillion by default.
            **options: Options of matplotlib's Rectangle.
        """
        row, column = cell
        height, width = size
        corner = (self.left + column * self.side, self.top + row * self.side)
        defaults = {"fill": False, "edgecolor": color or style.VERMILLION, "linewidth": 2.5, "zorder": 5}
        axes.add_patch(Rectangle(corner, width * self.side, height * self.side, **(defaults | options)))


def format_cell(value: float) -> str:
    """Format a number for a cell: three digits, at most seven characters."""
    return format_number(value, 3, 7)


def fit_font_size(texts: Sequence[str], max_width: float, max_size: float = 9.5, min_size: float = 5.0) -> float:
    """Return the font size at which the widest text fits.

    Args:
        texts: The texts.
        max_width: Maximum width, in units.
        max_size: Maximum font size, in points.
        min_size: Minimum font size, in points.

    Returns:
        The font size, in points.
    """
    widest = max(map(style.text_width, set(texts)), default=0)
    if not widest:
        return max_size
    return max(min_size, min(max_size, 9.5 * max_width / widest))


def gray_colors(values: np.ndarray, white: float = 255) -> np.ndarray:
    """Return gray colors (..., 3) of values, clipped to the range from 0, black, to `white`."""
    return np.repeat(np.clip(np.nan_to_num(values) / white, 0, 1)[..., None], 3, axis=-1)


def diverging_colors(values: np.ndarray, strongest: float) -> np.ndarray:
    """Return colors (..., 3) of values: 0 is white, `strongest` blue, -`strongest` vermillion."""
    fraction = np.clip(np.nan_to_num(values) / (strongest or 1), -1, 1)[..., None]
    return 1 - np.abs(fraction) * (1 - np.where(fraction > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION)))


def to_array(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Convert rows of values to an array, None to NaN."""
    return np.array(values, np.float64)


def draw_cells(axes: Axes, values: np.ndarray, colors: np.ndarray, box: style.Box, max_side: float = 46) -> CellGrid:
    """Draw a matrix as cells with numbers. Numbers that would be too small to read are left out.

    Args:
        axes: Axes whose coordinates are units.
        values: The numbers (rows, columns); NaN is an empty cell.
        colors: The color of each cell (rows, columns, 3).
        box: The (left, top, width, height) in which the grid is placed, at the upper left.
        max_side: Maximum side of a cell.

    Returns:
        The position of the grid.
    """
    rows, columns = values.shape
    left, top, width, height = box
    side = min(width / columns, height / rows, max_side)
    is_filled = ~np.isnan(values)
    cell_colors = np.where(is_filled[..., None], colors, 1.0)
    x = np.arange(columns + 1) * side + left
    y = np.arange(rows + 1) * side + top
    axes.pcolormesh(x, y, cell_colors, edgecolors=style.LIGHT_GRAY, linewidth=0.5, zorder=1)
    grid = CellGrid(left, top, side, rows, columns)
    cells = np.argwhere(is_filled).tolist()
    texts = [format_cell(values[row, column]) for row, column in cells]
    font_size = fit_font_size(texts, 0.86 * side, min_size=0)
    if font_size < _MIN_FONT:
        return grid
    is_dark = cell_colors @ _LUMA_WEIGHTS < 0.52
    for (row, column), text in zip(cells, texts, strict=True):
        color = style.choose_text_color(is_dark[row, column])
        position = (left + (column + 0.5) * side, top + (row + 0.5) * side)
        axes.text(*position, text, ha="center", va="center", fontsize=font_size, color=color, zorder=3)
    return grid


def draw_title(axes: Axes, x: float, y: float, text: str, max_width: float = style.WIDTH) -> None:
    """Draw a bold title.

    Args:
        axes: Axes whose coordinates are units.
        x: Left end of the title.
        y: Center of the title.
        text: The title.
        max_width: Shorten the title to this width.
    """
    line = style.fit_text(text, _BOLD_WIDTH_RATIO * max_width, 10.5)
    axes.text(x, y, line, va="center", fontweight="bold", fontsize=10.5)
