"""Draw the examples of a batch in rows, each with a row of numbers, one column per class.

B examples, K columns. All lengths are units from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import style

ROW_HEIGHT = 48
#: width of the part before the numbers
LEFT_MARGIN = 232
#: height above the column names
HEADER_HEIGHT = 64
#: maximum width of a cell
CELL_WIDTH = 66
_IMAGE_LEFT = 32
_FONT_SIZE = 9
#: maximum height of a column name that is rotated
_ROTATED_HEIGHT = 84
#: minimum number of rows that the table's height allows for
_MIN_ROWS = 7
#: weights of red, green and blue in luma (ITU-R BT.601)
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])


def table_height(rows: int, names: Sequence[str], width: float) -> float:
    """Return the height of a table.

    Args:
        rows: Number of examples.
        names: The column names.
        width: Width of all columns together.

    Returns:
        The height, in units.
    """
    return first_row_top(names, width) + ROW_HEIGHT * max(rows, _MIN_ROWS) + 20


def first_row_top(names: Sequence[str], width: float) -> float:
    """Return the top of the first row; it depends on the length of the column names."""
    if _names_fit(names, width):
        return HEADER_HEIGHT + 20
    longest = max(map(_name_width, names))
    return HEADER_HEIGHT + (min(_ROTATED_HEIGHT, longest) + 10)


def _names_fit(names: Sequence[str], width: float) -> bool:
    longest = max(map(_name_width, names))
    return longest <= cell_width(len(names), width) - 4


def _name_width(name: str) -> float:
    return style.text_width(style.ellipsize(name, 400), _FONT_SIZE)


def cell_width(count: int, width: float) -> float:
    """Return the width of one of `count` cells that share a width."""
    return min(CELL_WIDTH, width / count)


def draw_examples(axes: Axes, images_BHWC: np.ndarray, texts: Sequence[str], first_top: float) -> None:
    """Draw the images below each other, numbered from 1, each with a text beside it.

    Args:
        axes: Axes whose coordinates are units.
        images_BHWC: The images, uint8.
        texts: A text for each image.
        first_top: Top of the first row.
    """
    side = ROW_HEIGHT - 6
    for row, (image_HWC, text) in enumerate(zip(images_BHWC, texts, strict=True)):
        top = first_top + row * ROW_HEIGHT
        middle = top + ROW_HEIGHT / 2
        longest = max(image_HWC.shape[:2])
        height = side * image_HWC.shape[0] / longest
        width = side * image_HWC.shape[1] / longest
        box = (_IMAGE_LEFT + (side - width) / 2, top + 3 + (side - height) / 2, width, height)
        style.show_image(axes, image_HWC, box)
        number = str(row + 1)
        axes.text(_IMAGE_LEFT - 8, middle, number, ha="right", va="center", fontsize=_FONT_SIZE, color=style.GRAY)
        line = style.fit_text(text, 100, _FONT_SIZE + 1)
        axes.text(_IMAGE_LEFT + side + 10, middle, line, va="center", fontsize=_FONT_SIZE + 1)


def draw_column_names(axes: Axes, names: Sequence[str], width: float, first_top: float) -> None:
    """Draw a name above each column, rotated if the names are too long.

    Args:
        axes: Axes whose coordinates are units.
        names: The column names.
        width: Width of all columns together.
        first_top: Top of the first row.
    """
    step = cell_width(len(names), width)
    rotation = 0
    if not _names_fit(names, width):
        rotation = 90
        names = [style.fit_text(name, _ROTATED_HEIGHT, _FONT_SIZE) for name in names]
    for column, name in enumerate(names):
        x = LEFT_MARGIN + (column + 0.5) * step
        axes.text(x, first_top - 6, name, ha="center", va="bottom", rotation=rotation, fontsize=_FONT_SIZE)


def draw_cells(
    axes: Axes, row: int, texts: Sequence[str], shades: Sequence[float] | np.ndarray, width: float, first_top: float
) -> None:
    """Draw the numbers of a row.

    Args:
        axes: Axes whose coordinates are units.
        row: Index of the row.
        texts: The number of each column, formatted.
        shades: The shade of each cell in [-1, 1]: white at 0, blue above, orange below.
        width: Width of all columns together.
        first_top: Top of the first row.
    """
    step = cell_width(len(texts), width)
    top = first_top + row * ROW_HEIGHT
    font_size = min(_FONT_SIZE, step / 5.4)
    for column, (text, shade) in enumerate(zip(texts, shades, strict=True)):
        left = LEFT_MARGIN + column * step
        color = _shade_color(shade)
        cell = Rectangle((left + 1, top + 4), step - 2, ROW_HEIGHT - 8, linewidth=0.8)
        cell.set(edgecolor=style.LIGHT_GRAY, facecolor=color)
        axes.add_patch(cell)
        ink = style.choose_text_color(bool(color @ _LUMA_WEIGHTS < 0.6))
        x = LEFT_MARGIN + (column + 0.5) * step
        axes.text(x, top + ROW_HEIGHT / 2, text, ha="center", va="center", fontsize=font_size, color=ink)


def _shade_color(shade: float) -> np.ndarray:
    """Return the color (3,) of a shade in [-1, 1]."""
    depth = min(1.0, abs(shade)) * 0.85
    strongest = style.BLUE if shade > 0 else style.VERMILLION
    return 1 - depth * (1 - np.array(to_rgb(strongest)))


def draw_frame(  # noqa: PLR0913 - the table's count, width and first_top become one object when its callers do
    axes: Axes, row: int, column: int, count: int, width: float, first_top: float, color: str
) -> None:
    """Draw a frame around a cell.

    Args:
        axes: Axes whose coordinates are units.
        row: Index of the cell's row.
        column: Index of the cell's column.
        count: Number of columns.
        width: Width of all columns together.
        first_top: Top of the first row.
        color: Color of the frame.
    """
    step = cell_width(count, width)
    corner = (LEFT_MARGIN + column * step + 1, first_top + row * ROW_HEIGHT + 4)
    axes.add_patch(Rectangle(corner, step - 2, ROW_HEIGHT - 8, fill=False, edgecolor=color, linewidth=1.8))


def format_number(value: float) -> str:
    """Format a number in four or five characters; only zero becomes '0'."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 99.95:
        return f"{value:.3g}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.005:
        return f"{value:.2f}"
    if value > 0:
        return "< .01"
    return "> -.01"
