"""Points of the plane over what a classifier answers everywhere, and the curves of its training.

N points, K classes, G x G places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import style

#: colour and marker of each class; of two, the second is blue as positive numbers are
_CLASS_STYLES = (
    (style.VERMILLION, "o"), (style.BLUE, "s"), (style.GREEN, "^"), (style.PURPLE, "D"), (style.ORANGE, "v"),
    (style.SKY, "P"), ("#f0e442", "X"), (style.BLACK, "<"), ("#8c5a2b", ">"), (style.GRAY, "p"),
)  # fmt: skip
#: how sure a network is: the probability of the likeliest class less that of the next
_BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: characters that have room along an axis
_MAX_NAME_LENGTH = 30
#: name, colour and dashes of the curve of each part
SPLIT_STYLES = {
    "train": ("training", style.TRAIN_COLOR, "-"),
    "valid": ("validation", style.VAL_COLOR, "--"),
    "test": ("test", style.BLACK, ":"),
}


def class_style(label: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return _CLASS_STYLES[label]


def class_shades(label: int) -> list[tuple[float, ...]]:
    """The colour of a class, from pale where a network is not sure to full, one for each band."""
    colour = np.array(to_rgb(class_style(label)[0]))
    sure = (np.array(_BANDS[1:]) + np.array(_BANDS[:-1])) / 2
    return [tuple(1 - 0.65 * share * (1 - colour)) for share in sure]


def draw_decision_regions(axes: Axes, window: Sequence[float], snapshot: Mapping[str, Any]) -> None:
    """The likeliest class everywhere, in bands, the paler the smaller its lead on the next; grey: no answer."""
    class_GG, lead_GG = np.asarray(snapshot["class"]), np.asarray(snapshot["lead"], float)
    left, right, lower, upper = window
    x, y = np.linspace(left, right, class_GG.shape[1]), np.linspace(lower, upper, class_GG.shape[0])
    axes.set_facecolor(style.WHITE if np.isfinite(lead_GG).all() else style.LIGHT_GRAY)
    for label in np.unique(class_GG):
        # negative where another class is likelier, so that the border, where the lead is 0, is found between the places
        signed_GG = np.ma.masked_invalid(np.where(class_GG == label, lead_GG, -lead_GG))
        if not signed_GG.mask.all():
            axes.contourf(x, y, signed_GG, levels=_BANDS, colors=class_shades(label))


def draw_surface(
    axes: Axes, numbers: Mapping[str, Any], snapshot: Mapping[str, Any], size: float, longest: int
) -> None:
    """What a network answers over the window; training points filled, held-out ones hollow, the mini-batch ringed.

    Points are of `size`, or smaller if there are many; there is room for numbers of so many characters at the left.
    """
    left, right, lower, upper = numbers["window"]
    axes.grid(False)
    draw_decision_regions(axes, numbers["window"], snapshot)
    points_N2, labels_N, parts_N = (np.asarray(numbers[name]) for name in ("points", "labels", "parts"))
    crowd = min(1.0, (400 / len(points_N2)) ** 0.45)
    size *= crowd
    for label in range(len(numbers["classes"])):
        colour, marker = class_style(label)
        held = points_N2[(labels_N == label) & (parts_N > 0)]
        axes.plot(
            *held.T, marker, color="none", markeredgecolor=colour, markersize=0.75 * size, markeredgewidth=0.9 * crowd
        )
        trained = points_N2[(labels_N == label) & (parts_N == 0)]
        axes.plot(
            *trained.T, marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.6 * crowd
        )
    ringed = points_N2[snapshot["batch"]]
    axes.plot(
        *ringed.T, "o", color="none", markeredgecolor=style.BLACK, markersize=size + 3.6 * crowd,
        markeredgewidth=1.1 * crowd, clip_on=False,
    )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(lower, upper), box_aspect=1)
    axes.set_xlabel(style.fit_text(numbers["axes"][0], 250))
    axes.set_ylabel(style.fit_text(numbers["axes"][1], 250))
    _set_axis_ticks(axes.xaxis, left, right)
    if _set_axis_ticks(axes.yaxis, lower, upper) > longest:  # along the axis any number has room
        axes.tick_params(axis="y", labelrotation=90)
        for told in axes.get_yticklabels():
            told.set_verticalalignment("center")


def _set_axis_ticks(axis: Axis, low: float, high: float) -> int:
    """Few numbers along an axis, with so many digits that they differ; how long the longest is."""
    digits = 3 + max(0, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")))
    # fewer of long numbers; on both axes of one window they have the same room, as the panel is square
    for most in (4, 3, 2):
        locator = MaxNLocator(most)
        longest = max(len(f"{value:.{digits}g}") for value in locator.tick_values(low, high))
        if longest * most <= _MAX_NAME_LENGTH:
            break
    axis.set_major_locator(locator)
    return longest


#: a text, and how the line or marker before it looks
LegendKey = tuple[str, dict[str, Any]]


def class_legend(numbers: Mapping[str, Any]) -> list[LegendKey]:
    """The marker of every class."""
    looks = enumerate(numbers["classes"])
    return [
        (name, {"color": class_style(k)[0], "marker": class_style(k)[1], "markeredgecolor": "white"})
        for k, name in looks
    ]


def marker_legend(numbers: Mapping[str, Any]) -> list[LegendKey]:
    """What is not told by colour."""
    keys: list[LegendKey] = [("in the mini-batch", {"color": "none", "marker": "o", "markeredgecolor": style.BLACK})]
    if any(numbers["parts"]):
        hollow = {"color": "none", "marker": "o", "markeredgecolor": style.GRAY, "markersize": 5.5}
        keys.append(("not trained on", hollow))
    return [*keys, ("pale: not sure", {"color": class_shades(0)[1], "marker": "s", "markersize": 11})]


def curve_legend(run: Mapping[str, Any]) -> list[LegendKey]:
    """The curve of every part."""
    keys: list[LegendKey] = [
        (SPLIT_STYLES[part][0], {"color": SPLIT_STYLES[part][1], "linestyle": SPLIT_STYLES[part][2]})
        for part in run["curves"]
    ]
    if "valid" in run["curves"]:
        keys.append(("lowest validation loss", {"color": style.VAL_COLOR, "marker": "v", "markeredgecolor": "white"}))
    return keys


def draw_legend(axes: Axes, keys: Sequence[LegendKey], rows: int | None = None) -> None:
    """Who is who, in columns of so many rows (None: one column), in the box of `axes`."""
    style.hide_axes(axes)
    wide, high = (size * 100 for size in (axes.bbox.width / axes.figure.dpi, axes.bbox.height / axes.figure.dpi))
    rows = rows or len(keys)
    columns = -(-len(keys) // rows)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    for place, (name, marked) in enumerate(keys):
        x, y = wide / columns * (place // rows), min(20.0, high / rows) * (place % rows + 0.5)
        axes.plot(
            [x + 2, x + 12, x + 22], [y] * 3, **{"markersize": 8, "linestyle": "none", **marked, "markevery": [1]}
        )
        axes.text(x + 30, y, style.fit_text(name, wide / columns - 36, 9), va="center", fontsize=9)


def draw_curve(axes: Axes, run: Mapping[str, Any], kind: str, epoch: int, epochs: int, top: float) -> None:
    """The loss, or the accuracy, of every part up to `epoch`; what is higher than `top` runs along the edge."""
    for part, (_, colour, dashes) in SPLIT_STYLES.items():
        if part not in run["curves"]:
            continue
        values = np.minimum(run["curves"][part][kind][: epoch + 1], top)
        axes.plot(values, dashes, color=colour, linewidth=1.6, clip_on=False)
        if len(values):
            axes.plot(len(values) - 1, values[-1], "o", color=colour, markersize=4.5, clip_on=False)
    if kind == "loss" and "valid" in run["curves"] and epoch > 0:
        values = run["curves"]["valid"]["loss"][: epoch + 1]
        best = int(np.argmin(values))
        axes.plot(
            best, min(values[best], top), "v", color=style.VAL_COLOR, markersize=8, markeredgecolor="white", zorder=5,
            clip_on=False,
        )  # fmt: skip
    axes.set(xlim=(0, epochs), ylim=(0, top), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if kind == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def loss_axis_max(runs: Sequence[Mapping[str, Any]]) -> float:
    """Where the axis of losses ends: above all, but not above four times the loss of the first network untrained."""
    first = max(curve["loss"][0] for curve in runs[0]["curves"].values())
    largest = max(max(curve["loss"]) for run in runs for curve in run["curves"].values())
    return 1.05 * min(largest, 3 * first)
