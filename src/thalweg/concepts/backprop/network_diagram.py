"""The diagram of a small MLP: boxes for units, lines for weights, with all values computed up to a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from ...plots import style
from ...plots.number_format import format_number
from .records import BackpropRecord, LayerRecord

FORWARD_COLOR = style.BLUE
BACKWARD_COLOR = style.VERMILLION
_INACTIVE_COLOR = "#c4c4c4"
_TINTS = {FORWARD_COLOR: "#e3f0f8", BACKWARD_COLOR: "#fbeadd"}
#: the network is drawn between these heights
_TOP = 60
_BOTTOM = 424
#: left edge of the inputs, left edge of the losses, right edge of everything
_LEFT = 24
_LOSS_LEFT = 774
_RIGHT = 876

#: a text and its color
Label = tuple[str, str]


@dataclass(frozen=True)
class _Edge:
    """The weight from unit `i` of the layer below to unit `j` of layer `index`."""

    index: int
    j: int
    i: int


class NetworkDiagram:
    """Layout of the network, and the values that are computed at a step. Layers are counted from 0, the inputs."""

    def __init__(self, axes: Axes, record: BackpropRecord, index: int):
        self.axes = axes
        self.record = record
        self.layers = record.layers
        self.step = record.steps[index]
        self.done_steps = record.steps[: index + 1]
        self.is_updated = self.step.kind == "updated-loss"
        count = len(self.layers)
        self.is_narrow = count > 3
        self.box_widths = [90] + [122] * (count - 1)
        if self.is_narrow:
            self.box_widths = [72] + [106] * (count - 1)
        self.gap = (_LOSS_LEFT - 34 - _LEFT - sum(self.box_widths)) / (count - 1)
        #: centers of the boxes: x of each layer, y of each unit of each layer
        self.x = []
        for n, width in enumerate(self.box_widths):
            self.x.append(_LEFT + sum(self.box_widths[:n]) + self.gap * n + width / 2)
        self.y = list(map(self._unit_centers, self.layers))
        #: vertical space of each edge at the unit it leads to
        self.edge_spacing = [0.0]
        for below, layer in zip(self.layers, self.layers[1:], strict=False):
            self.edge_spacing.append(min(46, 0.92 * _unit_spacing(layer) / len(below.units)))

    def _unit_centers(self, layer: LayerRecord) -> np.ndarray:
        count = len(layer.units)
        return (_TOP + _BOTTOM) / 2 + _unit_spacing(layer) * (np.arange(count) - (count - 1) / 2)

    def box_height(self, index: int) -> float:
        """Return the height of the boxes of a layer."""
        height = 30.0
        if index > 0:
            height = max(62, self.edge_spacing[index] * len(self.layers[index - 1].units))
        return min(0.9 * _unit_spacing(self.layers[index]), height)

    def is_done(self, kind: str, index: int | None) -> bool:
        """Return whether a step of this kind and layer is done or current."""
        return any(step.kind == kind and step.layer == index for step in self.done_steps)

    def is_current(self, kind: str, index: int | None) -> bool:
        """Return whether the current step has this kind and layer."""
        return self.step.kind == kind and self.step.layer == index

    def format(self, value: float) -> str:
        """Format a number that fits into a box."""
        width = 7 if self.is_narrow else 9
        return format_number(value, 4, width)

    # --- units

    def draw_units(self) -> None:
        """Draw a box for each unit with its name, pre-activation s, activation y and delta, and the biases."""
        for index, layer in enumerate(self.layers):
            color = self._unit_color(index)
            for j in range(len(layer.units)):
                self._draw_unit(index, j, self._unit_labels(index, j), color)
            if index > 0:
                self._draw_biases(index)

    def _unit_color(self, index: int) -> str | None:
        """Return the color of the current step if it is about this layer."""
        if self.is_updated or self.is_current("forward", index) or self.is_current("inputs", index):
            return FORWARD_COLOR
        if self.is_current("deltas", index):
            return BACKWARD_COLOR
        return None

    def _unit_labels(self, index: int, j: int) -> list[Label]:
        layer = self.layers[index]
        if index == 0:
            return [(self.format(layer.activations[j]), FORWARD_COLOR)]
        labels = []
        if self.is_done("forward", index):
            s = layer.pre_activations
            y = layer.activations
            if self.is_updated:
                s = layer.updated_pre_activations
                y = layer.updated_activations
            labels.append((f"s {self.format(s[j])}", FORWARD_COLOR))
            labels.append((f"y {self.format(y[j])}", FORWARD_COLOR))
        if self.is_done("deltas", index) and not self.is_updated:
            labels.append((f"δ {self.format(layer.deltas[j])}", BACKWARD_COLOR))
        return labels

    def _draw_unit(self, index: int, j: int, labels: Sequence[Label], color: str | None) -> None:
        x = self.x[index]
        y = self.y[index][j]
        width = self.box_widths[index]
        height = self.box_height(index)
        self.axes.add_patch(_rounded_box((x - width / 2, y - height / 2, width, height), color))
        size = self._unit_font_size(index, len(labels))
        name = self.layers[index].units[j]
        self.axes.text(x - width / 2 + 6, y, name, va="center", fontsize=size + 0.5, fontweight="bold", zorder=5)
        leading = 1.65 if height < 46 else 1.75
        spacing = min(19, leading * size, height / max(len(labels), 1))
        for line, (text, text_color) in enumerate(labels):
            line_y = y + spacing * (line - (len(labels) - 1) / 2)
            self.axes.text(
                x + width / 2 - 6, line_y, text, va="center", ha="right", fontsize=size, color=text_color, zorder=5
            )

    def _unit_font_size(self, index: int, num_labels: int) -> float:
        height = self.box_height(index)
        if not self.is_narrow and (height >= 52 or index == 0):
            return 9
        if height >= 46 or num_labels == 1:
            return 7.6
        return 7

    def _draw_biases(self, index: int) -> None:
        """Draw the biases below a layer, and their gradients once computed."""
        layer = self.layers[index]
        x = self.x[index]
        is_updated = self.is_done("update", None)
        biases = layer.biases
        if is_updated and self.record.train_biases:
            biases = layer.updated_biases
        names = layer.bias_names
        if len(names) == 1:
            size = 9.0
            values = f"bias {names[0]}  {format_number(biases[0], 4, 9)}"
            gradients = f"∂E/∂{names[0]}  {format_number(layer.bias_gradients[0], 4, 9)}"
        else:
            size = 7.5
            width = min(self.box_widths[index] + self.gap, 2 * (_LOSS_LEFT - 20 - x)) - 12
            values = _fit_values(f"{names[0]}–{names[-1]}:", biases, width)
            gradients = _fit_values("∂:", layer.bias_gradients, width)
        self.axes.text(x, _BOTTOM + 16, values, ha="center", va="center", fontsize=size, color=style.BLACK)
        if self.is_done("gradients", index) and not is_updated:
            self.axes.text(x, _BOTTOM + 34, gradients, ha="center", va="center", fontsize=size, color=BACKWARD_COLOR)

    # --- edges

    def draw_edges(self) -> None:
        """Draw a line for each weight; its label stands on the horizontal part before the unit it leads to."""
        for index in range(1, len(self.layers)):
            self._draw_layer_edges(index)

    def _draw_layer_edges(self, index: int) -> None:
        size = 8.5 if self._is_roomy(index) and not self.is_narrow else 7.0
        has_labels = self.edge_spacing[index] >= 9
        edges = []
        for j, names in enumerate(self.layers[index].weight_names):
            edges += [_Edge(index, j, i) for i in range(len(names))]
        # the same length in all steps, so that lines do not move between frames
        flat_length = 20.0
        if has_labels:
            flat_length += max(style.text_width(self._gradient_text(edge), size) for edge in edges)
        flat_length = min(flat_length, self.gap - 24)
        for edge in edges:
            self._draw_edge(edge, flat_length)
            if has_labels:
                self._draw_edge_labels(edge, size)

    def _is_roomy(self, index: int) -> bool:
        """Return whether edges into a layer have space for two labels each."""
        return self.edge_spacing[index] >= 26

    def _format_edge_value(self, index: int, value: float) -> str:
        if self._is_roomy(index) and not self.is_narrow:
            return format_number(value, 5, 11)
        return format_number(value, 3, 8)

    def _gradient_text(self, edge: _Edge) -> str:
        layer = self.layers[edge.index]
        value = self._format_edge_value(edge.index, layer.weight_gradients[edge.j][edge.i])
        text = f"{layer.weight_names[edge.j][edge.i]}  {value}"
        if self._is_roomy(edge.index) and not self.is_narrow:
            return f"∂E/∂{text}"
        return f"∂{text}"

    def _edge_labels(self, edge: _Edge) -> list[Label]:
        """Return one label, or two where there is space."""
        index = edge.index
        layer = self.layers[index]
        is_roomy = self._is_roomy(index)
        name = layer.weight_names[edge.j][edge.i]
        weight = self._format_edge_value(index, layer.weights[edge.j][edge.i])
        if self.is_done("update", None):
            updated = self._format_edge_value(index, layer.updated_weights[edge.j][edge.i])
            labels = [(f"{name}  {updated}", style.BLACK), (f"was {weight}", style.GRAY)]
        else:
            color = FORWARD_COLOR if self.is_current("forward", index) else style.BLACK
            labels = [(f"{name}  {weight}", color)]
            if self.is_done("gradients", index):
                labels.append((self._gradient_text(edge), BACKWARD_COLOR))
        if is_roomy:
            return labels
        # One label: the newest value. Deltas flow back through the weights, so then it is the weight.
        if self.is_done("update", None) or self.is_current("deltas", index - 1):
            return labels[:1]
        return labels[-1:]

    def _draw_edge(self, edge: _Edge, flat_length: float) -> None:
        layer = self.layers[edge.index]
        start_x, start_y, end_x, end_y = self._edge_ends(edge)
        bend_x = end_x - flat_length
        color = self._edge_color(edge.index)
        max_weight = float(np.abs(layer.weights).max()) or 1.0
        linewidth = 0.6 + 1.6 * abs(layer.weights[edge.j][edge.i]) / max_weight
        # many edges are drawn thin and without arrowheads
        is_dense = self.edge_spacing[edge.index] < 9
        if is_dense:
            linewidth *= 0.5
        self.axes.plot(
            [start_x, bend_x, end_x],
            [start_y, end_y, end_y],
            color=color or _INACTIVE_COLOR,
            linewidth=linewidth,
            zorder=3 if color else 2,
            solid_joinstyle="round",
        )
        if not color or is_dense:
            return
        if color == BACKWARD_COLOR:
            incline = (end_y - start_y) / (bend_x - start_x)
            self.axes.plot(start_x + 5, start_y + 5 * incline, "<", color=color, markersize=5)
        else:
            self.axes.plot(end_x - 4, end_y, ">", color=color, markersize=5, zorder=3)

    def _edge_ends(self, edge: _Edge) -> tuple[float, float, float, float]:
        """Return x and y of the start, then x and y of the end."""
        index = edge.index
        num_below = len(self.layers[index - 1].units)
        num_units = len(self.layers[index].units)
        end_x = self.x[index] - self.box_widths[index] / 2
        start_spacing = min(12, 0.8 * self.box_height(index - 1) / num_units)
        start_y = self.y[index - 1][edge.i] + start_spacing * (edge.j - (num_units - 1) / 2)
        end_y = self.y[index][edge.j] + self.edge_spacing[index] * (edge.i - (num_below - 1) / 2)
        return end_x - self.gap, start_y, end_x, end_y

    def _draw_edge_labels(self, edge: _Edge, size: float) -> None:
        _, _, end_x, end_y = self._edge_ends(edge)
        options: dict[str, Any] = {"ha": "right", "fontsize": size, "zorder": 3.5}
        if self._is_roomy(edge.index):
            positions = [("bottom", end_y - 3), ("top", end_y + 4)]
        else:
            positions = [("center", end_y)]
            options["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        for (text, color), (side, y) in zip(self._edge_labels(edge), positions, strict=False):
            self.axes.text(end_x - 9, y, text, va=side, color=color, **options)

    def _edge_color(self, index: int) -> str | None:
        """Return the color of the edges into a layer if the current step uses them."""
        if self.is_updated or self.is_current("forward", index):
            return FORWARD_COLOR
        if self.is_current("gradients", index) or self.is_current("deltas", index - 1):
            return BACKWARD_COLOR
        if self.step.kind == "update":
            return style.BLACK
        return None

    # --- loss

    def draw_losses(self) -> None:
        """Draw target and loss of each output at the right, and the total loss below them."""
        losses = self.record.losses
        total = self.record.loss
        if self.is_updated:
            losses = self.record.updated_losses
            total = self.record.updated_loss
        is_known = self.is_done("loss", None)
        for k in range(len(losses)):
            labels = [(f"target {format_number(self.record.targets[k], 4, 8)}", style.BLACK)]
            if is_known:
                labels.append((f"E {format_number(losses[k], 4, 9)}", FORWARD_COLOR))
            self._draw_loss(k, labels)
        if is_known:
            self.axes.text(
                _RIGHT,
                _BOTTOM + 16,
                f"E = {format_number(total, 6)}",
                ha="right",
                va="center",
                fontsize=11,
                fontweight="bold",
                color=FORWARD_COLOR,
            )

    def _draw_loss(self, k: int, labels: Sequence[Label]) -> None:
        last = len(self.layers) - 1
        y = self.y[last][k]
        height = min(44, 0.9 * _unit_spacing(self.layers[last]))
        width = _RIGHT - _LOSS_LEFT
        color = None
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": _INACTIVE_COLOR, "linewidth": 1.6}
        if self.is_updated or self.is_current("loss", None):
            color = FORWARD_COLOR
            arrow["color"] = color
        elif self.is_current("deltas", last):
            arrow["arrowstyle"] = "<|-"
            arrow["color"] = BACKWARD_COLOR
        self.axes.annotate(
            "",
            (_LOSS_LEFT, y),
            (self.x[last] + self.box_widths[last] / 2, y),
            arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0},
        )
        self.axes.add_patch(_rounded_box((_LOSS_LEFT, y - height / 2, width, height), color, "--"))
        for line, (text, text_color) in enumerate(labels):
            line_y = y + min(16, height / 2.3) * (line - (len(labels) - 1) / 2)
            self.axes.text(
                _LOSS_LEFT + width / 2, line_y, text, ha="center", va="center", fontsize=8.5, color=text_color, zorder=5
            )


def _unit_spacing(layer: LayerRecord) -> float:
    """Return the vertical distance between the centers of two units."""
    return min(175, (_BOTTOM - _TOP) / len(layer.units))


def _rounded_box(box: tuple[float, float, float, float], color: str | None, linestyle: str = "-") -> FancyBboxPatch:
    """Return a rounded box (left, top, width, height); `color` highlights it."""
    left, top, width, height = box
    facecolor = "white"
    if color is not None:
        facecolor = _TINTS.get(color, "white")
    return FancyBboxPatch(
        (left, top),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=7",
        facecolor=facecolor,
        edgecolor=color or style.GRAY,
        linewidth=2.4 if color else 1.1,
        linestyle=linestyle,
        zorder=4,
    )


def _fit_values(label: str, values: Sequence[float], width: float) -> str:
    """Return the label and as many values as fit into `width`."""
    texts = [format_number(value, 3, 8) for value in values]
    line = f"{label}  {', '.join(texts)}"
    count = len(texts)
    while count > 1 and style.text_width(line, 7.5) > width:
        count -= 1
        line = f"{label}  {', '.join(texts[:count])}, …"
    return line
