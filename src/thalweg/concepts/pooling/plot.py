"""Plots of pooling: one window, image and outputs, and the change after small shifts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ...errors import pluralize
from ...plots import style, value_grid
from ...plots.number_format import format_number
from .records import PoolingNumbers, PoolStep, ShiftSensitivity

#: (left, top, width, height) in units
Box = tuple[float, float, float, float]

#: left edges and widths of the crop and of all outputs, in units
_CROP_LEFT = 16
_CROP_WIDTH = 372
_OUTPUT_LEFT = 412
_OUTPUT_WIDTH = 472
#: top and height of these grids, in units
_TOP = 46
_GRID_HEIGHT = 372
_MARGIN = 16
_GAP = 20
_TITLE_Y = 22
#: height of a line of values, and minimum height of the figure, in units
_LINE_HEIGHT = 18
_MIN_HEIGHT = 560
#: color, marker and line style of each output
_STYLES = {
    "subsampling": (style.VERMILLION, "s", "--"),
    "max": (style.BLUE, "o", "-"),
    "average": (style.GREEN, "^", "-"),
    "image": (style.GRAY, None, ":"),
}


def format_shape(shape: Sequence[int]) -> str:
    """Format (height, width) as 'width x height'."""
    return f"{shape[1]} x {shape[0]}"


def _figure_height(numbers: PoolingNumbers) -> int:
    """Return the height that all frames have, in units."""
    return max(_MIN_HEIGHT, _TOP + _GRID_HEIGHT + 52 + _LINE_HEIGHT * numbers["window"] + 10)


# --- one window -------------------------------------------------------------------------------------------------------


@style.as_image
def plot_window(numbers: PoolingNumbers, index: int) -> Figure:
    """Plot one window of the crop: its values, the result, and the outputs so far."""
    fig, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    step = numbers["crop"]["steps"][index]
    _draw_crop(axes, numbers, step)
    _draw_outputs(axes, numbers, step)
    _draw_window_values(axes, numbers, step)
    return fig


def _draw_crop(axes: Axes, numbers: PoolingNumbers, step: PoolStep) -> None:
    """Draw the crop with its padding, the selected pixels so far, and the window."""
    value_grid.draw_title(axes, _CROP_LEFT, _TITLE_Y, "Crop of the image", _CROP_WIDTH)
    crop = np.array(numbers["crop"]["values"])
    padding = numbers["padding"]
    padded = np.pad(crop, padding, constant_values=math.nan)
    grid = value_grid.draw_cells(
        axes, padded, value_grid.gray_colors(padded), (_CROP_LEFT, _TOP, _CROP_WIDTH, _GRID_HEIGHT)
    )
    if padding:
        grid.outline(axes, (padding, padding), crop.shape, style.GRAY, linewidth=1.5, zorder=4)
    row, column = step["position"]
    if "max" in numbers["kinds"]:
        _outline_selected(axes, grid, numbers, (row, column))
    window_shape = (numbers["window"], numbers["window"])
    grid.outline(axes, (row * numbers["stride"], column * numbers["stride"]), window_shape, zorder=6)


def _draw_outputs(axes: Axes, numbers: PoolingNumbers, step: PoolStep) -> None:
    """Draw the outputs of the crop up to this step, with the result of this window below."""
    row, column = step["position"]
    count = len(numbers["kinds"])
    width = (_OUTPUT_WIDTH - _GAP * (count - 1)) / count
    for panel, kind in enumerate(numbers["kinds"]):
        x = _OUTPUT_LEFT + panel * (width + _GAP)
        value_grid.draw_title(axes, x, _TITLE_Y, f"{kind.capitalize()} so far", width)
        output = _mask_after(np.array(numbers["crop"]["outputs"][kind]), row, column)
        grid = value_grid.draw_cells(axes, output, value_grid.gray_colors(output), (x, _TOP, width, _GRID_HEIGHT))
        grid.outline(axes, (0, 0), output.shape, style.GRAY, linewidth=0.8, zorder=2)
        grid.outline(axes, (row, column))
        y = _TOP + grid.side * grid.rows + 24
        text = _format_result(numbers, step, kind)
        size = value_grid.fit_font_size([text], 0.85 * width, 12)
        axes.text(x, y, text, va="center", fontsize=size, fontweight="bold", color=_STYLES[kind][0])


def _mask_after(output_OP: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the output up to a position in reading order, NaN for the rest."""
    masked_OP = output_OP.copy()
    masked_OP[row, column + 1 :] = math.nan
    masked_OP[row + 1 :] = math.nan
    return masked_OP


