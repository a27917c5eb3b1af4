"""Plots of a convolution: image and kernel, one kernel position with all products, receptive fields, full output."""

from __future__ import annotations

from collections.abc import Sequence

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
from ..convolution_steps import ConvStep
from .records import ConvolutionNumbers

#: (left, top, width, height) in units
Box = tuple[float, float, float, float]

#: left edges and widths of the crop, the kernel and the output, in units
_CROP_LEFT = 16
_CROP_WIDTH = 372
_KERNEL_LEFT = 404
_KERNEL_WIDTH = 122
_OUTPUT_LEFT = 542
_OUTPUT_WIDTH = 342
#: top and height of these three grids, in units
_TOP = 46
_GRID_HEIGHT = 372
_MARGIN = 16
_TITLE_Y = 22
#: height of a line of products, space between two products, and space for their sum, in units
_LINE_HEIGHT = 18
_PLUS_WIDTH = 24
_SUM_WIDTH = 96
#: minimum font size of the products, in points
_MIN_FONT = 7.0


def format_shape(shape: Sequence[int]) -> str:
    """Format (height, width) as 'width x height'."""
    return f"{shape[1]} x {shape[0]}"


def _figure_height(numbers: ConvolutionNumbers) -> int:
    """Return the height that all frames have, in units."""
    lines = len(numbers["kernels"][0])
    if len(numbers["channels"]) > numbers["groups"]:
        lines += 1
    return _TOP + _GRID_HEIGHT + 52 + _LINE_HEIGHT * lines + 14


def _kernel_title(numbers: ConvolutionNumbers) -> str:
    return pluralize_kernel(numbers).capitalize()


def pluralize_kernel(numbers: ConvolutionNumbers) -> str:
    """Return 'kernel' or 'kernels'."""
    return "kernel" if len(numbers["kernels"]) == 1 else "kernels"


# --- one kernel position ----------------------------------------------------------------------------------------------


@style.as_image
def plot_window(numbers: ConvolutionNumbers, index: int) -> Figure:
    """Plot one step of the crop: values, kernel, partial output, and every product."""
    fig, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    step = numbers["crop"]["steps"][index]
    crop_grid = _draw_crop(axes, numbers, step)
    draw_title(axes, _KERNEL_LEFT, _TITLE_Y, _kernel_title(numbers), _KERNEL_WIDTH)
    _draw_kernels(axes, numbers, (_KERNEL_LEFT, _TOP, _KERNEL_WIDTH, _GRID_HEIGHT), 38)
    output_grid = _draw_partial_output(axes, numbers, step)
    _draw_outlines(axes, numbers, step, (crop_grid, output_grid))
    _draw_products(axes, numbers, step)
    return fig


def _draw_crop(axes: Axes, numbers: ConvolutionNumbers, step: ConvStep) -> CellGrid:
    """Draw one channel of the crop, with its padding."""
    title = "Crop of the image"
    if len(numbers["channels"]) > 1:
        title += f", {numbers['channels'][step['channel']]}"
    draw_title(axes, _CROP_LEFT, _TITLE_Y, title, _CROP_WIDTH)
    crop = np.array(numbers["crop"]["values"][step["channel"]])
    padding = 0 if numbers["transposed"] else numbers["padding"]
    padded = np.pad(crop, padding)
    grid = draw_cells(axes, padded, gray_colors(padded), (_CROP_LEFT, _TOP, _CROP_WIDTH, _GRID_HEIGHT))
    if padding:
        grid.outline(axes, (padding, padding), crop.shape, style.SKY, linewidth=1.5, zorder=4)
    return grid


