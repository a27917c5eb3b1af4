"""What a network looked at: heat laid over a picture, and all methods side by side.

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

#: units
_GAP, _HEADING, _TITLE, _KEY, _LINE, _BAR, _MAX_SIZE = 10, 36, 22, 18, 14, 24, 240
#: points
_SMALL_FONT = 8
#: as much of a line of bold letters fits as is measured, for plain ones
_BOLD_WIDTH_RATIO = 0.85
#: panels in a row
_COLUMNS = 4
#: the colour of heat 0 to 1, from dark to light, told apart without hue too
_COLORMAP = colormaps["inferno"]


class Panel(NamedTuple):
    """A map (H, W) that is laid over the picture, or a picture (H, W, C) uint8 of its own, with title and caption."""

    title: str
    shown: np.ndarray
    caption: str = ""


@style.as_image
def plot_attribution_panels(
    picture_HWC: np.ndarray, panels: Sequence[Panel], answers: Sequence[tuple[str, float]], label: str = ""
) -> Figure:
    """Draws a picture, uint8, beside the maps that explain why it might be `label`, above bars of the answers.

    Every map has a key to its colours. The bar of `label` is the darker one.
    """
    high, wide = picture_HWC.shape[:2]
    seen = Panel("The picture", picture_HWC, f"{wide} x {high}, as the network sees it")
    shown = [seen, *(Panel(*panel) for panel in panels)]
    columns = min(_COLUMNS, len(shown))
    room = min((style.WIDTH - _GAP) / _COLUMNS, _MAX_SIZE) - _GAP
    width, height = room * min(1, wide / high), room * min(1, high / wide)
    step = _TITLE + height + _KEY + 2 * _LINE + _GAP
    rows = math.ceil(len(shown) / _COLUMNS)
    top = _HEADING if label else _GAP
    bars = top + rows * step
    made, axes = style.canvas(max(columns * (room + _GAP) + _GAP, 560), bars + _BAR * len(answers) + _GAP)
    if label:
        words = style.fit_text(f"What speaks for {label}?", _BOLD_WIDTH_RATIO * (axes.get_xlim()[1] - 2 * _GAP), 11.5)
        axes.text(_GAP, top / 2, words, va="center", fontweight="bold", fontsize=11.5)
    for number, panel in enumerate(shown):
        x, y = _GAP + number % _COLUMNS * (room + _GAP), top + number // _COLUMNS * step
        _draw_panel(axes, panel, picture_HWC, (x, y, width, height), room)
    _draw_predictions(axes, answers, label, bars)
    return made


def _draw_panel(axes: Axes, panel: Panel, picture_HWC: np.ndarray, box: tuple, room: float) -> None:
    """A title, below it the map over the picture, below that its key and its caption."""
    x, y, width, height = box
    axes.text(x, y + _TITLE / 2, style.fit_text(panel.title, _BOLD_WIDTH_RATIO * room), va="center", fontweight="bold")
    y += _TITLE
    picture = panel.shown.ndim == 3
    style.show_image(axes, panel.shown if picture else overlay_heatmap(picture_HWC, panel.shown), (x, y, width, height))
    y += height
    if not picture:
        _draw_colorbar(axes, is_signed(panel.shown), (x, y + 7, width))
        y += _KEY
    for line in _wrap_text(panel.caption, room)[:2]:
        y += _LINE
        axes.text(x, y, line, va="baseline", fontsize=_SMALL_FONT, color=style.BLACK)


def _draw_colorbar(axes: Axes, both: bool, box: tuple[float, float, float]) -> None:
    """The colours from least to most, and words at their ends."""
    x, y, width = box
    left, right = ("against", "for") if both else ("little", "much")
    scale = np.linspace(-1 if both else 0, 1, 101)[None]
    colours = overlay_heatmap(np.full((1, 101, 1), 160, np.uint8), scale)
    end, start = (style.text_width(word, _SMALL_FONT) + 6 for word in (right, left))
    axes.text(x, y + 4, left, va="center", fontsize=_SMALL_FONT)
    axes.text(x + width, y + 4, right, va="center", ha="right", fontsize=_SMALL_FONT)
    style.show_image(axes, colours, (x + start, y, width - start - end, 8))


def _draw_predictions(axes: Axes, answers: Sequence[tuple[str, float]], label: str, top: float) -> None:
    """A line per answer: its name, a bar, its probability."""
    wide = axes.get_xlim()[1]
    names = 0.36 * wide
    longest = wide - names - 80
    for number, (name, share) in enumerate(answers):
        y = top + (number + 0.5) * _BAR
        axes.text(names - 8, y, style.fit_text(name, names - _GAP - 12), va="center", ha="right")
        axes.barh(y, share * longest, 0.62 * _BAR, names, color=style.BLUE if name == label else style.SKY)
        axes.text(names + share * longest + 6, y, style.format_percent(share), va="center", fontsize=8.5)


def _wrap_text(text: str, room: float) -> list[str]:
    """The text in lines that fit into so many units."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and style.text_width(longer, _SMALL_FONT) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return [style.fit_text(line, room, _SMALL_FONT) for line in lines]


def is_signed(heat_HW: np.ndarray) -> bool:
    """Whether a map has values on both sides of 0."""
    return bool(np.nanmin(heat_HW) < 0)


def overlay_heatmap(picture_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """The picture, uint8, with the heat in colour over it: floats (H, W, 3) in [0, 1].

    A map that is nowhere negative goes from the darkened picture to yellow where it is largest. One with both signs
    lies on the faded picture, blue where positive, orange where negative, stronger the farther from 0.
    """
    grey_HW1 = picture_HWC.astype(np.float64).mean(2, keepdims=True) / 255
    heat_HW = np.nan_to_num(np.asarray(heat_HW, np.float64))
    if not is_signed(heat_HW):
        heat_HW = heat_HW / max(heat_HW.max(), 1e-12)
        cover_HW1 = 0.75 * heat_HW[..., None]
        return (1 - cover_HW1) * 0.8 * grey_HW1 + cover_HW1 * _COLORMAP(heat_HW)[..., :3]
    largest = np.quantile(np.abs(heat_HW), 0.998)
    heat_HW1 = np.clip(heat_HW / max(largest, 1e-12), -1, 1)[..., None]
    ink_HW3 = np.where(heat_HW1 > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION))
    paper_HW1 = 0.75 + 0.25 * grey_HW1
    strength = np.abs(heat_HW1)
    return (1 - strength) * paper_HW1 + strength * ink_HW3
