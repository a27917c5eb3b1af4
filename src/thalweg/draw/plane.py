"""Points of the plane over what a classifier answers everywhere, and the curves of its training.

N points, K classes, G x G places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import style

#: colour and marker of each class; of two, the second is blue as positive numbers are
_CLASSES = (
    (style.VERMILLION, "o"), (style.BLUE, "s"), (style.GREEN, "^"), (style.PURPLE, "D"), (style.ORANGE, "v"),
    (style.SKY, "P"), ("#f0e442", "X"), (style.BLACK, "<"), ("#8c5a2b", ">"), (style.GREY, "p"),
)  # fmt: skip
#: name, colour and dashes of the curve of each part
PARTS = {
    "train": ("training", style.TRAIN, "-"),
    "valid": ("validation", style.VALID, "--"),
    "test": ("test", style.BLACK, ":"),
}


def look(label: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return _CLASSES[label]


def answers(class_GG: Sequence, probability_GG: Sequence, classes: int) -> np.ndarray:
    """Colours (G, G, 3) in [0, 1]: that of the likeliest class, the paler the less likely; grey where there is none."""
    probability_GG1 = np.asarray(probability_GG, np.float64)[..., None]
    sure_GG1 = np.clip((probability_GG1 - 1 / classes) / (1 - 1 / classes), 0, 1)
    palette_K3 = np.array([to_rgb(look(label)[0]) for label in range(classes)])
    colour_GG3 = 1 - 0.62 * sure_GG1 * (1 - palette_K3[np.asarray(class_GG)])
    return np.where(np.isfinite(probability_GG1), colour_GG3, 0.85)


def surface(axes: Axes, numbers: Mapping[str, Any], snapshot: Mapping[str, Any], size: float) -> None:
    """What a network answers over the window; training points filled, held-out ones hollow, the mini-batch ringed."""
    left, right, lower, upper = numbers["window"]
    image_GG3 = answers(snapshot["class"], snapshot["probability"], len(numbers["classes"]))
    axes.grid(False)
    axes.imshow(image_GG3, origin="lower", extent=(left, right, lower, upper), aspect="auto", interpolation="bilinear")
    points_N2, labels_N, parts_N = (np.asarray(numbers[name]) for name in ("points", "labels", "parts"))
    size *= min(1.0, (500 / len(points_N2)) ** 0.35)
    for label in range(len(numbers["classes"])):
        colour, marker = look(label)
        held = points_N2[(labels_N == label) & (parts_N > 0)]
        axes.plot(*held.T, marker, color="none", markeredgecolor=colour, markersize=0.75 * size, markeredgewidth=0.9)
        trained = points_N2[(labels_N == label) & (parts_N == 0)]
        axes.plot(*trained.T, marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.6)
    ringed = points_N2[snapshot["batch"]]
    axes.plot(
        *ringed.T, "o", color="none", markeredgecolor=style.BLACK, markersize=size + 3.6, markeredgewidth=1.1,
        clip_on=False,
    )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(lower, upper), box_aspect=1)
    axes.set_xlabel(style.fit(numbers["axes"][0], 250))
    axes.set_ylabel(style.fit(numbers["axes"][1], 250))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))


#: a text, and how the line or marker before it looks
Key = tuple[str, dict[str, Any]]


def classes(numbers: Mapping[str, Any]) -> list[Key]:
    """The marker of every class."""
    looks = enumerate(numbers["classes"])
    return [(name, {"color": look(k)[0], "marker": look(k)[1], "markeredgecolor": "white"}) for k, name in looks]


def marks(numbers: Mapping[str, Any]) -> list[Key]:
    """What is not told by colour."""
    keys: list[Key] = [("in the mini-batch", {"color": "none", "marker": "o", "markeredgecolor": style.BLACK})]
    if any(numbers["parts"]):
        hollow = {"color": "none", "marker": "o", "markeredgecolor": style.GREY, "markersize": 5.5}
        keys.append(("not trained on", hollow))
    pale = tuple(answers([[0]], [[0.3 + 0.7 / len(numbers["classes"])]], len(numbers["classes"]))[0, 0])
    return [*keys, ("pale: not sure", {"color": pale, "marker": "s", "markersize": 11})]


def lines(run: Mapping[str, Any]) -> list[Key]:
    """The curve of every part."""
    keys: list[Key] = [
        (PARTS[part][0], {"color": PARTS[part][1], "linestyle": PARTS[part][2]}) for part in run["curves"]
    ]
    if "valid" in run["curves"]:
        keys.append(("lowest validation loss", {"color": style.VALID, "marker": "v", "markeredgecolor": "white"}))
    return keys


def legend(axes: Axes, keys: Sequence[Key], rows: int | None = None) -> None:
    """Who is who, in columns of so many rows (None: one column), in the box of `axes`."""
    style.bare(axes)
    wide, high = (size * 100 for size in (axes.bbox.width / axes.figure.dpi, axes.bbox.height / axes.figure.dpi))
    rows = rows or len(keys)
    columns = -(-len(keys) // rows)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    for place, (name, marked) in enumerate(keys):
        x, y = wide / columns * (place // rows), min(20.0, high / rows) * (place % rows + 0.5)
        axes.plot(
            [x + 2, x + 12, x + 22], [y] * 3, **{"markersize": 8, "linestyle": "none", **marked, "markevery": [1]}
        )
        axes.text(x + 30, y, style.fit(name, wide / columns - 36, 9), va="center", fontsize=9)


def curve(axes: Axes, run: Mapping[str, Any], kind: str, epoch: int, epochs: int, top: float) -> None:
    """The loss, or the accuracy, of every part up to `epoch`; what is higher than `top` runs along the edge."""
    for part, (_, colour, dashes) in PARTS.items():
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
            best, min(values[best], top), "v", color=style.VALID, markersize=8, markeredgecolor="white", zorder=5,
            clip_on=False,
        )  # fmt: skip
    axes.set(xlim=(0, epochs), ylim=(0, top), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if kind == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def highest(runs: Sequence[Mapping[str, Any]]) -> float:
    """Where the axis of losses ends: above all, but not above four times the loss of the first network untrained."""
    first = max(curve["loss"][0] for curve in runs[0]["curves"].values())
    largest = max(max(curve["loss"]) for run in runs for curve in run["curves"].values())
    return 1.05 * min(largest, 3 * first)
