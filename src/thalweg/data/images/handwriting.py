"""Any picture of one hand-drawn character, brought to the form that MNIST's pictures have.

MNIST (LeCun et al. 1998, doi:10.1109/5.726791) shows white strokes on black. The stroke's longer side is 20 of 28
pixels (in all but 13 of its 60,000 training pictures) and its centre of mass is the centre of the picture. A network
trained on it knows nothing else, so a photo of a pen stroke is brought there, step by step:

    levels    colour becomes one brightness, along the direction in which pen and paper differ most
    paper     is estimated as if nothing were drawn on it, with its light and shadow; what rises from it is ink
    stroke    ink that belongs together; specks, grain and pale rule lines are left out
    form      the thickness of the pen, size and place

Every constant was chosen on drawings made from MNIST's training pictures (tests/renderings.py).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from ...errors import DataError
from .image_decoding import ImageReadError, to_8bit, to_array, to_gray_or_rgb

#: longer sides, in pixels, of the pictures in which the stroke is looked for and the paper is estimated
WORKING_SIZE, BACKGROUND_SIZE = 256, 64
#: no part of a character is thicker than this share of the picture
MAX_STROKE_WIDTH = 0.4
#: pixels per pixel of the result in which the stroke is shaped
SUPERSAMPLING = 6
#: thickness of pens that is left alone, as a share of the stroke's longer side: MNIST's 10th to 90th percentile
STROKE_WIDTH_RANGE = (0.09, 0.17)
#: grain alone: the share of its variance that lies between the two halves it is divided into is 2 / pi = 0.64, and the
#: patches are about 1.3 pixels across
GRAIN_LIMITS = (0.7, 0.3, 2.0)
#: a piece with less than this share of the ink of the largest piece is a speck
MIN_COMPONENT_RATIO = 0.06
#: formats up to this size, such as the 8x8 digits and the 16x16 of USPS, are filled to the edge
MAX_FULL_BLEED_SIZE = 16


def normalize_handwriting(image: Image.Image | np.ndarray, size: int = 28) -> np.ndarray:
    """The character in `image` as MNIST would show it: (size, size) uint8, white on black.

    `image` is a picture of one character, darker or lighter than its paper, of any size, colour and mode, or an array
    (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or floats from 0 to 1. A picture that has the form
    already comes back unchanged, so `ink(ink(image))` is `ink(image)`. Raises DataError if there is no stroke in it
    or its values are not finite.
    """
    picture = _to_pixels(image)
    for grey in (picture, 255 - picture):
        if picture.shape == (size, size, 1) and _is_normalized(grey[..., 0], size):
            return grey[..., 0].copy()
    return _center(_trim(_normalize_stroke(_ink_coverage(picture), size), size), size)


def _to_pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    """(H, W, 1) or (H, W, 3) uint8, transparency laid on paper."""
    try:
        if isinstance(image, np.ndarray):
            if image.ndim == 3 and image.shape[2] == 1:
                image = image[..., 0]
            if image.dtype != np.uint8:
                image = image.astype(np.uint8) * 255 if image.dtype == bool else to_8bit(image)
            image = Image.fromarray(np.ascontiguousarray(image))
        return to_array(to_gray_or_rgb(ImageOps.exif_transpose(image)), None)
    except ImageReadError as why:
        raise DataError(
            f"The picture cannot be used: {why}.", cure="Give numbers from 0 to 1, or whole ones."
        ) from None


# --- levels and paper ------------------------------------------------------------------------------------------------


def _ink_coverage(picture: np.ndarray) -> np.ndarray:
    """How much of every pixel is covered by the pen: (h, w) from 0 to 1, cut to the character and a margin."""
    for look in (1, 2):
        levels = _brightness(
            np.stack([_shrink_to(picture[..., c], WORKING_SIZE) for c in range(picture.shape[2])], axis=-1)
        )
        cover = _segment_ink(_contrast(levels))
        rows, columns = _bounding_box(cover > 0)
        longer = max(rows.stop - rows.start, columns.stop - columns.start)
        shrunk = max(picture.shape[:2]) / max(cover.shape)
        if look == 2 or shrunk == 1 or longer > WORKING_SIZE / 3:
            return cover[rows, columns]
        # a small drawing on a large sheet: look again, closer
        picture = picture[_expand_box(rows, longer // 2, shrunk), _expand_box(columns, longer // 2, shrunk)]


def _expand_box(part: slice, margin: int, scale: float) -> slice:
    return slice(max(0, int((part.start - margin) * scale)), int((part.stop + margin) * scale))


def _shrink_to(plane: np.ndarray, longest: int) -> np.ndarray:
    """`plane` (H, W) as float32, made smaller, if need be, so that its longer side is `longest`."""
    height, width = plane.shape
    scale = min(1.0, longest / max(height, width))
    return _resize(plane, max(1, round(height * scale)), max(1, round(width * scale)))


def _resize(plane: np.ndarray, height: int, width: int, how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), how))


def _brightness(picture: np.ndarray) -> np.ndarray:
    """(H, W) brightness along the colour in which pen and paper differ most."""
    if picture.shape[2] == 1:
        return picture[..., 0]
    # the difference from the surroundings: uneven light would outweigh the colour of the pen
    window = max(3, max(picture.shape) // 3)
    apart = np.stack([p - _box_mean(p, window) for p in np.moveaxis(picture, 2, 0)], axis=-1).reshape(-1, 3)
    axis = np.linalg.eigh(apart.T @ apart)[1][:, -1]
    return picture @ (axis / np.abs(axis).sum()).astype(np.float32)


def _box_mean(plane: np.ndarray, window: int) -> np.ndarray:
    """The mean of `plane` (H, W) over a square of `window` pixels around each pixel, cut off at the edges."""
    for axis in (0, 1):
        length = plane.shape[axis]
        total = np.insert(plane.cumsum(axis, dtype=np.float64), 0, 0, axis)
        stop = np.minimum(np.arange(length) + window // 2 + 1, length)
        start = np.maximum(np.arange(length) - window // 2, 0)
        plane = (total.take(stop, axis) - total.take(start, axis)) / np.expand_dims(stop - start, 1 - axis)
    return plane


def _box_max(plane: np.ndarray, window: int) -> np.ndarray:
    """The highest value of `plane` (H, W) in a square of `window` pixels (odd) around each pixel."""
    half = window // 2
    for axis in (0, 1):
        around = [(half, half) if axis == a else (0, 0) for a in (0, 1)]
        padded = np.pad(plane, around, mode="edge")
        plane = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis).max(-1)
    return plane


def _fit_background(small: np.ndarray) -> np.ndarray:
    """The light on the paper: a surface of second degree, fitted to what most of it, above all its edge, shows."""
    y, x = np.meshgrid(np.linspace(-1, 1, small.shape[0]), np.linspace(-1, 1, small.shape[1]), indexing="ij")
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    value = small.reshape(-1).astype(np.float64)
    trust = np.where(np.maximum(np.abs(x), np.abs(y)) > 0.85, 1.0, 0.1).reshape(-1)
    weight = np.sqrt(trust)
    for _ in range(15):  # weights of 1 / distance make it a fit of least distances, which a stroke cannot bend
        surface = terms @ np.linalg.lstsq(terms * weight[:, None], value * weight, rcond=None)[0]
        weight = np.sqrt(trust / np.maximum(np.abs(value - surface), 0.02 * np.ptp(value) + 1e-6))
    return surface.reshape(small.shape)


def _contrast(levels: np.ndarray) -> np.ndarray:
    """How far every pixel rises from the paper towards the pen; 0 for most of the paper."""
    small = _shrink_to(levels, BACKGROUND_SIZE)
    bowl = _fit_background(small)
    away = small - bowl
    pen = 1 if (away**3).sum() >= 0 else -1  # little of a picture is ink, so ink is the longer tail
    window = max(3, round(MAX_STROKE_WIDTH * max(small.shape)) | 1)
    # what is narrower than the window is cut down, so that paper is left; shadows stay
    opened = _box_max(-_box_max(-pen * away, window), window)
    paper = _resize(pen * bowl + _box_mean(opened, 5), *levels.shape, Image.Resampling.BILINEAR)
    lift = pen * levels - paper
    return lift - np.median(lift)


# --- stroke ----------------------------------------------------------------------------------------------------------


def _segment_ink(lift: np.ndarray) -> np.ndarray:
    """The cover (H, W), 0 to 1, by the strokes of the character; 0 elsewhere. Raises DataError if there are none."""
    cut, apart = _otsu_threshold(lift)
    core = lift > cut
    if apart == 0 or (
        apart < GRAIN_LIMITS[0] and core.mean() > GRAIN_LIMITS[1] and _measure_stroke_width(core) < GRAIN_LIMITS[2]
    ):
        raise DataError(
            "There is no stroke in the picture.",
            cure="Give a picture of one character, darker or lighter than the paper.",
        )
    full = np.percentile(lift[core], 60)
    # grain and rule lines are what is seen far from the strokes
    far = lift[_box_max(core, max(3, max(core.shape) // 20 | 1)) == 0]
    floor = np.clip(np.percentile(far, 99.5) if far.size else 0, 0, 0.6 * full)
    cover = np.clip((lift - floor) / (full - floor), 0, 1)
    pieces = _connected_components(cover > 0.3)
    amount = np.bincount(pieces.ravel(), weights=cover.ravel())
    amount[0] = 0
    kept = _box_max(np.isin(pieces, np.flatnonzero(amount >= MIN_COMPONENT_RATIO * amount.max())), 3)
    return np.where(kept, cover, 0)


def _otsu_threshold(values: np.ndarray) -> tuple[float, float]:
    """The level that divides `values` best in two, and the share of their variance that lies between the two parts.

    Otsu 1979, doi:10.1109/TSMC.1979.4310076. The share is 0 for a single value.
    """
    if np.ptp(values) < 1:
        return float(values.max()), 0.0
    counts, edges = np.histogram(values, 128)
    middle = (edges[1:] + edges[:-1]) / 2
    below, total = counts.cumsum()[:-1], (counts * middle).cumsum()[:-1]
    above, rest = counts.sum() - below, (counts * middle).sum() - total
    between = below * above * (total / below - rest / above) ** 2
    best = int(np.argmax(between))
    return float(edges[best + 1]), float(between[best] / counts.sum() ** 2 / values.var())


def _connected_components(mask: np.ndarray) -> np.ndarray:
    """(H, W) int64: 0 off the mask, else a number that is the same all over a connected piece (of 8 neighbours)."""
    number = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        most = np.where(mask, _box_max(number, 3), 0)
        # a number is also a place: taking over the number that stands there halves the way still to go
        further = np.append(0, most)[most]
        if (further == number).all():
            return np.unique(np.append(0, number), return_inverse=True)[1][1:].reshape(mask.shape)
        number = further


def _measure_stroke_width(mask: np.ndarray) -> float:
    """Of the strokes, in pixels: twice the area by the length of the outline, whose steps overstate it by 4 / pi."""
    outline = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    return float(2 * mask.sum() / max(1, outline * np.pi / 4))


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


# --- form ------------------------------------------------------------------------------------------------------------


def _stroke_size(size: int) -> int:
    """The longer side of the stroke in a picture of `size`."""
    return size if size <= MAX_FULL_BLEED_SIZE else round(size * 20 / 28)


def _normalize_stroke(cover: np.ndarray, size: int) -> np.ndarray:
    """The strokes (bool) in fine pixels, drawn with a pen of usual thickness."""
    fine = _stroke_size(size) * SUPERSAMPLING
    large = _resize_to_side(cover, fine, Image.Resampling.BICUBIC)
    mask = np.pad(large > 0.5, fine // 5)
    thickness = _measure_stroke_width(mask)
    change = round((np.clip(thickness, STROKE_WIDTH_RANGE[0] * fine, STROKE_WIDTH_RANGE[1] * fine) - thickness) / 2)
    shaped = _dilate(mask, change) if change > 0 else ~_dilate(~mask, -change)
    return shaped if shaped.any() else mask


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """`mask` and everything within `radius` pixels of it."""
    height, width = mask.shape
    padded = np.pad(mask, radius)
    grown = mask.copy()
    for down in range(-radius, radius + 1):
        across = int((radius**2 - down**2) ** 0.5)
        for right in range(-across, across + 1):
            grown |= padded[radius + down :, radius + right :][:height, :width]
    return grown


def _resize_to_side(plane: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    """`plane` (H, W) resized so that its longer side is `side`."""
    scale = side / max(plane.shape)
    return _resize(plane, max(1, round(plane.shape[0] * scale)), max(1, round(plane.shape[1] * scale)), how)


def _trim(mask: np.ndarray, size: int) -> np.ndarray:
    """The strokes alone, in pixels of the result."""
    small = _resize_to_side(mask[_bounding_box(mask)], _stroke_size(size), Image.Resampling.BOX)
    return np.maximum(small * (255 / small.max()), mask.any()).round().astype(np.uint8)


def _center_offset(stroke: np.ndarray, size: int) -> tuple[float, float]:
    """Where the stroke's first row and column belong: the middle of the picture is its centre of mass, or of its extent
    in a filled format.
    """
    if size <= MAX_FULL_BLEED_SIZE:
        return tuple((size - length) / 2 for length in stroke.shape)
    weights = [stroke.sum(1 - axis, dtype=np.float64) for axis in (0, 1)]
    return tuple(size / 2 - weight @ np.arange(len(weight)) / weight.sum() for weight in weights)


def _center(stroke: np.ndarray, size: int) -> np.ndarray:
    """The stroke on a black picture (size, size)."""
    result = np.zeros((size, size), np.uint8)
    height, width = stroke.shape
    top, left = np.floor(np.add(_center_offset(stroke, size), 0.5)).astype(int).clip(0, (size - height, size - width))
    result[top : top + height, left : left + width] = stroke
    return result


def _is_normalized(grey: np.ndarray, size: int) -> bool:
    """Whether `grey` (size, size) shows a stroke of the right size in the right place."""
    if grey.max() < 200 or grey.mean() > 127:
        return False
    rows, columns = _bounding_box(grey > 0)
    stroke = grey[rows, columns]
    if max(stroke.shape) != _stroke_size(size):
        return False
    away = np.abs(np.subtract(_center_offset(stroke, size), (rows.start, columns.start)))
    return bool((away <= (1 if size <= MAX_FULL_BLEED_SIZE else 0.51)).all()) or bool(
        (_center(stroke, size) == grey).all()
    )
