"""Plots of backpropagation: the network diagram with the formulas of the step, and the loss curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ...plots import style
from ...plots.number_format import format_number
from .network_diagram import BACKWARD_COLOR, FORWARD_COLOR, NetworkDiagram
from .records import BackpropRecord, Step

_HEIGHT = 640
#: top of the formulas, width of a row of formulas, and the gap between two columns of them
_FORMULAS_TOP = 496
_ROW_WIDTH = 874
_COLUMN_GAP = 22
_LEFT = 24
_RIGHT = 876
#: left edge of the table beside the loss curve
_TABLE_LEFT = 548
_FONT_SIZES = (10.5, 9.5, 8.5)


@style.as_image
def plot_backprop(record: BackpropRecord, index: int) -> Figure:
    """Plot step `index`. Values that are not computed yet are left out."""
    step = record.steps[index]
    fig, axes = style.canvas(style.WIDTH, _HEIGHT)
    color = _step_color(step.kind)
    axes.text(_LEFT, 30, step.title, fontsize=13, fontweight="bold", va="center", color=color)
    if step.kind == "curve":
        _draw_loss_curve(fig, record)
        _draw_outputs_table(axes, record)
        return fig
    if step.kind not in ("inputs", "update"):
        direction = "←  backward pass" if color == BACKWARD_COLOR else "forward pass  →"
        axes.text(_RIGHT, 30, direction, fontsize=13, fontweight="bold", va="center", ha="right", color=color)
    diagram = NetworkDiagram(axes, record, index)
    diagram.draw_edges()
    diagram.draw_units()
    diagram.draw_losses()
    _draw_formulas(axes, step, color)
    return fig


def _step_color(kind: str) -> str:
    if kind in ("deltas", "gradients"):
        return BACKWARD_COLOR
    if kind in ("inputs", "update"):
        return style.BLACK
    return FORWARD_COLOR


# --- formulas ---------------------------------------------------------------------------------------------------------


def _draw_formulas(axes: Axes, step: Step, color: str) -> None:
    """Draw the formula of the step in letters, then with numbers: as long and in as many columns as fit."""
    axes.plot([_LEFT, _RIGHT], [_FORMULAS_TOP - 26] * 2, color=style.LIGHT_GRAY, linewidth=1)
    top = _FORMULAS_TOP - 6
    if step.rule:
        axes.text(_LEFT, top, step.rule, fontsize=10, va="center", color=color, fontweight="bold")
        top += 22
    lines, columns, size = _fit_lines(step.lines, _HEIGHT - 12 - top)
    rows = math.ceil(len(lines) / columns)
    for i, line in enumerate(lines):
        x = _LEFT + _ROW_WIDTH / columns * (i // rows)
        y = top + 1.75 * size * (i % rows)
        axes.text(x, y, line, fontsize=size, va="center")


def _fit_lines(lines: Sequence[Sequence[str]], height: float) -> tuple[list[str], int, float]:
    """Return the lines in their longest form that fits into `height`, the number of columns, and the font size."""
    max_forms = max(map(len, lines))
    for form in range(max_forms):
        # a line with fewer forms stays in its shortest
        texts = []
        for forms in lines:
            texts.append(forms[min(form, len(forms) - 1)])
        for size in _FONT_SIZES:
            columns = math.ceil(len(texts) / _rows_that_fit(height, size))
            if columns * _column_width(texts, size) <= _ROW_WIDTH:
                return texts, columns, size
    texts = [forms[-1] for forms in lines]
    size = _FONT_SIZES[-1]
    columns = max(1, int(_ROW_WIDTH / _column_width(texts, size)))
    texts = texts[: columns * _rows_that_fit(height, size) - 1]
    return [*texts, f"… {len(lines) - len(texts)} more"], columns, size


def _rows_that_fit(height: float, size: float) -> int:
    return int(height / (1.75 * size)) + 1


def _column_width(texts: Sequence[str], size: float) -> float:
    return max(style.text_width(text, size) for text in texts) + _COLUMN_GAP


# --- loss curve -------------------------------------------------------------------------------------------------------


def _draw_loss_curve(fig: Figure, record: BackpropRecord) -> None:
    """Draw the loss over all gradient steps, on a logarithmic axis if it spans magnitudes."""
    steps = np.array(record.curve.step)
    losses = np.array(record.curve.loss)
    axes = fig.add_axes((0.085, 0.1, 0.47, 0.77))
    axes.plot(steps, losses, color=FORWARD_COLOR, linewidth=2)
    axes.plot(steps[-1], losses[-1], "o", color=FORWARD_COLOR, markersize=7, clip_on=False)
    if losses.min() > 0 and losses.max() > 20 * losses.min():
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value, 4, 9)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="gradient steps", xlim=(0, steps[-1]))
    axes.set_title("loss E", fontweight="normal", fontsize=9.5)


def _draw_outputs_table(axes: Axes, record: BackpropRecord) -> None:
    """Draw outputs and loss before, during and after training, and below them the gradient check."""
    last_step = record.curve.step[-1]
    columns: list[float] = [_TABLE_LEFT, 644, 712, 780, _RIGHT]
    if last_step <= 1:
        columns = [_TABLE_LEFT, 700, 788, _RIGHT]
    rows = _outputs_table(record)
    for i, row in enumerate(rows):
        color = style.BLACK
        if i == 0:
            color = style.GRAY
        elif i == len(rows) - 1:
            color = FORWARD_COLOR
        for x, text in zip(columns, row, strict=False):
            side = "left" if x == _TABLE_LEFT else "right"
            axes.text(x, 100 + 26 * i, text, ha=side, va="center", color=color)
    _draw_gradient_check(axes, record, top=100 + 26 * len(rows) + 40)


def _outputs_table(record: BackpropRecord) -> list[list[str]]:
    """Return a header, a row per output, and a row for the loss."""
    layer = record.layers[-1]
    rows = [["", "target", "step 0", "step 1", f"step {record.curve.step[-1]}"]]
    for k, unit in enumerate(layer.units):
        values = [record.targets[k], layer.activations[k], layer.updated_activations[k]]
        numbers = [format_number(value, 4, 7) for value in values]
        rows.append([f"y_{unit}", *numbers, format_number(record.final.outputs[k], 4, 9)])
    losses = [format_number(loss, 4, 7) for loss in (record.loss, record.updated_loss)]
    rows.append(["loss E", "", *losses, format_number(record.final.loss, 4, 9)])
    return rows


def _draw_gradient_check(axes: Axes, record: BackpropRecord, top: float) -> None:
    check = record.gradient_check
    rows = [
        ("largest gradient", format_number(check.max_gradient)),
        ("max difference from PyTorch's autograd", format_number(check.autograd, 2)),
        ("max difference from central differences", format_number(check.central_differences, 2)),
    ]
    axes.text(_TABLE_LEFT, top, "Gradient check", fontweight="bold", fontsize=10.5, va="center")
    for i, (label, value) in enumerate(rows, 1):
        axes.text(_TABLE_LEFT, top + 26 * i, label, va="center", fontsize=9)
        axes.text(_RIGHT, top + 26 * i, value, va="center", ha="right", fontsize=9)
