"""Draw a sequence of a memory problem, and below it a model's answer as it forms step by step.

T steps, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from . import style

_HEIGHT = 430
#: steps of a strip of symbols that are drawn at its begin and at its end; those between are left out
_NUM_ENDS = 22
#: width and height of a symbol of `copy` at most
_MAX_SIDE = 40
#: symbols of `copy` and of `temporal-order` as they are drawn
COPY_NAMES = (*"12345678", "", "go")
ORDER_NAMES = ("a", "b", "c", "d", "X", "Y", "B", "E")
#: the symbols of `copy` that are to be repeated; X and Y of `temporal-order`
_NUM_COPY_SYMBOLS = 8
_RELEVANT = (4, 5)


@style.as_image
def plot_sequence(
    problem: str, inputs: np.ndarray, answers_TK: np.ndarray, target: float | str, title: str = ""
) -> Figure:
    """Plot one sequence and the answers of a model.

    Args:
        problem: adding, copy or temporal-order.
        inputs: Numbers and marks (T, 2), or symbols (T,).
        answers_TK: The sum (T, 1), or probabilities of symbols or orders.
        target: What is to be answered.
        title: Title.

    Returns:
        The figure.
    """
    if problem == "copy":
        return _plot_copy(inputs, answers_TK, str(target), title)
    fig = style.auto_figure(_HEIGHT)
    style.add_title(fig, title)
    upper, lower = fig.subplots(2, 1, sharex=True)
    if problem == "adding":
        _draw_numbers(upper, inputs)
        _draw_sum(lower, inputs, answers_TK, float(target))
    else:
        _draw_order(upper, inputs)
        _draw_probabilities(lower, answers_TK, str(target))
    lower.set(xlabel="step", xlim=(0, len(inputs) + 1 + 0.01 * len(inputs)))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def _draw_numbers(axes: Axes, inputs_T2: np.ndarray) -> None:
    steps_T = np.arange(1, len(inputs_T2) + 1)
    marked_T = inputs_T2[:, 1] > 0
    axes.vlines(steps_T, 0, inputs_T2[:, 0], color=style.LIGHT_GRAY, linewidth=max(0.4, 300 / len(steps_T) / 2))
    axes.vlines(steps_T[marked_T], 0, inputs_T2[marked_T, 0], color=style.VERMILLION, linewidth=2)
    axes.plot(steps_T[marked_T], inputs_T2[marked_T, 0], "o", color=style.VERMILLION, markersize=7)
    for step, value in zip(steps_T[marked_T], inputs_T2[marked_T, 0], strict=True):
        axes.annotate(f"{value:.3f}", (step, value), (0, 8), textcoords="offset points", ha="center")
    axes.set(ylim=(0, 1.25), ylabel="input", yticks=[0, 0.5, 1])
    axes.set_title("The numbers; the marked ones are to be added")


def _draw_sum(axes: Axes, inputs_T2: np.ndarray, answers_T1: np.ndarray, target: float) -> None:
    steps_T = np.arange(1, len(inputs_T2) + 1)
    partial_T = np.cumsum(inputs_T2[:, 0] * inputs_T2[:, 1])
    axes.step(steps_T, partial_T, where="post", color=style.VERMILLION, linewidth=1.2, label="sum so far")
    axes.plot(steps_T, answers_T1[:, 0], color=style.BLUE, label="answer, if it were asked now")
    axes.plot(steps_T[-1], answers_T1[-1, 0], "o", color=style.BLUE, markersize=8)
    axes.plot(steps_T[-1], target, "o", markersize=12, fillstyle="none", color=style.VERMILLION, markeredgewidth=1.5)
    low = min(0.0, float(answers_T1.min()))
    high = max(target, float(answers_T1.max()), 0.5)
    axes.set(ylabel="sum", ylim=(low - 0.05 * (high - low), high + 0.25 * (high - low)))
    axes.set_title("The answer at every step; only the last one counts")
    axes.legend(loc="upper left", frameon=False, ncols=2)


def _draw_order(axes: Axes, symbols_T: np.ndarray) -> None:
    steps_T = np.arange(1, len(symbols_T) + 1)
    is_relevant_T = np.isin(symbols_T, _RELEVANT)
    axes.vlines(steps_T[~is_relevant_T], 0, 0.4, color=style.LIGHT_GRAY, linewidth=max(0.4, 150 / len(steps_T)))
    for step, symbol in zip(steps_T[is_relevant_T], symbols_T[is_relevant_T], strict=True):
        axes.vlines(step, 0, 0.8, color=style.VERMILLION, linewidth=2)
        axes.text(step, 0.85, ORDER_NAMES[symbol], ha="center", color=style.VERMILLION, fontweight="bold", fontsize=12)
    axes.set(ylim=(0, 1.1), yticks=[])
    axes.grid(False)
    axes.set_title("The symbols; in which order did X and Y come? Gray: others")


def _draw_probabilities(axes: Axes, answers_TK: np.ndarray, target: str) -> None:
    steps_T = np.arange(1, len(answers_TK) + 1)
    for index, probability_T in enumerate(answers_TK.T):
        name = order_name(index, answers_TK.shape[1])
        color = style.OKABE_ITO[index % len(style.OKABE_ITO)]
        is_target = name == target
        axes.plot(
            steps_T,
            probability_T,
            color=color,
            linewidth=2.4 if is_target else 1.0,
            linestyle="-" if index < len(style.OKABE_ITO) else "--",
            label=f"{name} (target)" if is_target else name,
        )
    axes.set(ylim=(-0.03, 1.03), ylabel="probability")
    axes.set_title("The answer at every step; only the last one counts")
    axes.legend(loc="center left", frameon=False, ncols=2)


def order_name(index: int, count: int) -> str:
    """Return the order of X and Y that class `index` of `count` stands for: 'XY' for 1 of 4."""
    width = max(1, (count - 1).bit_length())
    return f"{index:0{width}b}".replace("0", "X").replace("1", "Y")


# --- copy -------------------------------------------------------------------------------------------------------------


def _plot_copy(inputs_T: np.ndarray, answers_TK: np.ndarray, target: str, title: str) -> Figure:
    """Draw three strips of symbols; the blanks in the middle are left out."""
    fig, axes = style.canvas(style.WIDTH, 250)
    axes.text(14, 24, title, va="center", fontweight="bold", fontsize=11)
    steps = len(inputs_T)
    targets_T = np.full(steps, _NUM_COPY_SYMBOLS)
    targets_T[steps - len(target) :] = [int(symbol) - 1 for symbol in target]
    answer_T = answers_TK.argmax(1)
    indices, gap = _visible_steps(steps)
    side = min(_MAX_SIDE, (style.WIDTH - 110) / (len(indices) + (3 if gap else 0)))
    lefts = []
    for position, index in enumerate(indices):
        skipped = 3 if gap and index >= gap[1] else 0
        lefts.append(90 + (position + skipped) * side)
    for row, (name, symbols_T) in enumerate((("input", inputs_T), ("target", targets_T), ("answer", answer_T))):
        top = 62 + row * 52
        axes.text(80, top + side / 2, name, ha="right", va="center")
        for left, index in zip(lefts, indices, strict=True):
            is_wrong = name == "answer" and symbols_T[index] != targets_T[index]
            _draw_symbol(axes, (left, top, side), int(symbols_T[index]), is_wrong)
    if gap:
        middle = 90 + (_count_before(indices, gap) + 1.5) * side
        axes.text(middle, 62 + 52 + side / 2, f"…\n{gap[1] - gap[0]:,}\nsteps\n…", ha="center", va="center", fontsize=8)
    legend = "White: blank. The black cell says: now repeat. A red frame: a wrong answer."
    axes.text(90, 230, legend, va="center", fontsize=9, color=style.GRAY)
    return fig


def _count_before(indices: Sequence[int], gap: tuple[int, int]) -> int:
    return sum(index < gap[0] for index in indices)


def _visible_steps(steps: int) -> tuple[list[int], tuple[int, int] | None]:
    """Return the steps that are drawn, and the first and the end of those that are left out."""
    first = _NUM_ENDS * 2 // 3
    last = steps - _NUM_ENDS
    if last <= first + 3:
        return list(range(steps)), None
    return [*range(first), *range(last, steps)], (first, last)


def _draw_symbol(axes: Axes, box: tuple[float, float, float], symbol: int, is_wrong: bool) -> None:
    left, top, side = box
    color: Any = style.WHITE
    if symbol < _NUM_COPY_SYMBOLS:
        color = (*style.OKABE_ITO, "#f0e442", "#999999")[symbol]
    elif symbol > _NUM_COPY_SYMBOLS:
        color = style.BLACK
    cell = Rectangle((left + 0.5, top), side - 1, side - 1, facecolor=color, edgecolor=style.LIGHT_GRAY, linewidth=0.7)
    axes.add_patch(cell)
    text_color = style.choose_text_color(symbol not in (3, 4, 6, _NUM_COPY_SYMBOLS))
    size = min(9.0, side / 2.6)
    center = (left + side / 2, top + side / 2)
    axes.text(*center, COPY_NAMES[symbol], ha="center", va="center", fontsize=size, color=text_color)
    if is_wrong:
        frame = Rectangle((left + 0.5, top), side - 1, side - 1, fill=False, edgecolor="red", linewidth=2, zorder=4)
        axes.add_patch(frame)
