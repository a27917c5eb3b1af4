"""Plots of predictions: the projection of a test set, single examples, calibration and entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ...errors import pluralize
from ...plots import style
from ...plots.class_scores import draw_reliability
from .records import ExampleNumbers, PredictionNumbers

#: height of all plots, side of an image in the projection, side of an example, height of a line of text, in units
_HEIGHT = 680
_TILE_SIZE = 34
_EXAMPLE_SIZE = 142
_LINE_HEIGHT = 14
#: approximate size of the axes of the projection, in units
_AXES_WIDTH = 820
_AXES_HEIGHT = 580
#: examples per row, and maximum number of classes with a color and marker of their own
_COLUMNS = 6
_MAX_CLASSES = 18
#: bold text is wider than measured
_BOLD_WIDTH_RATIO = 1.18
#: filled, hollow, filled
_MARKERS = "os^"
_SMALL_FONT = 8
_LABEL_FONT = 12


def count_mistakes(numbers: PredictionNumbers) -> int:
    """Return the number of wrong predictions."""
    return int(np.sum(np.array(numbers["predictions"]) != np.array(numbers["labels"])))


def _class_color(k: int) -> str:
    return style.OKABE_ITO[k % len(style.OKABE_ITO)]


# --- projection -------------------------------------------------------------------------------------------------------


@style.as_image
def plot_projection(numbers: PredictionNumbers, images_NHWC: np.ndarray | None) -> Figure:
    """Plot the examples in two dimensions: as points by class with crosses for mistakes, or as images."""
    fig = style.auto_figure(_HEIGHT)
    axes = fig.subplots()
    axes.set_title(f"Input of the last layer: {numbers['title']}")
    x_name, y_name = _name_axes(numbers)
    axes.set(xlabel=x_name, ylabel=y_name)
    points_N2 = np.array(numbers["projection"]["points"])
    low = points_N2.min(0)
    high = points_N2.max(0)
    margin = np.maximum(0.06 * (high - low), 1e-6)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    is_wrong_N = np.array(numbers["predictions"]) != np.array(numbers["labels"])
    if images_NHWC is None:
        _draw_points(axes, numbers, points_N2, is_wrong_N)
    else:
        _draw_images(axes, points_N2, is_wrong_N, images_NHWC)
    return fig


def _name_axes(numbers: PredictionNumbers) -> list[str]:
    """Return the labels of both axes."""
    fractions = numbers["projection"]["explained_variance"]
    if fractions is None:
        return ["t-SNE 1", "t-SNE 2"]
    names = []
    for number, fraction in enumerate(fractions, 1):
        names.append(f"principal component {number}, {style.format_percent(fraction)} of the variance")
    return names


def _draw_points(axes: Axes, numbers: PredictionNumbers, points_N2: np.ndarray, is_wrong_N: np.ndarray) -> None:
    """Draw a point per example, colored by class, and a cross on each mistake."""
    label_N = np.array(numbers["labels"])
    has_colors = len(numbers["classes"]) <= _MAX_CLASSES
    size = 26 if len(points_N2) <= 300 else 14
    for k in np.unique(label_N):
        color = style.BLUE
        marker = "o"
        if has_colors:
            color = _class_color(k)
            marker = _MARKERS[k // len(style.OKABE_ITO)]
        is_hollow = marker == "s"
        axes.scatter(
            *points_N2[label_N == k].T,
            s=size,
            marker=marker,
            facecolors="none" if is_hollow else color,
            edgecolors=color,
            linewidths=1.1 if is_hollow else 0,
            alpha=0.65,
            rasterized=True,
        )
    cross_color = style.BLACK if has_colors else style.VERMILLION
    axes.scatter(*points_N2[is_wrong_N].T, s=38, color=cross_color, marker="x", linewidths=1.4, rasterized=True)
    if has_colors:
        _label_clusters(axes, numbers["classes"], points_N2, label_N)


def _label_clusters(axes: Axes, classes: Sequence[str], points_N2: np.ndarray, label_N: np.ndarray) -> None:
    """Write the name of each class at the median of its examples, moved up where it would cover another name."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    scale = np.array([_AXES_WIDTH / (right - left), _AXES_HEIGHT / (top - bottom)])
    taken: list[tuple[float, float, float]] = []
    for k in np.unique(label_N):
        class_points = points_N2[label_N == k]
        x, y = np.median(class_points, 0) * scale
        if len(class_points) < 10:
            y += 14  # the name would hide a few points
        name = style.ellipsize(classes[k])
        half_width = _bold_text_width(name, _LABEL_FONT) / 2 + 4
        x = min(max(x, left * scale[0] + half_width), right * scale[0] - half_width)
        while _is_taken(taken, x, y, half_width):
            y += 4
        taken.append((x, y, half_width))
        text = axes.text(x / scale[0], y / scale[1], name, ha="center", va="center", fontsize=_LABEL_FONT)
        text.set(fontweight="bold", color=_class_color(k))
        text.set_path_effects([withStroke(linewidth=3.5, foreground=style.WHITE)])


