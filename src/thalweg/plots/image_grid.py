"""Plot images in a grid: examples, an augmented batch, the worst mistakes, filters, generated samples.

N images, B of a batch, C channels, H W pixels, O filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from . import style
from .feature_maps import colorize_maps

#: gap between tiles and height of a line of a caption, in units; font size, in points
_GAP = 6
_LINE_HEIGHT = 14
_FONT_SIZE = 8
#: columns of mistakes, whose captions are long
_MISTAKE_COLUMNS = 6
#: gap between the tiles of `plot_image_grid` and minimum side of a tile, in pixels
_PIXEL_GAP = 2
_MIN_TILE_SIZE = 64


def plot_image_grid(images_NHWC: np.ndarray, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Return images in a plain grid on white, enlarged by a whole factor without smoothing.

    Args:
        images_NHWC: The images, uint8; C is 1 or 3.
        columns: Number of columns; by default the grid is about square.
        scale: Factor of enlargement; by default the smallest with tiles of at least 64 pixels.

    Returns:
        An RGB image.
    """
    count, height, width = images_NHWC.shape[:3]
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    columns = min(columns, max(1, count))
    rows = max(1, math.ceil(count / columns))
    scale = scale or max(1, math.ceil(_MIN_TILE_SIZE / min(height, width)))
    step_x = width * scale + _PIXEL_GAP
    step_y = height * scale + _PIXEL_GAP
    grid_HWC = np.full((rows * step_y + _PIXEL_GAP, columns * step_x + _PIXEL_GAP, 3), 255, np.uint8)
    for index, image_HWC in enumerate(images_NHWC):
        top = _PIXEL_GAP + index // columns * step_y
        left = _PIXEL_GAP + index % columns * step_x
        tile_HWC = image_HWC.repeat(scale, 0).repeat(scale, 1)
        grid_HWC[top : top + height * scale, left : left + width * scale] = tile_HWC
    return Image.fromarray(grid_HWC)


@style.as_image
def plot_examples(images_NHWC: np.ndarray, captions: Sequence[str] = (), title: str = "") -> Figure:
    """Plot images, uint8, C is 1 or 3, with captions beneath if there are any."""
    return _draw_captioned(images_NHWC, captions, title)


@style.as_image
def plot_captioned_rows(rows: Sequence[tuple[np.ndarray, Sequence[str]]], title: str = "") -> Figure:
    """Plot rows of images (N, H, W, C) uint8, each image with a caption; all rows have as many images or fewer."""
    columns = max(len(images_NHWC) for images_NHWC, _ in rows)
    images: list[np.ndarray] = []
    captions: list[str] = []
    for images_NHWC, row_captions in rows:
        missing = columns - len(images_NHWC)
        images += [*images_NHWC, *[np.full_like(rows[0][0][0], 255)] * missing]
        captions += [style.fit_text(text, _tile_width(columns), _FONT_SIZE) for text in row_captions] + [""] * missing
    return _draw_grid(np.stack(images), captions, columns, title)


@style.as_image
def plot_augmented_batch(
    images_BCHW: np.ndarray, captions: Sequence[str] = (), title: str = "", limit: int = 64
) -> Figure:
    """Plot the images of a batch after augmentation and normalization.

    The minimum of the batch is black and its maximum white. One scale for all images and channels keeps the
    differences between them visible. More than three channels are averaged.

    Args:
        images_BCHW: The normalized images, floats.
        captions: A caption for each image, of one or more lines.
        title: Title of the figure.
        limit: Maximum number of images.

    Returns:
        The figure.
    """
    values_BCHW = np.nan_to_num(np.asarray(images_BCHW[:limit], np.float64))
    low = values_BCHW.min(initial=np.inf)
    high = values_BCHW.max(initial=-np.inf)
    images_BHWC = ((values_BCHW - low) / max(high - low, 1e-12)).transpose(0, 2, 3, 1)
    if images_BHWC.shape[3] not in (1, 3):
        images_BHWC = images_BHWC.mean(3, keepdims=True)
    return _draw_captioned(images_BHWC, captions[:limit], title)


