"""Random resized crops (Szegedy et al. 2015, arXiv:1409.4842, section 6), decoded straight to the size of the model.

A box is drawn from (seed, epoch, row) and the size of the image alone, before the file is looked at, so that the same
boxes come with any number of threads and from any position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .augment import parse_augmentation
from .image_decoding import (
    ORIENTATION_TAG,
    TRANSPOSED_ORIENTATIONS,
    ImageReadError,
    ImageSource,
    open_image,
    to_gray_or_rgb,
)
from .image_resizing import to_array
from .photo_augment import CROP_RATIO

#: boxes that are tried before the center is taken
MAX_TRIES = 10
#: a JPEG is decoded at a fraction of its size if that leaves this many times the required pixels along each side
BOX_DRAFT_MARGIN = 2

#: left, top, right, bottom in pixels
Box = tuple[float, float, float, float]

#: how an image of each EXIF orientation is brought upright
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageKey:
    """What the random choices for an image depend on."""

    seed: int
    epoch: int
    row: int

    def generator(self, *stream: int) -> np.random.Generator:
        """Return a random generator of this image's own."""
        return np.random.default_rng([self.seed, self.epoch, self.row, *stream])


def split_crop(augment: str) -> tuple[float | None, str]:
    """Take `crop` out of an augmentation: 'crop=0.35,flip' is 0.35 and 'flip'; 'flip' is None and 'flip'.

    Raises OptionError.
    """
    amounts = parse_augmentation(augment)
    min_area = amounts.get("crop")
    rest = [part for part in augment.split(",") if part.strip().partition("=")[0] != "crop"]
    return min_area, ",".join(rest) or "none"


def draw_box(key: ImageKey, size: tuple[int, int], min_area: float, ratio: float = 1.0) -> Box:
    """Draw the box of a random resized crop, by trying, as published models were trained.

    `photo_augment.draw_box_sizes` draws boxes of the same limits without trying, which a recorded graph cannot do.

    Args:
        key: What the box depends on. The number of draws is always the same.
        size: (height, width) of the upright image.
        min_area: The smallest area, as a fraction of the image's.
        ratio: Width / height of the model's input; the ratio of the box is at random around it.

    Returns:
        The box, of whole pixels: the first of ten that lies in the image, else the largest at its center.
    """
    height, width = size
    area_T, ratio_T, top_T, left_T = key.generator().random((4, MAX_TRIES))
    low, high = map(math.log, CROP_RATIO)
    log_ratio_T = low + ratio_T * (high - low)
    box_ratio_T = ratio * np.exp(log_ratio_T)
    box_area_T = width * height * (min_area + area_T * (1 - min_area))
    width_T = np.rint(np.sqrt(box_area_T * box_ratio_T))
    height_T = np.rint(np.sqrt(box_area_T / box_ratio_T))
    inside_T = (width_T >= 1) & (width_T <= width) & (height_T >= 1) & (height_T <= height)
    if not inside_T.any():
        return _center_box(width, height, ratio)
    index = int(inside_T.argmax())
    left = math.floor(left_T[index] * (width - width_T[index] + 1))
    top = math.floor(top_T[index] * (height - height_T[index] + 1))
    return left, top, left + int(width_T[index]), top + int(height_T[index])


def _center_box(width: int, height: int, ratio: float) -> Box:
    """Return the largest box at the center whose ratio is allowed."""
    min_ratio, max_ratio = (ratio * limit for limit in CROP_RATIO)
    box_width = width
    box_height = height
    if width < height * min_ratio:
        box_height = max(1, min(height, round(width / min_ratio)))
    elif width > height * max_ratio:
        box_width = max(1, min(width, round(height * max_ratio)))
    left = (width - box_width) // 2
    top = (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def decode_box(
    source: ImageSource, channels: int, size: tuple[int, int], draw: Callable[[int, int], Box]
) -> np.ndarray:
    """Decode a box of an image, resized.

    Args:
        source: Path of a file, or its content.
        channels: 1 (gray) or 3 (RGB).
        size: (height, width) of the result.
        draw: Called with height and width of the upright image; returns the box in it.

    Returns:
        Pixels (H, W, C) uint8.

    Raises:
        ImageReadError: The image cannot be read, with the reason.
    """
    with open_image(source) as image:
        return _decode_box(image, channels, size, draw)


def _decode_box(
    image: Image.Image, channels: int, size: tuple[int, int], draw: Callable[[int, int], Box]
) -> np.ndarray:
    if 0 in image.size:
        raise ImageReadError("it has no pixels")
    is_jpeg = image.format in ("JPEG", "MPO")
    if not is_jpeg:
        image.load()  # a PNG may have its orientation behind the pixels
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    is_transposed = orientation in TRANSPOSED_ORIENTATIONS
    width, height = image.size
    target_height, target_width = size
    if is_transposed:
        width, height = height, width
        target_width, target_height = target_height, target_width
    target_size = (target_width, target_height)
    box = _stored_box(draw(height, width), (height, width), orientation)
    if is_jpeg:
        box = _use_jpeg_draft(image, target_size, box)
    resized = to_gray_or_rgb(image, channels).resize(target_size, Image.Resampling.BILINEAR, box)
    if orientation in _TRANSPOSITIONS:
        resized = resized.transpose(_TRANSPOSITIONS[orientation])
    return to_array(resized, channels)


def _stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return where a box of the upright image, of `size` (height, width), lies in the image as it is stored."""
    left, top, right, bottom = box
    height, width = size
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    if orientation in TRANSPOSED_ORIENTATIONS:
        return top, left, bottom, right
    return left, top, right, bottom


def _use_jpeg_draft(image: Image.Image, target_size: tuple[int, int], box: Box) -> Box:
    """Let Pillow decode at 1/2, 1/4 or 1/8 of the size, if that leaves more pixels of the box than are needed.

    Only if the fraction is whole, as libjpeg pads other sizes with a border. Return the box in the smaller image.
    """
    width, height = image.size
    left, top, right, bottom = box
    target_width, target_height = target_size
    for divisor in (8, 4, 2):
        is_wide = right - left >= BOX_DRAFT_MARGIN * divisor * target_width
        is_high = bottom - top >= BOX_DRAFT_MARGIN * divisor * target_height
        if width % divisor == height % divisor == 0 and is_wide and is_high:
            image.draft(None, (width // divisor, height // divisor))
            return left / divisor, top / divisor, right / divisor, bottom / divisor
    return box
