"""Activations: small multiples of functions and derivatives; the signal and the gradient over the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...plots import style

#: units: of a row of functions and of the axes in it, of the charts below them and of their axes; most columns
_ROW_HEIGHT, _PLOT_HEIGHT, _CHARTS_HEIGHT, _CHART_SIZE, _COLUMNS = 165, 129, 350, (240, 258), 4
#: units: left of the first axes of a row, between two of them, above them and below the last row
_LEFT, _GAP, _ABOVE, _BELOW = 33, 22, 25, 22
#: of each function: colour and dashes; those that came after the talk are dashed
_STYLES = {
    "identity": (style.BLACK, "-"),
    "step": (style.PURPLE, "-"),
    "logistic": (style.VERMILLION, "-"),
    "tanh": (style.BLUE, "-"),
    "arctan": (style.SKY, "-"),
    "softsign": (style.GREEN, "-"),
    "relu": (style.ORANGE, "-"),
    "leaky-relu": (style.ORANGE, "--"),
    "elu": (style.GREEN, "--"),
    "gelu": (style.BLUE, "--"),
    "silu": (style.SKY, "--"),
    "softplus": (style.VERMILLION, "--"),
}


@style.as_image
def plot_activations(numbers: dict[str, Any], slopes: bool, forward: int, back: int) -> Figure:
    """Draws the numbers of the concept `plot_activations`: with slopes or without, lines as far as that many layers."""
    functions = numbers["functions"]
    columns = min(_COLUMNS, max(3, len(functions)))  # one alone should not be drawn as wide as the sheet
    rows = -(-len(functions) // columns)
    # places of our own: constrained layout measures every text of fourteen axes, and takes longer than all the rest
    made = style.fixed_figure(rows * _ROW_HEIGHT + _BELOW + _CHARTS_HEIGHT)
    wide = (style.WIDTH - _LEFT - (columns - 1) * _GAP - 8) / columns
    for place, one in enumerate(functions):
        row, column = divmod(place, columns)
        axes = style.add_axes(made, _LEFT + column * (wide + _GAP), _ABOVE + row * _ROW_HEIGHT, wide, _PLOT_HEIGHT)
        _draw_function(axes, one, slopes)
        axes.tick_params(labelbottom=place + columns >= len(functions), labelleft=not column)  # others stand there
    top = rows * _ROW_HEIGHT + _BELOW + 34
    left, right = (style.add_axes(made, start, top, *_CHART_SIZE) for start in (66, 516))
    depth = numbers["depth"]
    signals = {one["name"]: one["signal"] for one in functions}
    gradients = {one["name"]: one["gradient"][::-1] for one in functions}
    _draw_lines(left, signals, forward, "Forward: what is left of the signal")
    left.set(xlabel="layers passed", ylabel="standard deviation")
    _draw_lines(right, gradients, back, "Back: what is left of the gradient")
    right.set(xlabel=f"layers passed, from layer {depth} back to the input", ylabel="norm, of that at the end")
    return made


def _draw_function(axes: Axes, one: dict[str, Any], slopes: bool) -> None:
    """One function in its colour, its derivative in grey; both written out."""
    colour, dashes = _STYLES[one["name"]]
    axes.axhline(0, color=style.GRAY, linewidth=0.7)
    axes.axvline(0, color=style.GRAY, linewidth=0.7)
    if slopes:
        axes.plot(one["x"], _insert_gaps(one, "slopes"), color=style.GRAY, linewidth=1.3)
    axes.plot(one["x"], _insert_gaps(one, "values"), dashes, color=colour, linewidth=2.2)
    axes.set_title(one["name"], color=colour if colour != style.SKY else style.BLACK)
    axes.set_title(f"${one['formula']}$", loc="right", fontsize=9, fontweight="normal", parse_math=True)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.text(-3.85, 3.95, f"range {one['range']}", va="top", fontsize=8, bbox=paper)
    if slopes:
        axes.text(
            -3.85, 3.0, f"$f' = {one['slope']}$", va="top", fontsize=8, color="#555555", parse_math=True, bbox=paper
        )
    axes.set(xlim=(-4, 4), ylim=(-2, 4.2), xticks=(-4, -2, 0, 2, 4), yticks=(-2, 0, 2, 4))


def _insert_gaps(one: dict[str, Any], key: str) -> np.ndarray:
    """The values, with a gap where they jump, so that no line is drawn up a wall."""
    values = np.array(one[key])
    jumps = np.abs(np.diff(values)) > 0.5
    values[1:][jumps] = np.nan
    return values


def _draw_lines(axes: Axes, series: dict[str, Sequence[float]], passed: int, title: str) -> None:
    """A line for each function as far as `passed`, named at its end; by magnitude, with all zeros at the lower edge."""
    axes.set_title(title)
    depth = len(next(iter(series.values()))) - 1
    every = np.array(list(series.values()))
    positive = every[every > 0]
    low = 10.0 ** (math.floor(math.log10(positive.min())) - 1)
    high = 10.0 ** (math.ceil(math.log10(max(positive.max(), 1.0))) + 0.3)
    low = min(low, 0.05)
    axes.set_yscale("log")
    axes.axhline(1, color=style.GRAY, linewidth=0.9)
    ends = {}
    for name, values in series.items():
        colour, dashes = _STYLES[name]
        shown = np.maximum(values[: passed + 1], low)
        axes.plot(range(len(shown)), shown, dashes, color=colour, linewidth=1.7, clip_on=False)
        ends[name] = math.log(shown[-1] / low) / math.log(high / low)
    axes.set(xlim=(0, depth), ylim=(low, high))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
    _label_line_ends(axes, ends, passed, depth)


def _label_line_ends(axes: Axes, ends: dict[str, float], passed: int, depth: int) -> None:
    """Names right of the chart, in the order of the ends and as near to them as they do not overlap.

    `ends` are heights as shares of the chart's.
    """
    gap = 1 / 12.5
    ranked = sorted(ends, key=ends.get)
    heights: list[float] = []
    for name in ranked:
        heights.append(max(ends[name], heights[-1] + gap if heights else 0.0))
    top = 1.0
    for place in reversed(range(len(heights))):
        heights[place] = top = min(heights[place], top)
        top -= gap
    across = axes.get_xaxis_transform()
    for name, height in zip(ranked, heights, strict=True):
        colour, dashes = _STYLES[name]
        known = passed > 0
        told = f"{name}: 0" if known and not ends[name] else name
        leader = [[passed, depth * 1.02, depth * 1.07], [ends[name], height, height]]
        if passed == depth:
            axes.plot(*leader, color=colour, linewidth=0.7, transform=across, clip_on=False)
        axes.plot(
            [depth * 1.07, depth * 1.16], [height] * 2, dashes, color=colour if known else style.LIGHT_GRAY,
            linewidth=1.7, transform=across, clip_on=False,
        )  # fmt: skip
        axes.text(
            depth * 1.18, height, told, transform=across, va="center", fontsize=8.5,
            color=style.BLACK if known else style.GRAY,
        )  # fmt: skip


def power_of_ten(value: float, _: int) -> str:
    """'10⁻³' for 0.001."""
    if abs(value - 1) < 1e-9:
        return "1"
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