def _is_taken(taken: list[tuple[float, float, float]], x: float, y: float, half_width: float) -> bool:
    """Whether a name at this position would cover another one."""
    for other_x, other_y, other_half_width in taken:
        if abs(x - other_x) < half_width + other_half_width and abs(y - other_y) < 20:
            return True
    return False


def _bold_text_width(text: str, size: float) -> float:
    """Return the width of a line of bold text in units."""
    return _BOLD_WIDTH_RATIO * style.text_width(text, size)


def _draw_images(axes: Axes, points_N2: np.ndarray, is_wrong_N: np.ndarray, images_NHWC: np.ndarray) -> None:
    """Draw small images at their points without overlap, mistakes first."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width = _TILE_SIZE * (right - left) / _AXES_WIDTH
    height = _TILE_SIZE * (top - bottom) / _AXES_HEIGHT
    taken = np.empty((0, 2))
    axes.grid(False)
    for index in np.argsort(~is_wrong_N, kind="stable"):
        x, y = points_N2[index]
        overlaps = (np.abs(taken - (x, y)) < 1.08 * np.array([width, height])).all(1)
        if overlaps.any():
            continue
        taken = np.concatenate([taken, [(x, y)]])
        # the height is negative because the y axis of the data points up
        style.show_image(axes, images_NHWC[index], (x - width / 2, y + height / 2, width, -height))
        frame = Rectangle((x - width / 2, y - height / 2), width, height, fill=False)
        if is_wrong_N[index]:
            frame.set(edgecolor=style.WRONG_COLOR, linewidth=2)
        else:
            frame.set(edgecolor=style.LIGHT_GRAY, linewidth=0.5)
        axes.add_patch(frame)


# --- single examples --------------------------------------------------------------------------------------------------


@style.as_image
def plot_examples(numbers: PredictionNumbers, key: Literal["mistakes", "uncertain"], images_NHWC: np.ndarray) -> Figure:
    """Plot the worst mistakes or the least certain predictions, with the class probabilities."""
    fig, axes = style.canvas(style.WIDTH, _HEIGHT)
    title = {"mistakes": "Worst mistakes", "uncertain": "Least certain predictions"}[key]
    axes.text(8, 22, f"{title}: {numbers['title']}", va="center", fontweight="bold", fontsize=11)
    if not numbers[key]:
        axes.text(style.WIDTH / 2, _HEIGHT / 2, "There is none.", ha="center", color=style.GRAY)
    column_width = style.WIDTH / _COLUMNS
    for index, example in enumerate(numbers[key]):
        row, column = divmod(index, _COLUMNS)
        x = column * column_width + (column_width - _EXAMPLE_SIZE) / 2
        y = 44 + row * (_EXAMPLE_SIZE + 5 * _LINE_HEIGHT)
        _draw_example(axes, images_NHWC[example["index"]], x, y)
        if key == "mistakes":
            lines = _describe_mistake(numbers["classes"], example)
        else:
            lines = _describe_uncertain(numbers["classes"], example)
        _draw_lines(axes, lines, x + _EXAMPLE_SIZE / 2, y + _EXAMPLE_SIZE + 4)
    return fig


def _draw_example(axes: Axes, image_HWC: np.ndarray, x: float, y: float) -> None:
    """Draw an image centered in the square of an example."""
    longer = max(image_HWC.shape[:2])
    height = _EXAMPLE_SIZE * image_HWC.shape[0] / longer
    width = _EXAMPLE_SIZE * image_HWC.shape[1] / longer
    box = (x + (_EXAMPLE_SIZE - width) / 2, y + (_EXAMPLE_SIZE - height) / 2, width, height)
    style.show_image(axes, image_HWC, box)


def _draw_lines(axes: Axes, lines: Sequence[str], x: float, y: float) -> None:
    """Write four centered lines: the first bold, the last gray."""
    for number, line in enumerate(lines):
        text = axes.text(x, y + number * _LINE_HEIGHT, line, ha="center", va="top", fontsize=_SMALL_FONT)
        text.set_color(style.BLACK)
        if number == 0:
            text.set_fontweight("bold")
        elif number == 3:
            text.set_color(style.GRAY)


def _fit_after(prefix: str, name: str) -> str:
    """Return prefix and name, the name shortened to the width of an example."""
    room = _EXAMPLE_SIZE - style.text_width(prefix, _SMALL_FONT)
    return prefix + style.fit_text(name, room, _SMALL_FONT)


def _fit_source(example: ExampleNumbers) -> str:
    return style.fit_text(example["source"], _EXAMPLE_SIZE, _SMALL_FONT, tail=True)


def _describe_mistake(classes: Sequence[str], example: ExampleNumbers) -> list[str]:
    """Return the lines below a mistake: true class, prediction, probabilities, source."""
    true_class = style.fit_text(classes[example["label"]], _EXAMPLE_SIZE / _BOLD_WIDTH_RATIO, _SMALL_FONT)
    confidence = style.format_percent(example["confidence"])
    label_probability = style.format_percent(example["label_probability"])
    return [
        true_class,
        _fit_after("predicted ", classes[example["prediction"]]),
        f"{confidence}; true class {label_probability}",
        _fit_source(example),
    ]


def _describe_uncertain(classes: Sequence[str], example: ExampleNumbers) -> list[str]:
    """Return the lines below an uncertain prediction: two classes, their probabilities, entropy, source."""
    confidence = style.format_percent(example["confidence"])
    runner_up = style.format_percent(example["runner_up_probability"])
    bits = f"{example['entropy']:.2f} bits; "
    verdict = f"{bits}correct"
    if example["label"] != example["prediction"]:
        verdict = _fit_after(f"{bits}true: ", classes[example["label"]])
    return [
        _format_name_pair(classes[example["prediction"]], classes[example["runner_up"]]),
        f"{confidence}, {runner_up}",
        verdict,
        _fit_source(example),
    ]


def _format_name_pair(first: str, second: str) -> str:
    """Format two class names for a bold line: each gets half of the width, and what the other does not need."""
    room = (style.WIDTH / _COLUMNS - _bold_text_width(" or ?", _SMALL_FONT)) / _BOLD_WIDTH_RATIO
    first_width = style.text_width(style.ellipsize(first, 400), _SMALL_FONT)
    second_width = style.text_width(style.ellipsize(second, 400), _SMALL_FONT)
    first = style.fit_text(first, max(room / 2, room - second_width), _SMALL_FONT)
    second = style.fit_text(second, max(room / 2, room - first_width), _SMALL_FONT)
    return f"{first} or {second}?"


# --- calibration ------------------------------------------------------------------------------------------------------


@style.as_image
def plot_calibration(numbers: PredictionNumbers) -> Figure:
    """Plot the reliability diagram, and histograms of the entropy of correct and of wrong predictions."""
    fig = style.auto_figure(_HEIGHT)
    left, right = fig.subfigures(1, 2, squeeze=False)[0]
    calibration = numbers["calibration"]
    upper, lower = left.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    count = np.array(calibration["count"])
    confidence = np.array(calibration["confidence"], np.float64)  # None becomes NaN
    accuracy = np.array(calibration["accuracy"], np.float64)
    draw_reliability(upper, lower, (count, confidence, accuracy))
    upper.set_title("Does the confidence match the accuracy?")
    is_wrong_N = np.array(numbers["predictions"]) != np.array(numbers["labels"])
    entropy_N = np.array(numbers["entropy"])
    edges = np.linspace(0, max(numbers["max_entropy"], 1e-9), 25)
    correct_axes, wrong_axes = right.subplots(2, 1, sharex=True)
    _draw_entropy(correct_axes, entropy_N[~is_wrong_N], edges, "correct", style.CORRECT_COLOR)
    _draw_entropy(wrong_axes, entropy_N[is_wrong_N], edges, "wrong", style.WRONG_COLOR)
    wrong_axes.set_xlabel("entropy, bits: from certain to equal probabilities")
    return fig


def _draw_entropy(axes: Axes, entropy_N: np.ndarray, edges: np.ndarray, name: str, color: str) -> None:
    """Draw a histogram of entropies."""
    axes.hist(entropy_N, edges.tolist(), color=color, edgecolor=style.WHITE)
    axes.set_title(f"Entropy of {pluralize(len(entropy_N), f'{name} prediction')}")
    axes.set(ylabel="examples", xlim=(0, edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
