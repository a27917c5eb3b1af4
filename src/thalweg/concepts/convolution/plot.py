"""A convolution: the picture and its kernel, the window at one place with all products, the fields, the output."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...plots import style
from ...plots.number_format import number
from ...plots.value_grid import Cells, cells, fitted, levels, numbers_of, signed, title, told

#: units: the boxes (left, width) of crop, kernel and output, their top and height, of a row of products
_CROP, _KERNEL, _OUTPUT, _TOP, _HIGH, _ROW = (16, 372), (404, 122), (542, 342), 46, 372, 18
_MARGIN = 16
#: units between products, and for their sum; least size of their letters, in points
_PLUS, _SUM, _LEGIBLE = 24, 96, 7.0


def _height(numbers: dict[str, Any]) -> int:
    """Units; all frames have the same."""
    below = _ROW * len(numbers["kernels"][0]) + (_ROW if len(numbers["channels"]) > numbers["groups"] else 0)
    return _TOP + _HIGH + 52 + below + 14


def _sized(size: list[int]) -> str:
    return f"{size[1]} x {size[0]}"


# --- the window at one place ------------------------------------------------------------------------------------------


@style.picture
def window(numbers: dict[str, Any], place: int) -> Figure:
    """Draws one step of the crop that is written out: values, kernel, output so far, and every product."""
    made, axes = style.sheet(style.WIDTH, _height(numbers))
    step, crop = numbers["crop"]["steps"][place], numbers["crop"]
    channel, group = step["channel"], step["group"]
    many = len(numbers["channels"]) > 1
    named = f", {numbers['channels'][channel]}" if many else ""
    title(axes, _CROP[0], 22, f"A crop of the picture{named}", _CROP[1])
    title(axes, _KERNEL[0], 22, "Kernels" if len(numbers["kernels"]) == 2 else "Kernel", _KERNEL[1])
    each = f" {group + 1} of {numbers['groups']}" if numbers["groups"] > 1 else ""
    title(axes, _OUTPUT[0], 22, f"Output{each}, so far", _OUTPUT[1])
    padding = 0 if numbers["transposed"] else numbers["padding"]
    values = np.pad(np.array(crop["values"][channel]), padding)
    left = cells(axes, values, levels(values), (_CROP[0], _TOP, _CROP[1], _HIGH))
    if padding:
        inner = np.array(crop["values"][channel]).shape
        left.outline(axes, (padding, padding), inner, style.SKY, linewidth=1.5, zorder=4)
    _kernels(axes, numbers, (_KERNEL[0], _TOP, _KERNEL[1], _HIGH), 38)
    output = numbers_of(step["output"])
    right = cells(axes, output, _colours(numbers, output, _crop_white(numbers)), (_OUTPUT[0], _TOP, _OUTPUT[1], _HIGH))
    right.outline(axes, (0, 0), output.shape, style.GREY, linewidth=0.8, zorder=2)
    _outlines(axes, numbers, step, left, right)
    _products(axes, numbers, step)
    return made


def _outlines(axes: Axes, numbers: dict[str, Any], step: dict[str, Any], left: Cells, right: Cells) -> None:
    """The window on the crop and its value in the output; the other way round where it is transposed."""
    row, column = step["place"]
    one, many = (left, right) if numbers["transposed"] else (right, left)
    one.outline(axes, (row, column))
    shift = numbers["padding"] if numbers["transposed"] else 0
    corner = (row * numbers["stride"] - shift, column * numbers["stride"] - shift)
    window, dilation = np.shape(numbers["kernels"][0]), numbers["dilation"]
    if dilation == 1:
        _inside(axes, many, corner, window)
        return
    for a, b in np.ndindex(*window):
        _inside(axes, many, (corner[0] + dilation * a, corner[1] + dilation * b), (1, 1))


def _inside(axes: Axes, table: Cells, corner: tuple[int, int], extent: tuple[int, ...]) -> None:
    """An outline of what of it lies in the table: padding is cut off a transposed output."""
    first = [max(0, start) for start in corner]
    last = [
        min(start + size, end) for start, size, end in zip(corner, extent, (table.rows, table.columns), strict=True)
    ]
    if last[0] > first[0] and last[1] > first[1]:
        table.outline(axes, (first[0], first[1]), (last[0] - first[0], last[1] - first[1]))


def _kernels(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float], most: float) -> float:
    """The kernels below each other, as whole numbers where they were divided; the lower edge."""
    bottom, count = box[1], len(numbers["kernels"])
    for rows in numbers["kernels"]:
        kernel = np.array(rows) * numbers["divisor"]
        colours = signed(kernel, 2 * np.abs(kernel).max())
        table = cells(axes, kernel, colours, (box[0], bottom, box[2], box[3] / count - 16), most)
        bottom += table.side * table.rows + 16
    if numbers["divisor"] > 1:
        axes.text(box[0], bottom - 2, f"all divided by {numbers['divisor']}", va="center", color=style.GREY)
        bottom += 12
    return bottom


def _colours(numbers: dict[str, Any], values: np.ndarray, white: float) -> np.ndarray:
    return signed(values, white) if numbers["kind"] == "signed" else levels(values, white)


def _crop_white(numbers: dict[str, Any]) -> float:
    """The value that has the strongest colour in the crop's output."""
    return numbers["white"] if numbers["kind"] == "picture" else float(np.abs(numbers["crop"]["output"]).max()) or 1.0