def _outline_selected(
    axes: Axes, grid: value_grid.CellGrid, numbers: PoolingNumbers, position: tuple[int, int]
) -> None:
    """Outline each pixel that max pooling selected so far."""
    argmax_OP2 = np.array(numbers["crop"]["argmax"])
    count = position[0] * argmax_OP2.shape[1] + position[1] + 1
    padding = numbers["padding"]
    for row, column in np.unique(argmax_OP2.reshape(-1, 2)[:count], axis=0):
        corner = (row + padding + 0.06, column + padding + 0.06)
        grid.outline(axes, corner, (0.88, 0.88), style.SKY, linewidth=2.2, zorder=5)


def _draw_window_values(axes: Axes, numbers: PoolingNumbers, step: PoolStep) -> None:
    """Write the values of the window, the selected one in bold."""
    top = _TOP + _GRID_HEIGHT + 26
    axes.text(_MARGIN, top, _window_heading(numbers, step), va="center", color=style.GRAY)
    selected = None
    if "max" in numbers["kinds"]:
        row, column = step["position"]
        selected = (
            step["argmax"][0] - row * numbers["stride"] + numbers["padding"],
            step["argmax"][1] - column * numbers["stride"] + numbers["padding"],
        )
    for i, values in enumerate(step["window"]):
        for j, value in enumerate(values):
            x = _MARGIN + 28 + 38 * j
            y = top + 22 + _LINE_HEIGHT * i
            text = "–"
            if value is not None:
                text = value_grid.format_cell(value)
            if (i, j) == selected:
                axes.text(x, y, text, ha="right", va="center", fontweight="bold", color=style.BLUE)
            else:
                axes.text(x, y, text, ha="right", va="center")


def _window_heading(numbers: PoolingNumbers, step: PoolStep) -> str:
    """Return the heading of the window's values, with the rule for padding if there is any."""
    if None not in chain.from_iterable(step["window"]):
        return "Values in the window:"
    rules = {"max": "ignored by max", "average": "0 for the average"}
    text = " and ".join(rules[kind] for kind in numbers["kinds"])
    return f"Values in the window (padding, –, is {text}):"


def _format_result(numbers: PoolingNumbers, step: PoolStep, kind: str) -> str:
    if kind == "max":
        return f"maximum {format_number(step['max'])}"
    return f"{format_number(step['sum'])} / {numbers['window'] ** 2} = {format_number(step['average'])}"


# --- the full image ---------------------------------------------------------------------------------------------------


def _draw_panel(axes: Axes, image_HW3: np.ndarray, box: Box, shape: Sequence[int]) -> None:
    """Draw an image over the area that an image of this (height, width) has at the top left of a box."""
    scale = min(box[2] / shape[1], box[3] / shape[0])
    width = scale * shape[1]
    height = scale * shape[0]
    style.show_image(axes, image_HW3, (box[0], box[1], width, height))
    axes.add_patch(Rectangle(box[:2], width, height, fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.8))


