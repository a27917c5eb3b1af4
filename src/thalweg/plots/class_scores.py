"""Plot the quality of predictions: calibration, scores per class, and the class probabilities of one image.

K classes, M bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from . import style

_PERCENT_FORMAT = FuncFormatter(lambda value, _: f"{100 * value:g} %")
_NUMBER_FORMAT = FuncFormatter(lambda value, _: f"{value:g}")
_MAX_CLASSES = 40
#: key of a score in a row, label, marker, color
_SCORE_STYLES = (
    ("precision", "precision", "<", style.ORANGE),
    ("recall", "recall", ">", style.GREEN),
    ("f1", "F1", "o", style.BLUE),
)


@style.as_image
def plot_calibration(bins: tuple[np.ndarray, np.ndarray, np.ndarray], title: str = "") -> Figure:
    """Plot a reliability diagram from (count, mean confidence, accuracy) of M bins of equal width over (0, 1].

    The dashed line is perfect calibration. The lower panel shows the number of examples per bin.
    """
    if not np.sum(bins[0]):
        return style.empty_plot("No examples.", title)
    fig = style.auto_figure(520, width=620)
    style.add_title(fig, title)
    upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    draw_reliability(upper, lower, bins)
    return fig


def draw_reliability(upper: Axes, lower: Axes, bins: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Draw the panels of `plot_calibration`.

    Args:
        upper: Axes for the accuracy by confidence.
        lower: Axes for the number of examples; they share x with `upper`.
        bins: (count, mean confidence, accuracy) of M bins with at least one example.
    """
    count_M, confidence_M, accuracy_M = np.asarray(bins, np.float64)
    width = 1 / len(count_M)
    left_M = np.arange(len(count_M)) * width
    filled_M = count_M > 0
    left = left_M[filled_M]
    accuracy = accuracy_M[filled_M]
    gap = (confidence_M - accuracy_M)[filled_M]
    upper.bar(left, accuracy, width, align="edge", color=style.SKY, edgecolor=style.WHITE, label="accuracy")
    gap_bars = upper.bar(left, gap, width, accuracy, align="edge", label="gap to the confidence", color="none")
    for bar in gap_bars:
        bar.set(edgecolor=style.VERMILLION, hatch="////", linewidth=0.8)
    upper.plot([0, 1], [0, 1], "--", color=style.BLACK, linewidth=1, label="perfect calibration")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left", frameon=True, facecolor=style.WHITE, edgecolor="none", framealpha=0.85)
    lower.bar(left, count_M[filled_M], width, align="edge", color=style.GRAY, edgecolor=style.WHITE)
    lower.set(ylabel="examples", xlabel="confidence: probability of the predicted class", yscale="log")
    lower.set_ylim(0.7, count_M.max() * 1.5)
    lower.yaxis.set_major_formatter(_NUMBER_FORMAT)
    lower.yaxis.set_minor_formatter(NullFormatter())
    upper.yaxis.set_major_formatter(_PERCENT_FORMAT)
    lower.xaxis.set_major_formatter(_PERCENT_FORMAT)


@style.as_image
def plot_per_class(rows: Sequence[Mapping[str, float | None]], classes: Sequence[str], title: str = "") -> Figure:
    """Plot precision, recall and F1 of the 40 classes with the lowest F1.

    Args:
        rows: One row per class with the keys "precision", "recall", "f1" and "examples"; undefined scores are None.
        classes: The class names.
        title: Title of the figure.

    Returns:
        The figure, lowest F1 first.
    """
    f1_by_class: dict[int, float] = {}
    for k in range(len(classes)):
        f1 = rows[k]["f1"]
        if f1 is not None:
            f1_by_class[k] = f1
    order = sorted(f1_by_class, key=lambda k: f1_by_class[k])[:_MAX_CLASSES]
    if not order:
        return style.empty_plot("No class has a score.", title)
    fig = style.auto_figure(110 + 22 * len(order))
    style.add_title(fig, title)
    axes = fig.subplots()
    for key, label, marker, color in _SCORE_STYLES:
        values = np.array([rows[k][key] for k in order], np.float64)
        axes.plot(values, range(len(order)), marker, color=color, markersize=7, label=label, clip_on=False)
    names = []
    for k in order:
        names.append(f"{style.ellipsize(classes[k], 24)} ({rows[k]['examples']})")
    axes.set_yticks(range(len(order)), names)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(_PERCENT_FORMAT)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.set_xlim(right=1)
    axes.set(xlabel="score", ylabel="class (examples), lowest F1 first")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return fig


@style.as_image
def plot_probabilities(
    image_HWC: np.ndarray, classes: Sequence[str], probabilities_K: Sequence[float], top: int = 10
) -> Figure:
    """Plot an image beside bars of its class probabilities.

    Args:
        image_HWC: The image, uint8.
        classes: The class names.
        probabilities_K: The probability of each class.
        top: Maximum number of bars. Up to this many classes keep their order; of more, the most probable are shown.

    Returns:
        The figure.
    """
    values_K = np.asarray(probabilities_K, np.float64)
    order = list(range(len(values_K)))
    if len(values_K) > top:
        order = np.argsort(-values_K, kind="stable")[:top].tolist()
    fig = style.auto_figure(max(240, 26 * len(order) + 60), width=760)
    left, right = fig.subplots(1, 2, width_ratios=[1, 1.6])
    style.hide_axes(left)
    style.show_image(left, image_HWC)
    best = int(values_K.argmax())
    left.set_title(f"{style.ellipsize(classes[best], 24)}  {style.format_percent(values_K[best])}")
    bars = right.barh(range(len(order)), values_K[order], color=style.SKY, height=0.7)
    right.set_yticks(range(len(order)), [style.ellipsize(classes[k], 20) for k in order])
    right.invert_yaxis()
    for y, k in enumerate(order):
        if k == best:
            bars[y].set_facecolor(style.BLUE)
        right.text(values_K[k] + 0.01, y, style.format_percent(values_K[k]), va="center", fontsize=8.5)
    right.set(xlim=(0, 1.18), xlabel="probability", xticks=[0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(_PERCENT_FORMAT)
    right.grid(False, axis="y")
    return fig