def _products(axes: Axes, numbers: dict[str, Any], step: dict[str, Any]) -> None:
    """Every product, laid out as the weights are, and their sum."""
    top, count, divisor = _TOP + _HIGH + 26, len(step["terms"]), numbers["divisor"]
    says = "The value times each weight is added to the output" if numbers["transposed"] else "Under the window"
    says += f", all divided by {divisor}:" if numbers["transposed"] and divisor > 1 else ":"
    axes.text(_MARGIN, top, says, va="center", color=style.GREY)
    rows, columns = np.shape(step["under"])
    sum_wide = _SUM if divisor == 1 else 2.2 * _SUM
    room = ((style.WIDTH - 2 * _MARGIN - 100 * (count == 2)) / count - sum_wide) / columns
    texts, size, wide = _written(numbers, step, room)
    x, middle = float(_MARGIN), top + 22 + (rows - 1) * _ROW / 2
    for kernel in range(count):
        for row, column in np.ndindex(rows, columns):
            right, y = x + (column + 1) * wide - _PLUS, top + 22 + row * _ROW
            axes.text(right, y, texts[kernel][row][column], ha="right", va="center", fontsize=size)
            if not numbers["transposed"] and (row, column) != (rows - 1, columns - 1):
                axes.text(right + _PLUS / 2, y, "+", ha="center", va="center", fontsize=size, color=style.GREY)
        x += columns * wide
        if not numbers["transposed"]:
            axes.text(x, middle, _sum(step["parts"][-1][kernel], divisor), va="center", fontsize=12, fontweight="bold")
            x += sum_wide
    _summed(axes, numbers, step, x, middle)


def _sum(value: float, divisor: int) -> str:
    return f"= {number(value)}" if divisor == 1 else f"= {number(value * divisor)} / {divisor} = {number(value)}"


def _written(numbers: dict[str, Any], step: dict[str, Any], room: float) -> tuple[list[list[list[str]]], float, float]:
    """The products of each kernel as texts, 'weight · value' where there is room; their size and columns' width."""
    whole = [
        [
            [f"{number(w * numbers['divisor'])} · {number(x)}" for w, x in zip(ws, xs, strict=True)]
            for ws, xs in zip(kernel, step["under"], strict=True)
        ]
        for kernel in numbers["kernels"]
    ]
    short = [[[number(value * numbers["divisor"]) for value in row] for row in terms] for terms in step["terms"]]
    texts = whole if fitted(_flat(whole), room - _PLUS) >= _LEGIBLE else short
    size = fitted(_flat(texts), room - _PLUS)
    return texts, size, max(style.measure(text, size) for text in _flat(texts)) + _PLUS


def _flat(texts: list[list[list[str]]]) -> list[str]:
    return [text for table in texts for row in table for text in row]


def _summed(axes: Axes, numbers: dict[str, Any], step: dict[str, Any], x: float, middle: float) -> None:
    """What follows the products: the length of two sums, the sum over the channels of a group."""
    if numbers["transposed"]:
        return
    if len(step["sums"]) == 2 and step["whole"]:
        length = number(np.hypot(*step["sums"]))
        axes.text(x, middle, f"length {length}", va="center", fontsize=12, fontweight="bold", color=style.BLUE)
    together = len(numbers["channels"]) // numbers["groups"]
    if together == 1:
        return
    first = step["group"] * together
    names = numbers["channels"][first : first + len(step["parts"])]
    lines = []
    for way, place in (("across: ", 0), ("down: ", 1)) if len(step["sums"]) == 2 else (("", 0),):
        sums = " + ".join(f"{name} {number(part[place])}" for name, part in zip(names, step["parts"], strict=True))
        lines.append(way + (f"{sums} = {number(step['sums'][place])}" if len(names) > 1 else sums))
    text = "channels so far:  " + ";   ".join(lines)
    size = fitted([text], style.WIDTH - 2 * _MARGIN)
    axes.text(_MARGIN, _height(numbers) - 16, text, va="center", fontsize=size)


