"""A neuron step by step: what comes in, the products, the sum, the answer; beside it all answers that it can give."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from . import style

_LEFT, _HEIGHT = 520, 400


@style.picture
def neuron(numbers: dict[str, Any], step: int) -> Figure:
    """Draws the numbers of the concept `neuron`; what is not computed before `step` is pale."""
    made = style.figure(_HEIGHT)
    made.get_layout_engine().set(rect=(0.01, 0.05, 0.98, 0.91))  # panels of a fixed shape leave no room for titles
    left, right = made.subplots(1, 2, width_ratios=(_LEFT, style.WIDTH - _LEFT))
    _diagram(left, numbers, step)
    if "surface" in numbers:
        _surface(right, numbers, step)
    else:
        _curve(right, numbers, step)
    return made


def _diagram(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """Inputs on the left, the sum in the middle, the answer on the right."""
    style.bare(axes)
    axes.set(xlim=(0, 10), ylim=(0, 7.4), aspect="equal")
    axes.set_title("Multiply, add, bend")
    count, products = len(numbers["inputs"]), numbers["products"]
    spread = np.linspace(6.3, 1.9, count) if count > 1 else np.array([4.1])
    radius = min(0.52, 2.0 / count)
    size = 9.5 if count <= 6 else 7.5
    largest = max(map(abs, numbers["weights"])) or 1
    for place, y in enumerate(spread):
        known, w = place <= step, numbers["weights"][place]
        colour = (style.BLUE if w >= 0 else style.VERMILLION) if known else style.PALE
        axes.plot([1.0 + radius, 4.95], [y, 4.1], color=colour, linewidth=0.8 + 3.5 * abs(w) / largest, zorder=1)
        _node(axes, (1.0, y), radius, f"{numbers['inputs'][place]:.3g}", True, size)
        told = f"· {w:.3g}" + (f" = {products[place]:.3g}" if known else "")
        along = 0.34 if count <= 6 else 0.2
        axes.text(
            1.0 + along * 4.5, y + along * (4.1 - y), told, ha="center", va="center", fontsize=size,
            color=style.BLACK if known else style.GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}, zorder=2,
        )  # fmt: skip
    with_bias, bent = step >= count, step > count
    axes.plot([5.5, 5.5], [1.25, 3.5], color=style.PURPLE if with_bias else style.PALE, linewidth=2, zorder=1)
    axes.text(5.5, 0.8, f"bias {numbers['bias']:.3g}", ha="center", va="center", color=style.BLACK)
    shown = numbers["running_sums"][min(step, count)]
    _node(axes, (5.5, 4.1), 0.75, f"{shown:.4g}", True, 11)
    axes.text(5.5, 5.1, "sum", ha="center", color=style.GREY)
    axes.annotate(
        "", (8.2, 4.1), (6.3, 4.1),
        arrowprops={"arrowstyle": "->", "color": style.BLACK if bent else style.PALE, "linewidth": 1.6},
    )  # fmt: skip
    axes.text(7.25, 4.35, numbers["activation"], ha="center", color=style.BLACK if bent else style.GREY, fontsize=9)
    _node(axes, (8.95, 4.1), 0.75, f"{numbers['output']:.4g}" if bent else "?", bent, 11)
    axes.text(8.95, 5.1, "output", ha="center", color=style.GREY)
    axes.text(1.0, 7.0, "inputs", ha="center", color=style.GREY)
    axes.text(2.7, 7.0, "· weights", ha="center", color=style.GREY)


def _node(axes: Axes, place: tuple[float, float], radius: float, text: str, known: bool, size: float) -> None:
    edge = style.BLACK if known else style.PALE
    axes.add_patch(Circle(place, radius, facecolor="white", edgecolor=edge, linewidth=1.5, zorder=3))
    axes.text(
        *place, text, ha="center", va="center", fontsize=size, color=style.BLACK if known else style.GREY, zorder=4
    )


def _surface(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The output over the plane of two inputs, the line where the sum is zero, and the input itself."""
    axis, surface = np.array(numbers["axis"]), np.array(numbers["surface"])
    axes.set_title("Its output for every input")
    shown = axes.pcolormesh(axis, axis, surface, cmap="cividis", shading="gouraud", rasterized=True)
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("output")
    if numbers["line"]:
        (px, py), (dx, dy) = numbers["line"]["point"], numbers["line"]["direction"]
        reach = 4 * axis[-1] + np.hypot(px, py)
        axes.plot([px - reach * dx, px + reach * dx], [py - reach * dy, py + reach * dy], color="white", linewidth=2)
    axes.plot(*numbers["inputs"], "o", markersize=9, markerfacecolor=style.VERMILLION, markeredgecolor="white")
    told = "white: the sum is 0; the dot: this input" if numbers["line"] else "no line: both weights are 0"
    axes.set(xlim=axis[[0, -1]], ylim=axis[[0, -1]], aspect="equal", xlabel=f"input 1\n{told}", ylabel="input 2")
    axes.grid(False)


def _curve(axes: Axes, numbers: dict[str, Any], step: int) -> None:
    """The activation over the sum, and where this neuron is on it."""
    axes.set_title(f"The activation: {numbers['activation']}")
    axes.plot(numbers["curve"]["sum"], numbers["curve"]["output"], color=style.BLUE)
    if step > len(numbers["inputs"]):
        axes.plot(numbers["sum"], numbers["output"], "o", markersize=9, color=style.VERMILLION)
    axes.axvline(0, color=style.GREY, linewidth=0.8)
    axes.set(xlabel="sum", ylabel="output")
