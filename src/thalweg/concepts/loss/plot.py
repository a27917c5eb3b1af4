"""The loss of a batch: the numbers on the way, a row for each example, and the losses beside the curve they are on."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import style
from ...plots import value_rows as batches

#: units at the right for what comes of a row, and what all columns share
_RESULT_WIDTH = 136
_COLUMNS_WIDTH = style.WIDTH - batches.LEFT_MARGIN - _RESULT_WIDTH
_TITLES = {
    "logits": ("Logits, as the network gives them", ""),
    "exponentials": ("e to the power of logit minus the largest of the row", "sum"),
    "probabilities": ("Softmax: each divided by the sum of its row, p", "sum"),
    "targets": ("Targets: what the logits should be", ""),
    "terms": ("", "loss"),
    "slopes": ("Slope of the loss of each example at its logits", ""),
}


@style.as_image
def plot_steps(numbers: dict[str, Any], images_BHWC: np.ndarray, key: str) -> Figure:
    """Draws the numbers of that key, a row for each picture, the true class framed, and what comes of each row."""
    made, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    names = _column_names(numbers)
    first = batches.first_row_top(names, _COLUMNS_WIDTH)
    title, result = _TITLES[key]
    if key == "terms":
        title = _list_terms(numbers)
    if key == "logits" and numbers["temperature"] != 1:
        title = f"Logits, divided by the temperature {numbers['temperature']:.3g}"
    axes.text(12, 24, "Pictures", va="center", fontweight="bold", fontsize=11)
    axes.text(batches.LEFT_MARGIN, 24, title, va="center", fontweight="bold", fontsize=11)
    axes.text(style.WIDTH - _RESULT_WIDTH + 16, first - 6, result, va="bottom", color=style.GRAY)
    classes = numbers["classes"]
    batches.draw_examples(axes, images_BHWC, [classes[k] for k in numbers["labels"]], first)
    batches.draw_column_names(axes, names, _COLUMNS_WIDTH, first)
    values_BK = _column_values(numbers, key)
    largest = max(float(np.nanmax(np.abs(values_BK))), 1e-300)
    for row, values in enumerate(values_BK):
        texts = ["…" if np.isnan(value) else batches.format_number(value) for value in values]
        batches.draw_cells(axes, row, texts, np.nan_to_num(values) / largest, _COLUMNS_WIDTH, first)
        if key in ("exponentials", "probabilities", "terms"):
            _draw_result(axes, numbers, key, row, first)
        _draw_frames(axes, numbers, key, row, len(names), first)
    return made


def _list_terms(numbers: dict[str, Any]) -> str:
    if numbers["loss"] == "squared-error":
        return "Squared difference of logit and target"
    return "Target times minus log p" if numbers["smoothing"] else "Minus log p of the true class"


def _column_values(numbers: dict[str, Any], key: str) -> np.ndarray:
    """(B, columns): those of the shown classes and, where there are others, their sum; NaN where that says nothing."""
    whole_BK = np.array(numbers[key])
    shown_BF = whole_BK[:, numbers["columns"]]
    if shown_BF.shape == whole_BK.shape:
        return shown_BF
    others_B = np.maximum(whole_BK.sum(1) - shown_BF.sum(1), 0.0)
    others_B = np.full_like(others_B, np.nan) if key in ("logits", "slopes", "targets") else others_B
    return np.concatenate([shown_BF, others_B[:, None]], 1)


def _column_names(numbers: dict[str, Any]) -> list[str]:
    shown = [style.ellipsize(numbers["classes"][k]) for k in numbers["columns"]]
    rest = len(numbers["classes"]) - len(shown)
    return [*shown, f"{rest} others"] if rest else shown


def _figure_height(numbers: dict[str, Any]) -> float:
    return batches.table_height(len(numbers["labels"]), _column_names(numbers), _COLUMNS_WIDTH)


def _draw_frames(axes: Axes, numbers: dict[str, Any], key: str, row: int, count: int, first: float) -> None:
    columns, label, answer = numbers["columns"], numbers["labels"][row], numbers["answers"][row]
    if key == "terms" and answer != label and answer in columns:
        batches.draw_frame(axes, row, columns.index(answer), count, _COLUMNS_WIDTH, first, style.WRONG_COLOR)
    if label in columns:
        batches.draw_frame(axes, row, columns.index(label), count, _COLUMNS_WIDTH, first, style.BLACK)


def _draw_result(axes: Axes, numbers: dict[str, Any], key: str, row: int, first: float) -> None:
    """What comes of a row: the sum, or the loss and whether the answer was right."""
    left, y = style.WIDTH - _RESULT_WIDTH + 16, first + (row + 0.5) * batches.ROW_HEIGHT
    if key == "exponentials":
        axes.text(left, y, batches.format_number(numbers["sums"][row]), va="center", fontsize=11)
    elif key == "probabilities":
        axes.text(left, y, batches.format_number(sum(numbers["probabilities"][row])), va="center", fontsize=11)
    else:
        right = numbers["right"][row]
        axes.text(left, y, batches.format_number(numbers["losses"][row]), va="center", fontsize=11, fontweight="bold")
        axes.text(
            left + 62,
            y,
            "right" if right else "wrong",
            va="center",
            color=style.CORRECT_COLOR if right else style.WRONG_COLOR,
        )


@style.as_image
def plot_bars(numbers: dict[str, Any]) -> Figure:
    """Draws the loss of each example and their mean; for cross-entropy also the curve of -log p with all of them."""
    made = style.auto_figure(_figure_height(numbers))
    if numbers["loss"] == "cross-entropy":
        left, right = made.subplots(1, 2, width_ratios=(3, 4))
        _draw_log_curve(left, numbers)
    else:
        right = made.subplots()
    losses = numbers["losses"]
    colours = [style.CORRECT_COLOR if fine else style.WRONG_COLOR for fine in numbers["right"]]
    right.bar(range(1, len(losses) + 1), losses, color=colours, width=0.7)
    right.axhline(numbers["mean"], color=style.BLACK, linestyle="--", linewidth=1.4)
    top = 1.18 * max(*losses, numbers["mean"], 1e-12)
    plain = {"facecolor": style.WHITE, "edgecolor": "none", "pad": 1}
    for place, value in enumerate(losses, 1):
        right.text(
            place, value + 0.01 * top, batches.format_number(value), ha="center", va="bottom", fontsize=8.5, bbox=plain
        )
    right.set_title(f"The loss of the batch is the mean: {numbers['mean']:.4g} (dashed)")
    room = (400 if numbers["loss"] == "cross-entropy" else 800) / len(losses) - 8
    named = [f"{n}\n{style.fit_text(numbers['classes'][k], room, 8.5)}" for n, k in enumerate(numbers["labels"], 1)]
    right.set_xticks(range(1, len(losses) + 1), named, fontsize=8.5)
    right.set(
        ylim=(0, top),
        xlim=(0.3, len(losses) + 0.7),
        ylabel="loss",
        xlabel="example and its class\nblue: right; orange: wrong",
    )
    right.grid(False, axis="x")
    return made


def _draw_log_curve(axes: Axes, numbers: dict[str, Any]) -> None:
    """Minus the logarithm of p, and where the examples are."""
    truth_B = np.array([row[k] for row, k in zip(numbers["probabilities"], numbers["labels"], strict=True)])
    least = max(min(float(truth_B.min()) / 2, 0.01), 1e-300)
    along = np.concatenate([np.geomspace(least, 0.05, 100), np.linspace(0.05, 1, 100)])
    axes.plot(along, -np.log(along), color=style.GRAY)
    for value, loss, fine in zip(truth_B, numbers["losses"], numbers["right"], strict=True):
        axes.plot(
            value,
            loss,
            "o",
            color=style.CORRECT_COLOR if fine else style.WRONG_COLOR,
            markersize=8,
            clip_on=False,
            alpha=0.85,
        )
    axes.set(xlim=(0, 1), xlabel="probability of the true class", ylabel="loss of the example")
    axes.set_ylim(0, 1.1 * max(*numbers["losses"], 2.5))
    told = "Minus log p, and where the examples are"
    axes.set_title(told if not numbers["smoothing"] else "Smoothed losses, and minus log p")
