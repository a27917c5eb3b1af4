"""Pooling: the window at one place, the picture before and after, and what small shifts change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...errors import counted
from ...plots import style
from ...plots.number_format import number
from ...plots.value_grid import Cells, cells, fitted, levels, numbers_of, signed, title, told

#: units: boxes (left, width) of the crop and of all outputs, their top and height, a row of values, the least height
_CROP, _OUTPUT, _TOP, _HIGH, _ROW, _LEAST = (16, 372), (412, 472), 46, 372, 18, 560
_MARGIN, _GAP = 16, 20
_LOOKS = {
    "subsampling": (style.VERMILLION, "s", "--"),
    "max": (style.BLUE, "o", "-"),
    "average": (style.GREEN, "^", "-"),
    "picture": (style.GREY, None, ":"),
}


def _height(numbers: dict[str, Any]) -> int:
    """Units; all frames have the same."""
    return max(_LEAST, _TOP + _HIGH + 52 + _ROW * numbers["window"] + 10)


@style.picture
def window(numbers: dict[str, Any], place: int) -> Figure:
    """Draws one window of the crop that is written out: what is in it, what is passed on, the outputs so far."""
    made, axes = style.sheet(style.WIDTH, _height(numbers))
    crop, padding, stride = numbers["crop"], numbers["padding"], numbers["stride"]
    step = crop["steps"][place]
    title(axes, _CROP[0], 22, "A crop of the picture", _CROP[1])
    inner = np.array(crop["values"])
    values = np.pad(inner, padding, constant_values=math.nan)
    left = cells(axes, values, levels(values), (_CROP[0], _TOP, _CROP[1], _HIGH))
    if padding:
        left.outline(axes, (padding, padding), inner.shape, style.GREY, linewidth=1.5, zorder=4)
    row, column = step["place"]
    if "max" in numbers["kinds"]:
        _mark_kept(axes, left, numbers, (row, column))
    left.outline(axes, (row * stride, column * stride), (numbers["window"],) * 2, zorder=6)
    count = len(numbers["kinds"])
    wide = (_OUTPUT[1] - _GAP * (count - 1)) / count
    for panel, kind in enumerate(numbers["kinds"]):
        x = _OUTPUT[0] + panel * (wide + _GAP)
        title(axes, x, 22, f"{kind.capitalize()}, so far", wide)
        output = _until(np.array(crop["outputs"][kind]), row, column)
        right = cells(axes, output, levels(output), (x, _TOP, wide, _HIGH))
        right.outline(axes, (0, 0), output.shape, style.GREY, linewidth=0.8, zorder=2)
        right.outline(axes, (row, column))
        y = _TOP + right.side * right.rows + 24
        text = _result(numbers, step, kind)
        size = fitted([text], 0.85 * wide, 12)
        axes.text(x, y, text, va="center", fontsize=size, fontweight="bold", color=_LOOKS[kind][0])
    _written(axes, numbers, step)
    return made


def _until(output_OP: np.ndarray, row: int, column: int) -> np.ndarray:
    """The output up to a place, in the order of reading; NaN for the others."""
    shown = output_OP.copy()
    shown[row, column + 1 :], shown[row + 1 :] = math.nan, math.nan
    return shown


def _mark_kept(axes: Axes, table: Cells, numbers: dict[str, Any], place: tuple[int, int]) -> None:
    """A frame around each value that was passed on so far."""
    where, padding = np.array(numbers["crop"]["where"]), numbers["padding"]
    done = where.reshape(-1, 2)[: place[0] * where.shape[1] + place[1] + 1]
    for row, column in np.unique(done, axis=0):
        at = (row + padding + 0.06, column + padding + 0.06)
        table.outline(axes, at, (0.88, 0.88), style.SKY, linewidth=2.2, zorder=5)


def _written(axes: Axes, numbers: dict[str, Any], step: dict[str, Any]) -> None:
    """The values under the window, and what becomes of them."""
    top = _TOP + _HIGH + 26
    outside = any(value is None for row in step["under"] for value in row)
    counts = {"max": "does not count", "average": "counts as 0"}
    told_ = " and ".join(f"{counts[kind]} for {kind}" for kind in numbers["kinds"])
    says = f"Under the window (outside of the picture, –: {told_}):" if outside else "Under the window:"
    axes.text(_MARGIN, top, says, va="center", color=style.GREY)
    texts = [["–" if value is None else told(value) for value in row] for row in step["under"]]
    row, column = step["place"]
    best = [
        at - start * numbers["stride"] + numbers["padding"]
        for at, start in zip(step["where"], (row, column), strict=True)
    ]
    for a, values in enumerate(texts):
        for b, text in enumerate(values):
            first = [a, b] == best and "max" in numbers["kinds"]
            x, y = _MARGIN + 28 + 38 * b, top + 22 + _ROW * a
            look = {"fontweight": "bold", "color": style.BLUE} if first else {}
            axes.text(x, y, text, ha="right", va="center", **look)


def _result(numbers: dict[str, Any], step: dict[str, Any], kind: str) -> str:
    if kind == "max":
        return f"the largest is {number(step['max'])}"
    return f"{number(step['sum'])} / {numbers['window'] ** 2} = {number(step['average'])}"


# --- the whole picture ------------------------------------------------------------------------------------------------


def _panel(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    """An image (H, W, 3) laid over the extent that a picture of that `shape` has at the top left of a box."""
    unit = min(box[2] / shape[1], box[3] / shape[0])
    place = (box[0], box[1], unit * shape[1], unit * shape[0])
    style.place(axes, image, place)
    axes.add_patch(Rectangle(place[:2], *place[2:], fill=False, edgecolor=style.PALE, linewidth=0.8))


@style.picture
def pooled(numbers: dict[str, Any]) -> Figure:
    """Draws the picture, the pixels that are kept, and the outputs enlarged to the same size; figures beside them."""
    high = _height(numbers)
    made, axes = style.sheet(style.WIDTH, high)
    picture = np.array(numbers["picture"])
    size = (high - 2 * 30 - 24) / 2
    tall = size * min(1, picture.shape[0] / picture.shape[1])
    panels = {f"The picture, {_sized(numbers['sizes']['picture'])}": levels(picture)}
    if "max" in numbers["kinds"]:
        panels["What max keeps; blue: nothing"] = _kept(picture, numbers["kept"]["places"])
    for kind in numbers["kinds"]:
        name = f"{kind.capitalize()}, {_sized(numbers['sizes']['output'])}, enlarged"
        panels[name] = levels(np.array(numbers["outputs"][kind]))
    for place, (name, image) in enumerate(panels.items()):
        row, column = divmod(place, 2)
        x, y = _MARGIN + column * (size + _GAP), 38 + row * (tall + 36)
        title(axes, x, y - 18, name, size * 1.15)
        _panel(axes, image, (x, y, size, size), picture.shape)
    _facts(axes, numbers, _MARGIN + 2 * (size + _GAP) + 10)
    return made


def _sized(size: list[int]) -> str:
    return f"{size[1]} x {size[0]}"


def _kept(picture: np.ndarray, places: list[list[int]]) -> np.ndarray:
    """The kept pixels as they are; all others in a pale blue that no grey has."""
    image = np.ones((*picture.shape, 3)) * np.array([0.75, 0.87, 0.95])
    rows, columns = np.array(places).T
    image[rows, columns] = levels(picture[rows, columns])
    return image


def _facts(axes: Axes, numbers: dict[str, Any], x: float) -> None:
    kept, count = numbers["kept"], numbers["window"] ** 2
    lines = [
        ("window, stride, padding", f"{numbers['window']}, {numbers['stride']}, {numbers['padding']}"),
        ("picture", f"{_sized(numbers['sizes']['picture'])} values"),
        ("output", f"{_sized(numbers['sizes']['output'])} values"),
        ("", numbers["formula"].replace("-", "−")),
    ]
    if "max" in numbers["kinds"]:
        pixels = counted(len(kept["places"]), "pixel")
        lines.append(("max keeps", f"{pixels}, {style.percent(kept['share'])}"))
    if "average" in numbers["kinds"]:
        lines.append(("average", f"each pixel of a window counts 1/{count}"))
    if kept["under_a_window"] < 1:
        lines.append(("under no window", style.percent(1 - kept["under_a_window"]) + " of the pixels"))
    y = 52.0
    for name, value in lines:
        if name:
            axes.text(x, y, name, va="center", color=style.GREY)
            y += 19
        axes.text(x, y, value, va="center", fontsize=fitted([value], style.WIDTH - 8 - x))
        y += 28


@style.picture
def moved(numbers: dict[str, Any]) -> Figure:
    """Draws each output before and after a shift by one pixel, their difference, and the change over all shifts."""
    high = _height(numbers)
    made, axes = style.sheet(style.WIDTH, high)
    found = numbers["moved"]
    kinds = list(found["first"])
    size = min(140.0, (high - 60) / len(kinds) - 30)
    shape = np.shape(found["first"]["subsampling"])
    tall = size * min(1, shape[0] / shape[1])
    for column, head in enumerate(("here", "moved by 1 pixel", "difference")):
        axes.text(_MARGIN + column * (size + 10), 22, head, va="center", color=style.GREY)
    for row, kind in enumerate(kinds):
        y = 60 + row * (tall + 30)
        title(axes, _MARGIN, y - 14, kind.capitalize(), 3 * size)
        first, second = numbers_of(found["first"][kind]), numbers_of(found["second"][kind])
        images = (levels(first), levels(second), signed(second - first, found["strongest"]))
        for column, image in enumerate(images):
            _panel(axes, image, (_MARGIN + column * (size + 10), y, size, size), shape)
    left = _MARGIN + 3 * (size + 10) + 60
    chart = style.axes_at(made, left, 0.24 * high, style.WIDTH - 16 - left, 0.62 * high)
    for kind, values in found["change"].items():
        colour, marker, dashes = _LOOKS[kind]
        shares = [math.nan if value is None else 100 * value for value in values]
        label = "the picture itself" if kind == "picture" else kind
        chart.plot(found["shifts"], shares, dashes, color=colour, marker=marker, markersize=5, label=label)
    chart.set(xlabel="moved by so many pixels", ylabel="change of the output, %", ylim=(0, None))
    chart.xaxis.get_major_locator().set_params(integer=True)
    title(axes, left - 44, 22, "How much the output changes", style.WIDTH - left)
    chart.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
    says = "0 % is the same output; differences: blue brighter, orange darker"
    axes.text(left - 44, high - 16, says, va="center", color=style.GREY, fontsize=8.5)
    return made
