"""What networks cost: curves over the side of the picture, and a table of layers with bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ...plots import style

#: units: of a row of the table, of what is above its rows, of the fields below it, of the least sheet
_ROW_HEIGHT, _HEADER_HEIGHT, _FIELDS_HEIGHT, _MIN_HEIGHT = 20, 78, 172, 440
_STYLES = ((style.VERMILLION, "-", "s"), (style.BLUE, "-", "o"), (style.BLACK, "--", "D"))
_FLOPS_COLOR = style.ORANGE


@style.as_image
def plot_scaling_curves(numbers: dict[str, Any], count: int) -> Figure:
    """Draws weights, multiply-adds and memory of the first `count` networks over the side of the picture."""
    made = style.auto_figure(_figure_height(numbers))
    above, below = made.subfigures(2, 1, height_ratios=(_figure_height(numbers) - 130, 130))
    channels = {1: "grey", 3: "colour"}.get(numbers["channels"], f"{numbers['channels']}-channel")
    panels = above.subplots(1, 3)
    titles = {
        "parameters": "Weights",
        "multiply_adds": "Multiply-adds of one picture",
        "memory": "Bytes of memory to train",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title)
        _draw_curves(axes, numbers, key, count)
        axes.set_xlabel(f"side of {channels} pictures, pixels")
    _draw_param_counts(below.subplots(), numbers, count)
    return made


def _figure_height(numbers: dict[str, Any]) -> int:
    """Units; all frames have the same."""
    glance, *others = map(len, numbers["pages"])
    rows = max(glance + _FIELDS_HEIGHT / _ROW_HEIGHT if numbers["fields"] else glance, *others, 0)
    return max(_MIN_HEIGHT, round(_HEADER_HEIGHT + _ROW_HEIGHT * (2 + rows)))


def _draw_curves(axes: Axes, numbers: dict[str, Any], key: str, count: int) -> None:
    sides = numbers["sides"]
    every = [value for lines in numbers["growth"].values() for value in lines[key] if value]
    axes.set(xscale="log", yscale="log")
    for place, lines in enumerate(numbers["growth"].values()):
        colour, dashes, marker = _STYLES[place]
        values = [math.nan if value is None else value for value in lines[key]]
        shown = values if place < count else [math.nan] * len(values)
        axes.plot(sides, shown, dashes, color=colour, marker=marker, markersize=5)
    axes.set(xlim=(sides[0] / 1.12, sides[-1] * 1.12), ylim=(min(every) / 2, max(every) * 2))
    axes.xaxis.set_major_locator(FixedLocator(_readable_ticks(sides)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=9.5 if len(sides) <= 5 else 7.5)
    few = max(every) < 250 * min(every)  # powers of ten alone would be one or two
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))


def _readable_ticks(sides: Sequence[int]) -> list[int]:
    """Those of the sides whose labels do not lie on each other; the legend tells all of them."""
    kept = [sides[0]]
    for side in sides[1:]:
        if math.log(side / kept[-1]) >= 0.12 * math.log(sides[-1] / sides[0]):
            kept.append(side)
    return kept


def _draw_param_counts(axes: Axes, numbers: dict[str, Any], count: int) -> None:
    """The legend, which tells the weights at every side."""
    style.hide_axes(axes)
    axes.set(xlim=(0, style.WIDTH), ylim=(5, 0))
    sides = numbers["sides"]
    apart = 80 if len(sides) <= 6 else 70
    across = np.linspace(880 - apart * (len(sides) - 1), 880, len(sides))
    axes.text(20, 0.5, "weights at a side of", va="center", color=style.GRAY)
    for x, side in zip(across, sides, strict=True):
        axes.text(x, 0.5, f"{side}", ha="right", va="center", color=style.GRAY)
    hidden, maps = (", ".join(map(str, numbers[key])) for key in ("dense", "maps"))
    names = [f"dense: {hidden}", f"convolutional: {maps}", numbers["network"]]
    for row, (name, lines) in enumerate(zip(names, numbers["growth"].values(), strict=True), 1):
        colour, dashes, marker = _STYLES[row - 1]
        known = row <= count
        ink = style.BLACK if known else style.GRAY
        axes.plot([20, 70], [row + 0.5] * 2, dashes, color=colour if known else style.LIGHT_GRAY)
        axes.plot(45, row + 0.5, marker, color=colour if known else style.LIGHT_GRAY, markersize=6)
        axes.text(84, row + 0.5, style.fit_text(name, across[0] - 130), va="center", color=ink)
        for x, value in zip(across, lines["parameters"], strict=True):
            told = "–" if value is None else format_count(value)
            axes.text(x, row + 0.5, told if known else "", ha="right", va="center")


def format_count(value: float) -> str:
    """Three digits and a letter: '25.6 M' for 25557032, '4.09 G' for 4089184256."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g} {letter}"
    return f"{float(f'{value:.3g}'):g}"


