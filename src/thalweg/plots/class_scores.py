"""How good the answers are: calibration, scores of each class, and the probabilities of one image.

K classes, M bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from . import style

_PERCENT_FORMAT = FuncFormatter(lambda v, _: f"{100 * v:g} %")


@style.as_image
def plot_calibration(bins: tuple[np.ndarray, np.ndarray, np.ndarray], title: str = "") -> Figure:
    """Draws a reliability diagram from (count, mean confidence, accuracy) of M bins of equal width over (0, 1].

    The dashed line is where a model is as often right as it says. The panel below shows how many examples each bin has.
    """
    if not np.sum(bins[0]):
        return style.empty_plot("No examples.", title)
    made = style.auto_figure(520, width=620)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontweight="bold")
    draw_reliability(*made.subplots(2, 1, sharex=True, height_ratios=[3, 1]), bins)
    return made


def draw_reliability(top: Axes, below: Axes, bins: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Draws what `plot_calibration` draws, of at least one example, into two axes that share x."""
    count_M, confidence_M, accuracy_M = (np.asarray(part, np.float64) for part in bins)
    width = 1 / len(count_M)
    left, full = np.arange(len(count_M)) * width, count_M > 0
    top.bar(left[full], accuracy_M[full], width, align="edge", color=style.SKY, edgecolor=style.WHITE, label="right")
    gap = (confidence_M - accuracy_M)[full]
    look = {"color": "none", "edgecolor": style.VERMILLION, "hatch": "////", "linewidth": 0.8}
    top.bar(left[full], gap, width, accuracy_M[full], align="edge", label="gap to what was said", **look)
    top.plot([0, 1], [0, 1], "--", color=style.BLACK, linewidth=1, label="as often right as said")
    top.set(ylabel="share that was right", xlim=(0, 1), ylim=(0, 1.02))
    top.legend(loc="upper left", frameon=True, facecolor=style.WHITE, edgecolor="none", framealpha=0.85)
    below.bar(left[full], count_M[full], width, align="edge", color=style.GRAY, edgecolor=style.WHITE)
    below.set(ylabel="examples", xlabel="probability that the model gave its answer", yscale="log")
    below.set_ylim(0.7, count_M.max() * 1.5)
    below.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    below.yaxis.set_minor_formatter(NullFormatter())
    top.yaxis.set_major_formatter(_PERCENT_FORMAT)
    below.xaxis.set_major_formatter(_PERCENT_FORMAT)


@style.as_image
def plot_per_class(rows: Sequence[Mapping[str, float | None]], classes: Sequence[str], title: str = "") -> Figure:
    """Draws precision, recall and F1 of each class, worst F1 first, at most 40; rows as those of `Scores.per_class`."""
    order = [k for k in range(len(classes)) if rows[k]["f1"] is not None]
    order = sorted(order, key=lambda k: rows[k]["f1"])[:40]
    if not order:
        return style.empty_plot("No class has any score.", title)
    made = style.auto_figure(110 + 22 * len(order))
    if title:
        made.suptitle(title, x=0.01, ha="left", fontweight="bold")
    axes = made.subplots()
    marks = (("precision", "<", style.ORANGE), ("recall", ">", style.GREEN), ("f1", "o", style.BLUE))
    for key, marker, colour in marks:
        places = [(rows[k][key], n) for n, k in enumerate(order) if rows[k][key] is not None]
        label = "F1" if key == "f1" else key
        axes.plot(*zip(*places, strict=True), marker, color=colour, markersize=7, label=label, clip_on=False)
    names = [f"{style.ellipsize(classes[k], 24)} ({rows[k]['examples']})" for k in order]
    axes.set_yticks(range(len(order)), names)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(_PERCENT_FORMAT)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.set_xlim(right=1)
    axes.set(xlabel="share", ylabel="class (examples), lowest F1 first")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return made


@style.as_image
def plot_probabilities(
    image_HWC: np.ndarray, classes: Sequence[str], probabilities_K: Sequence[float], top: int = 10
) -> Figure:
    """Draws an image, uint8, beside bars of its class probabilities.

    Up to `top` classes stand in their own order, as the ten digits do; of more, the most probable come first.
    """
    share_K = np.asarray(probabilities_K, np.float64)
    order = np.arange(len(share_K)) if len(share_K) <= top else np.argsort(-share_K, kind="stable")[:top]
    made = style.auto_figure(max(240, 26 * len(order) + 60), width=760)
    left, right = made.subplots(1, 2, width_ratios=[1, 1.6])
    style.hide_axes(left)
    style.show_image(left, image_HWC)
    best = share_K.argmax()
    left.set_title(f"{style.ellipsize(classes[best], 24)}  {style.format_percent(share_K[best])}")
    colours = [style.BLUE if k == best else style.SKY for k in order]
    right.barh(range(len(order)), share_K[order], color=colours, height=0.7)
    right.set_yticks(range(len(order)), [style.ellipsize(classes[k], 20) for k in order])
    right.invert_yaxis()
    for place, k in enumerate(order):
        right.text(share_K[k] + 0.01, place, style.format_percent(share_K[k]), va="center", fontsize=8.5)
    right.set(xlim=(0, 1.18), xlabel="probability", xticks=[0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(_PERCENT_FORMAT)
    right.grid(False, axis="y")
    return made
