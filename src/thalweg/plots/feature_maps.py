"""What each layer of a network answers to a picture, layer by layer.

N maps, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style

#: units: between tiles, of a heading, of the title
_GAP, _HEADING, _TITLE = 5, 24, 52
_COLUMNS = 16


class MapLayer(Protocol):
    """What is drawn of a layer: `maps_NHW` of its `channels` maps, under its name and kind."""

    name: str
    kind: str
    channels: int
    maps_NHW: np.ndarray


@style.as_image
def plot_feature_maps(layers: Sequence[MapLayer], title: str = "What each layer answers") -> Figure:
    """Draws maps in a row of at most 16 per layer: white is 0, blue positive, orange negative.

    All maps of a layer share one scale, so a weak one is pale.
    """
    if not layers:
        return style.empty_plot("No layer answers with maps.", title)
    room = (style.WIDTH - _GAP) / _COLUMNS - _GAP
    heights = [room * min(1, layer.maps_NHW.shape[1] / layer.maps_NHW.shape[2]) for layer in layers]
    made, axes = style.canvas(style.WIDTH, _TITLE + sum(heights) + len(layers) * (_HEADING + 2 * _GAP))
    # bold letters are wider than those that are measured
    axes.text(_GAP, 18, style.fit_text(title, 0.85 * style.WIDTH, 11.5), va="center", fontweight="bold", fontsize=11.5)
    told = "strongest first; white is 0, blue positive, orange negative, one scale for each layer"
    axes.text(_GAP, 38, told, va="center", fontsize=8, color=style.GRAY)
    y = _TITLE
    for layer, height in zip(layers, heights, strict=True):
        _, high, wide = layer.maps_NHW.shape
        size = f"{layer.channels} maps of {wide} x {high}"
        axes.text(style.WIDTH - _GAP, y + _HEADING / 2, size, va="center", ha="right", fontsize=8.5)
        name = style.fit_text(f"{layer.name}  {layer.kind}", 0.85 * (style.WIDTH - style.text_width(size)) - 30)
        axes.text(_GAP, y + _HEADING / 2, name, va="center", fontweight="bold", fontsize=9.5)
        y += _HEADING
        width = height * wide / high
        for number, image in enumerate(colorize_maps(layer.maps_NHW[:_COLUMNS])):
            x = _GAP + number * (room + _GAP) + (room - width) / 2
            style.show_image(axes, image, (x, y, width, height))
            # a white map on white paper
            axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.5))
        y += height + 2 * _GAP
    return made


def colorize_maps(maps_NHW: np.ndarray) -> np.ndarray:
    """Maps of one scale as floats (N, H, W, 3) in [0, 1]: white is 0, blue positive, orange negative."""
    maps_NHW1 = np.nan_to_num(np.asarray(maps_NHW, np.float64))[..., None]
    # a few values far from all others should not make the rest pale
    largest = np.quantile(np.abs(maps_NHW1), 0.998) if maps_NHW1.size else 1
    shown = np.clip(maps_NHW1 / max(largest, 1e-12), -1, 1)
    return 1 - np.abs(shown) * (1 - np.where(shown > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION)))