#: left edges of names and kinds; right edges of answers and figures; left edges of bars
_NAME_X, _KIND_X, _OUTPUT_X, _NUMBER_X, _BAR_WIDTH, _FIELD_X = 16, 170, 434, (520, 716), (528, 724), 884
_MAX_BAR_WIDTH = 92


@style.as_image
def plot_layer_table(numbers: dict[str, Any], page: int) -> Figure:
    """Draws a page of the layers: names, shapes, weights and multiply-adds with bars, and what is seen."""
    made, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    rows, whole, side = numbers["pages"][page], numbers["total"], numbers["side"]
    what = "at a glance" if page == 0 and len(numbers["pages"]) > 1 else "layer by layer"
    shape = f"{side} x {side} x {numbers['channels']}"
    _draw_title(axes, 22, f"{numbers['network']} {what}, for a picture of {shape}")
    heads = (
        (_NAME_X, "layer", "left"),
        (_KIND_X, "kind", "left"),
        (_OUTPUT_X, "answer", "right"),
        (_FIELD_X, "sees", "right"),
    )
    for x, head, align in (*heads, (_NUMBER_X[0], "weights", "right"), (_NUMBER_X[1], "multiply-adds", "right")):
        axes.text(x, 54, head, ha=align, va="center", color=style.GRAY)
    axes.plot([_NAME_X, _FIELD_X], [68, 68], color=style.GRAY, linewidth=0.8)
    largest = [max(row[key] for row in rows) or 1 for key in ("parameters", "multiply_adds")]
    for place, row in enumerate(rows):
        _draw_row(axes, _HEADER_HEIGHT + _ROW_HEIGHT * (place + 0.5), row, largest, side)
    y = _HEADER_HEIGHT + _ROW_HEIGHT * len(rows) + 4
    axes.plot([_NAME_X, _FIELD_X], [y, y], color=style.GRAY, linewidth=0.8)
    _draw_row(axes, y + 0.7 * _ROW_HEIGHT, {**whole, "name": "all layers", "kind": "", "shape": None}, None, side)
    if page == 0 and numbers["fields"]:
        _draw_receptive_fields(axes, y + 1.5 * _ROW_HEIGHT, numbers["fields"], side)
    return made


def _draw_title(axes: Axes, y: float, text: str) -> None:
    # bold letters are wider than those that are measured
    axes.text(_NAME_X, y, style.fit_text(text, 0.85 * style.WIDTH, 11.5), va="center", fontweight="bold", fontsize=11.5)


def _draw_receptive_fields(axes: Axes, top: float, fields: Sequence[dict[str, Any]], side: int) -> None:
    """How much of the picture a neuron in the middle sees, at some of the layers."""
    _draw_title(axes, top + 16, "How much of the picture one neuron sees")
    apart = (style.WIDTH - 2 * _NAME_X) / max(len(fields), 8)
    length = min(apart - 20, 92)
    for place, one in enumerate(fields):
        x, y = _NAME_X + place * apart, top + 36
        seen = length * min(1, one["field"] / side)
        middle = (x + (length - seen) / 2, y + (length - seen) / 2)
        axes.add_patch(Rectangle(middle, seen, seen, facecolor=style.SKY, edgecolor="none"))
        axes.add_patch(Rectangle((x, y), length, length, fill=False, edgecolor=style.GRAY))
        told = f"{one['field']} px" if one["field"] < side else f"whole ({one['field']})"
        axes.text(x, y + length + 14, style.fit_text(one["name"], apart - 8, 8.5, tail=True), va="center", fontsize=8.5)
        axes.text(x, y + length + 29, told, va="center", fontsize=8.5, color=style.GRAY)


def _draw_row(axes: Axes, y: float, row: dict[str, Any], largest: Sequence[int] | None, side: int) -> None:
    """One layer at a height; bars where the largest values are given."""
    axes.text(_NAME_X, y, style.fit_text(row["name"], _KIND_X - _NAME_X - 12, tail=True), va="center")
    axes.text(_KIND_X, y, style.fit_text(row["kind"], 150), va="center", color=style.GRAY)
    if row["shape"] is not None:
        axes.text(_OUTPUT_X, y, " x ".join(map(str, row["shape"])), ha="right", va="center")
    for place, (key, colour) in enumerate((("parameters", style.BLUE), ("multiply_adds", _FLOPS_COLOR))):
        told = format_count(row[key]) if row[key] else "–"
        axes.text(_NUMBER_X[place], y, told, ha="right", va="center")
        if largest and row[key]:
            width = max(1.0, _MAX_BAR_WIDTH * row[key] / largest[place])
            axes.add_patch(Rectangle((_BAR_WIDTH[place], y - 6), width, 12, facecolor=colour, edgecolor="none"))
    if row["field"] is not None:
        told = f"{row['field']} px" if row["field"] < side else "whole"
        axes.text(_FIELD_X, y, told, ha="right", va="center")
