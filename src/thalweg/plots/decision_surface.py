"""Draw the points of a plane over a classifier's predictions, and the curves of its training.

N points, K classes, G x G grid points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import style

#: color and marker of each class; with two classes, the second is blue, as positive numbers are
_CLASS_STYLES = (
    (style.VERMILLION, "o"),
    (style.BLUE, "s"),
    (style.GREEN, "^"),
    (style.PURPLE, "D"),
    (style.ORANGE, "v"),
    (style.SKY, "P"),
    ("#f0e442", "X"),
    (style.BLACK, "<"),
    ("#8c5a2b", ">"),
    (style.GRAY, "p"),
)
#: levels of the margin: the probability of the predicted class minus that of the next
_MARGIN_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: characters that fit along an axis
_MAX_TICK_CHARACTERS = 30
#: with more points, markers get smaller
_MAX_FULL_SIZE_POINTS = 400


class SplitStyle(NamedTuple):
    """Label, color and line style of a split's curve."""

    label: str
    color: str
    line_style: str


SPLIT_STYLES = {
    "train": SplitStyle("training", style.TRAIN_COLOR, "-"),
    "val": SplitStyle("validation", style.VAL_COLOR, "--"),
    "test": SplitStyle("test", style.BLACK, ":"),
}

#: a text, and matplotlib's options of the line or marker beside it
LegendKey = tuple[str, dict[str, Any]]


def class_style(label: int) -> tuple[str, str]:
    """Return color and marker of a class."""
    return _CLASS_STYLES[label]


def class_shades(label: int) -> list[tuple[float, ...]]:
    """Return the colors of a class for each band of the margin, from pale to strong."""
    color = np.array(to_rgb(class_style(label)[0]))
    levels = np.array(_MARGIN_LEVELS)
    margins = (levels[1:] + levels[:-1]) / 2
    return [tuple(1 - 0.65 * margin * (1 - color)) for margin in margins]


def draw_decision_regions(axes: Axes, window: Sequence[float], snapshot: Mapping[str, Any]) -> None:
    """Draw the predicted class in bands of its margin over the next; gray where there is no prediction.

    Args:
        axes: The axes to draw into.
        window: Left, right, lower and upper end of the grid.
        snapshot: "class" and "lead" (the margin; NaN or inf: no prediction) at G x G points.
    """
    class_GG = np.asarray(snapshot["class"])
    margin_GG = np.asarray(snapshot["lead"], float)
    left, right, lower, upper = window
    x = np.linspace(left, right, class_GG.shape[1])
    y = np.linspace(lower, upper, class_GG.shape[0])
    is_complete = np.isfinite(margin_GG).all()
    axes.set_facecolor(style.WHITE if is_complete else style.LIGHT_GRAY)
    for label in np.unique(class_GG):
        # negative for other classes, so that the border at margin 0 is interpolated between grid points
        signed_GG = np.ma.masked_invalid(np.where(class_GG == label, margin_GG, -margin_GG))
        if not signed_GG.mask.all():
            axes.contourf(x, y, signed_GG, levels=_MARGIN_LEVELS, colors=class_shades(label))


def draw_surface(
    axes: Axes, numbers: Mapping[str, Any], snapshot: Mapping[str, Any], size: float, max_tick_length: int
) -> None:
    """Draw decision regions and points: training points filled, held-out ones hollow, the mini-batch circled.

    Args:
        axes: The axes to draw into.
        numbers: "window", "points" (N, 2), "labels" and "parts" (N; 0 is training), "classes", "axes" (their names).
        snapshot: "class" and "lead" for `draw_decision_regions`, "batch" (indices of points).
        size: Marker size in points; with more than 400 points markers are smaller.
        max_tick_length: Characters that fit to the left of the y axis; longer tick labels are rotated.
    """
    axes.grid(False)
    draw_decision_regions(axes, numbers["window"], snapshot)
    points_N2 = np.asarray(numbers["points"])
    labels_N = np.asarray(numbers["labels"])
    is_train_N = np.asarray(numbers["parts"]) == 0
    scale = min(1.0, (_MAX_FULL_SIZE_POINTS / len(points_N2)) ** 0.45)
    for label in range(len(numbers["classes"])):
        color, marker = class_style(label)
        held_out = points_N2[(labels_N == label) & ~is_train_N]
        hollow = _draw_points(axes, held_out, marker, 0.75 * size * scale, 0.9 * scale)
        hollow.update({"color": "none", "markeredgecolor": color})
        train = points_N2[(labels_N == label) & is_train_N]
        filled = _draw_points(axes, train, marker, size * scale, 0.6 * scale)
        filled.update({"color": color, "markeredgecolor": "white"})
    circles = _draw_points(axes, points_N2[snapshot["batch"]], "o", size * scale + 3.6 * scale, 1.1 * scale)
    circles.update({"color": "none", "markeredgecolor": style.BLACK, "clip_on": False})
    label_plane(axes, numbers["window"], numbers["axes"], max_tick_length)


def label_plane(axes: Axes, window: Sequence[float], names: Sequence[str], max_tick_length: int) -> None:
    """Set the limits, names and ticks of both axes.

    Args:
        axes: The axes of the plane.
        window: Left, right, lower and upper limit.
        names: Names of both axes.
        max_tick_length: Characters that fit to the left of the y axis; longer tick labels are rotated.
    """
    left, right, lower, upper = window
    axes.set(xlim=(left, right), ylim=(lower, upper), box_aspect=1)
    axes.set_xlabel(style.fit_text(names[0], 250))
    axes.set_ylabel(style.fit_text(names[1], 250))
    _set_axis_ticks(axes.xaxis, left, right)
    if _set_axis_ticks(axes.yaxis, lower, upper) > max_tick_length:
        axes.tick_params(axis="y", labelrotation=90)
        for label_text in axes.get_yticklabels():
            label_text.set_verticalalignment("center")


