"""Resize images to the size of a model's input: which part is kept, and how Pillow's two passes are ordered."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from PIL import Image

from ...config.size import PixelSize, to_height_width

#: an image this many times longer than wide is cropped before it is resized, to save memory
MAX_ASPECT = 8

#: Pillow's weights are whole multiples of 1 / 2^22
_WEIGHT_SCALE = 2**22

#: Lengths of a cropped center are whole multiples of 1 / 8 of a pixel: Pillow holds them in single precision.
_CROP_STEPS = 8


def resize_and_crop(image: Image.Image, image_size: PixelSize, resize: int | None = None) -> Image.Image:
    """Return the largest center of an image that has the proportions of `image_size`, resized to it.

    Antialiased when shrinking. With `resize`, at least the shorter side of `image_size`, the image is resized until it
    covers a size with that shorter side, and the center is cropped, as ImageNet models are trained and tested (resize
    256, crop 224). The longer side is rounded, while torchvision truncates it; the published accuracies that we
    reproduce were measured with rounding.
    """
    size = to_height_width(image_size)
    if resize:
        return _center_crop(image, size, _covering_size(image, size, resize))
    if (image.height, image.width) == size:
        return image
    height, width = center_size(image.height, image.width, size)
    left = (image.width - width) / 2
    top = (image.height - height) / 2
    return _resize_box(image, (size[1], size[0]), (left, top, left + width, top + height))


def center_size(height: int, width: int, size: tuple[int, int]) -> tuple[float, float]:
    """Return height and width of the largest part of an image with the proportions of `size`."""
    if width * size[0] >= height * size[1]:
        return height, _round_length(height * size[1], size[0])
    return _round_length(width * size[0], size[1]), width


def _round_length(numerator: int, denominator: int) -> float:
    return max(1, floor(_CROP_STEPS * numerator / denominator + 0.5)) / _CROP_STEPS


def _covering_size(image: Image.Image, size: tuple[int, int], resize: int) -> tuple[int, int]:
    """Return height and width of an image resized until it covers `size`, enlarged to a shorter side of `resize`."""
    if image.width * size[0] >= image.height * size[1]:
        side, target = image.height, size[0]
    else:
        side, target = image.width, size[1]
    scale = min(size) * side
    return round(resize * target * image.height / scale), round(resize * target * image.width / scale)


def _center_crop(image: Image.Image, size: tuple[int, int], resized: tuple[int, int]) -> Image.Image:
    """Resize an image to `resized` and crop the center of `size`, both height and width."""
    height, width = resized
    left = round((width - size[1]) / 2)
    top = round((height - size[0]) / 2)
    if max(width, height) > MAX_ASPECT * min(width, height):
        scale = (image.height / height, image.width / width)
        return _center_crop_strip(image, size, (top, left), scale)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    across = across.crop((left, 0, left + size[1], image.height))
    down = across.resize((size[1], height), Image.Resampling.BILINEAR)
    return down.crop((0, top, size[1], top + size[0]))


def _center_crop_strip(
    image: Image.Image, size: tuple[int, int], start: tuple[int, int], scale: tuple[float, float]
) -> Image.Image:
    """Do what `_center_crop` does to a long strip, computing only the pixels of the result.

    Pillow's own box argument would not do: it is held in single precision, which is too coarse for a strip.
    """
    top, bottom, vertical_Hh = _source_weights(image.height, start[0], size[0], scale[0])
    left, right, horizontal_Ww = _source_weights(image.width, start[1], size[1], scale[1])
    pixels_Chw = to_array(image.crop((left, top, right, bottom)), 3).transpose(2, 0, 1).astype(np.float64)
    rows_ChW = _round_weighted_sums(pixels_Chw @ horizontal_Ww.T)
    pixels_CHW = _round_weighted_sums(vertical_Hh @ rows_ChW).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0))).convert(image.mode)


def _source_weights(length: int, first: int, count: int, scale: float) -> tuple[int, int, np.ndarray]:
    """Return the range of source pixels that `count` resized pixels from `first` on depend on, and their weights."""
    reach = ceil(max(scale, 1)) + 1
    low = max(0, floor(first * scale) - reach)
    high = min(length, ceil((first + count) * scale) + reach)
    return low, high, _resampling_weights(np.arange(low, high), first + np.arange(count), scale)


def _resampling_weights(pixel_L: np.ndarray, position_S: np.ndarray, scale: float) -> np.ndarray:
    """Return Pillow's bilinear weights (S, L) of source pixels for resized pixels that are `scale` pixels apart."""
    distance_SL = np.abs(pixel_L + 0.5 - (position_S[:, None] + 0.5) * scale)
    triangle_SL = 1 - distance_SL / max(scale, 1)
    triangle_SL = triangle_SL.clip(0)
    return np.floor(triangle_SL / triangle_SL.sum(1, keepdims=True) * _WEIGHT_SCALE + 0.5)


def _round_weighted_sums(sums: np.ndarray) -> np.ndarray:
    """Round sums of levels times `_resampling_weights` to levels."""
    return np.floor(sums / _WEIGHT_SCALE + 0.5)


def _resize_box(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """Resize the box (left, top, right, bottom) of an image to `size` (width, height), first across, then down.

    In a single call, the order of Pillow's two passes depends on its version, and the two orders round differently.
    """
    left, top, right, bottom = box
    reach = ceil((bottom - top) / size[1]) + 1  # rows beyond the box that smoothing reads
    first = max(0, floor(top) - reach)
    last = min(image.height, ceil(bottom) + reach)
    if (first, last) != (0, image.height):
        image = image.crop((0, first, image.width, last))
    resized = image.resize((size[0], last - first), Image.Resampling.BILINEAR, (left, 0, right, last - first))
    return resized.resize(size, Image.Resampling.BILINEAR, (0, top - first, size[0], bottom - first))


def to_array(image: Image.Image, channels: int | None) -> np.ndarray:
    """Return an image of mode L or RGB as (H, W, C) uint8; with `channels` None, gray if all pixels are gray."""
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    if channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[..., None]
    if channels is None and (pixels == pixels[..., :1]).all():
        return pixels[..., :1]
    return pixels
