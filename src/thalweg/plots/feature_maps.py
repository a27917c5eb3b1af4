"""Plot the feature maps of every layer of a model for one image.

N maps, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style

#: gap between tiles, height of a layer's heading, height of the title, in units
_GAP = 5
_HEADING = 24
_TITLE = 52
_COLUMNS = 16
#: bold letters are wider than the regular ones that `style.text_width` measures
_BOLD_WIDTH_RATIO = 0.85
_LEGEND = "strongest first; white is 0, blue positive, orange negative, one scale per layer"


class MapLayer(Protocol):
    """A layer to plot: its name, kind and number of channels, and some of its maps."""

    @property
    def name(self) -> str:
        """Name of the layer in the model."""
        ...

    @property
    def kind(self) -> str:
        """Type of the layer, such as Conv2d."""
        ...

    @property
    def channels(self) -> int:
        """Number of all maps of the layer."""
        ...

    @property
    def maps_NHW(self) -> np.ndarray:
        """The strongest maps."""
        ...


@style.as_image
def plot_feature_maps(layers: Sequence[MapLayer], title: str = "Feature maps of each layer") -> Figure:
    """Plot a row of up to 16 maps per layer: white is 0, blue positive, orange negative.

    All maps of a layer share one scale, so a weak one is pale.
    """
    if not layers:
        return style.empty_plot("No layer outputs feature maps.", title)
    tile_size = (style.WIDTH - _GAP) / _COLUMNS - _GAP
    heights = []
    for layer in layers:
        _, rows, columns = layer.maps_NHW.shape
        heights.append(tile_size * min(1, rows / columns))
    fig, axes = style.canvas(style.WIDTH, _TITLE + sum(heights) + len(layers) * (_HEADING + 2 * _GAP))
    line = style.fit_text(title, _BOLD_WIDTH_RATIO * style.WIDTH, 11.5)
    axes.text(_GAP, 18, line, va="center", fontweight="bold", fontsize=11.5)
    axes.text(_GAP, 38, _LEGEND, va="center", fontsize=8, color=style.GRAY)
    y = _TITLE
    for layer, height in zip(layers, heights, strict=True):
        _draw_heading(axes, layer, y + _HEADING / 2)
        y += _HEADING
        _draw_maps(axes, layer.maps_NHW[:_COLUMNS], y, height)
        y += height + 2 * _GAP
    return fig


def _draw_heading(axes: Axes, layer: MapLayer, y: float) -> None:
    """Draw name and kind of a layer at the left, number and size of its maps at the right."""
    _, height, width = layer.maps_NHW.shape
    size = f"{layer.channels} maps of {width} x {height}"
    axes.text(style.WIDTH - _GAP, y, size, va="center", ha="right", fontsize=8.5)
    max_width = _BOLD_WIDTH_RATIO * (style.WIDTH - style.text_width(size)) - 30
    name = style.fit_text(f"{layer.name}  {layer.kind}", max_width)
    axes.text(_GAP, y, name, va="center", fontweight="bold", fontsize=9.5)


def _draw_maps(axes: Axes, maps_NHW: np.ndarray, y: float, height: float) -> None:
    """Draw maps in a row, each framed, because a white map would be invisible on white."""
    tile_size = (style.WIDTH - _GAP) / _COLUMNS - _GAP
    _, rows, columns = maps_NHW.shape
    width = height * columns / rows
    for index, image_HWC in enumerate(colorize_maps(maps_NHW)):
        x = _GAP + index * (tile_size + _GAP) + (tile_size - width) / 2
        style.show_image(axes, image_HWC, (x, y, width, height))
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=style.LIGHT_GRAY, linewidth=0.5))


def colorize_maps(maps_NHW: np.ndarray) -> np.ndarray:
    """Return maps as floats (N, H, W, 3) in [0, 1] on one scale: white is 0, blue positive, orange negative."""
    maps_NHW1 = np.nan_to_num(np.asarray(maps_NHW, np.float64))[..., None]
    scaled_NHW1 = np.clip(maps_NHW1 / style.color_limit(maps_NHW1), -1, 1)
    strongest_NHW3 = np.where(scaled_NHW1 > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION))
    return 1 - np.abs(scaled_NHW1) * (1 - strongest_NHW3)
