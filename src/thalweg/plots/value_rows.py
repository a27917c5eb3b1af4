"""Examples of a batch in rows, each with a row of numbers, a column for each class. All units from the upper left.

B examples, K columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import style

#: units: of a row, of the part before the numbers, of the head without names of classes, of the widest cell
ROW_HEIGHT, LEFT_MARGIN, HEADER_HEIGHT, CELL_WIDTH = 48, 232, 64, 66
_IMAGE_SIZE, _FONT_SIZE = 32, 9
#: units that a name upright over its column takes at most
_ROTATED_HEIGHT = 84
#: how light red, green and blue look
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])


def table_height(rows: int, names: Sequence[str], room: float) -> float:
    """Units that a sheet of so many rows takes, with names over columns that share `room` units."""
    return first_row_top(names, room) + ROW_HEIGHT * max(rows, 7) + 20


def first_row_top(names: Sequence[str], room: float) -> float:
    """Where the first row begins."""
    return HEADER_HEIGHT + (20 if _names_fit(names, room) else min(_ROTATED_HEIGHT, max(map(_name_width, names))) + 10)


def _names_fit(names: Sequence[str], room: float) -> bool:
    return max(map(_name_width, names)) <= cell_width(len(names), room) - 4


def _name_width(name: str) -> float:
    return style.text_width(style.ellipsize(name, 400), _FONT_SIZE)


def cell_width(count: int, room: float) -> float:
    """How wide a cell is."""
    return min(CELL_WIDTH, room / count)


def draw_examples(axes: Axes, images_BHWC: np.ndarray, told: Sequence[str], first: float) -> None:
    """Draws the pictures, one below the other, counted from 1, and a text beside each."""
    side = ROW_HEIGHT - 6
    for row, (image, text) in enumerate(zip(images_BHWC, told, strict=True)):
        y = first + row * ROW_HEIGHT
        high, wide = (side * size / max(image.shape[:2]) for size in image.shape[:2])
        style.show_image(axes, image, (_IMAGE_SIZE + (side - wide) / 2, y + 3 + (side - high) / 2, wide, high))
        axes.text(
            _IMAGE_SIZE - 8, y + ROW_HEIGHT / 2, row + 1, ha="right", va="center", fontsize=_FONT_SIZE, color=style.GRAY
        )
        told = style.fit_text(text, 100, _FONT_SIZE + 1)
        axes.text(_IMAGE_SIZE + side + 10, y + ROW_HEIGHT / 2, told, va="center", fontsize=_FONT_SIZE + 1)


def draw_column_names(axes: Axes, names: Sequence[str], room: float, first: float) -> None:
    """Draws a name over each column."""
    width, level = cell_width(len(names), room), _names_fit(names, room)
    for number, name in enumerate(names):
        axes.text(
            LEFT_MARGIN + (number + 0.5) * width, first - 6, name if level else style.fit_text(name, _ROTATED_HEIGHT, _FONT_SIZE),
            ha="center", va="bottom", rotation=0 if level else 90, fontsize=_FONT_SIZE,
        )  # fmt: skip


def draw_cells(axes: Axes, row: int, texts: Sequence[str], shades: Sequence[float], room: float, first: float) -> None:
    """Draws the numbers of a row; a shade in [-1, 1] is white at 0, blue above, orange below."""
    width, y = cell_width(len(texts), room), first + row * ROW_HEIGHT
    size = min(_FONT_SIZE, width / 5.4)
    for number, (text, shade) in enumerate(zip(texts, shades, strict=True)):
        depth = min(1.0, abs(shade)) * 0.85
        colour = 1 - depth * (1 - np.array(to_rgb(style.BLUE if shade > 0 else style.VERMILLION)))
        box = Rectangle(
            (LEFT_MARGIN + number * width + 1, y + 4),
            width - 2,
            ROW_HEIGHT - 8,
            linewidth=0.8,
            edgecolor=style.LIGHT_GRAY,
            facecolor=colour,
        )
        axes.add_patch(box)
        ink = style.WHITE if colour @ _LUMA_WEIGHTS < 0.6 else style.BLACK
        axes.text(
            LEFT_MARGIN + (number + 0.5) * width,
            y + ROW_HEIGHT / 2,
            text,
            ha="center",
            va="center",
            fontsize=size,
            color=ink,
        )


def draw_frame(axes: Axes, row: int, column: int, count: int, room: float, first: float, colour: str) -> None:
    """Draws a frame around a cell, of `count` in a row."""
    width = cell_width(count, room)
    corner = (LEFT_MARGIN + column * width + 1, first + row * ROW_HEIGHT + 4)
    axes.add_patch(Rectangle(corner, width - 2, ROW_HEIGHT - 8, fill=False, edgecolor=colour, linewidth=1.8))


def format_number(value: float) -> str:
    """A number in four or five characters; only zero is shown as zero."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 0.005:
        return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.3g}"
    return "< .01" if value > 0 else "> -.01"
