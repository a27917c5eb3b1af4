"""Optimisers on a surface: their paths over lines of equal loss, their losses step by step, and who is who."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...plots import style
from ...plots.number_format import format_number

_HEIGHT = 600
#: of each optimiser: colour, dashes, marker; the markers alone tell all nine apart, and colour with dashes does
_STYLES = {
    "sgd": (style.BLACK, "-", "o"),
    "momentum": (style.BLUE, "-", "s"),
    "nesterov": (style.SKY, "--", "D"),
    "adagrad": (style.GREEN, "-", "^"),
    "adadelta": (style.PURPLE, "--", "v"),
    "rmsprop": (style.ORANGE, "-", "p"),
    "adam": (style.VERMILLION, "-", "X"),
    "adamw": (style.VERMILLION, ":", "P"),
    "muon": (style.BLACK, "-.", ">"),
}
#: what is told instead of a loss where a path has ended
END_LABELS = {"not finite": "no value", "far": "diverged"}
#: so far below the first loss a curve by magnitude may go, in factors of ten
_MAX_DECADES = 10
#: where the learning rates end in the table, of whose width 10 are all
_LR_COLUMN_X = 6.1


@style.as_image
def plot_descent(numbers: dict[str, Any], step: int) -> Figure:
    """Draws the numbers of the concept `plot_descent` as far as `step`."""
    made = style.auto_figure(_HEIGHT)
    grid = made.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1.25, 1))
    _draw_contours(made.add_subplot(grid[:, 0]), numbers, step)
    _draw_loss_curves(made.add_subplot(grid[0, 1]), numbers, step)
    _draw_legend(made.add_subplot(grid[1, 1]), numbers, step)
    return made


def _draw_contours(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """Lines of equal loss, dark is low; arrows downhill; the paths, a marker at the head of each."""
    x, y = np.array(numbers["axis_x"]), np.array(numbers["axis_y"])
    loss = np.ma.masked_invalid(np.array(numbers["loss"], dtype=float))
    axes.set_title(style.fit_text(numbers["surface"], 500, 11.5))
    axes.grid(False)
    if loss.mask.any():
        nowhere = np.ma.masked_array(np.ones(loss.shape), ~loss.mask)
        axes.pcolormesh(x, y, nowhere, cmap="gray", vmin=0, vmax=1.16, rasterized=True)
    if len(numbers["levels"]):
        colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, len(numbers["levels"])))
        axes.contour(x, y, loss, levels=numbers["levels"], colors=list(colours), linewidths=0.9)
    if numbers["arrows"]:
        x, y, along_x, along_y = np.array(numbers["arrows"]).T
        look = {"color": "#b0b0b0", "pivot": "mid", "scale": 28, "width": 0.0028, "headwidth": 4, "zorder": 1.5}
        axes.quiver(x, y, along_x, along_y, **look)
    for x_minimum, y_minimum in numbers["minima"]:
        axes.plot(x_minimum, y_minimum, "*", markersize=19, color="#f0e442", markeredgecolor=style.BLACK, zorder=4)
    for one in reversed(numbers["optimizers"]):
        colour, dashes, marker = _STYLES[one["name"]]
        path = np.array(one["path"][: step + 1])
        axes.plot(*path.T, dashes, color=colour, linewidth=1.7, zorder=3, path_effects=_OUTLINE)
        axes.plot(*path[-1], marker, color=colour, markersize=8, markeredgecolor="white", markeredgewidth=0.9, zorder=5)
    left, right, lower, upper = numbers["window"]
    star = "star: a minimum; " if numbers["minima"] else ""
    told = f"{star}arrows: straight downhill; dark lines: low, light lines: high"
    axes.set(xlim=(left, right), ylim=(lower, upper), xlabel=f"x\n{told}", ylabel="y")
    if 0.4 < (upper - lower) / (right - left) < 1.6:
        axes.set_aspect("equal", anchor="N")


_OUTLINE = [Stroke(linewidth=3.2, foreground="white", alpha=0.7), Normal()]


def _draw_loss_curves(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The loss at every step, by magnitude where the losses differ by magnitudes."""
    first = numbers["optimizers"][0]["losses"][0]
    every = np.concatenate([one["losses"] for one in numbers["optimizers"]])
    if numbers["logarithmic"]:
        floor = max(10.0 ** math.floor(math.log10(max(every.min(), 1e-300))), first * 10.0**-_MAX_DECADES)
        low, high = floor, float(np.clip(every.max(), 2 * first, 1000 * first))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        # at least so much that the numbers at the axis differ where the surface is flat
        least = 1e-3 * abs(first)
        spread, above = max(first - every.min(), least) or 1.0, 0.3
        if first - every.min() < least < every.max() - first:  # all of them rise
            spread, above = min(every.max() - first, abs(first)), 1.08
        low, high = first - 1.08 * spread, first + above * spread
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for one in reversed(numbers["optimizers"]):
        colour, dashes, marker = _STYLES[one["name"]]
        losses = np.clip(one["losses"][: step + 1], low, high)
        axes.plot(losses, dashes, color=colour, linewidth=1.5)
        axes.plot(
            len(losses) - 1, losses[-1], marker, color=colour, markersize=6, markeredgecolor="white", clip_on=False
        )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlim=(0, numbers["steps"] * 1.03), ylim=(low, high), xlabel="step")
    axes.set_title("The loss at every step")


def power_of_ten(value: float, _: int) -> str:
    """'10⁻³' for 0.001."""
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _draw_legend(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The legend: line and marker of each, its rate, its loss now, and whether it can be seen."""
    style.hide_axes(axes)
    axes.set(xlim=(0, 10), ylim=(10.2, 0))
    for x, head, side in (
        (1.6, "optimizer", "left"),
        (_LR_COLUMN_X, "rate", "right"),
        (9.9, f"loss, step {step}", "right"),
    ):
        axes.text(x, 0.5, head, ha=side, va="center", color=style.GRAY, fontsize=8.5)
    for row, one in enumerate(numbers["optimizers"], 1):
        y = 0.5 + row
        colour, dashes, marker = _STYLES[one["name"]]
        axes.plot([0.1, 1.3], [y, y], dashes, color=colour, linewidth=1.7)
        axes.plot(0.7, y, marker, color=colour, markersize=7, markeredgecolor="white")
        axes.text(1.6, y, one["label"], va="center", fontsize=9)
        axes.text(_LR_COLUMN_X, y, format_number(one["rate"], 2, 6), ha="right", va="center", fontsize=9)
        axes.text(9.9, y, _describe_state(one, step, numbers["window"]), ha="right", va="center", fontsize=9)


def _describe_state(one: dict[str, Any], step: int, window: Sequence[float]) -> str:
    if step >= len(one["losses"]):
        return END_LABELS[one["ended"]]
    x, y = one["path"][step]
    inside = window[0] <= x <= window[1] and window[2] <= y <= window[3]
    loss = one["losses"][step]
    return f"{loss:.3g}" if inside else f"outside, {format_number(loss, 2, 7)}"
