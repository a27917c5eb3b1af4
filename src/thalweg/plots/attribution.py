"""Plot attribution maps: heatmaps over an image, all methods side by side.

H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: lengths are units
_GAP = 10
_HEADING_HEIGHT = 36
_TITLE_HEIGHT = 22
_COLORBAR_HEIGHT = 18
_LINE_HEIGHT = 14
_BAR_HEIGHT = 24
_MAX_PANEL_SIZE = 240
_MIN_WIDTH = 560
_MAX_CAPTION_LINES = 2
#: font size of captions, in points
_SMALL_FONT = 8
#: bold letters are wider than the regular ones that `style.text_width` measures
_BOLD_WIDTH_RATIO = 0.85
#: panels in a row
_COLUMNS = 4
#: colors of heat 0 to 1; lightness increases, so that it can be read without hue
_COLORMAP = colormaps["inferno"]


class Panel(NamedTuple):
    """A map (H, W) to lay over the image, or an image (H, W, C) uint8 to show instead, with title and caption."""

    title: str
    values: np.ndarray
    caption: str = ""


@style.as_image
def plot_attribution_panels(
    image_HWC: np.ndarray, panels: Sequence[Panel], predictions: Sequence[tuple[str, float]], label: str = ""
) -> Figure:
    """Plot an image beside its attribution maps, above bars of the predictions.

    Args:
        image_HWC: The image, uint8.
        panels: The maps, each with a colorbar.
        predictions: Labels with their probabilities.
        label: The label that the maps explain; its bar is darker.

    Returns:
        The figure.
    """
    image_height, image_width = image_HWC.shape[:2]
    all_panels = [Panel("Image", image_HWC, f"{image_width} x {image_height}, model input")]
    all_panels += panels
    columns = min(_COLUMNS, len(all_panels))
    rows = math.ceil(len(all_panels) / _COLUMNS)
    panel_size = min((style.WIDTH - _GAP) / _COLUMNS, _MAX_PANEL_SIZE) - _GAP
    width = panel_size * min(1, image_width / image_height)
    height = panel_size * min(1, image_height / image_width)
    step = _TITLE_HEIGHT + height + _COLORBAR_HEIGHT + _MAX_CAPTION_LINES * _LINE_HEIGHT + _GAP
    top = _HEADING_HEIGHT if label else _GAP
    bars_top = top + rows * step
    fig_width = max(columns * (panel_size + _GAP) + _GAP, _MIN_WIDTH)
    fig, axes = style.canvas(fig_width, bars_top + _BAR_HEIGHT * len(predictions) + _GAP)
    if label:
        text = style.fit_text(f"Attribution for {label}", _BOLD_WIDTH_RATIO * (fig_width - 2 * _GAP), 11.5)
        axes.text(_GAP, top / 2, text, va="center", fontweight="bold", fontsize=11.5)
    for index, panel in enumerate(all_panels):
        x = _GAP + index % _COLUMNS * (panel_size + _GAP)
        y = top + index // _COLUMNS * step
        _draw_panel(axes, panel, image_HWC, (x, y, width, height), panel_size)
    _draw_predictions(axes, predictions, label, bars_top)
    return fig


def _draw_panel(axes: Axes, panel: Panel, image_HWC: np.ndarray, box: style.Box, max_width: float) -> None:
    """Draw a title, below it the map over the image, below that its colorbar and its caption."""
    x, y, width, height = box
    title = style.fit_text(panel.title, _BOLD_WIDTH_RATIO * max_width)
    axes.text(x, y + _TITLE_HEIGHT / 2, title, va="center", fontweight="bold")
    y += _TITLE_HEIGHT
    if panel.values.ndim == 3:
        style.show_image(axes, panel.values, (x, y, width, height))
        y += height
    else:
        style.show_image(axes, overlay_heatmap(image_HWC, panel.values), (x, y, width, height))
        y += height
        _draw_colorbar(axes, is_signed(panel.values), (x, y + 7, width))
        y += _COLORBAR_HEIGHT
    for line in _wrap_text(panel.caption, max_width)[:_MAX_CAPTION_LINES]:
        y += _LINE_HEIGHT
        axes.text(x, y, line, va="baseline", fontsize=_SMALL_FONT, color=style.BLACK)


def _draw_colorbar(axes: Axes, signed: bool, box: tuple[float, float, float]) -> None:
    """Draw the colors of a map with a label at each end."""
    x, y, width = box
    low = "low"
    high = "high"
    minimum = 0
    if signed:
        low = "against"
        high = "for"
        minimum = -1
    scale_1W = np.linspace(minimum, 1, 101)[None]
    colors_1W3 = overlay_heatmap(np.full((1, 101, 1), 160, np.uint8), scale_1W)
    start = style.text_width(low, _SMALL_FONT) + 6
    end = style.text_width(high, _SMALL_FONT) + 6
    axes.text(x, y + 4, low, va="center", fontsize=_SMALL_FONT)
    axes.text(x + width, y + 4, high, va="center", ha="right", fontsize=_SMALL_FONT)
    style.show_image(axes, colors_1W3, (x + start, y, width - start - end, 8))


def _draw_predictions(axes: Axes, predictions: Sequence[tuple[str, float]], label: str, top: float) -> None:
    """Draw a line per prediction: its label, a bar, its probability."""
    fig_width = axes.get_xlim()[1]
    left = 0.36 * fig_width
    max_length = fig_width - left - 80
    for index, (name, probability) in enumerate(predictions):
        y = top + (index + 0.5) * _BAR_HEIGHT
        length = probability * max_length
        color = style.BLUE if name == label else style.SKY
        axes.text(left - 8, y, style.fit_text(name, left - _GAP - 12), va="center", ha="right")
        axes.barh(y, length, 0.62 * _BAR_HEIGHT, left, color=color)
        axes.text(left + length + 6, y, style.format_percent(probability), va="center", fontsize=8.5)


def _wrap_text(text: str, max_width: float) -> list[str]:
    """Wrap a text to lines of at most `max_width` units."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and style.text_width(longer, _SMALL_FONT) > max_width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [style.fit_text(line, max_width, _SMALL_FONT) for line in lines]


def is_signed(heat_HW: np.ndarray) -> bool:
    """Return whether a map has negative values."""
    return bool(np.nanmin(heat_HW) < 0)


def overlay_heatmap(image_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Return an image, uint8, with a heatmap over it: floats (H, W, 3) in [0, 1].

    A map without negative values goes from the darkened image to yellow at its maximum. A signed map lies on the faded
    image: blue where positive, orange where negative, stronger with the distance from 0.
    """
    gray_HW1 = image_HWC.astype(np.float64).mean(2, keepdims=True) / 255
    heat_HW = np.nan_to_num(np.asarray(heat_HW, np.float64))
    if not is_signed(heat_HW):
        heat_HW = heat_HW / max(heat_HW.max(), 1e-12)
        opacity_HW1 = 0.75 * heat_HW[..., None]
        return (1 - opacity_HW1) * 0.8 * gray_HW1 + opacity_HW1 * _COLORMAP(heat_HW)[..., :3]
    heat_HW1 = np.clip(heat_HW / style.color_limit(heat_HW), -1, 1)[..., None]
    strongest_HW3 = np.where(heat_HW1 > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION))
    faded_HW1 = 0.75 + 0.25 * gray_HW1
    opacity_HW1 = np.abs(heat_HW1)
    return (1 - opacity_HW1) * faded_HW1 + opacity_HW1 * strongest_HW3