def _draw_partial_output(axes: Axes, numbers: ConvolutionNumbers, step: ConvStep) -> CellGrid:
    """Draw the output of the crop up to this step."""
    title = "Output so far"
    if numbers["groups"] > 1:
        title = f"Output {step['group'] + 1} of {numbers['groups']} so far"
    draw_title(axes, _OUTPUT_LEFT, _TITLE_Y, title, _OUTPUT_WIDTH)
    output = to_array(step["output"])
    colors = _output_colors(numbers, output, _crop_color_limit(numbers))
    grid = draw_cells(axes, output, colors, (_OUTPUT_LEFT, _TOP, _OUTPUT_WIDTH, _GRID_HEIGHT))
    grid.outline(axes, (0, 0), output.shape, style.GRAY, linewidth=0.8, zorder=2)
    return grid


def _output_colors(numbers: ConvolutionNumbers, values: np.ndarray, color_limit: float) -> np.ndarray:
    if numbers["output_kind"] == "signed":
        return diverging_colors(values, color_limit)
    return gray_colors(values, color_limit)


def _crop_color_limit(numbers: ConvolutionNumbers) -> float:
    """Return the value with the strongest color in the crop's output."""
    if numbers["output_kind"] == "image":
        return numbers["color_limit"]
    return float(np.abs(numbers["crop"]["output"]).max()) or 1.0


def _draw_outlines(axes: Axes, numbers: ConvolutionNumbers, step: ConvStep, grids: tuple[CellGrid, CellGrid]) -> None:
    """Outline the kernel's window on the crop and its value in the output; the other way round if transposed."""
    crop_grid, output_grid = grids
    row, column = step["position"]
    value_grid = output_grid
    window_grid = crop_grid
    offset = 0
    if numbers["transposed"]:
        value_grid = crop_grid
        window_grid = output_grid
        offset = numbers["padding"]
    value_grid.outline(axes, (row, column))
    top = row * numbers["stride"] - offset
    left = column * numbers["stride"] - offset
    kernel_shape = np.shape(numbers["kernels"][0])
    dilation = numbers["dilation"]
    if dilation == 1:
        _draw_clipped_outline(axes, window_grid, (top, left), kernel_shape)
        return
    for i, j in np.ndindex(*kernel_shape):
        _draw_clipped_outline(axes, window_grid, (top + dilation * i, left + dilation * j), (1, 1))


