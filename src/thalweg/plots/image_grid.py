"""Pictures side by side: examples, a batch as the model saw it, the worst mistakes, the filters of a first layer.

N images, B of a batch, C channels, H W pixels, O filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: units between tiles and per line of a caption; points of its font
_GAP, _LINE_HEIGHT, _FONT_SIZE = 6, 14, 8


@style.as_image
def plot_examples(images_NHWC: np.ndarray, captions: Sequence[str] = (), title: str = "") -> Figure:
    """Draws images, uint8, C is 1 or 3, each with its caption beneath, if there are captions."""
    return _draw_captioned(images_NHWC, captions, title)


@style.as_image
def plot_augmented_batch(
    images_BCHW: np.ndarray, captions: Sequence[str] = (), title: str = "", limit: int = 64
) -> Figure:
    """Draws the first `limit` images of what went into the model, normalised floats.

    The batch's lowest value is black, its highest white: one scale for all images and channels, so that differences
    between them stay visible. More channels than three are averaged.
    """
    images = np.nan_to_num(np.asarray(images_BCHW[:limit], np.float64))
    low, high = images.min(initial=np.inf), images.max(initial=-np.inf)
    images_BHWC = ((images - low) / max(high - low, 1e-12)).transpose(0, 2, 3, 1)
    if images_BHWC.shape[3] not in (1, 3):
        images_BHWC = images_BHWC.mean(3, keepdims=True)
    return _draw_captioned(images_BHWC, captions[:limit], title)


@style.as_image
def plot_worst_mistakes(
    images_NHWC: np.ndarray,
    truth: Sequence[int],
    predicted: Sequence[int],
    probability: Sequence[float],
    sources: Sequence[str],
    classes: Sequence[str],
    title: str = "",
) -> Figure:
    """Draws wrongly classified images, uint8, in the order given; N of every argument but classes and title.

    truth and predicted are indices into classes, probability in [0, 1] is that of the predicted class.
    """
    captions, room = [], _tile_width(6)
    for is_, said, share, source in zip(truth, predicted, probability, sources, strict=True):
        words = f"{style.ellipsize(classes[is_])} taken for {style.ellipsize(classes[said])}"
        if style.fit_text(words, room, _FONT_SIZE) != words:
            answer = style.fit_text(classes[said], room - 58, _FONT_SIZE)
            words = f"{style.fit_text(classes[is_], room, _FONT_SIZE)}\ntaken for {answer}"
        captions.append(
            f"{words}\n{style.format_percent(share)} sure\n{style.fit_text(source, room, _FONT_SIZE, tail=True)}"
        )
    return _draw_grid(images_NHWC, captions, 6, title) if captions else style.empty_plot("No mistakes.", title)


@style.as_image
def plot_filters(
    weight: np.ndarray, shape: tuple[int, int, int] | None = None, limit: int = 64, title: str = ""
) -> Figure:
    """Draws what each neuron of a first layer looks for: weights (O, C, H, W), or (O, C*H*W) with shape=(C, H, W).

    With one channel, white is 0, blue positive, orange negative; with three, grey is 0. All filters share one scale, so
    a neuron that never learned is pale. Other numbers of channels are averaged. The first `limit` are drawn.
    """
    weight = np.nan_to_num(np.asarray(weight, np.float64))
    weight_OCHW = weight.reshape(len(weight), *shape) if weight.ndim == 2 and shape else weight
    shown = weight_OCHW[:limit].transpose(0, 2, 3, 1)
    if shown.shape[3] != 3:
        shown = shown.mean(3, keepdims=True)
    # a few weights far from all others should not make the rest pale
    largest = np.quantile(np.abs(shown), 0.998) if shown.size else 1
    shown = np.clip(shown / max(largest, 1e-12), -1, 1)
    if shown.shape[3] == 3:
        images = (shown + 1) / 2
    else:
        images = 1 - np.abs(shown) * (1 - np.where(shown > 0, to_rgb(style.BLUE), to_rgb(style.VERMILLION)))
    if len(weight) > limit:
        title = f"{title}, {limit} of {len(weight)}".removeprefix(", ")
    return _draw_grid(images, (), 10 if len(images) <= 20 else 16, title)


def _draw_captioned(images_NHWC: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    columns = 16 if max((len(str(c)) for c in captions), default=0) <= 3 else 8
    return _draw_grid(
        images_NHWC, [style.fit_text(c, _tile_width(columns), _FONT_SIZE) for c in captions], columns, title
    )


def _tile_width(columns: int) -> float:
    """Units that a tile is wide."""
    return (style.WIDTH - _GAP) / columns - _GAP


def _draw_grid(images_NHWC: np.ndarray, captions: Sequence[str], columns: int, title: str) -> Figure:
    """Images, uint8 or floats in [0, 1], in rows of `columns`; captions of any number of lines that fit.

    All stand in one system of axes with a unit of a 900th of the full width: a system for each would take ten times as
    long.
    """
    count = len(images_NHWC)
    if not count:
        return style.empty_plot("No pictures.", title)
    rows, used = math.ceil(count / columns), min(columns, count)
    room = _tile_width(columns)
    cell = room + _GAP
    high, wide = images_NHWC.shape[1:3]
    width, height = _fit_size(wide, high, room)
    lines = max((str(c).count("\n") + 1 for c in captions), default=0)
    step = height + _LINE_HEIGHT * lines + (_GAP if not lines else _GAP + 4)
    top = 34 if title else _GAP
    size = (max(cell * used + _GAP, 420 if title else 0), top + rows * step)
    made, axes = style.canvas(*size)
    if title:
        axes.text(_GAP, top / 2, title, va="center", fontweight="bold", fontsize=11.5)
    for number, image in enumerate(images_NHWC):
        x, y = _GAP + number % columns * cell, top + number // columns * step
        middle = x + room / 2
        style.show_image(axes, image, (middle - width / 2, y, width, height))
        if captions:
            axes.text(
                middle, y + height + 3, captions[number], ha="center", va="top", fontsize=_FONT_SIZE, linespacing=1.25
            )
    return made


def _fit_size(wide: int, high: int, room: float) -> tuple[float, float]:
    """Width and height in units for an image of that many pixels; of very small ones every pixel gets the same size."""
    scale = room / max(wide, high)
    if scale * style.PIXELS_PER_UNIT >= 4:
        scale = math.floor(scale * style.PIXELS_PER_UNIT) / style.PIXELS_PER_UNIT
    return wide * scale, high * scale
