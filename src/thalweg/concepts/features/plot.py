"""Plots of layers: the strongest feature maps, the filters of the first layer, and the purity of all units.

All frames have one height, that of the tallest. H W pixels, C is 1 or 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...plots import style
from ...plots.feature_maps import colorize_maps
from .records import FeatureNumbers, FilterNumbers, LayerNumbers

#: (left, top, width, height) in units
Box = tuple[float, float, float, float]

#: height of the header, gap between tiles, and height of a line of small text, in units
HEADER_HEIGHT = 58
GAP = 8
LINE_HEIGHT = 15
#: width of the left column, and minimum height of the figure, in units
_LEFT_WIDTH = 200
_MIN_HEIGHT = 520
#: maximum width of a tile, in units
_MAX_TILE_WIDTH = 190
#: maximum height of the row of a unit, and of all rows together, in units
_ROW_HEIGHT = 158
_TOTAL_ROWS_HEIGHT = 1000
FONT_SIZE = 8.5
_TITLE_FONT = 11.5
#: bold text is wider than measured
_BOLD_FACTOR = 0.85


@style.as_image
def plot_overview(numbers: FeatureNumbers, image_HWC: np.ndarray) -> Figure:
    """Plot the image, the most probable classes, and below them the strongest unit of each layer."""
    fig, axes, height = new_canvas(numbers, "Image and prediction", numbers["title"])
    layers = numbers["layers"]
    column_width = (style.WIDTH - 2 * GAP) / max(6, len(layers))
    top = height - column_width - 2 * LINE_HEIGHT - 3 * GAP
    side = min(top - HEADER_HEIGHT - 5 * GAP, 440)
    _draw_image(axes, image_HWC, (2 * GAP, HEADER_HEIGHT, side, side))
    _draw_probabilities(axes, numbers, side)
    heading = "strongest feature map of each layer, or its neurons"
    axes.text(2 * GAP, top - 2 * GAP, heading, va="center", fontweight="bold")
    for index, layer in enumerate(layers):
        x = 2 * GAP + index * column_width
        tile = column_width - 3 * GAP
        if layer["maps"]:
            map_HW3 = colorize_maps(np.asarray(layer["maps"][:1]))[0]
            scale = tile / max(map_HW3.shape[:2])
            draw_tile(axes, map_HW3, (x, top, map_HW3.shape[1] * scale, map_HW3.shape[0] * scale))
        else:
            _draw_bar_strip(axes, layer["strength"], (x, top, tile, tile))
        name = style.fit_text(layer["name"], tile + GAP, 8)
        size = style.fit_text(format_layer_size(layer), tile + 2 * GAP, 8)
        axes.text(x, top + tile + 3, f"{name}\n{size}", va="top", fontsize=8, linespacing=1.3)
    return fig


def _draw_probabilities(axes: Axes, numbers: FeatureNumbers, side: float) -> None:
    """Draw a bar for each of the most probable classes, right of the image."""
    left = side + 190
    width = style.WIDTH - left - 80
    y = float(HEADER_HEIGHT + 16)
    axes.text(left, y, "prediction", va="center", fontweight="bold")
    for prediction in numbers["predictions"]:
        y += side / (len(numbers["predictions"]) + 1)
        probability = prediction["probability"]
        axes.text(left - 10, y, style.fit_text(prediction["name"], 150), ha="right", va="center")
        axes.add_patch(Rectangle((left, y - 12), width, 24, color="#eeeeee", linewidth=0))
        axes.add_patch(Rectangle((left, y - 12), width * probability, 24, color=style.BLUE, linewidth=0))
        axes.text(left + width + 10, y, style.format_percent(probability), va="center")


def _draw_bar_strip(axes: Axes, values: Sequence[float], box: Box) -> None:
    """Draw a few numbers as small bars."""
    left, top, width, height = box
    low = min(0.0, *values)
    high = max(0.0, *values)
    scale = height / max(high - low, 1e-12)
    step = width / len(values)
    for index, value in enumerate(values):
        corner = (left + index * step, top + (high - max(value, 0.0)) * scale)
        bar = Rectangle(corner, 0.8 * step, abs(value) * scale, color=_sign_color(value), linewidth=0)
        axes.add_patch(bar)


def _sign_color(value: float) -> str:
    return style.choose_sign_color(value)


@style.as_image
def plot_layer(numbers: FeatureNumbers, index: int, image_HWC: np.ndarray) -> Figure:
    """Plot the strongest units of a layer beside the image: feature maps, or bars for neurons."""
    layer = numbers["layers"][index]
    title = f"Output of {layer['name']} ({layer['kind']})"
    fig, axes, height = new_canvas(numbers, title, format_layer_size(layer))
    side = _LEFT_WIDTH - 4 * GAP
    _draw_image(axes, image_HWC, (2 * GAP, HEADER_HEIGHT, side, side))
    top = HEADER_HEIGHT + _LEFT_WIDTH - 2 * GAP
    for number, line in enumerate(_layer_legend(layer)):
        y = top + number * LINE_HEIGHT
        axes.text(2 * GAP, y, line, va="center", fontsize=FONT_SIZE, color=style.GRAY)
    room = (_LEFT_WIDTH, HEADER_HEIGHT, style.WIDTH - _LEFT_WIDTH - GAP, height - HEADER_HEIGHT - GAP)
    if layer["maps"] is None:
        _draw_bars(axes, layer, room)
    else:
        _draw_maps(axes, layer, np.asarray(layer["maps"]), room)
    return fig


def _layer_legend(layer: LayerNumbers) -> list[str]:
    """Return the lines below the image: colors, inactive units, zeros."""
    lines = ["strongest first"]
    if layer["maps"]:
        lines += ["white is 0", "blue is positive"]
        if np.min(layer["maps"]) < 0:
            lines.append("orange is negative")
    if layer["inactive"]:
        lines += ["", f"{layer['inactive']} of {layer['units']} are inactive"]
    if layer["size"]:
        lines += [f"{style.format_percent(layer['zero_fraction'], 0)} of all activations", "are zero"]
    return lines


def _unit_names(layer: LayerNumbers) -> list[str]:
    """Return the class of each of the strongest units, or its number."""
    return layer["classes"] or [f"unit {unit}" for unit in layer["strongest"]]


def _draw_maps(axes: Axes, layer: LayerNumbers, maps_NHW: np.ndarray, room: Box) -> None:
    """Draw feature maps as tiles, each with the name of its unit."""
    boxes = _layout_tiles(len(maps_NHW), room, maps_NHW.shape[1] / maps_NHW.shape[2], LINE_HEIGHT)
    for box, map_HW3, name in zip(boxes, colorize_maps(maps_NHW), _unit_names(layer), strict=True):
        draw_tile(axes, map_HW3, box)
        draw_text_below(axes, box, name)


def _draw_bars(axes: Axes, layer: LayerNumbers, room: Box) -> None:
    """Draw the largest numbers of a layer of neurons, signed, from a common zero."""
    left, top, width, height = room
    values = layer["strength"]
    low = min(0.0, *values)
    high = max(0.0, *values)
    scale = (width - 240) / max(high - low, 1e-12)
    zero = left + 120 - low * scale
    step = min(52, height / len(values))
    for index, (name, value) in enumerate(zip(_unit_names(layer), values, strict=True)):
        y = top + (index + 0.5) * step
        axes.text(left + 110, y, style.fit_text(name, 105), ha="right", va="center", fontsize=9)
        corner = (zero, y - 0.36 * step)
        axes.add_patch(Rectangle(corner, value * scale, 0.72 * step, color=_sign_color(value), linewidth=0))
        axes.text(zero + max(value, 0) * scale + 6, y, f"{value:.3g}", va="center", fontsize=9)
    axes.plot([zero, zero], [top, top + len(values) * step], color=style.GRAY, linewidth=0.8)


@style.as_image
def plot_filters(numbers: FeatureNumbers) -> Figure:
    """Plot filters of the first layer, each above its output for the image."""
    filters = numbers["filters"]
    assert filters is not None
    weight_OCHW = np.asarray(filters["weights"])
    fig, axes, height = new_canvas(numbers, f"Filters of {filters['layer']}", _filters_subtitle(filters, weight_OCHW))
    images = _filters_to_images(weight_OCHW)
    ratio = filters["size"][1] / filters["size"][2]
    map_ratio = 0.0
    maps = None
    if filters["maps"]:
        maps = colorize_maps(np.asarray(filters["maps"]))
        map_ratio = maps.shape[1] / maps.shape[2]
    room = (2 * GAP, HEADER_HEIGHT, style.WIDTH - 3 * GAP, height - HEADER_HEIGHT - GAP)
    boxes = _layout_tiles(len(images), room, ratio + map_ratio, LINE_HEIGHT + 4)
    for index, (box, image, unit) in enumerate(zip(boxes, images, filters["units"], strict=True)):
        left, top, width, tile_height = box
        draw_tile(axes, image, (left, top, width, width * ratio))
        if maps is not None:
            draw_tile(axes, maps[index], (left, top + width * ratio + 4, width, width * map_ratio))
            draw_text_below(axes, (left, top + 4, width, tile_height), f"unit {unit}")
        elif filters["pre_activations"]:
            draw_text_below(axes, box, f"{unit}: {filters['pre_activations'][index]:+.3g}")
    return fig


def _filters_subtitle(filters: FilterNumbers, weight_OCHW: np.ndarray) -> str:
    """Describe the number of filters, their size and their colors."""
    channels, height, width = filters["size"]
    parts = [f"{len(filters['units'])} of {filters['count']}, {width} x {height} pixels"]
    if channels == 3:
        parts.append("gray is 0")
    else:
        parts.append("white is 0, blue positive, orange negative")
    if _has_uneven_scale(weight_OCHW):
        parts[-1] += ", each on its own scale"
    output = "feature map" if filters["maps"] else "pre-activation"
    parts.append(f"below each, its {output}")
    return "; ".join(parts)


def _has_uneven_scale(weight_OCHW: np.ndarray) -> bool:
    """Whether the strengths of the filters differ so much that weak ones would be invisible on one scale."""
    largest_O = np.abs(weight_OCHW).max((1, 2, 3))
    return bool(largest_O.max() > 8 * np.quantile(largest_O, 0.25))


def _filters_to_images(weight_OCHW: np.ndarray) -> np.ndarray:
    """Convert filters to images (O, H, W, 3) on one scale, unless it is uneven.

    Filters of three channels become colors with gray for 0; other filters become the mean over their channels.
    """
    if _has_uneven_scale(weight_OCHW):
        largest_O111 = np.abs(weight_OCHW).max((1, 2, 3), keepdims=True)
        weight_OCHW = weight_OCHW / np.maximum(largest_O111, 1e-12)
    if weight_OCHW.shape[1] != 3:
        return colorize_maps(weight_OCHW.mean(1))
    largest = np.quantile(np.abs(weight_OCHW), 0.998)
    return (np.clip(weight_OCHW / max(largest, 1e-12), -1, 1).transpose(0, 2, 3, 1) + 1) / 2


@style.as_image
def plot_purity(numbers: FeatureNumbers) -> Figure:
    """Plot the purity of the units of every layer, the mean, and the purity of random images."""
    fig = style.auto_figure(_figure_height(numbers))
    axes = fig.subplots()
    training = numbers["training"]
    assert training is not None
    layers = numbers["layers"]
    top_k = training["top_k"]
    mean_points = []
    for index, layer in enumerate(layers):
        purity = layer["purity"]
        assert purity is not None
        _draw_histogram(axes, index, np.asarray(purity["histogram"]) / max(1, purity["units"]))
        if purity["mean"] is not None:
            mean_points.append((index, purity["mean"]))
    if mean_points:
        x, y = zip(*mean_points, strict=True)
        axes.plot(x, y, color=style.BLACK, marker="o", label="mean of the units")
    axes.axhline(training["chance_purity"], color=style.VERMILLION, linestyle="--", label="random images")
    axes.set_xticks(range(len(layers)))
    max_width = 0.8 * (style.WIDTH - 80) / len(layers)
    axes.set_xticklabels([style.fit_text(layer["name"], max_width) for layer in layers])
    axes.set(xlim=(-0.6, len(layers) - 0.4), ylim=(0, 1.06), xlabel="layer, from the first to the last")
    axes.set_ylabel(f"purity: fraction of the {top_k} top images in one class")
    axes.set_title("Does a unit detect a detail or a class?")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
    return fig


def _draw_histogram(axes: Axes, index: int, fraction_T: np.ndarray) -> None:
    """Draw the fractions of units with 0, 1, … top images of one class as horizontal bars around x = `index`."""
    top_k = len(fraction_T) - 1
    width_T = 0.9 * fraction_T / max(fraction_T.max(), 1e-9)
    bottom_T = (np.arange(top_k + 1) - 0.4) / top_k
    bars = axes.bar(index - width_T / 2, 0.8 / top_k, width_T, bottom_T, align="edge", color=style.SKY)
    if index == 0:
        bars.set_label("units (width: fraction of the layer)")


# --- shared by all plots ----------------------------------------------------------------------------------------------


def _figure_height(numbers: FeatureNumbers) -> float:
    """Return the height that all frames have, in units."""
    rows = max((len(layer["units"]) for layer in numbers["units"]), default=0)
    return max(_MIN_HEIGHT, HEADER_HEIGHT + rows * unit_row_height(numbers))


def unit_row_height(numbers: FeatureNumbers) -> float:
    """Return the height of the row of one unit, in units."""
    rows = max((len(layer["units"]) for layer in numbers["units"]), default=1)
    return min(_ROW_HEIGHT, _TOTAL_ROWS_HEIGHT / max(1, rows))


def new_canvas(numbers: FeatureNumbers, title: str, subtitle: str) -> tuple[Figure, Axes, float]:
    """Return an empty figure with title and subtitle, its axes, and its height in units."""
    height = _figure_height(numbers)
    fig, axes = style.canvas(style.WIDTH, height)
    title = style.fit_text(title, _BOLD_FACTOR * style.WIDTH, _TITLE_FONT)
    subtitle = style.fit_text(subtitle, style.WIDTH - 4 * GAP, 9)
    axes.text(2 * GAP, 20, title, va="center", fontweight="bold", fontsize=_TITLE_FONT)
    axes.text(2 * GAP, 42, subtitle, va="center", fontsize=9, color=style.GRAY)
    return fig, axes, height


def format_layer_size(layer: LayerNumbers) -> str:
    """Format the number of units and the size of their maps."""
    if layer["size"] is None:
        return f"{layer['units']} neurons"
    height, width = layer["size"]
    return f"{layer['units']} maps of {width} x {height}"


def _draw_image(axes: Axes, image_HWC: np.ndarray, box: Box) -> None:
    """Draw an image at the top left of a box, as large as fits."""
    height, width = image_HWC.shape[:2]
    scale = min(box[2] / width, box[3] / height)
    style.show_image(axes, image_HWC, (box[0], box[1], width * scale, height * scale))


def draw_tile(axes: Axes, image_HWC: np.ndarray, box: Box) -> None:
    """Draw an image with a thin frame, because a feature map may be all white."""
    style.show_image(axes, image_HWC, box)
    frame = Rectangle(box[:2], box[2], box[3], fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.6)
    axes.add_patch(frame)


def draw_text_below(axes: Axes, box: Box, text: str, color: str = style.BLACK) -> None:
    """Write a centered line below a box, shortened to its width."""
    text = style.fit_text(text, box[2] + GAP - 2, 8)
    axes.text(box[0] + box[2] / 2, box[1] + box[3] + 2, text, ha="center", va="top", fontsize=8, color=color)


def _layout_tiles(count: int, room: Box, ratio: float, line_height: float) -> list[Box]:
    """Lay out tiles in rows, as large as the room allows.

    Args:
        count: Number of tiles.
        room: Available box.
        ratio: Height of a tile divided by its width.
        line_height: Height of the text below each tile.

    Returns:
        The boxes of the tiles, without their text.
    """
    left, top, room_width, room_height = room
    best_width = -math.inf
    best_columns = 1
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        width = min(room_width / columns - GAP, (room_height / rows - line_height - GAP) / ratio)
        if width > best_width:
            best_width = width
            best_columns = columns
    width = min(best_width, _MAX_TILE_WIDTH)
    height = width * ratio
    boxes = []
    for index in range(count):
        row, column = divmod(index, best_columns)
        boxes.append((left + column * (width + GAP), top + row * (height + line_height + GAP), width, height))
    return boxes
