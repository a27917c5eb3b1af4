"""Plot a text with the surprise of a language model at every character, in nats, or with the value of a neuron."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from . import style
from .number_format import format_number

_COLUMNS = 80
_MAX_ROWS = 60
#: lengths are units
_MARGIN = 10
_CELL_WIDTH = 11
_ROW_HEIGHT = 20
_TITLE_HEIGHT = 26
_COLORBAR_HEIGHT = 34
_COLORBAR_WIDTH = 220
_NOTE_HEIGHT = 22
_FONT = FontProperties(family="DejaVu Sans Mono", size=10)
#: for characters twice as wide as the others, such as Chinese ones
_WIDE_FONT = FontProperties(family="DejaVu Sans Mono", size=5)
#: color of the largest surprise; dark text stays legible on it
_STRONGEST = to_rgb(style.VERMILLION)
_STRONGEST_NEGATIVE = to_rgb(style.BLUE)
#: more surprise than this quantile has the same color, so that a few outliers do not make the rest pale
_QUANTILE = 0.99
_RETURN_MARK = "↵"

#: row, column and index of a character
Cell = tuple[int, int, int]
#: red, green and blue from 0 to 1
Color = tuple[float, ...]


@style.as_image
def plot_text_surprise(characters: str, nats: Sequence[float], title: str = "") -> Figure:
    """Plot a text in a monospace grid whose background shows the surprise at each character.

    Args:
        characters: The text; lines wrap at 80 columns, and a newline is shown as a return mark.
        nats: The surprise at each character, its negative log-probability; NaN or inf is left white.
        title: Title of the figure.

    Returns:
        The figure, with at most 60 rows; a note counts the characters that were left out.
    """
    strongest = _strongest_color_value(nats)
    label = f"{format_number(strongest, 3)} nats or more: surprise at each character"
    colors = [_surprise_color(value, strongest) for value in nats]
    ramp = [_surprise_color(value, 1.0) for value in np.linspace(0, 1, 100)]
    return _plot_colored_text(characters, colors, title, _Scale("0", label, ramp))


@style.as_image
def plot_text_activation(characters: str, values: Sequence[float], title: str = "") -> Figure:
    """Plot a text in a monospace grid whose background shows the value of a neuron, from -1 (blue) to 1 (red).

    Args:
        characters: The text; lines wrap at 80 columns, and a newline is shown as a return mark.
        values: The value after each character, stretched to this range.
        title: Title of the figure.

    Returns:
        The figure, with at most 60 rows; a note counts the characters that were left out.
    """
    colors = list(map(_activation_color, values))
    ramp = list(map(_activation_color, np.linspace(-1, 1, 100)))
    return _plot_colored_text(
        characters, colors, title, _Scale("lowest", "highest value of the cell, after each character", ramp)
    )


@dataclass(frozen=True)
class _Scale:
    """The legend of the colors: text at both ends, and the colors between."""

    low: str
    high: str
    colors: Sequence[Color]


def _plot_colored_text(characters: str, colors: Sequence[Color], title: str, scale: _Scale) -> Figure:
    if not characters:
        return style.empty_plot("No text.", title)
    cells, rows = _layout_text(characters)
    top = _MARGIN
    if title:
        top = _MARGIN + _TITLE_HEIGHT
    left_out = len(characters) - len(cells)
    height = top + _COLORBAR_HEIGHT + rows * _ROW_HEIGHT + _MARGIN
    if left_out:
        height += _NOTE_HEIGHT
    fig, axes = style.canvas(style.WIDTH, height)
    if title:
        line = style.fit_text(title, 0.85 * (style.WIDTH - 2 * _MARGIN), 11.5)
        axes.text(_MARGIN, top - _TITLE_HEIGHT / 2, line, va="center", fontweight="bold", fontsize=11.5)
    _draw_colorbar(axes, top, scale)
    top += _COLORBAR_HEIGHT
    _draw_backgrounds(axes, cells, colors, top)
    _draw_characters(axes, characters, cells, top)
    if left_out:
        note = f"{left_out:,} more characters are not shown."
        axes.text(_MARGIN, height - _MARGIN - _NOTE_HEIGHT / 2, note, va="center", color=style.GRAY)
    return fig


def _layout_text(characters: str) -> tuple[list[Cell], int]:
    """Return the cell of each character that fits, and the number of rows."""
    cells: list[Cell] = []
    row = 0
    column = 0
    for index, character in enumerate(characters):
        if column == _COLUMNS:
            row += 1
            column = 0
        if row == _MAX_ROWS:
            break
        cells.append((row, column, index))
        column += 1
        if character == "\n":
            row += 1
            column = 0
    return cells, cells[-1][0] + 1


def _strongest_color_value(nats: Sequence[float]) -> float:
    """Return the surprise with the strongest color."""
    values = np.asarray(nats, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return 1.0
    return max(float(np.quantile(values, _QUANTILE)), 1e-6)


def _surprise_color(value: float, strongest: float) -> Color:
    """Return the color of a surprise: white at 0, vermillion from `strongest` on."""
    if not math.isfinite(value):
        return (1.0, 1.0, 1.0)
    fraction = min(1.0, max(0.0, value / strongest))
    return tuple(1 - fraction * (1 - np.array(_STRONGEST)))


def _activation_color(value: float) -> Color:
    """Return the color of a value from -1 (blue) through 0 (white) to 1 (vermillion)."""
    if not math.isfinite(value):
        return (1.0, 1.0, 1.0)
    strongest = _STRONGEST if value > 0 else _STRONGEST_NEGATIVE
    fraction = min(1.0, abs(value))
    return tuple(1 - fraction * (1 - np.array(strongest)))


def _draw_colorbar(axes: Axes, top: float, scale: _Scale) -> None:
    """Draw the colors of the scale, with its texts at the ends."""
    middle = top + 10
    start = _MARGIN + style.text_width(scale.low) + 8
    axes.text(_MARGIN, middle, scale.low, va="center")
    style.show_image(axes, np.array(scale.colors)[None], (start, top + 3, _COLORBAR_WIDTH, 14))
    axes.text(start + _COLORBAR_WIDTH + 8, middle, scale.high, va="center")


def _draw_backgrounds(axes: Axes, cells: Sequence[Cell], colors: Sequence[Color], top: float) -> None:
    """Draw the color of every cell as one image."""
    rows = cells[-1][0] + 1
    colors_RC3 = np.ones((rows, _COLUMNS, 3))
    for row, column, index in cells:
        colors_RC3[row, column] = colors[index]
    x = _MARGIN + _CELL_WIDTH * np.arange(_COLUMNS + 1)
    y = top + _ROW_HEIGHT * np.arange(rows + 1)
    axes.pcolormesh(x, y, colors_RC3)


def _draw_characters(axes: Axes, characters: str, cells: Sequence[Cell], top: float) -> None:
    for row, column, index in cells:
        character = characters[index]
        if character == " ":
            continue
        font = _FONT
        if unicodedata.east_asian_width(character) in "WF":
            font = _WIDE_FONT
        text = style.ellipsize(character)
        if character == "\n":
            text = _RETURN_MARK
        x = _MARGIN + (column + 0.5) * _CELL_WIDTH
        y = top + (row + 0.5) * _ROW_HEIGHT
        axes.text(x, y, text, ha="center", va="center_baseline", fontproperties=font)
