"""Plot the cost of models: curves over the image size, and a table of layers with bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ...plots import style

if TYPE_CHECKING:
    from ...attribution.layer_summary import LayerInfo
    from .compute import LayerField, ParameterNumbers, ScalingCurve

#: figure units: a row of the table, the header above it, the receptive fields below it, the smallest figure
_ROW_HEIGHT = 20
_HEADER_HEIGHT = 78
_FIELDS_HEIGHT = 172
_MIN_HEIGHT = 440
#: figure units of the legend below the curves
_LEGEND_HEIGHT = 130
#: color, dashes and marker of each curve
_STYLES = ((style.VERMILLION, "-", "s"), (style.BLUE, "-", "o"), (style.BLACK, "--", "D"))


# --- scaling curves --------------------------------------------------------------------------------------------------


@style.as_image
def plot_scaling_curves(numbers: ParameterNumbers, count: int) -> Figure:
    """Plot parameters, multiply-adds and memory of the first `count` models over the image size."""
    height = _figure_height(numbers)
    fig = style.auto_figure(height)
    subfigures = fig.subfigures(2, 1, height_ratios=(height - _LEGEND_HEIGHT, _LEGEND_HEIGHT), squeeze=False)
    panels = (
        ("Parameters", [curve.parameters for curve in numbers.scaling]),
        ("Multiply-adds per image", [curve.multiply_adds for curve in numbers.scaling]),
        ("Bytes of memory to train", [curve.training_bytes for curve in numbers.scaling]),
    )
    color_names = {1: "gray", 3: "color"}
    channels = color_names.get(numbers.channels, f"{numbers.channels}-channel")
    for axes, (title, curves) in zip(subfigures[0, 0].subplots(1, 3), panels, strict=True):
        axes.set_title(title)
        _draw_curves(axes, numbers.image_sizes, curves, count)
        axes.set_xlabel(f"size of {channels} images, pixels")
    _draw_legend(subfigures[1, 0].subplots(), numbers, count)
    return fig


def _figure_height(numbers: ParameterNumbers) -> int:
    """Return the height in figure units, the same for all frames."""
    overview_rows = float(len(numbers.pages[0]))
    if numbers.receptive_fields:
        overview_rows += _FIELDS_HEIGHT / _ROW_HEIGHT
    rows = max(overview_rows, *map(len, numbers.pages[1:]), 0)
    return max(_MIN_HEIGHT, round(_HEADER_HEIGHT + _ROW_HEIGHT * (2 + rows)))


def _draw_curves(axes: Axes, sizes: Sequence[int], curves: Sequence[Sequence[int | None]], count: int) -> None:
    """Draw the first `count` curves on log axes; the limits are those of all curves."""
    values = []
    for curve in curves:
        values += filter(None, curve)
    low = min(values)
    high = max(values)
    axes.set(xscale="log", yscale="log")
    for curve, (color, dashes, marker) in list(zip(curves, _STYLES, strict=True))[:count]:
        visible = np.array(curve, np.float64)
        axes.plot(sizes, visible, dashes, color=color, marker=marker, markersize=5)
    axes.set(xlim=(sizes[0] / 1.12, sizes[-1] * 1.12), ylim=(low / 2, high * 2))
    axes.xaxis.set_major_locator(FixedLocator(_select_ticks(sizes)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    label_size = 9.5 if len(sizes) <= 5 else 7.5
    axes.tick_params(axis="x", labelsize=label_size)
    multiples = style.choose_tick_factors(high >= 250 * low)
    axes.yaxis.set_major_locator(LogLocator(subs=multiples, numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))


def _select_ticks(sizes: Sequence[int]) -> list[int]:
    """Select image sizes whose tick labels do not overlap; the legend lists all of them."""
    ticks = [sizes[0]]
    min_distance = 0.12 * math.log(sizes[-1] / sizes[0])
    for size in sizes[1:]:
        if math.log(size / ticks[-1]) >= min_distance:
            ticks.append(size)
    return ticks


def _draw_legend(axes: Axes, numbers: ParameterNumbers, count: int) -> None:
    """Draw the names of the models, with their number of parameters at every image size."""
    style.hide_axes(axes)
    axes.set(xlim=(0, style.WIDTH), ylim=(5, 0))
    sizes = numbers.image_sizes
    column_width = 80 if len(sizes) <= 6 else 70
    columns = np.linspace(880 - column_width * (len(sizes) - 1), 880, len(sizes))
    axes.text(20, 0.5, "parameters at image size", va="center", color=style.GRAY)
    for x, size in zip(columns, sizes, strict=True):
        axes.text(x, 0.5, f"{size}", ha="right", va="center", color=style.GRAY)
    names = [
        f"dense: {', '.join(map(str, numbers.mlp_widths))}",
        f"convolutional: {', '.join(map(str, numbers.convnet_widths))}",
        numbers.model,
    ]
    for i, (name, curve) in enumerate(zip(names, numbers.scaling, strict=True)):
        _draw_legend_row(axes, i, style.fit_text(name, columns[0] - 130), is_drawn=i < count)
        if i < count:
            _draw_counts(axes, i + 1.5, columns, curve)


def _draw_legend_row(axes: Axes, i: int, name: str, is_drawn: bool) -> None:
    y = i + 1.5
    color, dashes, marker = _STYLES[i]
    text_color = style.BLACK
    if not is_drawn:
        color = style.LIGHT_GRAY
        text_color = style.GRAY
    axes.plot([20, 70], [y, y], dashes, color=color)
    axes.plot(45, y, marker, color=color, markersize=6)
    axes.text(84, y, name, va="center", color=text_color)


def _draw_counts(axes: Axes, y: float, columns: np.ndarray, curve: ScalingCurve) -> None:
    for x, value in zip(columns, curve.parameters, strict=True):
        text = "–"
        if value is not None:
            text = format_count(value)
        axes.text(x, y, text, ha="right", va="center")


def format_count(value: float) -> str:
    """Format three digits and a letter: '25.6 M' for 25557032, '4.09 G' for 4089184256."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g} {letter}"
    return f"{float(f'{value:.3g}'):g}"


