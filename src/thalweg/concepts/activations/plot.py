"""Plot activation functions as small multiples, and below them the signal and the gradient over the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...plots import style

if TYPE_CHECKING:
    from .compute import ActivationNumbers, FunctionNumbers

#: figure units: a row of functions, and the axes in it; the two charts below, and their axes
_ROW_HEIGHT = 165
_PLOT_HEIGHT = 129
_CHARTS_HEIGHT = 350
_CHART_WIDTH = 240
_CHART_HEIGHT = 258
_CHART_LEFT_FORWARD = 66
_CHART_LEFT_BACKWARD = 516
#: figure units: left of the first column, between columns, above the first row, below the last row
_LEFT = 33
_GAP = 22
_TOP = 25
_BOTTOM = 22
_MAX_COLUMNS = 4
#: a single function is not drawn across the full width
_MIN_COLUMNS = 3
#: distance between two names beside a chart, as a fraction of its height
_NAME_GAP = 1 / 12.5
#: color and dashes; MODERN_ACTIVATIONS are dashed
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
def plot_activations(
    numbers: ActivationNumbers, show_derivatives: bool, forward_layers: int, backward_layers: int
) -> Figure:
    """Plot all functions, the signal after `forward_layers` layers, and the gradient through `backward_layers` layers.

    Args:
        numbers: Result of the concept.
        show_derivatives: Draw the derivatives too.
        forward_layers: Layers of the forward pass to show.
        backward_layers: Layers of the backward pass to show.

    Returns:
        The figure.
    """
    columns = min(_MAX_COLUMNS, max(_MIN_COLUMNS, len(numbers.functions)))
    rows = -(-len(numbers.functions) // columns)
    top = rows * _ROW_HEIGHT + _BOTTOM
    # fixed positions: constrained layout measures every text of 14 axes and takes longer than all the rest
    fig = style.fixed_figure(top + _CHARTS_HEIGHT)
    _draw_functions(fig, numbers.functions, columns, show_derivatives)
    forward = style.add_axes(fig, _CHART_LEFT_FORWARD, top + 34, _CHART_WIDTH, _CHART_HEIGHT)
    signals = {}
    gradients = {}
    for function in numbers.functions:
        signals[function.name] = function.signal_std
        gradients[function.name] = function.gradient_norm[::-1]
    _draw_series(forward, signals, forward_layers)
    forward.set_title("Forward pass: std of the signal")
    forward.set(xlabel="layer", ylabel="standard deviation over examples")
    backward = style.add_axes(fig, _CHART_LEFT_BACKWARD, top + 34, _CHART_WIDTH, _CHART_HEIGHT)
    _draw_series(backward, gradients, backward_layers)
    backward.set_title("Backward pass: norm of the gradient")
    backward.set(xlabel=f"layers back from layer {numbers.depth}", ylabel="norm relative to the last layer")
    return fig


def _draw_functions(fig: Figure, functions: Sequence[FunctionNumbers], columns: int, show_derivatives: bool) -> None:
    width = (style.WIDTH - _LEFT - (columns - 1) * _GAP - 8) / columns
    for i, function in enumerate(functions):
        row, column = divmod(i, columns)
        left = _LEFT + column * (width + _GAP)
        axes = style.add_axes(fig, left, _TOP + row * _ROW_HEIGHT, width, _PLOT_HEIGHT)
        _draw_function(axes, function, show_derivatives)
        # tick labels only at the lower and left edge of the small multiples
        axes.tick_params(labelbottom=i + columns >= len(functions), labelleft=not column)


def _draw_function(axes: Axes, function: FunctionNumbers, show_derivative: bool) -> None:
    """Draw one function in its color and its derivative in gray, both with their formulas."""
    color, dashes = _STYLES[function.name]
    axes.axhline(0, color=style.GRAY, linewidth=0.7)
    axes.axvline(0, color=style.GRAY, linewidth=0.7)
    if show_derivative:
        axes.plot(function.x, _break_at_jumps(function.derivative), color=style.GRAY, linewidth=1.3)
    axes.plot(function.x, _break_at_jumps(function.activation), dashes, color=color, linewidth=2.2)
    # the name in sky blue would be hard to read
    title_color = style.BLACK if color == style.SKY else color
    axes.set_title(function.name, color=title_color)
    axes.set_title(f"${function.formula}$", loc="right", fontsize=9, fontweight="normal", parse_math=True)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.text(-3.85, 3.95, f"range {function.range}", va="top", fontsize=8, bbox=background)
    if show_derivative:
        axes.text(
            -3.85,
            3.0,
            f"$f' = {function.derivative_formula}$",
            va="top",
            fontsize=8,
            color="#555555",
            parse_math=True,
            bbox=background,
        )
    axes.set(xlim=(-4, 4), ylim=(-2, 4.2), xticks=(-4, -2, 0, 2, 4), yticks=(-2, 0, 2, 4))


def _break_at_jumps(values: Sequence[float]) -> np.ndarray:
    """Replace values after a jump by NaN, so that no vertical line is drawn."""
    curve = np.array(values)
    jumps = np.abs(np.diff(curve)) > 0.5
    curve[1:][jumps] = np.nan
    return curve


def _draw_series(axes: Axes, series: Mapping[str, Sequence[float]], layers: int) -> None:
    """Draw one line per function up to `layers` on a log axis; zeros lie on the lower edge."""
    depth = len(next(iter(series.values()))) - 1
    low, high = _find_limits(series)
    axes.set_yscale("log")
    axes.axhline(1, color=style.GRAY, linewidth=0.9)
    ends = {}
    for name, values in series.items():
        color, dashes = _STYLES[name]
        visible = np.maximum(values[: layers + 1], low)
        axes.plot(range(len(visible)), visible, dashes, color=color, linewidth=1.7, clip_on=False)
        ends[name] = math.log(visible[-1] / low) / math.log(high / low)
    axes.set(xlim=(0, depth), ylim=(low, high))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(format_power_of_ten))
    _label_line_ends(axes, ends, layers, depth)


def _find_limits(series: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Return limits of a log axis around all positive values, and around 1."""
    values = np.array(list(series.values()))
    positive = values[values > 0]
    low = 10.0 ** (math.floor(math.log10(positive.min())) - 1)
    high = 10.0 ** (math.ceil(math.log10(max(positive.max(), 1.0))) + 0.3)
    return min(low, 0.05), high


