"""Normalize any image of one hand-drawn character to the format of MNIST.

MNIST (LeCun et al. 1998, doi:10.1109/5.726791) has white strokes on black. The longer side of a stroke is 20 of 28
pixels (in all but 13 of the 60,000 training images), and its center of mass is the center of the image. A model that
was trained on it knows nothing else, so that a photo of a pen stroke is normalized step by step:

    levels        color becomes one brightness, along the direction in which pen and paper differ most
    background    the paper with its light and shadow is estimated; what rises from it is ink
    stroke        ink that belongs together; specks, grain and pale rule lines are removed
    format        thickness of the pen, size and position

Every constant was chosen on drawings rendered from MNIST's training images (tests/helpers/drawn_digits.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from ...errors import DataError
from .image_decoding import ImageReadError, to_8bit, to_gray_or_rgb
from .image_resizing import to_array

#: longer side, in pixels, of the image in which the stroke is searched, and of that in which the paper is estimated
WORKING_SIZE = 256
BACKGROUND_SIZE = 64
#: a drawing smaller than this fraction of the working size is searched again at a higher resolution
MIN_DRAWING_FRACTION = 1 / 3
#: maximum thickness of a stroke, as a fraction of the image
MAX_STROKE_WIDTH = 0.4
#: pixels per pixel of the result while the stroke is shaped
SUPERSAMPLING = 6
#: range of pen thicknesses that are kept, as fractions of the stroke's longer side: MNIST's 10th to 90th percentile
STROKE_WIDTH_RANGE = (0.09, 0.17)
#: Grain without a stroke has a between-class variance fraction of 2 / pi = 0.64, and patches of about 1.3 pixels. An
#: image is grain if its variance fraction is below the first limit, its ink fraction above the second, and its stroke
#: width below the third.
MIN_VARIANCE_FRACTION = 0.7
MAX_INK_FRACTION = 0.3
MIN_STROKE_WIDTH = 2.0
#: a component with less than this fraction of the ink of the largest one is a speck
MIN_COMPONENT_RATIO = 0.06
#: formats up to this size, such as the 8x8 digits and the 16x16 of USPS, are filled to the edge
MAX_FULL_BLEED_SIZE = 16
#: MNIST's size, and the longer side of its strokes
MNIST_SIZE = 28
MNIST_STROKE_SIZE = 20
#: iterations of the fit of the background
BACKGROUND_ITERATIONS = 15


@dataclass(frozen=True)
class BoundingBox:
    """Rows and columns of a part of an image."""

    rows: slice
    columns: slice

    @property
    def longer_side(self) -> int:
        """The longer side in pixels."""
        return max(self.rows.stop - self.rows.start, self.columns.stop - self.columns.start)


def normalize_handwriting(image: Image.Image | np.ndarray, image_size: int = 28) -> np.ndarray:
    """Return the character in an image as MNIST would show it: (image_size, image_size) uint8, white on black.

    An image that has this format already is returned unchanged, so that normalizing twice is normalizing once.

    Args:
        image: One character, darker or lighter than its paper, of any size, color and mode; or an array (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or floats from 0 to 1.
        image_size: Height and width of the result.

    Raises:
        DataError: There is no stroke in the image, or its values are not finite.
    """
    pixels_HWC = _to_pixels(image)
    if pixels_HWC.shape == (image_size, image_size, 1):
        for gray_HW in (pixels_HWC[..., 0], 255 - pixels_HWC[..., 0]):
            if _is_normalized(gray_HW, image_size):
                return gray_HW.copy()
    coverage_HW = _ink_coverage(pixels_HWC)
    return _center(_trim(_normalize_stroke(coverage_HW, image_size), image_size), image_size)


def _to_pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return (H, W, 1) or (H, W, 3) uint8, with transparency on a background."""
    try:
        if isinstance(image, np.ndarray):
            image = _array_to_pillow(image)
        return to_array(to_gray_or_rgb(ImageOps.exif_transpose(image)), None)
    except ImageReadError as error:
        raise DataError(f"The image cannot be used: {error}.", cure="Use floats from 0 to 1, or integers.") from None


def _array_to_pillow(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        array = to_8bit(array)
    return Image.fromarray(np.ascontiguousarray(array))


# --- levels and background -------------------------------------------------------------------------------------------


def _ink_coverage(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return the fraction (h, w) of every pixel that ink covers, cropped to the character and a margin."""
    coverage_hw, box = _find_drawing(pixels_HWC)
    scale = max(pixels_HWC.shape[:2]) / max(coverage_hw.shape)
    if scale != 1 and box.longer_side <= WORKING_SIZE * MIN_DRAWING_FRACTION:
        # A small drawing on a large sheet: search again in the part around it, at a higher resolution.
        margin = box.longer_side // 2
        rows = _expand_box(box.rows, margin, scale)
        columns = _expand_box(box.columns, margin, scale)
        coverage_hw, box = _find_drawing(pixels_HWC[rows, columns])
    return coverage_hw[box.rows, box.columns]


def _find_drawing(pixels_HWC: np.ndarray) -> tuple[np.ndarray, BoundingBox]:
    """Return the ink coverage (h, w) at working size, and the box of the ink."""
    channels = [_shrink_to(pixels_HWC[..., channel], WORKING_SIZE) for channel in range(pixels_HWC.shape[2])]
    coverage_hw = _segment_ink(_contrast(_brightness(np.stack(channels, axis=-1))))
    return coverage_hw, _bounding_box(coverage_hw > 0)


def _expand_box(box: slice, margin: int, scale: float) -> slice:
    return slice(max(0, int((box.start - margin) * scale)), int((box.stop + margin) * scale))


def _shrink_to(plane_HW: np.ndarray, max_side: int) -> np.ndarray:
    """Shrink a plane, if necessary, so that its longer side is `max_side`; float32."""
    height, width = plane_HW.shape
    scale = min(1.0, max_side / max(height, width))
    return _resize(plane_HW, (max(1, round(height * scale)), max(1, round(width * scale))))


def _resize(
    plane_HW: np.ndarray, shape: tuple[int, int], resampling: Image.Resampling = Image.Resampling.BOX
) -> np.ndarray:
    height, width = shape
    return np.asarray(Image.fromarray(plane_HW.astype(np.float32)).resize((width, height), resampling))


def _brightness(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return the brightness (H, W) along the color in which pen and paper differ most."""
    if pixels_HWC.shape[2] == 1:
        return pixels_HWC[..., 0]
    # Colors are compared with their surroundings; otherwise uneven light would outweigh the color of the pen.
    window = max(3, max(pixels_HWC.shape) // 3)
    differences = [plane_HW - _box_mean(plane_HW, window) for plane_HW in np.moveaxis(pixels_HWC, 2, 0)]
    difference_P3 = np.stack(differences, axis=-1).reshape(-1, 3)
    axis = np.linalg.eigh(difference_P3.T @ difference_P3)[1][:, -1]
    return pixels_HWC @ (axis / np.abs(axis).sum()).astype(np.float32)


def _box_mean(plane_HW: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over a square of `window` pixels around each pixel, cropped at the edges."""
    for axis in (0, 1):
        length = plane_HW.shape[axis]
        total = np.insert(plane_HW.cumsum(axis, dtype=np.float64), 0, 0, axis)
        stop = np.minimum(np.arange(length) + window // 2 + 1, length)
        start = np.maximum(np.arange(length) - window // 2, 0)
        plane_HW = (total.take(stop, axis) - total.take(start, axis)) / np.expand_dims(stop - start, 1 - axis)
    return plane_HW


def _box_max(plane_HW: np.ndarray, window: int) -> np.ndarray:
    """Return the maximum over a square of `window` pixels (odd) around each pixel."""
    half = window // 2
    for axis in (0, 1):
        margins = [(0, 0), (0, 0)]
        margins[axis] = (half, half)
        padded = np.pad(plane_HW, margins, mode="edge")
        plane_HW = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis).max(-1)
    return plane_HW


def _fit_background(level_HW: np.ndarray) -> np.ndarray:
    """Fit the light on the paper by a quadratic surface (H, W) that follows most pixels, above all at the edge."""
    height, width = level_HW.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms_P6 = np.stack([x**0, x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    level_P = level_HW.reshape(-1).astype(np.float64)
    trust_P = np.where(np.maximum(np.abs(x), np.abs(y)) > 0.85, 1.0, 0.1).reshape(-1)
    weight_P = np.sqrt(trust_P)
    surface_P = level_P
    # Weights of 1 / distance turn least squares into least absolute deviations, which a stroke cannot bend.
    for _ in range(BACKGROUND_ITERATIONS):
        surface_P = terms_P6 @ np.linalg.lstsq(terms_P6 * weight_P[:, None], level_P * weight_P, rcond=None)[0]
        min_distance = 0.02 * np.ptp(level_P) + 1e-6
        weight_P = np.sqrt(trust_P / np.maximum(np.abs(level_P - surface_P), min_distance))
    return surface_P.reshape(height, width)


def _contrast(level_HW: np.ndarray) -> np.ndarray:
    """Return how far every pixel rises from the paper towards the pen; 0 for most of the paper."""
    small_hw = _shrink_to(level_HW, BACKGROUND_SIZE)
    background_hw = _fit_background(small_hw)
    difference_hw = small_hw - background_hw
    # Little of an image is ink, so that ink is the longer tail of the levels.
    sign = 1 if (difference_hw**3).sum() >= 0 else -1
    window = max(3, round(MAX_STROKE_WIDTH * max(small_hw.shape)) | 1)
    # Opening removes what is narrower than the window, which leaves the paper and its shadows.
    opened_hw = _box_max(-_box_max(-sign * difference_hw, window), window)
    height, width = level_HW.shape
    paper_hw = sign * background_hw + _box_mean(opened_hw, 5)
    contrast_HW = sign * level_HW - _resize(paper_hw, (height, width), Image.Resampling.BILINEAR)
    return contrast_HW - np.median(contrast_HW)


# --- stroke ----------------------------------------------------------------------------------------------------------


def _segment_ink(contrast_HW: np.ndarray) -> np.ndarray:
    """Return the coverage (H, W), 0 to 1, by the strokes of the character. Raises DataError if there are none."""
    threshold, variance_fraction = _otsu_threshold(contrast_HW)
    core_HW = contrast_HW > threshold
    if variance_fraction == 0 or _is_grain(core_HW, variance_fraction):
        raise DataError(
            "There is no stroke in the image.",
            cure="Use an image of one character, darker or lighter than the paper.",
        )
    full = np.percentile(contrast_HW[core_HW], 60)
    # Far from the strokes, only grain and rule lines are visible.
    far = contrast_HW[_box_max(core_HW, max(3, max(core_HW.shape) // 20 | 1)) == 0]
    floor = np.clip(np.percentile(far, 99.5) if far.size else 0, 0, 0.6 * full)
    coverage_HW = np.clip((contrast_HW - floor) / (full - floor), 0, 1)
    component_HW = _connected_components(coverage_HW > 0.3)
    ink = np.bincount(component_HW.ravel(), weights=coverage_HW.ravel())
    ink[0] = 0
    large = np.flatnonzero(ink >= MIN_COMPONENT_RATIO * ink.max())
    is_stroke_HW = _box_max(np.isin(component_HW, large), 3)
    return np.where(is_stroke_HW, coverage_HW, 0)


def _is_grain(core_HW: np.ndarray, variance_fraction: float) -> bool:
    """Tell whether what is brighter than the threshold is the grain of a photo without a stroke."""
    if variance_fraction >= MIN_VARIANCE_FRACTION or core_HW.mean() <= MAX_INK_FRACTION:
        return False
    return _measure_stroke_width(core_HW) < MIN_STROKE_WIDTH


def _otsu_threshold(values: np.ndarray) -> tuple[float, float]:
    """Return the threshold that separates `values` best, and the fraction of their variance between the two classes.

    Otsu 1979, doi:10.1109/TSMC.1979.4310076. The fraction is 0 for a single value.
    """
    if np.ptp(values) < 1:
        return float(values.max()), 0.0
    counts, edges = np.histogram(values, 128)
    centers = (edges[1:] + edges[:-1]) / 2
    count_below = counts.cumsum()[:-1]
    sum_below = (counts * centers).cumsum()[:-1]
    count_above = counts.sum() - count_below
    sum_above = (counts * centers).sum() - sum_below
    between = count_below * count_above * (sum_below / count_below - sum_above / count_above) ** 2
    best = int(np.argmax(between))
    return float(edges[best + 1]), float(between[best] / counts.sum() ** 2 / values.var())


def _connected_components(mask_HW: np.ndarray) -> np.ndarray:
    """Return (H, W) int64: 0 outside of the mask, else the number of the connected component (8 neighbors)."""
    number_HW = np.where(mask_HW, np.arange(1, mask_HW.size + 1).reshape(mask_HW.shape), 0)
    while True:
        maximum_HW = np.where(mask_HW, _box_max(number_HW, 3), 0)
        # A number is also a position: taking over the number at that position halves the remaining distance.
        next_HW = np.append(0, maximum_HW)[maximum_HW]
        if (next_HW == number_HW).all():
            return np.unique(np.append(0, number_HW), return_inverse=True)[1][1:].reshape(mask_HW.shape)
        number_HW = next_HW


def _measure_stroke_width(mask_HW: np.ndarray) -> float:
    """Return the mean width of the strokes in pixels: twice the area divided by the length of the outline.

    The steps of the outline overestimate its length by 4 / pi.
    """
    outline = (mask_HW[1:] != mask_HW[:-1]).sum() + (mask_HW[:, 1:] != mask_HW[:, :-1]).sum()
    return float(2 * mask_HW.sum() / max(1, outline * np.pi / 4))


def _bounding_box(mask_HW: np.ndarray) -> BoundingBox:
    rows = np.flatnonzero(mask_HW.any(1))
    columns = np.flatnonzero(mask_HW.any(0))
    return BoundingBox(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


# --- format ----------------------------------------------------------------------------------------------------------


def _stroke_size(image_size: int) -> int:
    """Return the longer side of the stroke in an image of `image_size`."""
    if image_size <= MAX_FULL_BLEED_SIZE:
        return image_size
    return round(image_size * MNIST_STROKE_SIZE / MNIST_SIZE)


def _normalize_stroke(coverage_HW: np.ndarray, image_size: int) -> np.ndarray:
    """Return the strokes (bool) in supersampled pixels, with a pen thickness in the range of MNIST."""
    side = _stroke_size(image_size) * SUPERSAMPLING
    enlarged_hw = _resize_to_side(coverage_HW, side, Image.Resampling.BICUBIC)
    mask_hw = np.pad(enlarged_hw > 0.5, side // 5)
    thickness = _measure_stroke_width(mask_hw)
    min_width, max_width = STROKE_WIDTH_RANGE
    change = round((np.clip(thickness, min_width * side, max_width * side) - thickness) / 2)
    if change > 0:
        shaped_hw = _dilate(mask_hw, change)
    else:
        shaped_hw = ~_dilate(~mask_hw, -change)
    return shaped_hw if shaped_hw.any() else mask_hw


def _dilate(mask_HW: np.ndarray, radius: int) -> np.ndarray:
    """Return the mask and everything within `radius` pixels of it."""
    height, width = mask_HW.shape
    padded = np.pad(mask_HW, radius)
    dilated_HW = mask_HW.copy()
    for dy in range(-radius, radius + 1):
        reach = int((radius**2 - dy**2) ** 0.5)
        for dx in range(-reach, reach + 1):
            dilated_HW |= padded[radius + dy :, radius + dx :][:height, :width]
    return dilated_HW


def _resize_to_side(plane_HW: np.ndarray, side: int, resampling: Image.Resampling) -> np.ndarray:
    """Resize a plane so that its longer side is `side`."""
    height, width = plane_HW.shape
    scale = side / max(height, width)
    return _resize(plane_HW, (max(1, round(height * scale)), max(1, round(width * scale))), resampling)


def _trim(mask_HW: np.ndarray, image_size: int) -> np.ndarray:
    """Return the strokes alone, uint8, in pixels of the result."""
    box = _bounding_box(mask_HW)
    small_hw = _resize_to_side(mask_HW[box.rows, box.columns], _stroke_size(image_size), Image.Resampling.BOX)
    return np.maximum(small_hw * (255 / small_hw.max()), mask_HW.any()).round().astype(np.uint8)


def _center_offset(stroke_hw: np.ndarray, image_size: int) -> tuple[float, float]:
    """Return the row and column at which the stroke begins when it is centered.

    The center of the image is the stroke's center of mass, or the center of its box in a filled format.
    """
    height, width = stroke_hw.shape
    if image_size <= MAX_FULL_BLEED_SIZE:
        return (image_size - height) / 2, (image_size - width) / 2
    offsets = []
    for axis in (0, 1):
        weight = stroke_hw.sum(1 - axis, dtype=np.float64)
        offsets.append(float(image_size / 2 - weight @ np.arange(len(weight)) / weight.sum()))
    return offsets[0], offsets[1]


def _center(stroke_hw: np.ndarray, image_size: int) -> np.ndarray:
    """Return the stroke on a black image (image_size, image_size)."""
    centered = np.zeros((image_size, image_size), np.uint8)
    height, width = stroke_hw.shape
    offset = np.floor(np.add(_center_offset(stroke_hw, image_size), 0.5)).astype(int)
    top, left = offset.clip(0, (image_size - height, image_size - width))
    centered[top : top + height, left : left + width] = stroke_hw
    return centered


def _is_normalized(gray_HW: np.ndarray, image_size: int) -> bool:
    """Tell whether an image (image_size, image_size) shows a stroke of the right size in the right place."""
    if gray_HW.max() < 200 or gray_HW.mean() > 127:
        return False
    box = _bounding_box(gray_HW > 0)
    stroke_hw = gray_HW[box.rows, box.columns]
    if max(stroke_hw.shape) != _stroke_size(image_size):
        return False
    tolerance = 1 if image_size <= MAX_FULL_BLEED_SIZE else 0.51
    deviation = np.abs(np.subtract(_center_offset(stroke_hw, image_size), (box.rows.start, box.columns.start)))
    return bool((deviation <= tolerance).all() or (_center(stroke_hw, image_size) == gray_HW).all())
