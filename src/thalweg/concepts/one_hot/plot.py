"""Labels: the rows that stand for them, how far they are apart, and what a linear fit makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import style
from ...plots import value_rows as batches

#: units that all columns share
_COLUMNS_WIDTH = style.WIDTH - batches.LEFT_MARGIN - 20
#: most classes whose answers are drawn one by one
_MAX_BOXES = 20


@style.as_image
def plot_encoding_rows(numbers: dict[str, Any], images_BHWC: np.ndarray, step: int) -> Figure:
    """Draws the pictures and their classes; from step 1 on their numbers, from step 2 on a one-hot row more each."""
    made, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    names, first = _column_names(numbers), batches.first_row_top(_column_names(numbers), _COLUMNS_WIDTH)
    classes, shown = numbers["classes"], numbers["columns"]
    axes.text(12, 24, "Pictures", va="center", fontweight="bold", fontsize=11)
    batches.draw_examples(axes, images_BHWC, [classes[k] for k in numbers["labels"]], first)
    if step >= 1:
        axes.text(batches.LEFT_MARGIN - 30, first - 6, "label", ha="center", va="bottom", color=style.GRAY)
        for row, label in enumerate(numbers["labels"]):
            axes.text(
                batches.LEFT_MARGIN - 30,
                first + (row + 0.5) * batches.ROW_HEIGHT,
                label,
                ha="center",
                va="center",
                fontsize=12,
            )
    if step >= 2:
        told = "" if len(shown) == len(classes) else f" ({len(shown)} of {len(classes)})"
        axes.text(
            batches.LEFT_MARGIN,
            24,
            f"One-hot rows: a column for each class{told}",
            va="center",
            fontweight="bold",
            fontsize=11,
        )
        batches.draw_column_names(axes, names, _COLUMNS_WIDTH, first)
    for row in range(min(step - 1, len(images_BHWC))):
        values = [numbers["rows"][row][k] for k in shown]
        batches.draw_cells(axes, row, [f"{value:.3g}" for value in values], values, _COLUMNS_WIDTH, first)
    return made


def _column_names(numbers: dict[str, Any]) -> list[str]:
    """What stands over the columns: the number of the class, and its name where that is another."""
    classes = numbers["classes"]
    return [str(k) if classes[k] == str(k) else f"{k} {style.ellipsize(classes[k])}" for k in numbers["columns"]]


def _figure_height(numbers: dict[str, Any]) -> float:
    return batches.table_height(len(numbers["labels"]), _column_names(numbers), _COLUMNS_WIDTH)


@style.as_image
def plot_distances(numbers: dict[str, Any]) -> Figure:
    """Draws how far classes are apart, as numbers and as one-hot rows."""
    made = style.auto_figure(_figure_height(numbers))
    panels = made.subplots(1, 2)
    found = numbers["distances"]
    titles = (("as_numbers", "Distance of labels as numbers"), ("as_rows", "Distance as one-hot rows"))
    names = [style.fit_text(numbers["classes"][k], 80, 9) for k in found["classes"]]
    largest = max(2.0, float(np.max(found["as_numbers"])))
    for axes, (key, title) in zip(panels, titles, strict=True):
        _draw_distances(axes, np.array(found[key]), names, largest)
        axes.set_title(title)
    return made


def _draw_distances(axes: Axes, apart_FF: np.ndarray, names: list[str], largest: float) -> None:
    axes.imshow(apart_FF, cmap="Blues", vmin=0, vmax=largest, rasterized=True)
    long = max(map(style.text_width, names)) > 320 / len(names)
    axes.set_xticks(range(len(names)), names, rotation=90 if long else 0, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(apart_FF.shape):
        value = apart_FF[row, column]
        ink = style.WHITE if value > 0.6 * largest else style.BLACK
        size = 8.5 if len(names) <= 10 else 7
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=size, color=ink)


@style.as_image
def plot_linear_fits(numbers: dict[str, Any]) -> Figure:
    """Draws the numbers that a fit to numbers answers, class by class, and how often each fit is right."""
    made = style.auto_figure(_figure_height(numbers))
    left, right = made.subplots(1, 2, width_ratios=(3, 2))
    fit, classes = numbers["fit"], numbers["classes"]
    truth, answers = np.array(fit["truth"]), np.array(fit["answers"])
    left.set_title("Fitted to the numbers: what it answers")
    present = np.unique(truth)
    low, high = -0.5, len(classes) - 0.5
    left.plot([low, high], [low, high], color=style.GRAY, linewidth=1, linestyle="--", zorder=1)
    if len(present) <= _MAX_BOXES:
        for k in present:
            of_class = answers[truth == k]
            near = np.quantile(of_class, [0.1, 0.25, 0.5, 0.75, 0.9])
            left.plot([k, k], near[[0, 4]], color=style.SKY, linewidth=2, solid_capstyle="butt")
            left.plot([k, k], near[[1, 3]], color=style.BLUE, linewidth=7, solid_capstyle="butt")
            left.plot(k, near[2], "o", color=style.WHITE, markeredgecolor=style.BLUE, markersize=5)
        told = "true class\n\ndot: median; thick: half of the answers; thin: four fifths\ndashed: as it should be"
    else:
        left.plot(truth, answers, ".", color=style.BLUE, markersize=4, rasterized=True)
        told = "true class\n\na dot for each picture\ndashed: as it should be"
    left.set(xlabel=told, ylabel="number answered", xlim=(low, high))
    _label_ticks(left, classes)
    _draw_accuracies(right, fit)
    return made


def _label_ticks(axes: Axes, classes: list[str]) -> None:
    """Names at the ticks of both axes where they are few and short."""
    axes.locator_params(integer=True)
    if len(classes) <= 12:
        names = [style.ellipsize(name, 12) for name in classes]
        long = max(map(style.text_width, names)) > 440 / len(names)
        axes.set_xticks(range(len(classes)), names, rotation=90 if long else 0)
        axes.set_yticks(range(len(classes)))


def _draw_accuracies(axes: Axes, fit: dict[str, Any]) -> None:
    bars = (
        ("to numbers", fit["numbers_accuracy"], style.VERMILLION),
        ("to numbers,\nanother order", fit["other_accuracy"], style.ORANGE),
        ("to one-hot rows,\nany order", fit["rows_accuracy"], style.BLUE),
    )
    axes.set_title(f"How many of {fit['tested']} are right")
    for place, (_, share, colour) in enumerate(bars):
        axes.barh(place, share, color=colour, height=0.6)
        axes.text(share + 0.02, place, style.format_percent(share), va="center")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.set(xlim=(0, 1.25), ylim=(2.6, -0.6), xticks=[0, 0.5, 1], xticklabels=["0 %", "50 %", "100 %"], xlabel="right")
    axes.grid(False, axis="y")