# --- the whole picture ------------------------------------------------------------------------------------------------


def _picture(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float]) -> float:
    """The picture in the middle of a box, and how many units a pixel of it has."""
    values = np.array(numbers["picture"])
    image = values[:3].transpose(1, 2, 0) if len(values) >= 3 else values[0][..., None]
    return _placed(axes, image / 255, box)


def _placed(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float], unit: float = 1e9) -> float:
    high, wide = image.shape[:2]
    unit = min(unit, box[2] / wide, box[3] / high)
    style.place(axes, image, (box[0], box[1], wide * unit, high * unit))
    axes.add_patch(Rectangle(box[:2], wide * unit, high * unit, fill=False, edgecolor=style.PALE, linewidth=0.8))
    return unit


@style.picture
def before(numbers: dict[str, Any]) -> Figure:
    """Draws the picture with the crop in it, the kernel, and the size of the output worked out."""
    high = _height(numbers)
    made, axes = style.sheet(style.WIDTH, high)
    sizes = numbers["sizes"]
    title(axes, _MARGIN, 22, f"The picture: {style.short(numbers['told'], 40, True)}", 480)
    unit = _picture(axes, numbers, (_MARGIN, _TOP, 480, high - _TOP - 20))
    top, left = numbers["crop"]["at"]
    rows, columns = np.shape(numbers["crop"]["values"])[1:]
    Cells(_MARGIN, _TOP, unit, 1, 1).outline(axes, (top, left), (rows, columns))
    x = 520
    title(axes, x, 22, f"The {'kernels' if len(numbers['kernels']) == 2 else 'kernel'}: {numbers['kernel']}", 360)
    y = _kernels(axes, numbers, (x, _TOP, 364, 250), 46) + 22
    lines = [
        ("stride, padding, dilation", f"{numbers['stride']}, {numbers['padding']}, {numbers['dilation']}"),
        ("channels", ", ".join(numbers["channels"])),
        ("groups, weights", f"{numbers['groups']}, {numbers['weights']}"),
        ("picture", _sized(sizes["picture"])),
        ("output", _sized(sizes["output"]) + (" (transposed)" if numbers["transposed"] else "")),
    ]
    for place, (name, value) in enumerate(lines):
        axes.text(x, y + 21 * place, name, va="center", color=style.GREY)
        axes.text(x + 168, y + 21 * place, value, va="center")
    axes.text(
        x,
        y + 21 * len(lines) + 8,
        numbers["formula"].replace("-", "−"),
        va="center",
        fontsize=fitted([numbers["formula"]], 364),
    )
    return made


@style.picture
def fields_drawn(numbers: dict[str, Any]) -> Figure:
    """Draws on the picture what one value sees after each layer of a stack, and tells the sizes beside it."""
    high = _height(numbers)
    made, axes = style.sheet(style.WIDTH, high)
    does = _does(numbers)
    title(axes, _MARGIN, 22, f"What one value {does}, after each layer", 480)
    rows, columns = numbers["sizes"]["picture"]
    box = (_MARGIN, _TOP, 480, high - _TOP - 20)
    if numbers["transposed"]:  # what is spread over are values of the output, not of the picture
        rows, columns = numbers["layers"][-1]["field"]
        unit = _placed(axes, np.ones((rows, columns, 1)), box)
    else:
        unit = _picture(axes, numbers, box)
    x, y = _MARGIN + unit * columns / 2, _TOP + unit * rows / 2
    clip = Rectangle((_MARGIN, _TOP), unit * columns, unit * rows, transform=axes.transData)
    left, layers = 530, numbers["layers"]
    for at, head, align in ((left, "layer", "left"), (left + 190, "output", "right"), (left + 354, does, "right")):
        axes.text(at, _TOP + 10, head, ha=align, va="center", color=style.GREY)
    axes.plot([left, left + 354], [_TOP + 22] * 2, color=style.GREY, linewidth=0.8)
    for place, layer in enumerate(layers):
        tall, wide = (unit * field for field in layer["field"])
        colour = style.OKABE_ITO[place % 6]
        corner = (x - wide / 2, y - tall / 2)
        frame = Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=2.5)
        axes.add_patch(frame).set_clip_path(clip)
        line = _TOP + 36 + 19 * place
        axes.plot([left, left + 14], [line, line], color=colour, linewidth=3)
        axes.text(left + 22, line, f"{place + 1}", va="center")
        axes.text(left + 190, line, _sized(layer["size"]) if layer["size"] else "–", ha="right", va="center")
        axes.text(left + 354, line, f"{_sized(layer['field'])} px", ha="right", va="center")
    _from_the_side(axes, numbers, (left, _TOP + 36 + 19 * len(layers) + 14, 354, high - 20))
    return made


