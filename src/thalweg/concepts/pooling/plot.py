"""Pooling: the window at one place, the picture before and after, and what small shifts change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...errors import pluralize
from ...plots import style
from ...plots.number_format import format_number
from ...plots.value_grid import (
    CellGrid,
    diverging_colors,
    draw_cells,
    draw_title,
    fit_font_size,
    format_cell,
    gray_colors,
    to_array,
)

#: units: boxes (left, width) of the crop and of all outputs, their top and height, a row of values, the least height
_CROP_BOX, _OUTPUT_BOX, _TOP, _TABLE_HEIGHT, _ROW_HEIGHT, _MIN_HEIGHT = (16, 372), (412, 472), 46, 372, 18, 560
_MARGIN, _GAP = 16, 20
_STYLES = {
    "subsampling": (style.VERMILLION, "s", "--"),
    "max": (style.BLUE, "o", "-"),
    "average": (style.GREEN, "^", "-"),
    "picture": (style.GRAY, None, ":"),
}


def _figure_height(numbers: dict[str, Any]) -> int:
    """Units; all frames have the same."""
    return max(_MIN_HEIGHT, _TOP + _TABLE_HEIGHT + 52 + _ROW_HEIGHT * numbers["window"] + 10)


@style.as_image
def plot_window(numbers: dict[str, Any], place: int) -> Figure:
    """Draws one window of the crop that is written out: what is in it, what is passed on, the outputs so far."""
    made, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    crop, padding, stride = numbers["crop"], numbers["padding"], numbers["stride"]
    step = crop["steps"][place]
    draw_title(axes, _CROP_BOX[0], 22, "A crop of the picture", _CROP_BOX[1])
    inner = np.array(crop["values"])
    values = np.pad(inner, padding, constant_values=math.nan)
    left = draw_cells(axes, values, gray_colors(values), (_CROP_BOX[0], _TOP, _CROP_BOX[1], _TABLE_HEIGHT))
    if padding:
        left.outline(axes, (padding, padding), inner.shape, style.GRAY, linewidth=1.5, zorder=4)
    row, column = step["place"]
    if "max" in numbers["kinds"]:
        _mark_selected(axes, left, numbers, (row, column))
    left.outline(axes, (row * stride, column * stride), (numbers["window"],) * 2, zorder=6)
    count = len(numbers["kinds"])
    wide = (_OUTPUT_BOX[1] - _GAP * (count - 1)) / count
    for panel, kind in enumerate(numbers["kinds"]):
        x = _OUTPUT_BOX[0] + panel * (wide + _GAP)
        draw_title(axes, x, 22, f"{kind.capitalize()}, so far", wide)
        output = _mask_after(np.array(crop["outputs"][kind]), row, column)
        right = draw_cells(axes, output, gray_colors(output), (x, _TOP, wide, _TABLE_HEIGHT))
        right.outline(axes, (0, 0), output.shape, style.GRAY, linewidth=0.8, zorder=2)
        right.outline(axes, (row, column))
        y = _TOP + right.side * right.rows + 24
        text = _format_result(numbers, step, kind)
        size = fit_font_size([text], 0.85 * wide, 12)
        axes.text(x, y, text, va="center", fontsize=size, fontweight="bold", color=_STYLES[kind][0])
    _draw_window_values(axes, numbers, step)
    return made


def _mask_after(output_OP: np.ndarray, row: int, column: int) -> np.ndarray:
    """The output up to a place, in the order of reading; NaN for the others."""
    shown = output_OP.copy()
    shown[row, column + 1 :], shown[row + 1 :] = math.nan, math.nan
    return shown


def _mark_selected(axes: Axes, table: CellGrid, numbers: dict[str, Any], place: tuple[int, int]) -> None:
    """A frame around each value that was passed on so far."""
    where, padding = np.array(numbers["crop"]["where"]), numbers["padding"]
    done = where.reshape(-1, 2)[: place[0] * where.shape[1] + place[1] + 1]
    for row, column in np.unique(done, axis=0):
        at = (row + padding + 0.06, column + padding + 0.06)
        table.outline(axes, at, (0.88, 0.88), style.SKY, linewidth=2.2, zorder=5)


def _draw_window_values(axes: Axes, numbers: dict[str, Any], step: dict[str, Any]) -> None:
    """The values under the window, and what becomes of them."""
    top = _TOP + _TABLE_HEIGHT + 26
    outside = any(value is None for row in step["under"] for value in row)
    counts = {"max": "does not count", "average": "counts as 0"}
    told_ = " and ".join(f"{counts[kind]} for {kind}" for kind in numbers["kinds"])
    says = f"Under the window (outside of the picture, –: {told_}):" if outside else "Under the window:"
    axes.text(_MARGIN, top, says, va="center", color=style.GRAY)
    texts = [["–" if value is None else format_cell(value) for value in row] for row in step["under"]]
    row, column = step["place"]
    best = [
        at - start * numbers["stride"] + numbers["padding"]
        for at, start in zip(step["where"], (row, column), strict=True)
    ]
    for a, values in enumerate(texts):
        for b, text in enumerate(values):
            first = [a, b] == best and "max" in numbers["kinds"]
            x, y = _MARGIN + 28 + 38 * b, top + 22 + _ROW_HEIGHT * a
            look = {"fontweight": "bold", "color": style.BLUE} if first else {}
            axes.text(x, y, text, ha="right", va="center", **look)


def _format_result(numbers: dict[str, Any], step: dict[str, Any], kind: str) -> str:
    if kind == "max":
        return f"the largest is {format_number(step['max'])}"
    return f"{format_number(step['sum'])} / {numbers['window'] ** 2} = {format_number(step['average'])}"


# --- the whole picture ------------------------------------------------------------------------------------------------


def _draw_panel(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    """An image (H, W, 3) laid over the extent that a picture of that `shape` has at the top left of a box."""
    unit = min(box[2] / shape[1], box[3] / shape[0])
    place = (box[0], box[1], unit * shape[1], unit * shape[0])
    style.show_image(axes, image, place)
    axes.add_patch(Rectangle(place[:2], *place[2:], fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.8))


@style.as_image
def plot_before_after(numbers: dict[str, Any]) -> Figure:
    """Draws the picture, the pixels that are kept, and the outputs enlarged to the same size; figures beside them."""
    high = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, high)
    picture = np.array(numbers["picture"])
    size = (high - 2 * 30 - 24) / 2
    tall = size * min(1, picture.shape[0] / picture.shape[1])
    panels = {f"The picture, {_format_size(numbers['sizes']['picture'])}": gray_colors(picture)}
    if "max" in numbers["kinds"]:
        panels["What max keeps; blue: nothing"] = _selected_pixels(picture, numbers["kept"]["places"])
    for kind in numbers["kinds"]:
        name = f"{kind.capitalize()}, {_format_size(numbers['sizes']['output'])}, enlarged"
        panels[name] = gray_colors(np.array(numbers["outputs"][kind]))
    for place, (name, image) in enumerate(panels.items()):
        row, column = divmod(place, 2)
        x, y = _MARGIN + column * (size + _GAP), 38 + row * (tall + 36)
        draw_title(axes, x, y - 18, name, size * 1.15)
        _draw_panel(axes, image, (x, y, size, size), picture.shape)
    _draw_summary(axes, numbers, _MARGIN + 2 * (size + _GAP) + 10)
    return made


def _format_size(size: list[int]) -> str:
    return f"{size[1]} x {size[0]}"


def _selected_pixels(picture: np.ndarray, places: list[list[int]]) -> np.ndarray:
    """The kept pixels as they are; all others in a pale blue that no grey has."""
    image = np.ones((*picture.shape, 3)) * np.array([0.75, 0.87, 0.95])
    rows, columns = np.array(places).T
    image[rows, columns] = gray_colors(picture[rows, columns])
    return image


def _draw_summary(axes: Axes, numbers: dict[str, Any], x: float) -> None:
    kept, count = numbers["kept"], numbers["window"] ** 2
    lines = [
        ("window, stride, padding", f"{numbers['window']}, {numbers['stride']}, {numbers['padding']}"),
        ("picture", f"{_format_size(numbers['sizes']['picture'])} values"),
        ("output", f"{_format_size(numbers['sizes']['output'])} values"),
        ("", numbers["formula"].replace("-", "−")),
    ]
    if "max" in numbers["kinds"]:
        pixels = pluralize(len(kept["places"]), "pixel")
        lines.append(("max keeps", f"{pixels}, {style.format_percent(kept['share'])}"))
    if "average" in numbers["kinds"]:
        lines.append(("average", f"each pixel of a window counts 1/{count}"))
    if kept["under_a_window"] < 1:
        lines.append(("under no window", style.format_percent(1 - kept["under_a_window"]) + " of the pixels"))
    y = 52.0
    for name, value in lines:
        if name:
            axes.text(x, y, name, va="center", color=style.GRAY)
            y += 19
        axes.text(x, y, value, va="center", fontsize=fit_font_size([value], style.WIDTH - 8 - x))
        y += 28


@style.as_image
def plot_shift_sensitivity(numbers: dict[str, Any]) -> Figure:
    """Draws each output before and after a shift by one pixel, their difference, and the change over all shifts."""
    high = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, high)
    found = numbers["moved"]
    kinds = list(found["first"])
    size = min(140.0, (high - 60) / len(kinds) - 30)
    shape = np.shape(found["first"]["subsampling"])
    tall = size * min(1, shape[0] / shape[1])
    for column, head in enumerate(("here", "moved by 1 pixel", "difference")):
        axes.text(_MARGIN + column * (size + 10), 22, head, va="center", color=style.GRAY)
    for row, kind in enumerate(kinds):
        y = 60 + row * (tall + 30)
        draw_title(axes, _MARGIN, y - 14, kind.capitalize(), 3 * size)
        first, second = to_array(found["first"][kind]), to_array(found["second"][kind])
        images = (gray_colors(first), gray_colors(second), diverging_colors(second - first, found["strongest"]))
        for column, image in enumerate(images):
            _draw_panel(axes, image, (_MARGIN + column * (size + 10), y, size, size), shape)
    left = _MARGIN + 3 * (size + 10) + 60
    chart = style.add_axes(made, left, 0.24 * high, style.WIDTH - 16 - left, 0.62 * high)
    for kind, values in found["change"].items():
        colour, marker, dashes = _STYLES[kind]
        shares = [math.nan if value is None else 100 * value for value in values]
        label = "the picture itself" if kind == "picture" else kind
        chart.plot(found["shifts"], shares, dashes, color=colour, marker=marker, markersize=5, label=label)
    chart.set(xlabel="moved by so many pixels", ylabel="change of the output, %", ylim=(0, None))
    chart.xaxis.get_major_locator().set_params(integer=True)
    draw_title(axes, left - 44, 22, "How much the output changes", style.WIDTH - left)
    chart.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
    says = "0 % is the same output; differences: blue brighter, orange darker"
    axes.text(left - 44, high - 16, says, va="center", color=style.GRAY, fontsize=8.5)
    return made
