"""A convolution: the picture and its kernel, the window at one place with all products, the fields, the output."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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

#: units: the boxes (left, width) of crop, kernel and output, their top and height, of a row of products
_CROP_BOX, _KERNEL_BOX, _OUTPUT_BOX, _TOP, _TABLE_HEIGHT, _ROW_HEIGHT = (16, 372), (404, 122), (542, 342), 46, 372, 18
_MARGIN = 16
#: units between products, and for their sum; least size of their letters, in points
_PLUS, _SUM_WIDTH, _MIN_FONT = 24, 96, 7.0


def _figure_height(numbers: dict[str, Any]) -> int:
    """Units; all frames have the same."""
    below = _ROW_HEIGHT * len(numbers["kernels"][0]) + (
        _ROW_HEIGHT if len(numbers["channels"]) > numbers["groups"] else 0
    )
    return _TOP + _TABLE_HEIGHT + 52 + below + 14


def _format_size(size: list[int]) -> str:
    return f"{size[1]} x {size[0]}"


# --- the window at one place ------------------------------------------------------------------------------------------


@style.as_image
def plot_window(numbers: dict[str, Any], place: int) -> Figure:
    """Draws one step of the crop that is written out: values, kernel, output so far, and every product."""
    made, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    step, crop = numbers["crop"]["steps"][place], numbers["crop"]
    channel, group = step["channel"], step["group"]
    many = len(numbers["channels"]) > 1
    named = f", {numbers['channels'][channel]}" if many else ""
    draw_title(axes, _CROP_BOX[0], 22, f"A crop of the picture{named}", _CROP_BOX[1])
    draw_title(axes, _KERNEL_BOX[0], 22, "Kernels" if len(numbers["kernels"]) == 2 else "Kernel", _KERNEL_BOX[1])
    each = f" {group + 1} of {numbers['groups']}" if numbers["groups"] > 1 else ""
    draw_title(axes, _OUTPUT_BOX[0], 22, f"Output{each}, so far", _OUTPUT_BOX[1])
    padding = 0 if numbers["transposed"] else numbers["padding"]
    values = np.pad(np.array(crop["values"][channel]), padding)
    left = draw_cells(axes, values, gray_colors(values), (_CROP_BOX[0], _TOP, _CROP_BOX[1], _TABLE_HEIGHT))
    if padding:
        inner = np.array(crop["values"][channel]).shape
        left.outline(axes, (padding, padding), inner, style.SKY, linewidth=1.5, zorder=4)
    _draw_kernels(axes, numbers, (_KERNEL_BOX[0], _TOP, _KERNEL_BOX[1], _TABLE_HEIGHT), 38)
    output = to_array(step["output"])
    right = draw_cells(
        axes,
        output,
        _value_colors(numbers, output, _max_crop_value(numbers)),
        (_OUTPUT_BOX[0], _TOP, _OUTPUT_BOX[1], _TABLE_HEIGHT),
    )
    right.outline(axes, (0, 0), output.shape, style.GRAY, linewidth=0.8, zorder=2)
    _draw_outlines(axes, numbers, step, left, right)
    _draw_products(axes, numbers, step)
    return made


def _draw_outlines(axes: Axes, numbers: dict[str, Any], step: dict[str, Any], left: CellGrid, right: CellGrid) -> None:
    """The window on the crop and its value in the output; the other way round where it is transposed."""
    row, column = step["place"]
    one, many = (left, right) if numbers["transposed"] else (right, left)
    one.outline(axes, (row, column))
    shift = numbers["padding"] if numbers["transposed"] else 0
    corner = (row * numbers["stride"] - shift, column * numbers["stride"] - shift)
    window, dilation = np.shape(numbers["kernels"][0]), numbers["dilation"]
    if dilation == 1:
        _draw_clipped_outline(axes, many, corner, window)
        return
    for a, b in np.ndindex(*window):
        _draw_clipped_outline(axes, many, (corner[0] + dilation * a, corner[1] + dilation * b), (1, 1))


def _draw_clipped_outline(axes: Axes, table: CellGrid, corner: tuple[int, int], extent: tuple[int, ...]) -> None:
    """An outline of what of it lies in the table: padding is cut off a transposed output."""
    first = [max(0, start) for start in corner]
    last = [
        min(start + size, end) for start, size, end in zip(corner, extent, (table.rows, table.columns), strict=True)
    ]
    if last[0] > first[0] and last[1] > first[1]:
        table.outline(axes, (first[0], first[1]), (last[0] - first[0], last[1] - first[1]))


def _draw_kernels(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float], most: float) -> float:
    """The kernels below each other, as whole numbers where they were divided; the lower edge."""
    bottom, count = box[1], len(numbers["kernels"])
    for rows in numbers["kernels"]:
        kernel = np.array(rows) * numbers["divisor"]
        colours = diverging_colors(kernel, 2 * np.abs(kernel).max())
        table = draw_cells(axes, kernel, colours, (box[0], bottom, box[2], box[3] / count - 16), most)
        bottom += table.side * table.rows + 16
    if numbers["divisor"] > 1:
        axes.text(box[0], bottom - 2, f"all divided by {numbers['divisor']}", va="center", color=style.GRAY)
        bottom += 12
    return bottom


def _value_colors(numbers: dict[str, Any], values: np.ndarray, white: float) -> np.ndarray:
    return diverging_colors(values, white) if numbers["kind"] == "signed" else gray_colors(values, white)


def _max_crop_value(numbers: dict[str, Any]) -> float:
    """The value that has the strongest colour in the crop's output."""
    return numbers["white"] if numbers["kind"] == "picture" else float(np.abs(numbers["crop"]["output"]).max()) or 1.0


