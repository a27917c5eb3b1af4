"""Plot gradients against the lag, and what small networks recall against the distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ...plots import style

if TYPE_CHECKING:
    from .compute import GradientCurve, MemoryNumbers

_HEIGHT = 470
#: color, line style and marker of the cells, in their order
_STYLES = (
    (style.GRAY, "-", "o"),
    (style.BLACK, "--", "s"),
    (style.GREEN, "-", "D"),
    (style.ORANGE, "-", "^"),
    (style.VERMILLION, "--", "v"),
    (style.BLUE, "-", "X"),
)
#: the axis of gradients ends here; smaller ones are off the plot
_MIN_GRADIENT = 1e-12
#: a marker on a curve at these lags
_MARKED_LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@style.as_image
def plot_memory(numbers: MemoryNumbers, current: int) -> Figure:
    """Plot the curves up to cell `current`, which is strongest; all alike where `current` is their number."""
    fig = style.auto_figure(_HEIGHT)
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_gradients(left, numbers, current)
    _draw_recall(right, numbers, current)
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return fig


def _line_alpha(index: int, current: int, count: int) -> float:
    if current in (index, count):
        return 1.0
    return 0.3


def _draw_gradients(axes: Axes, numbers: MemoryNumbers, current: int) -> None:
    axes.set_title("Gradient of the last state, before training")
    count = len(numbers.curves)
    for index, curve in enumerate(numbers.curves):
        visible = curve if index <= current else None
        _draw_curve(axes, visible, curve.cell, index, _line_alpha(index, current, count))
    axes.axhline(numbers.vanished, color=style.GRAY, linewidth=0.8, linestyle=":")
    axes.text(1, numbers.vanished * 0.8, "a millionth", va="top", color=style.GRAY, fontsize=8.5)
    axes.set(xscale="log", yscale="log", xlim=(0.9, 1.1 * numbers.length), ylim=(_MIN_GRADIENT, 4))
    axes.xaxis.set_major_locator(FixedLocator([lag for lag in _MARKED_LAGS if lag <= numbers.length]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda lag, _: f"{lag:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(_format_power))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="steps back (lag)", ylabel="gradient, relative to the last input")


def _format_power(value: float, _: int) -> str:
    """Format a power of ten: '1', '10⁻⁶'."""
    exponent = round(math.log10(value))
    if not exponent:
        return "1"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _draw_curve(axes: Axes, curve: GradientCurve | None, name: str, index: int, alpha: float) -> None:
    color, line_style, marker = _STYLES[index]
    lags = np.zeros(0)
    values = np.zeros(0)
    marked: list[int] = []
    if curve is not None:
        lags = np.array(curve.lags[1:])
        values = np.array(curve.relative[1:])
        marked = [lag - 1 for lag in _MARKED_LAGS if lag < len(curve.lags)]
    axes.plot(
        lags,
        values,
        color=color,
        linestyle=line_style,
        marker=marker,
        markevery=marked,
        markersize=6,
        label=name,
        alpha=alpha,
    )


def _draw_recall(axes: Axes, numbers: MemoryNumbers, current: int) -> None:
    axes.set_title("One symbol recalled after training")
    axes.set(ylim=(0.4, 1.04), ylabel="right answers", xlabel="distance to the symbol, steps")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.format_percent(value, 0)))
    axes.axhline(0.5, color=style.GRAY, linewidth=0.8, linestyle=":")
    positions = range(len(numbers.distances))
    axes.set_xlim(-0.4, len(numbers.distances) - 0.4)
    axes.text(-0.35, 0.495, "chance", va="top", color=style.GRAY, fontsize=8.5)
    axes.set_xticks(list(positions), [f"{distance:,}" for distance in numbers.distances])
    if not numbers.recall:
        axes.text(0.5, 0.5, "no network was trained", transform=axes.transAxes, ha="center", color=style.GRAY)
    count = len(numbers.curves)
    for index, curve in enumerate(numbers.curves):
        if index > current:
            continue
        results = [result for result in numbers.recall if result.cell == curve.cell]
        color, line_style, marker = _STYLES[index]
        # a little apart, because many are at 50 % or at 100 %
        x = np.arange(len(results)) + 0.05 * (index - (count - 1) / 2)
        axes.plot(
            x,
            [result.accuracy for result in results],
            color=color,
            linestyle=line_style,
            marker=marker,
            markersize=7,
            linewidth=1.2,
            alpha=_line_alpha(index, current, count),
            clip_on=False,
        )