@style.as_image
def plot_worst_mistakes(
    images_NHWC: np.ndarray,
    labels: Sequence[int],
    predictions: Sequence[int],
    probabilities: Sequence[float],
    sources: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """Plot wrongly classified images in their order.

    Args:
        images_NHWC: The images, uint8.
        labels: The true class of each image, as indices into `classes`.
        predictions: The predicted class of each image, as indices into `classes`.
        probabilities: The probability of the predicted class, in [0, 1].
        sources: The file or row that each image comes from.
        classes: The class names.

    Returns:
        The figure.
    """
    captions = []
    width = _tile_width(_MISTAKE_COLUMNS)
    for label, prediction, probability, source in zip(labels, predictions, probabilities, sources, strict=True):
        names = _describe_mistake(classes[label], classes[prediction], width)
        percent = style.format_percent(probability)
        captions.append(f"{names}\n{percent} confidence\n{style.fit_text(source, width, _FONT_SIZE, tail=True)}")
    if not captions:
        return style.empty_plot("No mistakes.")
    return _draw_grid(images_NHWC, captions, _MISTAKE_COLUMNS, "")


def _describe_mistake(label: str, prediction: str, width: float) -> str:
    """Return the true and the predicted class, on two lines if one is too narrow."""
    text = f"{style.ellipsize(label)}, predicted {style.ellipsize(prediction)}"
    if style.fit_text(text, width, _FONT_SIZE) == text:
        return text
    first = style.fit_text(label, width, _FONT_SIZE)
    second = style.fit_text(prediction, width - 58, _FONT_SIZE)
    return f"{first}\npredicted {second}"


@style.as_image
def plot_filters(
    weight: np.ndarray, shape: tuple[int, int, int] | None = None, limit: int = 64, title: str = ""
) -> Figure:
    """Plot the weights of a first layer as images.

    With one channel, white is 0, blue positive, orange negative; with three channels, gray is 0; other numbers of
    channels are averaged. All filters share one scale, so one that learned nothing is pale.

    Args:
        weight: The weights: (O, C, H, W) of a convolution, or (O, C*H*W) of a linear layer.
        shape: The input's (C, H, W), for a linear layer.
        limit: Maximum number of filters.
        title: Title of the figure.

    Returns:
        The figure.
    """
    weight_OCHW = np.nan_to_num(np.asarray(weight, np.float64))
    count = len(weight_OCHW)
    if weight_OCHW.ndim == 2 and shape:
        weight_OCHW = weight_OCHW.reshape(count, *shape)
    filters_OHWC = weight_OCHW[:limit].transpose(0, 2, 3, 1)
    if filters_OHWC.shape[3] != 3:
        filters_OHWC = filters_OHWC.mean(3, keepdims=True)
    if count > limit:
        title = f"{title}, {limit} of {count}".removeprefix(", ")
    columns = 10 if len(filters_OHWC) <= 20 else 16
    return _draw_grid(_colorize_filters(filters_OHWC), (), columns, title)


def _colorize_filters(filters_OHWC: np.ndarray) -> np.ndarray:
    """Return filters with 1 or 3 channels as floats (O, H, W, 3) in [0, 1]."""
    if filters_OHWC.shape[3] == 1:
        return colorize_maps(filters_OHWC[..., 0])
    scaled_OHW3 = np.clip(filters_OHWC / style.color_limit(filters_OHWC), -1, 1)
    return (scaled_OHW3 + 1) / 2


def _draw_captioned(images_NHWC: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    longest = max((len(str(caption)) for caption in captions), default=0)
    columns = 16 if longest <= 3 else 8
    fitted = []
    for caption in captions:
        lines = [style.fit_text(line, _tile_width(columns), _FONT_SIZE) for line in str(caption).split("\n")]
        fitted.append("\n".join(lines))
    return _draw_grid(images_NHWC, fitted, columns, title)


def _tile_width(columns: int) -> float:
    """Return the width of a tile in units."""
    return (style.WIDTH - _GAP) / columns - _GAP


def _draw_grid(images_NHWC: np.ndarray, captions: Sequence[str], columns: int, title: str) -> Figure:
    """Draw images, uint8 or floats in [0, 1], in rows of `columns`, with captions of one or more lines.

    All images are in one Axes: one Axes per image would take ten times as long.
    """
    count = len(images_NHWC)
    if not count:
        return style.empty_plot("No images.", title)
    tile_size = _tile_width(columns)
    step_x = tile_size + _GAP
    rows_of_pixels, columns_of_pixels = images_NHWC.shape[1:3]
    width, height = _fit_size(columns_of_pixels, rows_of_pixels, tile_size)
    lines = max((str(caption).count("\n") + 1 for caption in captions), default=0)
    step_y = height + _GAP
    if captions:
        step_y = height + _LINE_HEIGHT * lines + (_GAP + 4)
    fig_width = step_x * min(columns, count) + _GAP
    top = _GAP
    if title:
        fig_width = max(fig_width, 420)
        top = 34
    fig, axes = style.canvas(fig_width, top + math.ceil(count / columns) * step_y)
    if title:
        axes.text(_GAP, top / 2, title, va="center", fontweight="bold", fontsize=11.5)
    for index, image_HWC in enumerate(images_NHWC):
        center = _GAP + index % columns * step_x + tile_size / 2
        y = top + index // columns * step_y
        style.show_image(axes, image_HWC, (center - width / 2, y, width, height))
        if captions:
            text = axes.text(center, y + height + 3, captions[index], ha="center", va="top", fontsize=_FONT_SIZE)
            text.set_linespacing(1.25)
    return fig


def _fit_size(columns: int, rows: int, max_size: float) -> tuple[float, float]:
    """Return width and height in units of an image; every pixel of a small one gets the same size."""
    scale = max_size / max(columns, rows)
    if scale * style.PIXELS_PER_UNIT >= 4:
        scale = math.floor(scale * style.PIXELS_PER_UNIT) / style.PIXELS_PER_UNIT
    return columns * scale, rows * scale
