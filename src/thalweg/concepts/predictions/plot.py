"""The answers to a test set: where the examples lie, single ones, and how sure the network was of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ...errors import pluralize
from ...plots import style
from ...plots.class_scores import draw_reliability

#: units: height of every picture of this concept, side of a small picture, of an example, of a line below it
_HEIGHT, _TILE_SIZE, _EXAMPLE_SIZE, _LINE_HEIGHT = 680, 34, 142, 14
#: examples in a row; most classes that are told apart by colour and shape
_COLUMNS, _MAX_CLASSES = 6, 18
#: how much wider bold letters are
_BOLD_WIDTH_RATIO = 1.18
#: filled, hollow, filled
_MARKERS = "os^"


@style.as_image
def plot_embedding(numbers: dict[str, Any], images_NHWC: np.ndarray | None) -> Figure:
    """Draws the examples in two dimensions: points by class, mistakes crossed; or their pictures, if given."""
    made = style.auto_figure(_HEIGHT)
    axes = made.subplots()
    found = numbers["embedding"]
    points_N2, labels, answers = (np.array(of) for of in (found["points"], numbers["labels"], numbers["answers"]))
    axes.set_title(f"What the last layer reads: {numbers['told']}")
    names = ["t-SNE 1", "t-SNE 2"]
    if found["shares"]:
        names = [
            f"principal component {n}, {style.format_percent(share)}" for n, share in enumerate(found["shares"], 1)
        ]
    axes.set(xlabel=f"{names[0]} of the variance" if found["shares"] else names[0])
    axes.set(ylabel=f"{names[1]} of the variance" if found["shares"] else names[1])
    low, high = points_N2.min(0), points_N2.max(0)
    margin = np.maximum(0.06 * (high - low), 1e-6)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    if images_NHWC is None:
        _draw_points(axes, numbers["classes"], points_N2, labels, answers)
    else:
        _draw_images(axes, points_N2, answers != labels, images_NHWC)
    return made


def _draw_points(
    axes: Axes, classes: list[str], points_N2: np.ndarray, label_N: np.ndarray, answer_N: np.ndarray
) -> None:
    wrong_N, few = answer_N != label_N, len(classes) <= _MAX_CLASSES
    size = 26 if len(points_N2) <= 300 else 14
    for k in np.unique(label_N):
        of_class = points_N2[label_N == k]
        colour = style.OKABE_ITO[k % len(style.OKABE_ITO)] if few else style.BLUE
        shape = _MARKERS[k // len(style.OKABE_ITO)] if few else "o"
        look = {"facecolors": "none", "linewidths": 1.1} if shape == "s" else {"facecolors": colour, "linewidths": 0}
        axes.scatter(*of_class.T, s=size, edgecolors=colour, marker=shape, alpha=0.65, rasterized=True, **look)
    cross = style.BLACK if few else style.VERMILLION
    axes.scatter(*points_N2[wrong_N].T, s=38, color=cross, marker="x", linewidths=1.4, rasterized=True)
    if few:
        _label_clusters(axes, classes, points_N2, label_N)


def _label_clusters(axes: Axes, classes: list[str], points_N2: np.ndarray, label_N: np.ndarray) -> None:
    """The name of each class at the middle of its examples, moved up where it would lie on another."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    scale = np.array([820 / (right - left), 580 / (high - low)])
    taken: list[tuple[float, float, float]] = []
    for k in np.unique(label_N):
        of_class = points_N2[label_N == k]
        x, y = np.median(of_class, 0) * scale
        y += 14 if len(of_class) < 10 else 0  # few points would be hidden
        name = style.ellipsize(classes[k])
        wide = _bold_text_width(name, 12) / 2 + 4
        x = min(max(x, left * scale[0] + wide), right * scale[0] - wide)  # a long name would leave the picture
        while any(abs(x - other) < wide + half and abs(y - level) < 20 for other, level, half in taken):
            y += 4
        taken.append((x, y, wide))
        colour = style.OKABE_ITO[k % len(style.OKABE_ITO)]
        axes.text(
            x / scale[0], y / scale[1], name, ha="center", va="center", fontsize=12, fontweight="bold", color=colour,
            path_effects=[withStroke(linewidth=3.5, foreground=style.WHITE)],
        )  # fmt: skip


def _bold_text_width(text: str, size: float) -> float:
    """Width of a line of bold letters, which are wider than those that are measured."""
    return _BOLD_WIDTH_RATIO * style.text_width(text, size)