def _draw_clipped_outline(axes: Axes, grid: CellGrid, corner: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Outline the part of a window inside the grid: padding is cut off the output of a transposed convolution."""
    top = max(0, corner[0])
    left = max(0, corner[1])
    bottom = min(corner[0] + shape[0], grid.rows)
    right = min(corner[1] + shape[1], grid.columns)
    if bottom > top and right > left:
        grid.outline(axes, (top, left), (bottom - top, right - left))


def _draw_kernels(axes: Axes, numbers: ConvolutionNumbers, box: Box, max_cell: float) -> float:
    """Draw the kernels below each other, as whole numbers before the division; return the lower edge."""
    left, bottom, width, height = box
    for rows in numbers["kernels"]:
        kernel = np.array(rows) * numbers["divisor"]
        colors = diverging_colors(kernel, 2 * np.abs(kernel).max())
        grid_box = (left, bottom, width, height / len(numbers["kernels"]) - 16)
        grid = draw_cells(axes, kernel, colors, grid_box, max_cell)
        bottom += grid.side * grid.rows + 16
    if numbers["divisor"] > 1:
        axes.text(left, bottom - 2, f"all divided by {numbers['divisor']}", va="center", color=style.GRAY)
        bottom += 12
    return bottom


# --- products and sums ------------------------------------------------------------------------------------------------


def _draw_products(axes: Axes, numbers: ConvolutionNumbers, step: ConvStep) -> None:
    """Write every product at the position of its weight, then the sum of each kernel."""
    top = _TOP + _GRID_HEIGHT + 26
    axes.text(_MARGIN, top, _products_heading(numbers), va="center", color=style.GRAY)
    rows, columns = np.shape(step["window"])
    count = len(step["products"])
    sum_width = _SUM_WIDTH if numbers["divisor"] == 1 else 2.2 * _SUM_WIDTH
    gap = 100 if count == 2 else 0
    room = ((style.WIDTH - 2 * _MARGIN - gap) / count - sum_width) / columns
    texts, font_size, cell_width = _format_products(numbers, step, room)
    middle = top + 22 + (rows - 1) * _LINE_HEIGHT / 2
    x = float(_MARGIN)
    for kernel in range(count):
        for row, column in np.ndindex(rows, columns):
            right = x + (column + 1) * cell_width - _PLUS_WIDTH
            y = top + 22 + row * _LINE_HEIGHT
            axes.text(right, y, texts[kernel][row][column], ha="right", va="center", fontsize=font_size)
            if not numbers["transposed"] and (row, column) != (rows - 1, columns - 1):
                plus_x = right + _PLUS_WIDTH / 2
                axes.text(plus_x, y, "+", ha="center", va="center", fontsize=font_size, color=style.GRAY)
        x += columns * cell_width
        if not numbers["transposed"]:
            text = _format_sum(step["channel_sums"][-1][kernel], numbers["divisor"])
            axes.text(x, middle, text, va="center", fontsize=12, fontweight="bold")
            x += sum_width
    if not numbers["transposed"]:
        _draw_magnitude(axes, step, x, middle)
        _draw_channel_sums(axes, numbers, step)


def _products_heading(numbers: ConvolutionNumbers) -> str:
    if not numbers["transposed"]:
        return "Weight · value in the window:"
    text = "The value times each weight is added to the output"
    if numbers["divisor"] > 1:
        text += f", all divided by {numbers['divisor']}"
    return f"{text}:"


def _format_sum(value: float, divisor: int) -> str:
    if divisor == 1:
        return f"= {format_number(value)}"
    return f"= {format_number(value * divisor)} / {divisor} = {format_number(value)}"


def _format_products(
    numbers: ConvolutionNumbers, step: ConvStep, room: float
) -> tuple[list[list[list[str]]], float, float]:
    """Return the products as text, 'weight · value' if there is room, with font size and column width."""
    texts = _format_factors(numbers, step)
    if fit_font_size(_flatten_texts(texts), room - _PLUS_WIDTH) < _MIN_FONT:
        texts = []
        for product in np.multiply(step["products"], numbers["divisor"]).tolist():
            texts.append([list(map(format_number, row)) for row in product])
    flat = _flatten_texts(texts)
    font_size = fit_font_size(flat, room - _PLUS_WIDTH)
    return texts, font_size, max(style.text_width(text, font_size) for text in flat) + _PLUS_WIDTH


def _format_factors(numbers: ConvolutionNumbers, step: ConvStep) -> list[list[list[str]]]:
    """Return 'weight · value' for every weight of every kernel."""
    texts = []
    for kernel in numbers["kernels"]:
        table = []
        for weights, values in zip(kernel, step["window"], strict=True):
            row = []
            for weight, value in zip(weights, values, strict=True):
                row.append(f"{format_number(weight * numbers['divisor'])} · {format_number(value)}")
            table.append(row)
        texts.append(table)
    return texts


def _flatten_texts(texts: list[list[list[str]]]) -> list[str]:
    return np.ravel(texts).tolist()


def _draw_magnitude(axes: Axes, step: ConvStep, x: float, y: float) -> None:
    """Write the gradient magnitude behind the sums of two kernels."""
    if len(step["total"]) == 2 and step["complete"]:
        text = f"magnitude {format_number(np.hypot(step['total'][0], step['total'][1]))}"
        size = fit_font_size([text], style.WIDTH - 8 - x, 12)
        axes.text(x, y, text, va="center", fontsize=size, fontweight="bold", color=style.BLUE)


def _draw_channel_sums(axes: Axes, numbers: ConvolutionNumbers, step: ConvStep) -> None:
    """Write the sums of all channels of the group so far, one expression per kernel."""
    group_size = len(numbers["channels"]) // numbers["groups"]
    if group_size == 1:
        return
    first = step["group"] * group_size
    names = numbers["channels"][first : first + len(step["channel_sums"])]
    prefixes = [""] if len(step["total"]) == 1 else ["x: ", "y: "]
    expressions = []
    for kernel, prefix in enumerate(prefixes):
        terms = []
        for name, sums in zip(names, step["channel_sums"], strict=True):
            terms.append(f"{name} {format_number(sums[kernel])}")
        expression = prefix + " + ".join(terms)
        if len(names) > 1:
            expression += f" = {format_number(step['total'][kernel])}"
        expressions.append(expression)
    text = "channels so far:  " + ";   ".join(expressions)
    size = fit_font_size([text], style.WIDTH - 2 * _MARGIN)
    axes.text(_MARGIN, _figure_height(numbers) - 16, text, va="center", fontsize=size)


# --- the full image ---------------------------------------------------------------------------------------------------


def _to_rgb(numbers: ConvolutionNumbers) -> np.ndarray:
    """Return the image (H, W, 1 or 3), floats in [0, 1]."""
    channels_CHW = np.array(numbers["image"])
    if len(channels_CHW) >= 3:
        return channels_CHW[:3].transpose(1, 2, 0) / 255
    return channels_CHW[0][..., None] / 255


def _draw_image(axes: Axes, image_HWC: np.ndarray, box: Box, max_scale: float = 1e9) -> float:
    """Draw an image at the top left of a box, as large as fits; return the units per pixel."""
    height, width = image_HWC.shape[:2]
    scale = min(max_scale, box[2] / width, box[3] / height)
    style.show_image(axes, image_HWC, (box[0], box[1], width * scale, height * scale))
    frame = Rectangle(box[:2], width * scale, height * scale, fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.8)
    axes.add_patch(frame)
    return scale


@style.as_image
def plot_overview(numbers: ConvolutionNumbers) -> Figure:
    """Plot the image with the crop outlined, the kernel, and how the output size is computed."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    draw_title(axes, _MARGIN, _TITLE_Y, f"Image: {style.ellipsize(numbers['image_name'], 40, True)}", 480)
    scale = _draw_image(axes, _to_rgb(numbers), (_MARGIN, _TOP, 480, height - _TOP - 20))
    top, left = numbers["crop"]["corner"]
    rows, columns = np.shape(numbers["crop"]["values"])[1:]
    CellGrid(_MARGIN, _TOP, scale, 1, 1).outline(axes, (top, left), (rows, columns))
    x = 520
    draw_title(axes, x, _TITLE_Y, f"{_kernel_title(numbers)}: {numbers['kernel']}", 360)
    y = _draw_kernels(axes, numbers, (x, _TOP, 364, 250), 46) + 22
    _draw_hyperparameters(axes, numbers, x, y)
    return fig


def _draw_hyperparameters(axes: Axes, numbers: ConvolutionNumbers, x: float, y: float) -> None:
    """Write the hyperparameters and the formula of the output size."""
    output = format_shape(numbers["sizes"]["output"])
    if numbers["transposed"]:
        output += " (transposed)"
    lines = [
        ("stride, padding, dilation", f"{numbers['stride']}, {numbers['padding']}, {numbers['dilation']}"),
        ("channels", ", ".join(numbers["channels"])),
        ("groups, weights", f"{numbers['groups']}, {numbers['params']}"),
        ("image", format_shape(numbers["sizes"]["image"])),
        ("output", output),
    ]
    for name, value in lines:
        axes.text(x, y, name, va="center", color=style.GRAY)
        axes.text(x + 168, y, value, va="center")
        y += 21
    formula = numbers["size_formula"]
    axes.text(x, y + 8, formula.replace("-", "−"), va="center", fontsize=fit_font_size([formula], 364))


@style.as_image
def plot_input_output(numbers: ConvolutionNumbers) -> Figure:
    """Plot the full image and the full output; one feature map has the image's scale."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    sizes = numbers["sizes"]
    half = (style.WIDTH - 3 * _MARGIN) / 2
    room = height - _TOP - 34
    output_GOP = np.array(numbers["output"])
    max_scale = 1e9
    if len(output_GOP) == 1:
        max_height = max(sizes["image"][0], sizes["output"][0])
        max_width = max(sizes["image"][1], sizes["output"][1])
        max_scale = min(half / max_width, room / max_height)
    draw_title(axes, _MARGIN, _TITLE_Y, f"Image, {format_shape(sizes['image'])}", half)
    scale = _draw_image(axes, _to_rgb(numbers), (_MARGIN, _TOP, half, room), max_scale)
    y = _TOP + scale * sizes["image"][0] + 16
    axes.text(_MARGIN, y, "black is 0, white 255", va="center", color=style.GRAY)
    left = 2 * _MARGIN + half
    title = f"Output, {format_shape(sizes['output'])}"
    if len(output_GOP) > 1:
        title = f"Output, {len(output_GOP)} feature maps of {format_shape(sizes['output'])}"
    draw_title(axes, left, _TITLE_Y, title, half)
    bottom = _draw_feature_maps(axes, numbers, (left, _TOP, half, room), max_scale)
    axes.text(left, bottom + 16, _describe_colors(numbers), va="center", color=style.GRAY)
    return fig


def _draw_feature_maps(axes: Axes, numbers: ConvolutionNumbers, box: Box, max_scale: float) -> float:
    """Draw one feature map, or several in two columns; return the lower edge of the last."""
    output_GOP = np.array(numbers["output"])
    left, top, width, height = box
    gap = 8
    columns = 1 if len(output_GOP) == 1 else 2
    rows = (len(output_GOP) + 1) // 2
    map_width = (width - gap * (columns - 1)) / columns
    map_height = (height - gap * (rows - 1)) / rows
    bottom = 0.0
    for index, map_OP in enumerate(output_GOP):
        row, column = divmod(index, columns)
        x = left + column * (map_width + gap)
        y = top + row * (map_height + gap)
        colors = _output_colors(numbers, map_OP, numbers["color_limit"])
        scale = _draw_image(axes, colors, (x, y, map_width, map_height), max_scale)
        bottom = y + map_OP.shape[0] * scale
    return bottom


def _describe_colors(numbers: ConvolutionNumbers) -> str:
    limit = format_cell(numbers["color_limit"])
    if numbers["output_kind"] == "signed":
        return f"white is 0, blue positive, orange negative; full color from {limit}"
    if numbers["output_kind"] == "image":
        return f"black is 0 or less, white {limit} or more"
    return f"gradient magnitude: black is 0, white {limit} or more"


# --- receptive fields -------------------------------------------------------------------------------------------------


@style.as_image
def plot_receptive_fields(numbers: ConvolutionNumbers) -> Figure:
    """Plot the receptive field of one value after each layer of a stack, with a table and a side view."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    box = (_MARGIN, _TOP, 480, height - _TOP - 20)
    if numbers["transposed"]:
        title = "Output values that one value spreads over, after each layer"
        rows, columns = numbers["layers"][-1]["receptive_field"]
        scale = _draw_image(axes, np.ones((rows, columns, 1)), box)
    else:
        title = "Receptive field of one value after each layer"
        rows, columns = numbers["sizes"]["image"]
        scale = _draw_image(axes, _to_rgb(numbers), box)
    draw_title(axes, _MARGIN, _TITLE_Y, title, 480)
    extent = (_MARGIN, _TOP, scale * columns, scale * rows)
    _draw_field_outlines(axes, numbers, extent, scale)
    left = 530
    bottom = _draw_layer_table(axes, numbers, left)
    _draw_side_view(axes, numbers, (left, bottom, 354, height - 20 - bottom))
    return fig


def name_field(numbers: ConvolutionNumbers) -> str:
    """Return the name of what a stack of layers shows: 'receptive field', or 'spread' if transposed."""
    return "spread" if numbers["transposed"] else "receptive field"


def _layer_color(layer: int) -> str:
    return style.OKABE_ITO[layer % len(style.OKABE_ITO)]


def _draw_field_outlines(axes: Axes, numbers: ConvolutionNumbers, extent: Box, scale: float) -> None:
    """Outline the receptive fields around the middle of the image, clipped to the image."""
    left, top, width, height = extent
    x = left + width / 2
    y = top + height / 2
    clip = Rectangle((left, top), width, height, transform=axes.transData)
    for index, layer in enumerate(numbers["layers"]):
        field_height = scale * layer["receptive_field"][0]
        field_width = scale * layer["receptive_field"][1]
        corner = (x - field_width / 2, y - field_height / 2)
        outline = Rectangle(corner, field_width, field_height, fill=False, edgecolor=_layer_color(index), linewidth=2.5)
        axes.add_patch(outline).set_clip_path(clip)


def _draw_layer_table(axes: Axes, numbers: ConvolutionNumbers, left: float) -> float:
    """Write output size and receptive field of each layer; return the lower edge."""
    field_heading = name_field(numbers)
    axes.text(left, _TOP + 10, "layer", va="center", color=style.GRAY)
    axes.text(left + 190, _TOP + 10, "output", ha="right", va="center", color=style.GRAY)
    axes.text(left + 354, _TOP + 10, field_heading, ha="right", va="center", color=style.GRAY)
    axes.plot([left, left + 354], [_TOP + 22] * 2, color=style.GRAY, linewidth=0.8)
    for index, layer in enumerate(numbers["layers"]):
        y = _TOP + 36 + 19 * index
        size = format_shape(layer["size"]) if layer["size"] else "–"
        axes.plot([left, left + 14], [y, y], color=_layer_color(index), linewidth=3)
        axes.text(left + 22, y, f"{index + 1}", va="center")
        axes.text(left + 190, y, size, ha="right", va="center")
        axes.text(left + 354, y, f"{format_shape(layer['receptive_field'])} px", ha="right", va="center")
    return _TOP + 36 + 19 * len(numbers["layers"]) + 14


def _draw_side_view(axes: Axes, numbers: ConvolutionNumbers, box: Box) -> None:
    """Draw the stack along one axis: one value on top, below it the values of each layer that it depends on."""
    left, top, width, height = box
    draw_title(axes, left, top + 8, f"Side view of the {name_field(numbers)}", width * 1.2)
    counts = [1]
    for layer in numbers["layers"]:
        counts.append(layer["receptive_field"][1])
    spacing = min(44.0, (height - 34) / len(counts))
    cell = min(spacing * 0.5, (width - 70) / counts[-1])
    bar_height = max(cell, 6)
    middle = left + 70 + (width - 70) / 2
    previous_half = 0.0
    for index, count in enumerate(counts):
        layer_number = index if numbers["transposed"] else len(counts) - 1 - index
        y = top + 34 + spacing * index
        half = count * cell / 2
        color = style.GRAY
        name = "input"
        if layer_number:
            color = _layer_color(layer_number - 1)
            name = f"layer {layer_number}"
        axes.text(left, y + bar_height / 2, name, va="center", color=style.GRAY)
        bar = Rectangle((middle - half, y), 2 * half, bar_height, facecolor=color, alpha=0.45, edgecolor="none")
        axes.add_patch(bar)
        if cell >= 4:
            edges = middle + np.linspace(-half, half, count + 1)
            axes.vlines(edges, y, y + bar_height, color=style.BLACK, linewidth=0.6)
        if index:
            for side in (-1, 1):
                ends = [middle + side * previous_half, middle + side * half]
                axes.plot(ends, [y - spacing + bar_height, y], color=style.GRAY, linewidth=0.8, linestyle=":")
        previous_half = half
