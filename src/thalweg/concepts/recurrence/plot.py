"""Plot a network unrolled over a text: the cells around the current step, and below them states and gates in colors.

T steps, D neurons. Lengths are units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from ...plots import style

if TYPE_CHECKING:
    from .compute import RecurrenceNumbers

_HEIGHT = 630
#: cells of the unrolled network that are drawn, and how many of them are before the current one at most
_NUM_CELLS = 7
_NUM_BEFORE = 4
_CELL_WIDTH = 78
_CELL_TOP = 104
_CELL_HEIGHT = 46
#: the part of the figure with the rows of colors
_LEFT = 128
_RIGHT = 872
_TOP = 256
_BOTTOM = 582
_GAP = 10
#: how white space is drawn
_SYMBOLS = {" ": "␣", "\n": "↵", "\t": "→"}
#: rows of colors of each cell, from top to bottom: name, and whether it is a gate between 0 and 1
_ROWS = {
    "rnn": (("hidden", False),),
    "gru": (("update", True), ("reset", True), ("candidate", False), ("hidden", False)),
    "lstm": (("forget", True), ("input", True), ("output", True), ("cell", False), ("hidden", False)),
}
_LABELS = {
    "hidden": "hidden state h",
    "cell": "cell state c",
    "forget": "forget gate f",
    "input": "input gate i",
    "output": "output gate o",
    "update": "update gate z",
    "reset": "reset gate r",
    "candidate": "candidate n",
}


@style.as_image
def plot_recurrence(numbers: RecurrenceNumbers, step: int) -> Figure:
    """Plot everything up to `step`; later steps are still empty."""
    fig, axes = style.canvas(style.WIDTH, _HEIGHT)
    _draw_heading(axes, numbers)
    _draw_network(axes, numbers, step)
    _draw_characters(axes, numbers, step)
    rows = _ROWS[numbers.cell]
    height = (_BOTTOM - _TOP - _GAP * (len(rows) - 1)) / len(rows)
    for index, (name, is_gate) in enumerate(rows):
        top = _TOP + index * (height + _GAP)
        axes.text(_LEFT - 10, top + height / 2, _LABELS[name], ha="right", va="center", fontsize=9)
        block = style.add_axes(fig, _LEFT, top, _RIGHT - _LEFT, height)
        _draw_colors(block, _values_of(numbers, name), is_gate, step)
    legend = "Each row of colors is a neuron. States: orange negative, white 0, blue positive."
    if len(rows) > 1:
        legend += " Gates: white 0 is closed, dark 1 is open."
    axes.text(_LEFT, _HEIGHT - 26, legend, va="center", fontsize=8.5, color=style.GRAY)
    return fig


def _draw_heading(axes: Axes, numbers: RecurrenceNumbers) -> None:
    name = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[numbers.cell]
    training = f"{numbers.steps} training steps" if numbers.steps else "not trained"
    title = f"{name} with {numbers.width} neurons, {training}, on {numbers.title}"
    axes.text(14, 20, style.fit_text(title, style.WIDTH - 30, 11), va="center", fontweight="bold", fontsize=10.5)


def _values_of(numbers: RecurrenceNumbers, name: str) -> np.ndarray:
    """Return states or gates (T, D)."""
    if name == "hidden":
        return np.array(numbers.hidden)
    if name == "cell":
        return np.array(numbers.cell_state)
    return np.array(numbers.gates[name])


def _draw_colors(axes: Axes, values_TD: np.ndarray, is_gate: bool, step: int) -> None:
    """Draw a row of colors per neuron, and a frame around the current step."""
    shown_DT = values_TD.T.copy()
    shown_DT[:, step + 1 :] = np.nan
    if is_gate:
        axes.imshow(shown_DT, cmap="Purples", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    else:
        limit = style.color_limit(values_TD)
        axes.imshow(_to_colors(shown_DT, limit), aspect="auto", interpolation="nearest")
    style.hide_axes(axes)
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=style.LIGHT_GRAY, linewidth=0.8)
    neurons = len(shown_DT)
    frame = Rectangle((step - 0.5, -0.5), 1, neurons, fill=False, edgecolor=style.BLACK, linewidth=1.4)
    axes.add_patch(frame)


def _to_colors(values_DT: np.ndarray, limit: float) -> np.ndarray:
    """Return colors (D, T, 3): blue for positive, orange for negative values, white for 0 and for NaN."""
    shade_DT1 = np.clip(np.nan_to_num(values_DT) / limit, -1, 1)[..., None]
    blue = np.array([0.0, 0.447, 0.698])
    vermillion = np.array([0.835, 0.369, 0.0])
    strongest_DT3 = np.where(shade_DT1 > 0, blue, vermillion)
    return 1 - np.abs(shade_DT1) * (1 - strongest_DT3)


def _draw_characters(axes: Axes, numbers: RecurrenceNumbers, step: int) -> None:
    """Write the text above the rows of colors, a character per column."""
    column = (_RIGHT - _LEFT) / len(numbers.text)
    size = min(11.0, 0.62 * column)
    for index, character in enumerate(numbers.text):
        axes.text(
            _LEFT + (index + 0.5) * column,
            _TOP - 12,
            _SYMBOLS.get(character, character),
            ha="center",
            va="center",
            fontsize=size,
            parse_math=False,
            fontweight="bold" if index == step else "normal",
            color=style.BLACK if index <= step else style.GRAY,
        )
    axes.text(_LEFT - 10, _TOP - 12, "the text", ha="right", va="center", fontsize=9)


# --- the unrolled network ---------------------------------------------------------------------------------------------


def _draw_network(axes: Axes, numbers: RecurrenceNumbers, step: int) -> None:
    """Draw the cells around the current step: a character into each, a prediction out of it, the state to the next."""
    count = min(_NUM_CELLS, len(numbers.text))
    first = max(0, min(step - _NUM_BEFORE, len(numbers.text) - count))
    pitch = (_RIGHT - _LEFT) / _NUM_CELLS
    for label, y in (("expects", 62), ("state", _CELL_TOP + _CELL_HEIGHT / 2), ("reads", 196)):
        axes.text(_LEFT - 10, y, label, ha="right", va="center", fontsize=9)
    for position in range(count):
        index = first + position
        x = _LEFT + (position + 0.5) * pitch
        _draw_cell(axes, numbers, x, index, step)
        is_done = index <= step
        color = style.BLACK if is_done else style.LIGHT_GRAY
        start = x - pitch + _CELL_WIDTH / 2 if position else x - pitch / 2 - 8
        if index:
            _draw_arrow(axes, (start, _CELL_TOP + _CELL_HEIGHT / 2), (x - _CELL_WIDTH / 2, None), color)
            name = "c, h" if numbers.cell == "lstm" else "h"
            middle = (start + x - _CELL_WIDTH / 2) / 2
            axes.text(middle, _CELL_TOP + _CELL_HEIGHT / 2 - 9, name, ha="center", fontsize=7.5, color=color)


def _draw_cell(axes: Axes, numbers: RecurrenceNumbers, x: float, index: int, step: int) -> None:
    is_done = index <= step
    color = style.BLACK if is_done else style.LIGHT_GRAY
    edge = style.VERMILLION if index == step else color
    box = FancyBboxPatch(
        (x - _CELL_WIDTH / 2, _CELL_TOP),
        _CELL_WIDTH,
        _CELL_HEIGHT,
        boxstyle="round,pad=0,rounding_size=8",
        facecolor="white",
        edgecolor=edge,
        linewidth=2.2 if index == step else 1.2,
        zorder=2,
    )
    axes.add_patch(box)
    if is_done:
        _draw_state(axes, np.array(numbers.hidden[index]), x, style.color_limit(np.array(numbers.hidden)))
    _draw_arrow(axes, (x, 184), (None, _CELL_TOP + _CELL_HEIGHT + 1), color)
    character = numbers.text[index]
    text_color = style.BLACK if is_done else style.GRAY
    axes.text(
        x,
        196,
        _SYMBOLS.get(character, character),
        ha="center",
        va="center",
        fontsize=13,
        fontweight="bold",
        color=text_color,
        parse_math=False,
    )
    _draw_arrow(axes, (x, _CELL_TOP - 1), (None, 76), color)
    if is_done:
        _draw_guesses(axes, numbers, x, index)


def _draw_state(axes: Axes, values_D: np.ndarray, x: float, limit: float) -> None:
    """Draw the hidden state as a row of small squares inside the cell, in at most two lines."""
    per_line = len(values_D) if len(values_D) <= 12 else -(-len(values_D) // 4)
    side = min(9.0, (_CELL_WIDTH - 12) / per_line)
    lines = -(-len(values_D) // per_line)
    colors_1D3 = _to_colors(values_D[None], limit)
    for i in range(len(values_D)):
        line, column = divmod(i, per_line)
        left = x - per_line * side / 2 + column * side
        top = _CELL_TOP + _CELL_HEIGHT / 2 - lines * side / 2 + line * side
        square = Rectangle((left, top), side, side, facecolor=colors_1D3[0, i], edgecolor=style.LIGHT_GRAY, zorder=3)
        square.set_linewidth(0.5)
        axes.add_patch(square)


def _draw_guesses(axes: Axes, numbers: RecurrenceNumbers, x: float, index: int) -> None:
    """Write the most probable next characters; green if the first is the one that comes."""
    follower = (numbers.text + numbers.next_character)[index + 1 : index + 2]
    for line, guess in enumerate(numbers.guesses[index][:2]):
        character = _SYMBOLS.get(guess.character, guess.character)
        axes.text(
            x,
            52 + 16 * line,
            f"{character}  {style.format_percent(guess.probability, 0)}",
            ha="center",
            va="center",
            fontsize=10 if not line else 8.5,
            parse_math=False,
            fontweight="bold" if guess.character == follower else "normal",
            color=style.GREEN if guess.character == follower else style.GRAY,
        )


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float | None, float | None], color: str) -> None:
    """Draw an arrow; None is the coordinate of the start."""
    x = start[0] if end[0] is None else end[0]
    y = start[1] if end[1] is None else end[1]
    axes.annotate("", (x, y), start, arrowprops={"arrowstyle": "->", "color": color, "linewidth": 1.3}, zorder=1)