def _draw_points(axes: Axes, points_N2: np.ndarray, marker: str, size: float, edge_width: float) -> Line2D:
    """Draw markers and return the line that holds them, to set its colors."""
    (line,) = axes.plot(*points_N2.T, marker, markersize=size, markeredgewidth=edge_width)
    return line


def _set_axis_ticks(axis: Axis, low: float, high: float) -> int:
    """Set a few tick labels with enough digits to differ; return the length of the longest."""
    digits = 3 + max(0, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")))
    locator = MaxNLocator(2)
    longest = 0
    # the panel is square, so both axes have the same space: the longer the labels, the fewer
    for bins in (4, 3, 2):
        locator = MaxNLocator(bins)
        longest = max(len(f"{value:.{digits}g}") for value in locator.tick_values(low, high))
        if longest * bins <= _MAX_TICK_CHARACTERS:
            break
    axis.set_major_locator(locator)
    return longest


def class_legend(numbers: Mapping[str, Any]) -> list[LegendKey]:
    """Return a legend key for the marker of every class."""
    keys: list[LegendKey] = []
    for label, name in enumerate(numbers["classes"]):
        color, marker = class_style(label)
        keys.append((name, {"color": color, "marker": marker, "markeredgecolor": "white"}))
    return keys


def marker_legend(numbers: Mapping[str, Any]) -> list[LegendKey]:
    """Return legend keys for the markers that do not depend on the class."""
    keys: list[LegendKey] = [("in the mini-batch", {"color": "none", "marker": "o", "markeredgecolor": style.BLACK})]
    if any(numbers["parts"]):
        hollow = {"color": "none", "marker": "o", "markeredgecolor": style.GRAY, "markersize": 5.5}
        keys.append(("held out", hollow))
    keys.append(("pale: low confidence", {"color": class_shades(0)[1], "marker": "s", "markersize": 11}))
    return keys


def curve_legend(curves: Mapping[str, Any]) -> list[LegendKey]:
    """Return a legend key for the curve of every split, and for the lowest validation loss."""
    keys: list[LegendKey] = []
    for split in curves:
        label, color, line_style = SPLIT_STYLES[split]
        keys.append((label, {"color": color, "linestyle": line_style}))
    if "val" in curves:
        keys.append(("lowest validation loss", {"color": style.VAL_COLOR, "marker": "v", "markeredgecolor": "white"}))
    return keys


def draw_legend(axes: Axes, keys: Sequence[LegendKey], rows: int | None = None) -> None:
    """Draw a legend that fills `axes`, in columns of `rows` keys (None: one column)."""
    style.hide_axes(axes)
    width, height = style.axes_size(axes)
    rows = rows or len(keys)
    column_width = width / math.ceil(len(keys) / rows)
    row_height = min(20.0, height / rows)
    axes.set(xlim=(0, width), ylim=(height, 0))
    for index, (name, options) in enumerate(keys):
        x = column_width * (index // rows)
        y = row_height * (index % rows + 0.5)
        line_options = {"markersize": 8, "linestyle": "none", **options, "markevery": [1]}
        axes.plot([x + 2, x + 12, x + 22], [y, y, y], **line_options)
        axes.text(x + 30, y, style.fit_text(name, column_width - 36, 9), va="center", fontsize=9)


def draw_curve(axes: Axes, curves: Mapping[str, Any], kind: str, epoch: int, epochs: int, top: float) -> None:
    """Draw the loss or accuracy of every split up to an epoch.

    Args:
        axes: The axes to draw into.
        curves: Values per epoch by split and kind.
        kind: "loss" or "accuracy".
        epoch: Last epoch to draw.
        epochs: End of the x axis.
        top: End of the y axis; larger values are drawn at the edge.
    """
    for split, (_, color, line_style) in SPLIT_STYLES.items():
        if split not in curves:
            continue
        values = np.minimum(curves[split][kind][: epoch + 1], top)
        axes.plot(values, line_style, color=color, linewidth=1.6, clip_on=False)
        if len(values):
            axes.plot(len(values) - 1, values[-1], "o", color=color, markersize=4.5, clip_on=False)
    if kind == "loss" and "val" in curves and epoch > 0:
        _mark_lowest(axes, curves["val"]["loss"][: epoch + 1], top)
    axes.set(xlim=(0, epochs), ylim=(0, top), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if kind == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _mark_lowest(axes: Axes, values: Sequence[float], top: float) -> None:
    """Mark the epoch with the lowest value."""
    best = int(np.argmin(values))
    (line,) = axes.plot(best, min(values[best], top), "v", color=style.VAL_COLOR, markersize=8)
    line.set(markeredgecolor="white", zorder=5, clip_on=False)


def loss_axis_max(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the end of the axis of losses: above all, but at most about three times the first run's initial loss.

    `runs` are the curves of each run, by split.
    """
    initial = max(curve["loss"][0] for curve in runs[0].values())
    largest = max(max(curve["loss"]) for curves in runs for curve in curves.values())
    return 1.05 * min(largest, 3 * initial)
