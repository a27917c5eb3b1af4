"""Plot of units: the top images of each, with the patch that the activation depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ...plots import style
from .plot import (
    FONT_SIZE,
    GAP,
    HEADER_HEIGHT,
    LINE_HEIGHT,
    Box,
    draw_text_below,
    draw_tile,
    new_canvas,
    unit_row_height,
)
from .records import FeatureNumbers, LayerUnits, UnitNumbers

#: width of the text at the left of each row, in units
_TEXT_WIDTH = 164


@dataclass(frozen=True)
class _RowLayout:
    """Height of a row, number of images per row, and whether the patches are shown enlarged."""

    height: float
    columns: int
    has_crops: bool

    @property
    def column_width(self) -> float:
        """Width available for one image."""
        return (style.WIDTH - _TEXT_WIDTH - GAP) / self.columns

    @property
    def tile(self) -> float:
        """Side of one image."""
        rows = 2 if self.has_crops else 1
        return min(self.column_width - GAP, (self.height - LINE_HEIGHT - GAP) / rows - 4)

    @property
    def tiles_height(self) -> float:
        """Height of an image with its enlarged patch."""
        if self.has_crops:
            return 2 * self.tile + 4
        return self.tile


@style.as_image
def plot_units(numbers: FeatureNumbers, index: int, top_images: Mapping[int, np.ndarray]) -> Figure:
    """Plot the top images of units, a row each: the image with its patch, the patch enlarged, and the class."""
    layer_units = numbers["units"][index]
    training = numbers["training"]
    assert training is not None
    fractions = _patch_fractions(layer_units, top_images)
    has_crops = len(fractions) > 0 and bool(np.median(fractions) < 0.5)
    subtitle = f"the {training['top_k']} of {training['images']:,} training images with the highest activation"
    if has_crops:
        subtitle += "; the activation depends on the box, enlarged below"
    elif len(fractions) and fractions.min() < 1:
        subtitle += "; the activation depends on the box"
    fig, axes, _ = new_canvas(numbers, f"Top images of units of {layer_units['layer']}", subtitle)
    if not layer_units["units"]:
        text = "No unit of this layer is active for this image."
        axes.text(style.WIDTH / 2, 200, text, ha="center", color=style.GRAY)
    layout = _RowLayout(unit_row_height(numbers), training["top_k"], has_crops)
    for row, unit in enumerate(layer_units["units"]):
        top = HEADER_HEIGHT + row * layout.height
        _draw_unit_text(axes, unit, top)
        _draw_top_images(axes, unit, top, layout, top_images)
    return fig


def _patch_fractions(layer_units: LayerUnits, top_images: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return the area of each patch as a fraction of its image."""
    fractions = []
    for unit in layer_units["units"]:
        for image in unit["images"]:
            if image["patch"]:
                left, top, right, bottom = image["patch"]
                height, width = top_images[image["index"]].shape[:2]
                fractions.append((right - left) * (bottom - top) / (height * width))
    return np.array(fractions)


def _draw_unit_text(axes: Axes, unit: UnitNumbers, top: float) -> None:
    """Write number, activation and majority class of a unit."""
    left = 2 * GAP
    axes.text(left, top + 10, f"unit {unit['unit']}", va="center", fontweight="bold")
    percent = style.format_percent(unit["percentile"], 0)
    lines = [f"activation {unit['activation']:.3g} here,", f"higher than for {percent}"]
    for number, line in enumerate(lines, 1):
        axes.text(left, top + 10 + number * LINE_HEIGHT, line, va="center", fontsize=FONT_SIZE, color=style.GRAY)
    text = "never active for these"
    if unit["images"]:
        text = f"{unit['majority_count']} of {len(unit['images'])} are"
    axes.text(left, top + 16 + 3 * LINE_HEIGHT, text, va="center", fontsize=9)
    if unit["majority_class"] is not None:
        name = style.fit_text(unit["majority_class"], _TEXT_WIDTH - 2 * GAP)
        y = top + 16 + 4 * LINE_HEIGHT
        axes.text(left, y, name, va="center", fontsize=9, color=style.BLUE, fontweight="bold")


def _draw_top_images(
    axes: Axes, unit: UnitNumbers, top: float, layout: _RowLayout, top_images: Mapping[int, np.ndarray]
) -> None:
    """Draw the top images of a unit with their labels; the majority class is blue."""
    tile = layout.tile
    for column, image in enumerate(unit["images"]):
        left = _TEXT_WIDTH + column * layout.column_width + (layout.column_width - tile) / 2
        image_HWC = top_images[image["index"]]
        box = (left, top, tile, tile)
        _draw_marked_image(axes, image_HWC, image["patch"], box)
        if layout.has_crops and image["patch"] is not None:
            _draw_patch(axes, image_HWC, image["patch"], (left, top + tile + 4, tile, tile))
        color = style.BLUE if image["label"] == unit["majority_class"] else style.VERMILLION
        draw_text_below(axes, (left - 3, top, tile, layout.tiles_height), image["label"], color)


def _draw_marked_image(axes: Axes, image_HWC: np.ndarray, patch: Sequence[int] | None, box: Box) -> None:
    """Draw an image and outline its patch, unless it is the whole image."""
    height, width = image_HWC.shape[:2]
    scale = min(box[2] / width, box[3] / height)
    draw_tile(axes, image_HWC, (box[0], box[1], width * scale, height * scale))
    if patch is None:
        return
    left, top, right, bottom = patch
    if (right - left, bottom - top) == (width, height):
        return
    outline = Rectangle(
        (box[0] + left * scale, box[1] + top * scale),
        (right - left) * scale,
        (bottom - top) * scale,
        fill=False,
        edgecolor=style.VERMILLION,
        linewidth=1.4,
    )
    outline.set_path_effects([withStroke(linewidth=2.8, foreground=style.WHITE)])
    axes.add_patch(outline)


def _draw_patch(axes: Axes, image_HWC: np.ndarray, patch: Sequence[int], box: Box) -> None:
    """Draw a patch enlarged, centered in a box."""
    left, top, right, bottom = patch
    scale = min(box[2] / (right - left), box[3] / (bottom - top))
    width = (right - left) * scale
    height = (bottom - top) * scale
    corner = (box[0] + (box[2] - width) / 2, box[1] + (box[3] - height) / 2)
    draw_tile(axes, image_HWC[top:bottom, left:right], (*corner, width, height))