def _draw_products(axes: Axes, numbers: dict[str, Any], step: dict[str, Any]) -> None:
    """Every product, laid out as the weights are, and their sum."""
    top, count, divisor = _TOP + _TABLE_HEIGHT + 26, len(step["terms"]), numbers["divisor"]
    says = "The value times each weight is added to the output" if numbers["transposed"] else "Under the window"
    says += f", all divided by {divisor}:" if numbers["transposed"] and divisor > 1 else ":"
    axes.text(_MARGIN, top, says, va="center", color=style.GRAY)
    rows, columns = np.shape(step["under"])
    sum_wide = _SUM_WIDTH if divisor == 1 else 2.2 * _SUM_WIDTH
    room = ((style.WIDTH - 2 * _MARGIN - 100 * (count == 2)) / count - sum_wide) / columns
    texts, size, wide = _format_products(numbers, step, room)
    x, middle = float(_MARGIN), top + 22 + (rows - 1) * _ROW_HEIGHT / 2
    for kernel in range(count):
        for row, column in np.ndindex(rows, columns):
            right, y = x + (column + 1) * wide - _PLUS, top + 22 + row * _ROW_HEIGHT
            axes.text(right, y, texts[kernel][row][column], ha="right", va="center", fontsize=size)
            if not numbers["transposed"] and (row, column) != (rows - 1, columns - 1):
                axes.text(right + _PLUS / 2, y, "+", ha="center", va="center", fontsize=size, color=style.GRAY)
        x += columns * wide
        if not numbers["transposed"]:
            axes.text(
                x, middle, _format_sum(step["parts"][-1][kernel], divisor), va="center", fontsize=12, fontweight="bold"
            )
            x += sum_wide
    _draw_sums(axes, numbers, step, x, middle)


def _format_sum(value: float, divisor: int) -> str:
    return (
        f"= {format_number(value)}"
        if divisor == 1
        else f"= {format_number(value * divisor)} / {divisor} = {format_number(value)}"
    )


def _format_products(
    numbers: dict[str, Any], step: dict[str, Any], room: float
) -> tuple[list[list[list[str]]], float, float]:
    """The products of each kernel as texts, 'weight · value' where there is room; their size and columns' width."""
    whole = [
        [
            [f"{format_number(w * numbers['divisor'])} · {format_number(x)}" for w, x in zip(ws, xs, strict=True)]
            for ws, xs in zip(kernel, step["under"], strict=True)
        ]
        for kernel in numbers["kernels"]
    ]
    short = [[[format_number(value * numbers["divisor"]) for value in row] for row in terms] for terms in step["terms"]]
    texts = whole if fit_font_size(_flatten_texts(whole), room - _PLUS) >= _MIN_FONT else short
    size = fit_font_size(_flatten_texts(texts), room - _PLUS)
    return texts, size, max(style.text_width(text, size) for text in _flatten_texts(texts)) + _PLUS


def _flatten_texts(texts: list[list[list[str]]]) -> list[str]:
    return [text for table in texts for row in table for text in row]