# --- layer table -----------------------------------------------------------------------------------------------------

#: left edges of names and kinds; right edges of the other columns; left edges of bars
_NAME_X = 16
_KIND_X = 170
_OUTPUT_X = 434
_PARAMETERS_X = 520
_PARAMETERS_BAR_X = 528
_MULTIPLY_ADDS_X = 716
_MULTIPLY_ADDS_BAR_X = 724
_FIELD_X = 884
_MAX_BAR_WIDTH = 92


@style.as_image
def plot_layer_table(numbers: ParameterNumbers, page: int) -> Figure:
    """Plot one page of layers: names, output shapes, parameters and multiply-adds with bars, receptive fields."""
    fig, axes = style.canvas(style.WIDTH, _figure_height(numbers))
    rows = numbers.pages[page]
    size = numbers.image_size
    is_overview = page == 0 and len(numbers.pages) > 1
    title = f"{numbers.model} layer by layer"
    if is_overview:
        title = f"{numbers.model} overview"
    _draw_title(axes, 22, f"{title}, for an image of {size} x {size} x {numbers.channels}")
    _draw_header(axes)
    max_parameters = max(row.parameters for row in rows)
    max_multiply_adds = max(row.multiply_adds for row in rows)
    for i, row in enumerate(rows):
        y = _HEADER_HEIGHT + _ROW_HEIGHT * (i + 0.5)
        _draw_row(axes, y, row, size)
        _draw_bar(axes, _PARAMETERS_BAR_X, y, row.parameters / (max_parameters or 1), style.BLUE)
        _draw_bar(axes, _MULTIPLY_ADDS_BAR_X, y, row.multiply_adds / (max_multiply_adds or 1), style.ORANGE)
    bottom = _HEADER_HEIGHT + _ROW_HEIGHT * len(rows) + 4
    axes.plot([_NAME_X, _FIELD_X], [bottom, bottom], color=style.GRAY, linewidth=0.8)
    _draw_total(axes, bottom + 0.7 * _ROW_HEIGHT, numbers.total, size)
    if page == 0 and numbers.receptive_fields:
        _draw_receptive_fields(axes, bottom + 1.5 * _ROW_HEIGHT, numbers.receptive_fields, size)
    return fig