@style.as_image
def plot_before_after(numbers: PoolingNumbers) -> Figure:
    """Plot the image, the selected pixels, and the outputs enlarged to the same size, with key numbers beside them."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    image_HW = np.array(numbers["image"])
    size = (height - 2 * 30 - 24) / 2
    panel_height = size * min(1, image_HW.shape[0] / image_HW.shape[1])
    for index, (title, image_HW3) in enumerate(_build_panels(numbers, image_HW).items()):
        row, column = divmod(index, 2)
        x = _MARGIN + column * (size + _GAP)
        y = 38 + row * (panel_height + 36)
        value_grid.draw_title(axes, x, y - 18, title, size * 1.15)
        _draw_panel(axes, image_HW3, (x, y, size, size), image_HW.shape)
    _draw_summary(axes, numbers, _MARGIN + 2 * (size + _GAP) + 10)
    return fig


def _build_panels(numbers: PoolingNumbers, image_HW: np.ndarray) -> dict[str, np.ndarray]:
    """Return the images (H, W, 3) by title."""
    panels = {f"Image, {format_shape(numbers['sizes']['image'])}": value_grid.gray_colors(image_HW)}
    if "max" in numbers["kinds"]:
        panels["Pixels selected by max"] = _highlight_pixels(image_HW, numbers["selected"]["positions"])
    for kind in numbers["kinds"]:
        title = f"{kind.capitalize()}, {format_shape(numbers['sizes']['output'])}, enlarged"
        panels[title] = value_grid.gray_colors(np.array(numbers["outputs"][kind]))
    return panels


def _highlight_pixels(image_HW: np.ndarray, positions: list[list[int]]) -> np.ndarray:
    """Return the selected pixels (H, W, 3) unchanged, and all others in a pale blue."""
    image_HW3 = np.ones((*image_HW.shape, 3)) * np.array([0.75, 0.87, 0.95])
    rows, columns = np.array(positions).T
    image_HW3[rows, columns] = value_grid.gray_colors(image_HW[rows, columns])
    return image_HW3


def _draw_summary(axes: Axes, numbers: PoolingNumbers, x: float) -> None:
    """Write hyperparameters, sizes and the fraction of selected pixels."""
    y = 52.0
    for name, value in _list_summary(numbers):
        if name:
            axes.text(x, y, name, va="center", color=style.GRAY)
            y += 19
        axes.text(x, y, value, va="center", fontsize=value_grid.fit_font_size([value], style.WIDTH - 8 - x))
        y += 28


def _list_summary(numbers: PoolingNumbers) -> list[tuple[str, str]]:
    selected = numbers["selected"]
    lines = [
        ("window, stride, padding", f"{numbers['window']}, {numbers['stride']}, {numbers['padding']}"),
        ("image", f"{format_shape(numbers['sizes']['image'])} pixels"),
        ("output", f"{format_shape(numbers['sizes']['output'])} values"),
        ("", numbers["size_formula"].replace("-", "−")),
    ]
    if "max" in numbers["kinds"]:
        pixels = pluralize(len(selected["positions"]), "pixel")
        lines.append(("selected by max", f"{pixels}, {style.format_percent(selected['fraction'])}; others pale blue"))
    if "average" in numbers["kinds"]:
        lines.append(("average", f"weight of each pixel: 1/{numbers['window'] ** 2}"))
    if selected["covered_fraction"] < 1:
        percent = style.format_percent(1 - selected["covered_fraction"])
        lines.append(("under no window", f"{percent} of the pixels"))
    return lines


# --- shift sensitivity ------------------------------------------------------------------------------------------------


@style.as_image
def plot_shift_sensitivity(numbers: PoolingNumbers) -> Figure:
    """Plot each output before and after a shift by one pixel, their difference, and the change over all shifts."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    shift = numbers["shift"]
    if shift is None:
        return fig
    left = _draw_shifted_outputs(axes, shift, height) + 60
    _draw_change_curves(fig, shift, (left, 0.24 * height, style.WIDTH - 16 - left, 0.62 * height))
    value_grid.draw_title(axes, left - 44, _TITLE_Y, "Change of the output after a shift", style.WIDTH - left)
    legend = "0 %: the same output; differences: blue is brighter, orange darker"
    axes.text(left - 44, height - 16, legend, va="center", color=style.GRAY, fontsize=8.5)
    return fig


def _draw_shifted_outputs(axes: Axes, shift: ShiftSensitivity, height: float) -> float:
    """Draw a row of three images for each output; return the right edge."""
    kinds = list(shift["original"])
    size = min(140.0, (height - 60) / len(kinds) - 30)
    shape = np.shape(shift["original"]["subsampling"])
    panel_height = size * min(1, shape[0] / shape[1])
    for column, heading in enumerate(("original", "shifted by 1 pixel", "difference")):
        axes.text(_MARGIN + column * (size + 10), _TITLE_Y, heading, va="center", color=style.GRAY)
    for row, kind in enumerate(kinds):
        y = 60 + row * (panel_height + 30)
        value_grid.draw_title(axes, _MARGIN, y - 14, kind.capitalize(), 3 * size)
        original = value_grid.to_array(shift["original"][kind])
        shifted = value_grid.to_array(shift["shifted"][kind])
        difference = value_grid.diverging_colors(shifted - original, shift["color_limit"])
        for column, image_HW3 in enumerate(
            (value_grid.gray_colors(original), value_grid.gray_colors(shifted), difference)
        ):
            _draw_panel(axes, image_HW3, (_MARGIN + column * (size + 10), y, size, size), shape)
    return _MARGIN + 3 * (size + 10)


def _draw_change_curves(fig: Figure, shift: ShiftSensitivity, box: Box) -> None:
    """Draw the relative change of each output over the shift."""
    axes = style.add_axes(fig, *box)
    for kind, values in shift["change"].items():
        color, marker, line_style = _STYLES[kind]
        percents = 100 * np.array(values, np.float64)
        axes.plot(shift["shifts"], percents, line_style, color=color, marker=marker, markersize=5, label=kind)
    axes.set(xlabel="shift, pixels", ylabel="relative change, %", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
