"""Plot one-hot rows of labels, distances between labels, and linear fits to both encodings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import style, value_rows

if TYPE_CHECKING:
    from .compute import LinearFits, OneHotNumbers

#: figure units of all columns together
_COLUMNS_WIDTH = style.WIDTH - value_rows.LEFT_MARGIN - 20
_LABEL_X = value_rows.LEFT_MARGIN - 30
#: with more classes, the outputs of a fit are drawn as dots instead of quantiles
_MAX_BOXES = 20
#: with more classes, the axes show indices instead of names
_MAX_TICK_NAMES = 12


@style.as_image
def plot_encoding_rows(numbers: OneHotNumbers, images_BHWC: np.ndarray, step: int) -> Figure:
    """Plot images with classes; from step 1 on their class indices, from step 2 on one more one-hot row per step."""
    fig, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    column_names = _column_names(numbers)
    top = value_rows.first_row_top(column_names, _COLUMNS_WIDTH)
    axes.text(12, 24, "Images", va="center", fontweight="bold", fontsize=11)
    value_rows.draw_examples(axes, images_BHWC, [numbers.classes[k] for k in numbers.labels], top)
    if step >= 1:
        _draw_labels(axes, numbers.labels, top)
    if step >= 2:
        axes.text(value_rows.LEFT_MARGIN, 24, _rows_title(numbers), va="center", fontweight="bold", fontsize=11)
        value_rows.draw_column_names(axes, column_names, _COLUMNS_WIDTH, top)
    for row in range(min(step - 1, len(images_BHWC))):
        values = []
        texts = []
        for k in numbers.columns:
            value = numbers.rows[row][k]
            values.append(value)
            texts.append(f"{value:.3g}")
        value_rows.draw_cells(axes, row, texts, values, _COLUMNS_WIDTH, top)
    return fig


def _draw_labels(axes: Axes, labels: Sequence[int], top: float) -> None:
    axes.text(_LABEL_X, top - 6, "label", ha="center", va="bottom", color=style.GRAY)
    for row, label in enumerate(labels):
        y = top + (row + 0.5) * value_rows.ROW_HEIGHT
        axes.text(_LABEL_X, y, str(label), ha="center", va="center", fontsize=12)


def _rows_title(numbers: OneHotNumbers) -> str:
    title = "One-hot rows: one column per class"
    if len(numbers.columns) < len(numbers.classes):
        title += f" ({len(numbers.columns)} of {len(numbers.classes)})"
    return title


def _column_names(numbers: OneHotNumbers) -> list[str]:
    """Return the class index of each column, with the class name if it differs."""
    names = []
    for k in numbers.columns:
        name = numbers.classes[k]
        heading = str(k)
        if name != heading:
            heading = f"{k} {style.ellipsize(name)}"
        names.append(heading)
    return names


def _figure_height(numbers: OneHotNumbers) -> float:
    return value_rows.table_height(len(numbers.labels), _column_names(numbers), _COLUMNS_WIDTH)


@style.as_image
def plot_distances(numbers: OneHotNumbers) -> Figure:
    """Plot the distances between classes, as class indices and as one-hot rows."""
    fig = style.auto_figure(_figure_height(numbers))
    left, right = fig.subplots(1, 2)
    distances = numbers.distances
    names = [style.fit_text(numbers.classes[k], 80, 9) for k in distances.classes]
    largest = max(2.0, float(np.max(distances.class_index)))
    _draw_distances(left, np.array(distances.class_index), names, largest)
    left.set_title("Distance of class indices")
    _draw_distances(right, np.array(distances.one_hot), names, largest)
    right.set_title("Distance of one-hot rows")
    return fig


def _draw_distances(axes: Axes, distance_FF: np.ndarray, names: Sequence[str], largest: float) -> None:
    """Draw a table of distances, shaded up to `largest`."""
    axes.imshow(distance_FF, cmap="Blues", vmin=0, vmax=largest, rasterized=True)
    axes.set_xticks(range(len(names)), names, rotation=_tick_rotation(names, 320), fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    font_size = 8.5 if len(names) <= 10 else 7
    for row, column in np.ndindex(distance_FF.shape):
        value = distance_FF[row, column]
        color = style.choose_text_color(bool(value > 0.6 * largest))
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=font_size, color=color)


def _tick_rotation(names: Sequence[str], width: float) -> float:
    """Return 90 degrees if the names do not fit side by side into `width` figure units, else 0."""
    if max(map(style.text_width, names)) > width / len(names):
        return 90
    return 0


@style.as_image
def plot_linear_fits(numbers: OneHotNumbers) -> Figure:
    """Plot the outputs of the fit to the class index, class by class, and the accuracy of each fit."""
    fig = style.auto_figure(_figure_height(numbers))
    left, right = fig.subplots(1, 2, width_ratios=(3, 2))
    _draw_outputs(left, numbers.fits, len(numbers.classes))
    _label_ticks(left, numbers.classes)
    _draw_accuracies(right, numbers.fits)
    return fig


def _draw_outputs(axes: Axes, fits: LinearFits, num_classes: int) -> None:
    """Draw the outputs of the fit to the class index over the true class: quantiles, or dots for many classes."""
    labels = np.array(fits.labels)
    outputs = np.array(fits.predicted_index)
    axes.set_title("Fit to the class index: its outputs")
    low = -0.5
    high = num_classes - 0.5
    axes.plot([low, high], [low, high], color=style.GRAY, linewidth=1, linestyle="--", zorder=1)
    classes = np.unique(labels)
    if len(classes) <= _MAX_BOXES:
        for k in classes:
            _draw_quantiles(axes, int(k), outputs[labels == k])
        legend = "dot: median; thick: middle 50 %; thin: middle 80 %\ndashed: true class index"
    else:
        axes.plot(labels, outputs, ".", color=style.BLUE, markersize=4, rasterized=True)
        legend = "one dot per image\ndashed: true class index"
    axes.set(xlabel=f"true class\n\n{legend}", ylabel="output of the fit", xlim=(low, high))


def _draw_quantiles(axes: Axes, x: int, values: np.ndarray) -> None:
    """Draw the middle 80 %, the middle 50 % and the median."""
    q10, q25, median, q75, q90 = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])
    axes.plot([x, x], [q10, q90], color=style.SKY, linewidth=2, solid_capstyle="butt")
    axes.plot([x, x], [q25, q75], color=style.BLUE, linewidth=7, solid_capstyle="butt")
    axes.plot(x, median, "o", color=style.WHITE, markeredgecolor=style.BLUE, markersize=5)


def _label_ticks(axes: Axes, classes: Sequence[str]) -> None:
    """Put class names at the ticks if there are few classes."""
    axes.locator_params(integer=True)
    if len(classes) <= _MAX_TICK_NAMES:
        names = [style.ellipsize(name, 12) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=_tick_rotation(names, 440))
        axes.set_yticks(range(len(classes)))


def _draw_accuracies(axes: Axes, fits: LinearFits) -> None:
    bars = (
        ("class index", fits.index_accuracy, style.VERMILLION),
        ("class index,\nanother order", fits.permuted_index_accuracy, style.ORANGE),
        ("one-hot rows,\nany order", fits.one_hot_accuracy, style.BLUE),
    )
    axes.set_title(f"Accuracy on {fits.num_test} test images")
    for y, (_, accuracy, color) in enumerate(bars):
        axes.barh(y, accuracy, color=color, height=0.6)
        axes.text(accuracy + 0.02, y, style.format_percent(accuracy), va="center")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.set(xlim=(0, 1.25), ylim=(2.6, -0.6), xticks=[0, 0.5, 1], xticklabels=["0 %", "50 %", "100 %"])
    axes.set_xlabel("accuracy")
    axes.grid(False, axis="y")