def _draw_title(axes: Axes, y: float, text: str) -> None:
    # fit_text measures regular letters; bold ones are wider
    axes.text(_NAME_X, y, style.fit_text(text, 0.85 * style.WIDTH, 11.5), va="center", fontweight="bold", fontsize=11.5)


def _draw_header(axes: Axes) -> None:
    axes.text(_NAME_X, 54, "layer", va="center", color=style.GRAY)
    axes.text(_KIND_X, 54, "type", va="center", color=style.GRAY)
    for x, title in (
        (_OUTPUT_X, "output"),
        (_PARAMETERS_X, "parameters"),
        (_MULTIPLY_ADDS_X, "multiply-adds"),
        (_FIELD_X, "receptive field"),
    ):
        axes.text(x, 54, title, ha="right", va="center", color=style.GRAY)
    axes.plot([_NAME_X, _FIELD_X], [68, 68], color=style.GRAY, linewidth=0.8)


def _draw_row(axes: Axes, y: float, row: LayerInfo, image_size: int) -> None:
    """Draw the texts of one layer."""
    axes.text(_NAME_X, y, style.fit_text(row.name, _KIND_X - _NAME_X - 12, tail=True), va="center")
    axes.text(_KIND_X, y, style.fit_text(row.kind, 150), va="center", color=style.GRAY)
    if row.shape is not None:
        axes.text(_OUTPUT_X, y, " x ".join(map(str, row.shape)), ha="right", va="center")
    _draw_costs(axes, y, row, image_size)


def _draw_total(axes: Axes, y: float, total: LayerInfo, image_size: int) -> None:
    axes.text(_NAME_X, y, "all layers", va="center")
    _draw_costs(axes, y, total, image_size)


def _draw_costs(axes: Axes, y: float, row: LayerInfo, image_size: int) -> None:
    for x, value in ((_PARAMETERS_X, row.parameters), (_MULTIPLY_ADDS_X, row.multiply_adds)):
        text = "–"
        if value:
            text = format_count(value)
        axes.text(x, y, text, ha="right", va="center")
    if row.receptive_field is not None:
        text = "full image"
        if row.receptive_field < image_size:
            text = f"{row.receptive_field} px"
        axes.text(_FIELD_X, y, text, ha="right", va="center")


def _draw_bar(axes: Axes, x: float, y: float, fraction: float, color: str) -> None:
    """Draw a bar of at least one unit; nothing for 0."""
    if fraction:
        width = max(1.0, _MAX_BAR_WIDTH * fraction)
        axes.add_patch(Rectangle((x, y - 6), width, 12, facecolor=color, edgecolor="none"))


def _draw_receptive_fields(axes: Axes, top: float, fields: Sequence[LayerField], image_size: int) -> None:
    """Draw the receptive field of a central unit as a square inside the image, for some layers."""
    _draw_title(axes, top + 16, "Receptive field: how much of the image one unit sees")
    column_width = (style.WIDTH - 2 * _NAME_X) / max(len(fields), 8)
    length = min(column_width - 20, 92)
    y = top + 36
    for i, layer in enumerate(fields):
        x = _NAME_X + i * column_width
        side = length * min(1, layer.receptive_field / image_size)
        margin = (length - side) / 2
        axes.add_patch(Rectangle((x + margin, y + margin), side, side, facecolor=style.SKY, edgecolor="none"))
        axes.add_patch(Rectangle((x, y), length, length, fill=False, edgecolor=style.GRAY))
        text = f"full ({layer.receptive_field} px)"
        if layer.receptive_field < image_size:
            text = f"{layer.receptive_field} px"
        name = style.fit_text(layer.name, column_width - 8, 8.5, tail=True)
        axes.text(x, y + length + 14, name, va="center", fontsize=8.5)
        axes.text(x, y + length + 29, text, va="center", fontsize=8.5, color=style.GRAY)