def _label_line_ends(axes: Axes, ends: Mapping[str, float], layers: int, depth: int) -> None:
    """Draw the names right of the chart, in the order of the line ends and close to them without overlap.

    `ends` are heights of the line ends as fractions of the chart's height.
    """
    names = sorted(ends, key=lambda name: ends[name])
    transform = axes.get_xaxis_transform()
    for name, height in zip(names, _spread_labels([ends[name] for name in names]), strict=True):
        color, dashes = _STYLES[name]
        text_color = style.BLACK
        label = name if ends[name] else f"{name}: 0"
        if layers == 0:
            color = style.LIGHT_GRAY
            text_color = style.GRAY
            label = name
        if layers == depth:
            leader_x = [layers, depth * 1.02, depth * 1.07]
            leader_y = [ends[name], height, height]
            axes.plot(leader_x, leader_y, color=color, linewidth=0.7, transform=transform, clip_on=False)
        axes.plot(
            [depth * 1.07, depth * 1.16],
            [height, height],
            dashes,
            color=color,
            linewidth=1.7,
            transform=transform,
            clip_on=False,
        )
        axes.text(depth * 1.18, height, label, transform=transform, va="center", fontsize=8.5, color=text_color)


def _spread_labels(ends: Sequence[float]) -> list[float]:
    """Move sorted heights apart by at least _NAME_GAP: first upward, then back down from the top edge."""
    heights: list[float] = []
    lowest = 0.0
    for end in ends:
        heights.append(max(end, lowest))
        lowest = heights[-1] + _NAME_GAP
    highest = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], highest)
        highest = heights[i] - _NAME_GAP
    return heights


def format_power_of_ten(value: float, _: int) -> str:
    """Format 0.001 as '10⁻³'; 1 stays '1'."""
    if abs(value - 1) < 1e-9:
        return "1"
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
