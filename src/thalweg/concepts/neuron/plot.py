"""Plot one forward pass of a neuron, and beside it the activation for every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from ...plots import style
from ...plots.number_format import format_number

if TYPE_CHECKING:
    from .compute import ActivationCurve, ActivationSurface, NeuronNumbers

#: figure units
_DIAGRAM_WIDTH = 520
_HEIGHT = 400
#: figure units per diagram unit
_SCALE = 41
#: diagram units
_MAX_LABEL_WIDTH = 2.6
_SUM_X = 5.5
_OUTPUT_X = 8.95
_NODE_Y = 4.1
#: up to this many inputs are drawn large
_MAX_LARGE_INPUTS = 6


@style.as_image
def plot_neuron(numbers: NeuronNumbers, step: int) -> Figure:
    """Plot the forward pass; values computed after `step` are light gray or a question mark."""
    fig = style.auto_figure(_HEIGHT)
    # panels of fixed aspect leave no room for titles
    fig.set_layout_engine("constrained", rect=(0.01, 0.05, 0.98, 0.91))
    left, right = fig.subplots(1, 2, width_ratios=(_DIAGRAM_WIDTH, style.WIDTH - _DIAGRAM_WIDTH))
    _draw_diagram(left, numbers, step)
    if numbers.surface:
        _draw_surface(fig, right, numbers, numbers.surface)
    elif numbers.curve:
        _draw_curve(right, numbers, numbers.curve, step)
    return fig


def _draw_diagram(axes: Axes, numbers: NeuronNumbers, step: int) -> None:
    """Draw inputs on the left, the pre-activation in the middle, the activation on the right."""
    style.hide_axes(axes)
    axes.set(xlim=(0, 10), ylim=(0, 7.4), aspect="equal")
    axes.set_title("Weighted sum, then activation function")
    _draw_inputs(axes, numbers, step)
    bias_step = len(numbers.inputs)
    _draw_bias(axes, numbers.bias, step >= bias_step)
    _draw_node(axes, _SUM_X, numbers.partial_sums[min(step, bias_step)])
    axes.text(_SUM_X + 0.45, _NODE_Y + 1.0, "pre-activation", ha="center", color=style.GRAY)
    is_done = step > bias_step
    arrow_color = style.BLACK if is_done else style.LIGHT_GRAY
    axes.annotate(
        "",
        (_OUTPUT_X - 0.75, _NODE_Y),
        (_SUM_X + 0.8, _NODE_Y),
        arrowprops={"arrowstyle": "->", "color": arrow_color, "linewidth": 1.6},
    )
    text_color = style.BLACK if is_done else style.GRAY
    axes.text(7.25, _NODE_Y + 0.25, numbers.activation_function, ha="center", color=text_color, fontsize=9)
    activation = numbers.activation if is_done else None
    _draw_node(axes, _OUTPUT_X, activation)
    axes.text(_OUTPUT_X, _NODE_Y + 1.0, "activation", ha="center", color=style.GRAY)


def _draw_bias(axes: Axes, bias: float, is_added: bool) -> None:
    color = style.PURPLE if is_added else style.LIGHT_GRAY
    axes.plot([_SUM_X, _SUM_X], [1.25, 3.5], color=color, linewidth=2, zorder=1)
    axes.text(_SUM_X, 0.8, f"bias {format_number(bias, 4)}", ha="center", va="center", color=style.BLACK)


@dataclass(frozen=True)
class InputRows:
    """Layout of the inputs, the same in every frame so that nothing moves between frames."""

    centers: np.ndarray
    box_height: float
    font_size: float
    label_font_size: float
    corner_x: float
    weights: list[str]
    products: list[str]


def _layout_inputs(numbers: NeuronNumbers) -> InputRows:
    """Choose positions and font sizes that fit all inputs and the longest label."""
    count = len(numbers.inputs)
    lowest = 1.9
    font_size = 9.5
    if count > _MAX_LARGE_INPUTS:
        lowest = 0.5
        font_size = 7.5
    centers = np.array([_NODE_Y])
    distance = 1.0
    if count > 1:
        centers = np.linspace(6.3, lowest, count)
        distance = centers[0] - centers[1]
    weights = [format_number(w, 3, 7) for w in numbers.weights]
    products = []
    for weight, product in zip(weights, numbers.products, strict=True):
        products.append(f"· {weight} = {format_number(product, 4, 7)}")
    label_width = max(style.text_width(text, font_size) for text in products) / _SCALE
    return InputRows(
        centers=centers,
        box_height=min(0.9, 0.8 * distance),
        font_size=font_size,
        label_font_size=font_size * min(1.0, _MAX_LABEL_WIDTH / label_width),
        corner_x=1.75 + min(label_width, _MAX_LABEL_WIDTH),
        weights=weights,
        products=products,
    )


def _draw_inputs(axes: Axes, numbers: NeuronNumbers, step: int) -> None:
    """Draw a box per input, and a line from it to the sum that carries the weight and the product."""
    rows = _layout_inputs(numbers)
    max_weight = max(map(abs, numbers.weights)) or 1
    for i, y in enumerate(rows.centers):
        weight = numbers.weights[i]
        label = f"· {rows.weights[i]}"
        line_color = style.LIGHT_GRAY
        text_color = style.GRAY
        if i <= step:
            label = rows.products[i]
            line_color = style.choose_sign_color(weight)
            text_color = style.BLACK
        axes.plot(
            [1.6, rows.corner_x, 4.95],
            [y, y, _NODE_Y],
            color=line_color,
            linewidth=0.8 + 3.5 * abs(weight) / max_weight,
            zorder=1,
            solid_joinstyle="round",
        )
        _draw_input_box(axes, y, numbers.inputs[i], rows)
        axes.text(
            1.55,
            y,
            label,
            va="center",
            fontsize=rows.label_font_size,
            color=text_color,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            zorder=2,
        )
    axes.text(0.71, 7.0, "inputs", ha="center", color=style.GRAY)
    axes.text(1.55, 7.0, "· weights", color=style.GRAY)


def _draw_input_box(axes: Axes, y: float, value: float, rows: InputRows) -> None:
    box = FancyBboxPatch(
        (0.02, y - rows.box_height / 2),
        1.38,
        rows.box_height,
        boxstyle="round,pad=0,rounding_size=0.2",
        facecolor="white",
        edgecolor=style.BLACK,
        linewidth=1.5,
        zorder=3,
    )
    axes.add_patch(box)
    text = format_number(value, 4, 6)
    axes.text(0.71, y, text, ha="center", va="center", fontsize=rows.font_size, zorder=4)


def _draw_node(axes: Axes, x: float, value: float | None) -> None:
    """Draw a circle with a number in it, or with a question mark for None."""
    text = "?"
    text_color = style.GRAY
    edge_color = style.LIGHT_GRAY
    if value is not None:
        text = format_number(value, 4, 7)
        text_color = style.BLACK
        edge_color = style.BLACK
    axes.add_patch(Circle((x, _NODE_Y), 0.75, facecolor="white", edgecolor=edge_color, linewidth=1.5, zorder=3))
    font_size = 11 if len(text) <= 6 else 9.5
    axes.text(x, _NODE_Y, text, ha="center", va="center", fontsize=font_size, color=text_color, zorder=4)


def _draw_surface(fig: Figure, axes: Axes, numbers: NeuronNumbers, surface: ActivationSurface) -> None:
    """Draw the activation over both inputs, the decision boundary, and the current input."""
    axis = np.array(surface.axis)
    activation = np.array(surface.activation)
    axes.set_title("Activation for every input")
    mesh = axes.pcolormesh(axis, axis, activation, cmap="cividis", shading="gouraud", rasterized=True)
    colorbar = fig.colorbar(mesh, ax=axes, shrink=0.8)
    colorbar.outline.set_visible(False)
    colorbar.set_label("activation")
    is_constant = np.ptp(activation) <= 1e-9 * np.abs(activation).max()
    if is_constant:
        colorbar.set_ticks([activation[0, 0]], labels=[format_number(activation[0, 0], 4)])
    if surface.boundary:
        x, y = surface.boundary.point
        direction_x, direction_y = surface.boundary.direction
        length = 4 * axis[-1] + np.hypot(x, y)
        axes.plot(
            [x - length * direction_x, x + length * direction_x],
            [y - length * direction_y, y + length * direction_y],
            color="white",
            linewidth=2,
        )
    axes.plot(*numbers.inputs, "o", markersize=9, markerfacecolor=style.VERMILLION, markeredgecolor="white")
    legend = f"{_describe_boundary(numbers, surface)}; dot: this input"
    axes.set(xlim=axis[[0, -1]], ylim=axis[[0, -1]], aspect="equal", xlabel=f"input 1\n{legend}", ylabel="input 2")
    axes.grid(False)


def _describe_boundary(numbers: NeuronNumbers, surface: ActivationSurface) -> str:
    """Say where the decision boundary is: in the plot, outside of it, or nowhere."""
    if not surface.boundary:
        return "no boundary: both weights are 0"
    max_weighted_sum = surface.axis[-1] * sum(map(abs, numbers.weights))
    if abs(numbers.bias) <= max_weighted_sum:
        return "white: pre-activation 0"
    return "boundary outside the plot"


def _draw_curve(axes: Axes, numbers: NeuronNumbers, curve: ActivationCurve, step: int) -> None:
    """Draw the activation function, and from the last step on the point of this neuron."""
    axes.set_title(f"Activation function: {numbers.activation_function}")
    axes.plot(curve.pre_activation, curve.activation, color=style.BLUE)
    if step > len(numbers.inputs):
        axes.plot(numbers.pre_activation, numbers.activation, "o", markersize=9, color=style.VERMILLION)
    axes.axvline(0, color=style.GRAY, linewidth=0.8)
    axes.set(xlabel="pre-activation", ylabel="activation")