def _draw_sums(axes: Axes, numbers: dict[str, Any], step: dict[str, Any], x: float, middle: float) -> None:
    """What follows the products: the length of two sums, the sum over the channels of a group."""
    if numbers["transposed"]:
        return
    if len(step["sums"]) == 2 and step["whole"]:
        length = format_number(np.hypot(*step["sums"]))
        axes.text(x, middle, f"length {length}", va="center", fontsize=12, fontweight="bold", color=style.BLUE)
    together = len(numbers["channels"]) // numbers["groups"]
    if together == 1:
        return
    first = step["group"] * together
    names = numbers["channels"][first : first + len(step["parts"])]
    lines = []
    for way, place in (("across: ", 0), ("down: ", 1)) if len(step["sums"]) == 2 else (("", 0),):
        sums = " + ".join(
            f"{name} {format_number(part[place])}" for name, part in zip(names, step["parts"], strict=True)
        )
        lines.append(way + (f"{sums} = {format_number(step['sums'][place])}" if len(names) > 1 else sums))
    text = "channels so far:  " + ";   ".join(lines)
    size = fit_font_size([text], style.WIDTH - 2 * _MARGIN)
    axes.text(_MARGIN, _figure_height(numbers) - 16, text, va="center", fontsize=size)


# --- the whole picture ------------------------------------------------------------------------------------------------


def _draw_image(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float]) -> float:
    """The picture in the middle of a box, and how many units a pixel of it has."""
    values = np.array(numbers["picture"])
    image = values[:3].transpose(1, 2, 0) if len(values) >= 3 else values[0][..., None]
    return _show_scaled(axes, image / 255, box)


def _show_scaled(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float], unit: float = 1e9) -> float:
    high, wide = image.shape[:2]
    unit = min(unit, box[2] / wide, box[3] / high)
    style.show_image(axes, image, (box[0], box[1], wide * unit, high * unit))
    axes.add_patch(Rectangle(box[:2], wide * unit, high * unit, fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.8))
    return unit


@style.as_image
def plot_overview(numbers: dict[str, Any]) -> Figure:
    """Draws the picture with the crop in it, the kernel, and the size of the output worked out."""
    high = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, high)
    sizes = numbers["sizes"]
    draw_title(axes, _MARGIN, 22, f"The picture: {style.ellipsize(numbers['told'], 40, True)}", 480)
    unit = _draw_image(axes, numbers, (_MARGIN, _TOP, 480, high - _TOP - 20))
    top, left = numbers["crop"]["at"]
    rows, columns = np.shape(numbers["crop"]["values"])[1:]
    CellGrid(_MARGIN, _TOP, unit, 1, 1).outline(axes, (top, left), (rows, columns))
    x = 520
    draw_title(axes, x, 22, f"The {'kernels' if len(numbers['kernels']) == 2 else 'kernel'}: {numbers['kernel']}", 360)
    y = _draw_kernels(axes, numbers, (x, _TOP, 364, 250), 46) + 22
    lines = [
        ("stride, padding, dilation", f"{numbers['stride']}, {numbers['padding']}, {numbers['dilation']}"),
        ("channels", ", ".join(numbers["channels"])),
        ("groups, weights", f"{numbers['groups']}, {numbers['weights']}"),
        ("picture", _format_size(sizes["picture"])),
        ("output", _format_size(sizes["output"]) + (" (transposed)" if numbers["transposed"] else "")),
    ]
    for place, (name, value) in enumerate(lines):
        axes.text(x, y + 21 * place, name, va="center", color=style.GRAY)
        axes.text(x + 168, y + 21 * place, value, va="center")
    axes.text(
        x,
        y + 21 * len(lines) + 8,
        numbers["formula"].replace("-", "−"),
        va="center",
        fontsize=fit_font_size([numbers["formula"]], 364),
    )
    return made


@style.as_image
def plot_receptive_fields(numbers: dict[str, Any]) -> Figure:
    """Draws on the picture what one value sees after each layer of a stack, and tells the sizes beside it."""
    high = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, high)
    does = _describe_operation(numbers)
    draw_title(axes, _MARGIN, 22, f"What one value {does}, after each layer", 480)
    rows, columns = numbers["sizes"]["picture"]
    box = (_MARGIN, _TOP, 480, high - _TOP - 20)
    if numbers["transposed"]:  # what is spread over are values of the output, not of the picture
        rows, columns = numbers["layers"][-1]["field"]
        unit = _show_scaled(axes, np.ones((rows, columns, 1)), box)
    else:
        unit = _draw_image(axes, numbers, box)
    x, y = _MARGIN + unit * columns / 2, _TOP + unit * rows / 2
    clip = Rectangle((_MARGIN, _TOP), unit * columns, unit * rows, transform=axes.transData)
    left, layers = 530, numbers["layers"]
    for at, head, align in ((left, "layer", "left"), (left + 190, "output", "right"), (left + 354, does, "right")):
        axes.text(at, _TOP + 10, head, ha=align, va="center", color=style.GRAY)
    axes.plot([left, left + 354], [_TOP + 22] * 2, color=style.GRAY, linewidth=0.8)
    for place, layer in enumerate(layers):
        tall, wide = (unit * field for field in layer["field"])
        colour = style.OKABE_ITO[place % 6]
        corner = (x - wide / 2, y - tall / 2)
        frame = Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=2.5)
        axes.add_patch(frame).set_clip_path(clip)
        line = _TOP + 36 + 19 * place
        axes.plot([left, left + 14], [line, line], color=colour, linewidth=3)
        axes.text(left + 22, line, f"{place + 1}", va="center")
        axes.text(left + 190, line, _format_size(layer["size"]) if layer["size"] else "–", ha="right", va="center")
        axes.text(left + 354, line, f"{_format_size(layer['field'])} px", ha="right", va="center")
    _draw_side_view(axes, numbers, (left, _TOP + 36 + 19 * len(layers) + 14, 354, high - 20))
    return made