def _from_the_side(axes: Axes, numbers: dict[str, Any], box: tuple[float, float, float, float]) -> None:
    """The stack in one direction: a value on top, below it what it sees of each layer, or spreads over."""
    left, top, wide, bottom = box
    title(axes, left, top + 8, f"From the side: what one value {_does(numbers)}", wide * 1.2)
    counts = [1, *(layer["field"][1] for layer in numbers["layers"])]
    last = len(counts) - 1
    apart = min(44.0, (bottom - top - 34) / len(counts))
    cell = min(apart * 0.5, (wide - 70) / counts[-1])
    thick, middle, before = max(cell, 6), left + 70 + (wide - 70) / 2, 0.0
    for place, count in enumerate(counts):
        layer = place if numbers["transposed"] else last - place
        y, half = top + 34 + apart * place, count * cell / 2
        colour = style.OKABE_ITO[(layer - 1) % 6] if layer else style.GREY
        axes.text(left, y + thick / 2, f"layer {layer}" if layer else "picture", va="center", color=style.GREY)
        axes.add_patch(Rectangle((middle - half, y), 2 * half, thick, facecolor=colour, alpha=0.45, edgecolor="none"))
        edges = np.linspace(-half, half, count + 1) if cell >= 4 else []
        axes.vlines([middle + edge for edge in edges], y, y + thick, color=style.BLACK, linewidth=0.6)
        for side in (-1, 1) if place else ():
            ends = [middle + side * before, middle + side * half]
            axes.plot(ends, [y - apart + thick, y], color=style.GREY, linewidth=0.8, linestyle=":")
        before = half


def _does(numbers: dict[str, Any]) -> str:
    return "spreads over" if numbers["transposed"] else "sees"


@style.picture
def convolved(numbers: dict[str, Any]) -> Figure:
    """Draws the whole picture and the whole output, a pixel as large in both."""
    high = _height(numbers)
    made, axes = style.sheet(style.WIDTH, high)
    sizes, half = numbers["sizes"], (style.WIDTH - 3 * _MARGIN) / 2
    output = np.array(numbers["output"])
    gap, across = 8, 1 if len(output) == 1 else 2
    down = (len(output) + 1) // 2
    boxed = ((half - gap * (across - 1)) / across, (high - _TOP - 34 - gap * (down - 1)) / down)
    largest = [max(a, b) for a, b in zip(sizes["picture"], sizes["output"], strict=True)] if len(output) == 1 else None
    unit = min(half / largest[1], (high - _TOP - 34) / largest[0]) if largest else 1e9
    title(axes, _MARGIN, 22, f"The picture, {_sized(sizes['picture'])}", half)
    values = np.array(numbers["picture"])
    image = values[:3].transpose(1, 2, 0) if len(values) >= 3 else values[0][..., None]
    unit_here = _placed(axes, image / 255, (_MARGIN, _TOP, half, high - _TOP - 34), unit)
    y = _TOP + unit_here * sizes["picture"][0] + 16
    axes.text(_MARGIN, y, "black is 0, white 255", va="center", color=style.GREY)
    maps = f"{len(output)} maps of " if len(output) > 1 else ""
    left = 2 * _MARGIN + half
    title(axes, left, 22, f"The output, {maps}{_sized(sizes['output'])}", half)
    lowest = 0.0
    for place, map_OP in enumerate(output):
        row, column = divmod(place, across)
        box = (left + column * (boxed[0] + gap), _TOP + row * (boxed[1] + gap), *boxed)
        lowest = box[1] + map_OP.shape[0] * _placed(axes, _colours(numbers, map_OP, numbers["white"]), box, unit)
    strongest = told(numbers["white"])
    kinds = {
        "signed": f"white is 0, blue positive, orange negative, to {strongest} and beyond",
        "picture": f"black is 0 or less, white {strongest} or more",
        "length": f"black is 0, white {strongest} or more; the length of both answers",
    }
    axes.text(left, lowest + 16, kinds[numbers["kind"]], va="center", color=style.GREY)
    return made
