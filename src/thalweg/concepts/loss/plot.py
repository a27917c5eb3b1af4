"""Plot each step of the loss as a table with a row per example, and the losses beside the curve -log p."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import style, value_rows

if TYPE_CHECKING:
    from .compute import LossNumbers

Step = Literal["logits", "exponentials", "probabilities", "targets", "terms", "gradient"]

#: figure units: the results at the right, and all class columns together
_RESULT_WIDTH = 136
_COLUMNS_WIDTH = style.WIDTH - value_rows.LEFT_MARGIN - _RESULT_WIDTH
_RESULT_LEFT = style.WIDTH - _RESULT_WIDTH + 16
#: titles of the results at the right
_RESULT_TITLES = {"exponentials": "sum", "probabilities": "sum", "terms": "loss"}


@style.as_image
def plot_step(numbers: LossNumbers, images_BHWC: np.ndarray, step: Step) -> Figure:
    """Plot the values of one step: a row per image, a column per class, a frame around the true class."""
    fig, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    column_names = _column_names(numbers)
    top = value_rows.first_row_top(column_names, _COLUMNS_WIDTH)
    axes.text(12, 24, "Images", va="center", fontweight="bold", fontsize=11)
    axes.text(value_rows.LEFT_MARGIN, 24, _step_title(numbers, step), va="center", fontweight="bold", fontsize=11)
    axes.text(_RESULT_LEFT, top - 6, _RESULT_TITLES.get(step, ""), va="bottom", color=style.GRAY)
    value_rows.draw_examples(axes, images_BHWC, [numbers.classes[k] for k in numbers.labels], top)
    value_rows.draw_column_names(axes, column_names, _COLUMNS_WIDTH, top)
    values_BF = _column_values(numbers, step)
    largest = max(float(np.nanmax(np.abs(values_BF))), 1e-300)
    for row, values in enumerate(values_BF):
        value_rows.draw_cells(axes, row, _format_cells(values), np.nan_to_num(values) / largest, _COLUMNS_WIDTH, top)
        _draw_result(axes, numbers, step, row, top)
        _draw_frames(axes, numbers, step, row, top)
    return fig


def _step_title(numbers: LossNumbers, step: Step) -> str:
    if step == "terms":
        return _terms_title(numbers)
    if step == "logits" and numbers.temperature != 1:
        return f"Logits, divided by the temperature {numbers.temperature:.3g}"
    titles = {
        "logits": "Logits",
        "exponentials": "exp(logit minus the row maximum)",
        "probabilities": "Softmax probabilities p: divided by the row sum",
        "targets": "Targets: one-hot rows",
        "gradient": "Gradient of each example's loss with respect to its logits",
    }
    return titles[step]


def _terms_title(numbers: LossNumbers) -> str:
    if numbers.loss == "squared-error":
        return "Squared difference of logit and target"
    if numbers.label_smoothing:
        return "Minus log p times target"
    return "Minus log p of the true class"


def _step_values(numbers: LossNumbers, step: Step) -> np.ndarray:
    """Return the values (B, K) of a step."""
    values = {
        "logits": numbers.logits,
        "exponentials": numbers.exponentials,
        "probabilities": numbers.probabilities,
        "targets": numbers.targets,
        "terms": numbers.terms,
        "gradient": numbers.gradient,
    }
    return np.array(values[step])


def _column_values(numbers: LossNumbers, step: Step) -> np.ndarray:
    """Return the values (B, F) of the columns; a last column for the other classes has their sum, or NaN."""
    values_BK = _step_values(numbers, step)
    values_BF = values_BK[:, numbers.columns]
    if values_BF.shape == values_BK.shape:
        return values_BF
    other_B = np.maximum(values_BK.sum(1) - values_BF.sum(1), 0.0)
    if step in ("logits", "gradient", "targets"):
        # a sum of these has no meaning
        other_B = np.full_like(other_B, np.nan)
    return np.concatenate([values_BF, other_B[:, None]], 1)


def _format_cells(values: np.ndarray) -> list[str]:
    texts = []
    for value in values:
        text = "…"
        if not np.isnan(value):
            text = value_rows.format_number(value)
        texts.append(text)
    return texts


def _column_names(numbers: LossNumbers) -> list[str]:
    names = [style.ellipsize(numbers.classes[k]) for k in numbers.columns]
    num_others = len(numbers.classes) - len(names)
    if num_others:
        names.append(f"{num_others} others")
    return names


def _figure_height(numbers: LossNumbers) -> float:
    return value_rows.table_height(len(numbers.labels), _column_names(numbers), _COLUMNS_WIDTH)


def _draw_frames(axes: Axes, numbers: LossNumbers, step: Step, row: int, top: float) -> None:
    """Frame the true class in black, and at the step "terms" a wrong prediction in its color."""
    columns = numbers.columns
    count = len(_column_names(numbers))
    label = numbers.labels[row]
    prediction = numbers.predictions[row]
    if step == "terms" and prediction != label and prediction in columns:
        column = columns.index(prediction)
        value_rows.draw_frame(axes, row, column, count, _COLUMNS_WIDTH, top, style.WRONG_COLOR)
    if label in columns:
        value_rows.draw_frame(axes, row, columns.index(label), count, _COLUMNS_WIDTH, top, style.BLACK)


def _draw_result(axes: Axes, numbers: LossNumbers, step: Step, row: int, top: float) -> None:
    """Draw the row sum, or the loss and whether the prediction is correct."""
    y = top + (row + 0.5) * value_rows.ROW_HEIGHT
    if step == "exponentials":
        text = value_rows.format_number(numbers.exponential_sums[row])
        axes.text(_RESULT_LEFT, y, text, va="center", fontsize=11)
    elif step == "probabilities":
        text = value_rows.format_number(sum(numbers.probabilities[row]))
        axes.text(_RESULT_LEFT, y, text, va="center", fontsize=11)
    elif step == "terms":
        text = value_rows.format_number(numbers.losses[row])
        axes.text(_RESULT_LEFT, y, text, va="center", fontsize=11, fontweight="bold")
        verdict = "correct" if numbers.correct[row] else "wrong"
        axes.text(_RESULT_LEFT + 62, y, verdict, va="center", color=_color_of(numbers.correct[row]))


def _color_of(is_correct: bool) -> str:
    if is_correct:
        return style.CORRECT_COLOR
    return style.WRONG_COLOR


@style.as_image
def plot_losses(numbers: LossNumbers) -> Figure:
    """Plot the loss of each example and their mean; for cross-entropy also the curve -log p with all examples."""
    fig = style.auto_figure(_figure_height(numbers))
    if numbers.loss == "cross-entropy":
        left, right = fig.subplots(1, 2, width_ratios=(3, 4))
        _draw_log_curve(left, numbers)
        _draw_bars(right, numbers, width=400)
    else:
        _draw_bars(fig.subplots(), numbers, width=800)
    return fig


def _draw_bars(axes: Axes, numbers: LossNumbers, width: float) -> None:
    """Draw a bar per example, and the mean as a dashed line; `width` is that of the axes in figure units."""
    losses = numbers.losses
    count = len(losses)
    positions = range(1, count + 1)
    axes.bar(positions, losses, color=list(map(_color_of, numbers.correct)), width=0.7)
    axes.axhline(numbers.mean_loss, color=style.BLACK, linestyle="--", linewidth=1.4)
    top = 1.18 * max(*losses, numbers.mean_loss, 1e-12)
    background = {"facecolor": style.WHITE, "edgecolor": "none", "pad": 1}
    for x, value in zip(positions, losses, strict=True):
        axes.text(
            x,
            value + 0.01 * top,
            value_rows.format_number(value),
            ha="center",
            va="bottom",
            fontsize=8.5,
            bbox=background,
        )
    axes.set_title(f"Loss of the batch: the mean, {numbers.mean_loss:.4g} (dashed)")
    tick_labels = []
    for x, label in zip(positions, numbers.labels, strict=True):
        tick_labels.append(f"{x}\n{style.fit_text(numbers.classes[label], width / count - 8, 8.5)}")
    axes.set_xticks(positions, tick_labels, fontsize=8.5)
    axes.set(
        ylim=(0, top),
        xlim=(0.3, count + 0.7),
        ylabel="loss",
        xlabel="example and true class\nblue: correct; orange: wrong",
    )
    axes.grid(False, axis="x")


def _draw_log_curve(axes: Axes, numbers: LossNumbers) -> None:
    """Draw -log p, and the examples on it."""
    true_B = np.array(numbers.probabilities)[np.arange(len(numbers.labels)), numbers.labels]
    smallest = max(min(float(true_B.min()) / 2, 0.01), 1e-300)
    p = np.concatenate([np.geomspace(smallest, 0.05, 100), np.linspace(0.05, 1, 100)])
    axes.plot(p, -np.log(p), color=style.GRAY)
    for probability, loss, correct in zip(true_B, numbers.losses, numbers.correct, strict=True):
        axes.plot(probability, loss, "o", color=_color_of(correct), markersize=8, clip_on=False, alpha=0.85)
    axes.set(xlim=(0, 1), xlabel="probability of the true class", ylabel="loss of the example")
    axes.set_ylim(0, 1.1 * max(*numbers.losses, 2.5))
    title = "Minus log p, and the examples"
    if numbers.label_smoothing:
        title = "Smoothed losses, and minus log p"
    axes.set_title(title)