def _draw_images(axes: Axes, points_N2: np.ndarray, wrong_N: np.ndarray, images_NHWC: np.ndarray) -> None:
    """Small pictures at their places, mistakes first, none on another."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    wide, tall = _TILE_SIZE * (right - left) / 820, _TILE_SIZE * (high - low) / 580
    taken = np.empty((0, 2))
    axes.grid(False)
    for row in np.argsort(~wrong_N, kind="stable"):
        x, y = points_N2[row]
        if len(taken) and (np.abs(taken - (x, y)) < 1.08 * np.array([wide, tall])).all(1).any():
            continue
        taken = np.concatenate([taken, [(x, y)]])
        # the vertical axis of the data points up, that of pictures down
        style.show_image(axes, images_NHWC[row], (x - wide / 2, y + tall / 2, wide, -tall))
        edge = style.WRONG_COLOR if wrong_N[row] else style.LIGHT_GRAY
        corner = (x - wide / 2, y - tall / 2)
        axes.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=edge, linewidth=2 if wrong_N[row] else 0.5))


@style.as_image
def plot_examples(numbers: dict[str, Any], key: str, images_NHWC: np.ndarray) -> Figure:
    """Draws the pictures of the `worst` mistakes, or those that the network was most `unsure` of, with its answer."""
    made, axes = style.canvas(style.WIDTH, _HEIGHT)
    title = {"worst": "The worst mistakes", "unsure": "The least sure answers"}[key]
    axes.text(8, 22, f"{title}: {numbers['told']}", va="center", fontweight="bold", fontsize=11)
    if not numbers[key]:
        axes.text(style.WIDTH / 2, _HEIGHT / 2, "There is none.", ha="center", color=style.GRAY)
    room = style.WIDTH / _COLUMNS
    for place, example in enumerate(numbers[key]):
        x, y = (
            place % _COLUMNS * room + (room - _EXAMPLE_SIZE) / 2,
            44 + place // _COLUMNS * (_EXAMPLE_SIZE + 5 * _LINE_HEIGHT),
        )
        image = images_NHWC[example["row"]]
        high, wide = (_EXAMPLE_SIZE * size / max(image.shape[:2]) for size in image.shape[:2])
        style.show_image(axes, image, (x + (_EXAMPLE_SIZE - wide) / 2, y + (_EXAMPLE_SIZE - high) / 2, wide, high))
        for line, text in enumerate(_format_caption(numbers["classes"], example, key)):
            weight = {"fontweight": "bold"} if line == 0 else {}
            colour = style.GRAY if line == 3 else style.BLACK
            down = y + _EXAMPLE_SIZE + 4 + line * _LINE_HEIGHT
            axes.text(x + _EXAMPLE_SIZE / 2, down, text, ha="center", va="top", fontsize=8, color=colour, **weight)
    return made


def _format_caption(classes: list[str], example: dict[str, Any], key: str) -> list[str]:
    truth, answer, second = (classes[example[name]] for name in ("label", "answer", "second"))
    share, other = (style.format_percent(example[name]) for name in ("probability", "second_probability"))
    source = style.fit_text(example["source"], _EXAMPLE_SIZE, 8, tail=True)
    if key == "worst":
        taken = f"taken for {style.fit_text(answer, _EXAMPLE_SIZE - style.text_width('taken for ', 8), 8)}"
        shares = f"{share}; truth {style.format_percent(example['truth'])}"
        return [style.fit_text(truth, _EXAMPLE_SIZE / _BOLD_WIDTH_RATIO, 8), taken, shares, source]
    head = _draw_name_pair(answer, second)
    bits = f"{example['entropy']:.2f} bits; "
    wrong = f"it is {style.fit_text(truth, _EXAMPLE_SIZE - style.text_width(f'{bits}it is ', 8), 8)}"
    right = "right" if example["label"] == example["answer"] else wrong
    return [head, f"{share}, {other}", bits + right, source]


def _draw_name_pair(first: str, second: str) -> str:
    """Two names in a bold line below an example: each has half of the room, and what the other does not need."""
    room = (style.WIDTH / _COLUMNS - _bold_text_width(" or ?", 8)) / _BOLD_WIDTH_RATIO
    wide = [style.text_width(style.ellipsize(name, 400), 8) for name in (first, second)]
    parts = (max(room / 2, room - other) for other in reversed(wide))
    shown = [style.fit_text(name, part, 8) for name, part in zip((first, second), parts, strict=True)]
    return f"{shown[0]} or {shown[1]}?"


@style.as_image
def plot_calibration(numbers: dict[str, Any]) -> Figure:
    """Draws the reliability diagram, and the entropies of right and of wrong answers."""
    made = style.auto_figure(_HEIGHT)
    left, right = made.subfigures(1, 2)
    found = numbers["calibration"]
    top, below = left.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    draw_reliability(top, below, (found["count"], found["confidence"], found["accuracy"]))
    top.set_title("Is it as often right as it says?")
    wrong_N = np.array(numbers["answers"]) != np.array(numbers["labels"])
    entropy_N = np.array(numbers["entropy"])
    edges = np.linspace(0, max(numbers["most_entropy"], 1e-9), 25)
    panels = right.subplots(2, 1, sharex=True)
    for axes, of, colour, name in (
        (panels[0], entropy_N[~wrong_N], style.CORRECT_COLOR, "right"),
        (panels[1], entropy_N[wrong_N], style.WRONG_COLOR, "wrong"),
    ):
        axes.hist(of, edges, color=colour, edgecolor=style.WHITE)
        axes.set_title(f"How unsure: {pluralize(len(of), f'{name} answer')}")
        axes.set(ylabel="examples", xlim=(0, edges[-1]))
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[1].set_xlabel("entropy, bits: 0 is sure; at the end all classes alike")
    return made
