"""A picture: a file, an address, bytes, an array or a Pillow image; without one, a still life drawn here."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from ...data.images.image_decoding import ImageReadError, apply_exif_orientation, decode_image, to_array
from ...data.images.preprocess import to_uint8
from ...errors import DataError, OptionError, ResourceError
from ..predict import iter_sources
from . import check_max_words

#: height and width of the still life, and how many points are drawn along each side of a pixel
DEFAULT_SIDE, SUPERSAMPLING = 96, 4


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[PICTURE]: `picture_HWC` uint8, C is 1 or 3, at most `settings.image_size` pixels on a side; `told`, `notes`.

    Upright, on white where transparent. Raises DataError for what is no picture, and for several, ResourceError for an
    address that does not answer.
    """
    check_max_words(words, 1, "a picture")
    if weights is not None:
        raise OptionError("This concept is about a picture, and loads no weights.", cure="Leave --weights out.")
    name, whole_HWC = _read_image(words[0], offline) if words else ("a still life", sample_drawing())
    picture_HWC = limit_size(whole_HWC, settings.image_size)
    notes = []
    if words and picture_HWC.shape != whole_HWC.shape:
        told = [f"{array.shape[1]} x {array.shape[0]}" for array in (whole_HWC, picture_HWC)]
        notes.append(f"The picture was brought from {told[0]} to {told[1]} pixels; --set image_size=… changes it.")
    return {"picture_HWC": picture_HWC, "told": name, "notes": notes}


def _read_image(given: Any, offline: bool) -> tuple[str, np.ndarray]:
    """The name of the one picture that is given, and its pixels (H, W, C) uint8. Raises DataError, ResourceError."""
    found = list(islice(iter_sources(given), 2))
    if len(found) != 1:
        told = f"{found[0].name} and {found[1].name} are two at least" if found else "here is none"
        raise DataError(f"One picture is needed, and {told}.", cure="Name one picture.")
    (picture,) = found
    try:
        content = picture.read(offline)
        if isinstance(content, np.ndarray):
            content = Image.fromarray(to_uint8(content))
        if isinstance(content, Image.Image):
            return picture.name, to_array(apply_exif_orientation(content), None)
        return picture.name, decode_image(content)
    except ImageReadError as why:
        raise DataError(f"{picture.name}: {why}.", cure="Give a picture, such as photo.jpg.") from None
    except (DataError, ResourceError) as error:
        cure = error.cure or "Give a picture, such as photo.jpg."
        raise type(error)(f"{picture.name}: {error.message.rstrip('.')}.", cure=cure) from None


def limit_size(picture_HWC: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side brought to `side` where it is longer, smoothed; the proportions stay."""
    height, width = picture_HWC.shape[:2]
    if max(height, width) <= side:
        return picture_HWC
    share = side / max(height, width)
    extent = (max(1, round(width * share)), max(1, round(height * share)))
    image = Image.fromarray(picture_HWC[..., 0] if picture_HWC.shape[2] == 1 else picture_HWC)
    return to_array(image.resize(extent, Image.Resampling.BILINEAR), picture_HWC.shape[2])


def sample_drawing(side: int = DEFAULT_SIDE) -> np.ndarray:
    """A drawing (side, side, 3) uint8: a shaded ball on a table before a striped wall, a ramp, and a letter.

    It has what kernels tell apart: even areas, slopes, edges in all directions, and stripes of two widths.
    """
    y, x = (np.mgrid[: side * SUPERSAMPLING, : side * SUPERSAMPLING] + 0.5) / (side * SUPERSAMPLING)
    image = np.empty((*x.shape, 3))
    image[:] = np.array([0.86, 0.84, 0.78]) - 0.25 * x[..., None]  # a wall, darker to the right
    wide = (x > 0.06) & (x < 0.36) & (y > 0.08) & (y < 0.36) & ((x - 0.06) % 0.1 < 0.05)
    narrow = (x > 0.06) & (x < 0.36) & (y > 0.40) & (y < 0.60) & ((y - 0.40) % 0.05 < 0.025)
    image[wide | narrow] = (0.10, 0.30, 0.48)
    image[y > 0.72] = (0.42, 0.27, 0.16)  # the table
    image[y > 0.72] += 0.12 * x[y > 0.72, None]
    ramp = (y > 0.72) & (y < 0.94) & (x > 0.06) & (x < 0.06 + 1.6 * (y - 0.72))
    image[ramp] = (0.16, 0.55, 0.42)
    for left, top, right, bottom in ((0.48, 0.08, 0.88, 0.14), (0.48, 0.34, 0.88, 0.40)):  # the letter Z
        image[(x > left) & (x < right) & (y > top) & (y < bottom)] = (0.12, 0.10, 0.12)
    slant = np.abs((x - 0.52) / 0.32 + (y - 0.14) / 0.20 - 1) < 0.13
    image[slant & (y >= 0.14) & (y <= 0.34)] = (0.12, 0.10, 0.12)
    away = np.hypot(x - 0.66, y - 0.68)
    light = np.clip(1 - np.hypot(x - 0.60, y - 0.61) / 0.34, 0, 1)
    image[away < 0.18] = (np.array([0.45, 0.10, 0.05]) + light[..., None] * np.array([0.52, 0.62, 0.40]))[away < 0.18]
    shares = image.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING, 3).mean((1, 3))
    return np.round(255 * shares.clip(0, 1)).astype(np.uint8)
