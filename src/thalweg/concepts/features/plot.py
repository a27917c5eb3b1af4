"""What a network answers, layer by layer: maps, filters, and the pictures that its units answer most strongly.

All pictures of a lesson have one height, that of the tallest. H W pixels, C is 1 or 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ...plots import style
from ...plots.feature_maps import colorize_maps

#: units: of the head, between tiles, of a line of small text, of the column at the left, the least height
_HEADER_HEIGHT, _GAP, _LINE_HEIGHT, _LEFT_WIDTH, _MIN_HEIGHT = 58, 8, 15, 200, 520
#: units that a row of best pictures takes at most, and all rows together
_ROW_HEIGHT, _TOTAL_ROWS_HEIGHT = 158, 1000
_FONT_SIZE = 8.5


@style.as_image
def plot_overview(numbers: dict[str, Any], picture_HWC: np.ndarray) -> Figure:
    """Draws the picture, the likeliest classes, and below them the strongest answer of each layer."""
    made, axes, height = _new_canvas(numbers, "A picture, and what the network answers", numbers["told"])
    layers = numbers["layers"]
    room = (style.WIDTH - 2 * _GAP) / max(6, len(layers))
    below = height - room - 2 * _LINE_HEIGHT - 3 * _GAP
    side = min(below - _HEADER_HEIGHT - 5 * _GAP, 440)
    _draw_image(axes, picture_HWC, (2 * _GAP, _HEADER_HEIGHT, side, side))
    left, y, step = side + 190, _HEADER_HEIGHT + 16, side / (len(numbers["answers"]) + 1)
    wide = style.WIDTH - left - 80
    axes.text(left, y, "its answer", va="center", fontweight="bold")
    for answer in numbers["answers"]:
        y += step
        axes.text(left - 10, y, style.fit_text(answer["class"], 150), ha="right", va="center")
        axes.add_patch(Rectangle((left, y - 12), wide, 24, color="#eeeeee", linewidth=0))
        axes.add_patch(Rectangle((left, y - 12), wide * answer["probability"], 24, color=style.BLUE, linewidth=0))
        axes.text(left + wide + 10, y, style.format_percent(answer["probability"]), va="center")
    axes.text(
        2 * _GAP, below - 2 * _GAP, "on the way: the strongest answer of each layer", va="center", fontweight="bold"
    )
    for number, shown in enumerate(layers):
        x, tile = 2 * _GAP + number * room, room - 3 * _GAP
        if shown["maps"]:
            image = colorize_maps(np.asarray(shown["maps"][:1]))[0]
            size = np.array([image.shape[1], image.shape[0]]) * tile / max(image.shape[:2])
            _draw_tile(axes, image, (x, below, *size))
        else:
            _draw_bar_strip(axes, shown["strength"], (x, below, tile, tile))
        told = (style.fit_text(shown["name"], tile + _GAP, 8), style.fit_text(_format_size(shown), tile + 2 * _GAP, 8))
        axes.text(x, below + tile + 3, "\n".join(told), va="top", fontsize=8, linespacing=1.3)
    return made


def _draw_bar_strip(axes: Axes, values: Sequence[float], box: tuple[float, float, float, float]) -> None:
    """A few numbers as small bars."""
    left, top, wide, high = box
    low, largest = min(0.0, *values), max(0.0, *values)
    scale, step = high / max(largest - low, 1e-12), wide / len(values)
    for number, value in enumerate(values):
        upper = top + (largest - max(value, 0.0)) * scale
        colour = style.BLUE if value >= 0 else style.VERMILLION
        axes.add_patch(
            Rectangle((left + number * step, upper), 0.8 * step, abs(value) * scale, color=colour, linewidth=0)
        )


@style.as_image
def plot_layer(numbers: dict[str, Any], place: int, picture_HWC: np.ndarray) -> Figure:
    """Draws the strongest answers of a layer beside the picture: maps, or bars for neurons."""
    shown = numbers["layers"][place]
    title = f"What {shown['name']} answers ({shown['kind']})"
    made, axes, height = _new_canvas(numbers, title, _format_size(shown))
    _draw_image(axes, picture_HWC, (2 * _GAP, _HEADER_HEIGHT, _LEFT_WIDTH - 4 * _GAP, _LEFT_WIDTH - 4 * _GAP))
    below = _HEADER_HEIGHT + _LEFT_WIDTH - 2 * _GAP
    told = ["strongest first"]
    if shown["maps"]:
        told += ["white is 0", "blue is positive", *(["orange is negative"] if np.min(shown["maps"]) < 0 else [])]
    if shown["silent"]:
        told += ["", f"{shown['silent']} of {shown['units']} are silent"]
    if shown["size"]:
        told += [f"{style.format_percent(shown['zero'], 0)} of all values", "are zero"]
    for number, line in enumerate(told):
        axes.text(2 * _GAP, below + number * _LINE_HEIGHT, line, va="center", fontsize=_FONT_SIZE, color=style.GRAY)
    room = (_LEFT_WIDTH, _HEADER_HEIGHT, style.WIDTH - _LEFT_WIDTH - _GAP, height - _HEADER_HEIGHT - _GAP)
    if shown["maps"] is None:
        _draw_bars(axes, shown, room)
        return made
    maps_NHW = np.asarray(shown["maps"])
    names = dict(zip(shown["strongest"], shown["classes"] or (), strict=False))
    boxes = _layout_tiles(len(maps_NHW), room, maps_NHW.shape[1] / maps_NHW.shape[2], _LINE_HEIGHT)
    for box, image, unit in zip(boxes, colorize_maps(maps_NHW), shown["strongest"], strict=True):
        _draw_tile(axes, image, box)
        _draw_text_below(axes, box, names.get(unit, f"unit {unit}"))
    return made


@style.as_image
def plot_filters(numbers: dict[str, Any]) -> Figure:
    """Draws filters of the first layer, each over what it answers to the picture."""
    shown = numbers["filters"]
    channels, high, wide = shown["size"]
    title = f"The first filters: {shown['layer']}"
    told = f"{len(shown['units'])} of {shown['of']}, of {wide} x {high} pixels; "
    told += "grey is 0" if channels == 3 else "white is 0, blue positive, orange negative"
    told += ", each on its own scale" if _has_uneven_scale(np.asarray(shown["weights"])) else ""
    told += "; below each, where the picture answers" if shown["maps"] else "; below each, its sum over the picture"
    made, axes, height = _new_canvas(numbers, title, told)
    images = _filters_to_images(np.asarray(shown["weights"]))
    maps = colorize_maps(np.asarray(shown["maps"])) if shown["maps"] else None
    ratio = high / wide
    below = 0 if maps is None else maps.shape[1] / maps.shape[2]
    room = (2 * _GAP, _HEADER_HEIGHT, style.WIDTH - 3 * _GAP, height - _HEADER_HEIGHT - _GAP)
    boxes = _layout_tiles(len(images), room, ratio + below, _LINE_HEIGHT + 4)
    for number, (box, image, unit) in enumerate(zip(boxes, images, shown["units"], strict=True)):
        left, top, width, whole = box
        _draw_tile(axes, image, (left, top, width, width * ratio))
        if maps is not None:
            _draw_tile(axes, maps[number], (left, top + width * ratio + 4, width, width * below))
            _draw_text_below(axes, (left, top + 4, width, whole), f"unit {unit}")
        else:
            _draw_text_below(axes, box, f"{unit}: {shown['sums'][number]:+.3g}")
    return made


@style.as_image
def plot_units(numbers: dict[str, Any], place: int, pictures: Mapping[int, np.ndarray]) -> Figure:
    """Draws the best pictures of units, a row for each: where the patch is, the patch itself, and the class."""
    shown = numbers["units"][place]
    training = numbers["training"]
    told = f"of {training['pictures']:,} pictures the {training['top']} that each unit answers most strongly"
    shares = _patch_fractions(shown, pictures)
    crops = len(shares) > 0 and np.median(shares) < 0.5
    if len(shares) and shares.min() < 1:
        told += (
            "; the box, enlarged below, is what the answer depends on" if crops else "; the answer depends on the box"
        )
    made, axes, _ = _new_canvas(numbers, f"What units of {shown['layer']} look for", told)
    if not shown["units"]:
        axes.text(style.WIDTH / 2, 200, "No unit of this layer answers to this picture.", ha="center", color=style.GRAY)
    row = _row_height(numbers)
    for number, unit in enumerate(shown["units"]):
        _draw_unit(axes, unit, _HEADER_HEIGHT + number * row, row, training["top"], pictures, crops)
    return made


@style.as_image
def plot_purity(numbers: dict[str, Any]) -> Figure:
    """Draws for every layer how many units have how many best pictures of one class, the mean, and chance."""
    made = style.auto_figure(_figure_height(numbers))
    axes = made.subplots()
    training, layers = numbers["training"], numbers["layers"]
    top = training["top"]
    for place, layer in enumerate(layers):
        share_T = np.asarray(layer["purity"]["of"]) / max(1, layer["purity"]["units"])
        wide = 0.9 * share_T / max(share_T.max(), 1e-9)
        axes.bar(
            place - wide / 2, 0.8 / top, wide, (np.arange(top + 1) - 0.4) / top, align="edge", color=style.SKY,
            label=None if place else "units (width: how many of the layer)",
        )  # fmt: skip
    means = [layer["purity"]["mean"] for layer in layers]
    known = [(place, mean) for place, mean in enumerate(means) if mean is not None]
    axes.plot(*zip(*known, strict=True), color=style.BLACK, marker="o", label="mean of the units") if known else None
    axes.axhline(training["chance"], color=style.VERMILLION, linestyle="--", label="random pictures")
    names = [style.fit_text(layer["name"], 0.8 * (style.WIDTH - 80) / len(layers)) for layer in layers]
    axes.set(
        xticks=range(len(layers)), xticklabels=names, xlim=(-0.6, len(layers) - 0.4), ylim=(0, 1.06),
        ylabel=f"share of the {top} best pictures that are of one class", xlabel="layer, from the first to the last",
    )  # fmt: skip
    axes.set_title("Does a unit look for a detail, or for a class?")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
    return made


# --- parts -----------------------------------------------------------------------------------------------------------


def _figure_height(numbers: dict[str, Any]) -> float:
    """Units that every picture of the lesson is high."""
    rows = max((len(shown["units"]) for shown in numbers["units"]), default=0)
    return max(_MIN_HEIGHT, _HEADER_HEIGHT + rows * _row_height(numbers))


def _row_height(numbers: dict[str, Any]) -> float:
    rows = max((len(shown["units"]) for shown in numbers["units"]), default=1)
    return min(_ROW_HEIGHT, _TOTAL_ROWS_HEIGHT / max(1, rows))


def _new_canvas(numbers: dict[str, Any], title: str, told: str) -> tuple[Figure, Axes, float]:
    height = _figure_height(numbers)
    made, axes = style.canvas(style.WIDTH, height)
    # bold letters are wider than those that are measured
    axes.text(
        2 * _GAP, 20, style.fit_text(title, 0.85 * style.WIDTH, 11.5), va="center", fontweight="bold", fontsize=11.5
    )
    axes.text(2 * _GAP, 42, style.fit_text(told, style.WIDTH - 4 * _GAP, 9), va="center", fontsize=9, color=style.GRAY)
    return made, axes, height


def _format_size(layer: Mapping[str, Any]) -> str:
    if layer["size"] is None:
        return f"{layer['units']} neurons"
    high, wide = layer["size"]
    return f"{layer['units']} maps of {wide} x {high}"


def _draw_image(axes: Axes, picture_HWC: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """A picture, as large as fits into the box, at its upper left corner."""
    high, wide = picture_HWC.shape[:2]
    scale = min(box[2] / wide, box[3] / high)
    style.show_image(axes, picture_HWC, (box[0], box[1], wide * scale, high * scale))


def _draw_tile(axes: Axes, image: np.ndarray, box: tuple[float, float, float, float]) -> None:
    style.show_image(axes, image, box)
    # a white map on white paper
    axes.add_patch(Rectangle(box[:2], *box[2:], fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.6))


def _draw_text_below(axes: Axes, box: tuple[float, float, float, float], text: str, **look: Any) -> None:
    size = look.pop("fontsize", 8)
    told = style.fit_text(text, box[2] + _GAP - 2, size)
    axes.text(box[0] + box[2] / 2, box[1] + box[3] + 2, told, ha="center", va="top", fontsize=size, **look)


def _layout_tiles(
    count: int, room: tuple[float, float, float, float], ratio: float, line: float
) -> list[tuple[float, float, float, float]]:
    """Places for so many tiles of a height to width, each over a line of text, as large as the room allows."""
    left, top, wide, high = room
    options = []
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        options.append((min(wide / columns - _GAP, (high / rows - line - _GAP) / ratio), -columns))
    width, columns = max(options)
    width, columns = min(width, 190), -columns
    step, down = width + _GAP, width * ratio + line + _GAP
    return [
        (left + number % columns * step, top + number // columns * down, width, width * ratio)
        for number in range(count)
    ]


def _has_uneven_scale(weight_OCHW: np.ndarray) -> bool:
    """Whether filters are of so different strength that on one scale the weak ones could not be seen."""
    largest_O = np.abs(weight_OCHW).max((1, 2, 3))
    return bool(largest_O.max() > 8 * np.quantile(largest_O, 0.25))


def _filters_to_images(weight_OCHW: np.ndarray) -> np.ndarray:
    """Filters as images, of one scale unless they are uneven: grey is 0 with three channels; otherwise their mean."""
    if _has_uneven_scale(weight_OCHW):
        weight_OCHW = weight_OCHW / np.maximum(np.abs(weight_OCHW).max((1, 2, 3), keepdims=True), 1e-12)
    if weight_OCHW.shape[1] != 3:
        return colorize_maps(weight_OCHW.mean(1))
    largest = np.quantile(np.abs(weight_OCHW), 0.998)
    return (np.clip(weight_OCHW / max(largest, 1e-12), -1, 1).transpose(0, 2, 3, 1) + 1) / 2


def _draw_bars(axes: Axes, shown: Mapping[str, Any], room: tuple[float, float, float, float]) -> None:
    """The largest numbers of a layer of neurons, signed, from one line of zero."""
    left, top, wide, high = room
    values, names = shown["strength"], shown["classes"] or [f"unit {unit}" for unit in shown["strongest"]]
    low, largest = min(0.0, *values), max(0.0, *values)
    scale = (wide - 240) / max(largest - low, 1e-12)
    zero, step = left + 120 - low * scale, min(52, high / len(values))
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        y = top + (number + 0.5) * step
        axes.text(left + 110, y, style.fit_text(name, 105), ha="right", va="center", fontsize=9)
        colour = style.BLUE if value >= 0 else style.VERMILLION
        axes.add_patch(Rectangle((zero, y - 0.36 * step), value * scale, 0.72 * step, color=colour, linewidth=0))
        axes.text(zero + max(value, 0) * scale + 6, y, f"{value:.3g}", va="center", fontsize=9)
    axes.plot([zero, zero], [top, top + len(values) * step], color=style.GRAY, linewidth=0.8)


def _patch_fractions(shown: Mapping[str, Any], pictures: Mapping[int, np.ndarray]) -> np.ndarray:
    """What share of its picture each patch is."""
    places = [place for unit in shown["units"] for place in unit["pictures"] if place["patch"]]
    boxes = np.array([place["patch"] for place in places]).reshape(-1, 4)
    whole = [pictures[place["row"]].shape[0] * pictures[place["row"]].shape[1] for place in places]
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / np.array(whole)


def _draw_unit(
    axes: Axes, unit: Mapping[str, Any], top: float, row: float, count: int, pictures: Mapping[int, np.ndarray],
    crops: bool,
) -> None:  # fmt: skip
    """One row: the unit and its numbers, then its pictures."""
    left, space = 2 * _GAP, 164
    lines = [f"answers {unit['answer']:.3g} here,", f"above {style.format_percent(unit['above'], 0)} of those"]
    axes.text(left, top + 10, f"unit {unit['unit']}", va="center", fontweight="bold")
    for number, line in enumerate(lines, 1):
        axes.text(left, top + 10 + number * _LINE_HEIGHT, line, va="center", fontsize=_FONT_SIZE, color=style.GRAY)
    said = f"{unit['of_class']} of {len(unit['pictures'])} are" if unit["pictures"] else "never answers them"
    axes.text(left, top + 16 + 3 * _LINE_HEIGHT, said, va="center", fontsize=9)
    if unit["class"] is not None:
        name = style.fit_text(unit["class"], space - 2 * _GAP)
        axes.text(left, top + 16 + 4 * _LINE_HEIGHT, name, va="center", fontsize=9, color=style.BLUE, fontweight="bold")
    room = (style.WIDTH - space - _GAP) / count
    tile = min(room - _GAP, (row - _LINE_HEIGHT - _GAP) / (2 if crops else 1) - 4)
    for number, place in enumerate(unit["pictures"]):
        box = (space + number * room + (room - tile) / 2, top, tile, tile)
        _draw_marked_image(axes, pictures[place["row"]], place["patch"], box, crops)
        bottom = (box[0] - 3, top, tile, tile * (2 if crops else 1) + (4 if crops else 0))
        same = place["class"] == unit["class"]
        _draw_text_below(axes, bottom, place["class"], color=style.BLUE if same else style.VERMILLION)


def _draw_marked_image(
    axes: Axes,
    image_HWC: np.ndarray,
    patch: Sequence[int] | None,
    box: tuple[float, float, float, float],
    crops: bool,
) -> None:
    """A picture with the patch marked; below it the patch by itself, enlarged."""
    high, wide = image_HWC.shape[:2]
    scale = min(box[2] / wide, box[3] / high)
    _draw_tile(axes, image_HWC, (box[0], box[1], wide * scale, high * scale))
    if patch is None:
        return
    left, top, right, bottom = patch
    place = Rectangle(
        (box[0] + left * scale, box[1] + top * scale), (right - left) * scale, (bottom - top) * scale,
        fill=False, edgecolor=style.VERMILLION, linewidth=1.4,
        path_effects=[withStroke(linewidth=2.8, foreground=style.WHITE)],
    )  # fmt: skip
    if (right - left, bottom - top) != (wide, high):
        axes.add_patch(place)
    if crops:
        larger = min(box[2] / (right - left), box[3] / (bottom - top))
        size = ((right - left) * larger, (bottom - top) * larger)
        under = (box[0] + (box[2] - size[0]) / 2, box[1] + box[3] + 4 + (box[3] - size[1]) / 2)
        _draw_tile(axes, image_HWC[top:bottom, left:right], (*under, *size))