def _draw_side_view(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float]) -> None:
    """The stack in one direction: a value on top, below it what it sees of each layer, or spreads over."""
    left, top, wide, bottom = box
    draw_title(axes, left, top + 8, f"From the side: what one value {_describe_operation(numbers)}", wide * 1.2)
    counts = [1, *(layer["field"][1] for layer in numbers["layers"])]
    last = len(counts) - 1
    apart = min(44.0, (bottom - top - 34) / len(counts))
    cell = min(apart * 0.5, (wide - 70) / counts[-1])
    thick, middle, before = max(cell, 6), left + 70 + (wide - 70) / 2, 0.0
    for place, count in enumerate(counts):
        layer = place if numbers["transposed"] else last - place
        y, half = top + 34 + apart * place, count * cell / 2
        colour = style.OKABE_ITO[(layer - 1) % 6] if layer else style.GRAY
        axes.text(left, y + thick / 2, f"layer {layer}" if layer else "picture", va="center", color=style.GRAY)
        axes.add_patch(Rectangle((middle - half, y), 2 * half, thick, facecolor=colour, alpha=0.45, edgecolor="none"))
        edges = np.linspace(-half, half, count + 1) if cell >= 4 else []
        axes.vlines([middle + edge for edge in edges], y, y + thick, color=style.BLACK, linewidth=0.6)
        for side in (-1, 1) if place else ():
            ends = [middle + side * before, middle + side * half]
            axes.plot(ends, [y - apart + thick, y], color=style.GRAY, linewidth=0.8, linestyle=":")
        before = half


def _describe_operation(numbers: dict[str, Any]) -> str:
    return "spreads over" if numbers["transposed"] else "sees"


@style.as_image
def plot_input_output(numbers: dict[str, Any]) -> Figure:
    """Draws the whole picture and the whole output, a pixel as large in both."""
    high = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, high)
    sizes, half = numbers["sizes"], (style.WIDTH - 3 * _MARGIN) / 2
    output = np.array(numbers["output"])
    gap, across = 8, 1 if len(output) == 1 else 2
    down = (len(output) + 1) // 2
    boxed = ((half - gap * (across - 1)) / across, (high - _TOP - 34 - gap * (down - 1)) / down)
    largest = [max(a, b) for a, b in zip(sizes["picture"], sizes["output"], strict=True)] if len(output) == 1 else None
    unit = min(half / largest[1], (high - _TOP - 34) / largest[0]) if largest else 1e9
    draw_title(axes, _MARGIN, 22, f"The picture, {_format_size(sizes['picture'])}", half)
    values = np.array(numbers["picture"])
    image = values[:3].transpose(1, 2, 0) if len(values) >= 3 else values[0][..., None]
    unit_here = _show_scaled(axes, image / 255, (_MARGIN, _TOP, half, high - _TOP - 34), unit)
    y = _TOP + unit_here * sizes["picture"][0] + 16
    axes.text(_MARGIN, y, "black is 0, white 255", va="center", color=style.GRAY)
    maps = f"{len(output)} maps of " if len(output) > 1 else ""
    left = 2 * _MARGIN + half
    draw_title(axes, left, 22, f"The output, {maps}{_format_size(sizes['output'])}", half)
    lowest = 0.0
    for place, map_OP in enumerate(output):
        row, column = divmod(place, across)
        box = (left + column * (boxed[0] + gap), _TOP + row * (boxed[1] + gap), *boxed)
        lowest = box[1] + map_OP.shape[0] * _show_scaled(
            axes, _value_colors(numbers, map_OP, numbers["white"]), box, unit
        )
    strongest = format_cell(numbers["white"])
    kinds = {
        "signed": f"white is 0, blue positive, orange negative, to {strongest} and beyond",
        "picture": f"black is 0 or less, white {strongest} or more",
        "length": f"black is 0, white {strongest} or more; the length of both answers",
    }
    axes.text(left, lowest + 16, kinds[numbers["kind"]], va="center", color=style.GRAY)
    return made
