"""A neuron step by step: what comes in, the products, the sum, the answer; beside it all answers that it can give."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from ...plots import style
from ...plots.number_format import format_number

_DIAGRAM_WIDTH, _HEIGHT = 520, 400
#: units of the picture for one of the diagram, and how many of these a weight with its product may be long
_SCALE, _MAX_LABEL_WIDTH = 41, 2.6


@style.as_image
def plot_neuron(numbers: dict[str, Any], step: int) -> Figure:
    """Draws the numbers of the concept `plot_neuron`; what is not computed before `step` is pale."""
    made = style.auto_figure(_HEIGHT)
    made.get_layout_engine().set(rect=(0.01, 0.05, 0.98, 0.91))  # panels of a fixed shape leave no room for titles
    left, right = made.subplots(1, 2, width_ratios=(_DIAGRAM_WIDTH, style.WIDTH - _DIAGRAM_WIDTH))
    _draw_diagram(left, numbers, step)
    if "surface" in numbers:
        _draw_surface(right, numbers, step)
    else:
        _draw_activation(right, numbers, step)
    return made


def _draw_diagram(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """Inputs on the left, the sum in the middle, the answer on the right."""
    style.hide_axes(axes)
    axes.set(xlim=(0, 10), ylim=(0, 7.4), aspect="equal")
    axes.set_title("Multiply, add, bend")
    _draw_inputs(axes, numbers, step)
    count = len(numbers["inputs"])
    with_bias, bent = step >= count, step > count
    axes.plot([5.5, 5.5], [1.25, 3.5], color=style.PURPLE if with_bias else style.LIGHT_GRAY, linewidth=2, zorder=1)
    axes.text(5.5, 0.8, f"bias {format_number(numbers['bias'], 4)}", ha="center", va="center", color=style.BLACK)
    _draw_node(axes, (5.5, 4.1), numbers["running_sums"][min(step, count)])
    axes.text(5.5, 5.1, "sum", ha="center", color=style.GRAY)
    axes.annotate(
        "", (8.2, 4.1), (6.3, 4.1),
        arrowprops={"arrowstyle": "->", "color": style.BLACK if bent else style.LIGHT_GRAY, "linewidth": 1.6},
    )  # fmt: skip
    axes.text(7.25, 4.35, numbers["activation"], ha="center", color=style.BLACK if bent else style.GRAY, fontsize=9)
    _draw_node(axes, (8.95, 4.1), numbers["output"] if bent else None)
    axes.text(8.95, 5.1, "output", ha="center", color=style.GRAY)


def _draw_inputs(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """A box for each input and a line to the sum, level where its weight and the product stand on it."""
    inputs, weights = numbers["inputs"], numbers["weights"]
    count = len(inputs)
    centres = np.linspace(6.3, 1.9 if count <= 6 else 0.5, count) if count > 1 else np.array([4.1])
    apart = centres[0] - centres[1] if count > 1 else 1.0
    high, size = min(0.9, 0.8 * apart), 9.5 if count <= 6 else 7.5
    short = [format_number(w, 3, 7) for w in weights]
    long = [f"· {w} = {format_number(product, 4, 7)}" for w, product in zip(short, numbers["products"], strict=True)]
    # as wide in every step, so that nothing moves from one to the next
    wide = max(style.text_width(text, size) for text in long) / _SCALE
    told_size, bend = size * min(1.0, _MAX_LABEL_WIDTH / wide), 1.75 + min(wide, _MAX_LABEL_WIDTH)
    largest = max(map(abs, weights)) or 1
    for place, y in enumerate(centres):
        known, w = place <= step, weights[place]
        colour = (style.BLUE if w >= 0 else style.VERMILLION) if known else style.LIGHT_GRAY
        width = 0.8 + 3.5 * abs(w) / largest
        axes.plot([1.6, bend, 4.95], [y, y, 4.1], color=colour, linewidth=width, zorder=1, solid_joinstyle="round")
        box = FancyBboxPatch(
            (0.02, y - high / 2), 1.38, high, boxstyle="round,pad=0,rounding_size=0.2", facecolor="white",
            edgecolor=style.BLACK, linewidth=1.5, zorder=3,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(0.71, y, format_number(inputs[place], 4, 6), ha="center", va="center", fontsize=size, zorder=4)
        axes.text(
            1.55, y, long[place] if known else f"· {short[place]}", va="center", fontsize=told_size,
            color=style.BLACK if known else style.GRAY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}, zorder=2,
        )  # fmt: skip
    axes.text(0.71, 7.0, "inputs", ha="center", color=style.GRAY)
    axes.text(1.55, 7.0, "· weights", color=style.GRAY)


def _draw_node(axes: Axes, place: tuple[float, float], value: float | None) -> None:
    """A circle with a number in it, or with a question mark where it is not yet known."""
    told, ink = ("?", style.GRAY) if value is None else (format_number(value, 4, 7), style.BLACK)
    edge = style.LIGHT_GRAY if value is None else style.BLACK
    axes.add_patch(Circle(place, 0.75, facecolor="white", edgecolor=edge, linewidth=1.5, zorder=3))
    size = 11 if len(told) <= 6 else 9.5
    axes.text(*place, told, ha="center", va="center", fontsize=size, color=ink, zorder=4)


def _draw_surface(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The output over the plane of two inputs, the line where the sum is zero, and the input itself."""
    axis, surface = np.array(numbers["axis"]), np.array(numbers["surface"])
    axes.set_title("Its output for every input")
    shown = axes.pcolormesh(axis, axis, surface, cmap="cividis", shading="gouraud", rasterized=True)
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("output")
    if np.ptp(surface) <= 1e-9 * np.abs(surface).max():
        bar.set_ticks([surface[0, 0]], labels=[format_number(surface[0, 0], 4)])  # the same everywhere
    if numbers["line"]:
        (px, py), (dx, dy) = numbers["line"]["point"], numbers["line"]["direction"]
        reach = 4 * axis[-1] + np.hypot(px, py)
        axes.plot([px - reach * dx, px + reach * dx], [py - reach * dy, py + reach * dy], color="white", linewidth=2)
    axes.plot(*numbers["inputs"], "o", markersize=9, markerfacecolor=style.VERMILLION, markeredgecolor="white")
    told = f"{_describe_boundary(numbers)}; the dot: this input"
    axes.set(xlim=axis[[0, -1]], ylim=axis[[0, -1]], aspect="equal", xlabel=f"input 1\n{told}", ylabel="input 2")
    axes.grid(False)


def _describe_boundary(numbers: dict[str, Any]) -> str:
    """What is told of the line where the sum is zero."""
    if not numbers["line"]:
        return "no line: both weights are 0"
    farthest = numbers["axis"][-1] * sum(map(abs, numbers["weights"]))
    return "white: the sum is 0" if abs(numbers["bias"]) <= farthest else "the sum is 0 only farther out"


def _draw_activation(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The activation over the sum, and where this neuron is on it."""
    axes.set_title(f"The activation: {numbers['activation']}")
    axes.plot(numbers["curve"]["sum"], numbers["curve"]["output"], color=style.BLUE)
    if step > len(numbers["inputs"]):
        axes.plot(numbers["sum"], numbers["output"], "o", markersize=9, color=style.VERMILLION)
    axes.axvline(0, color=style.GRAY, linewidth=0.8)
    axes.set(xlabel="sum", ylabel="output")
