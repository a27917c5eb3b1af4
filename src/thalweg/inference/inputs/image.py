"""An image: a file, a URL, bytes, an array or a Pillow image; without one, a drawing made here."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...data.images.image_decoding import ImageReadError, apply_exif_orientation, decode_image
from ...data.images.image_resizing import to_array
from ...data.images.input_spec import to_uint8
from ...errors import DataError, OptionError, ResourceError
from ...tasks.base import InputType
from ..sources import iter_sources
from . import check_max_words

#: height and width of the drawing, and how many points are computed along each side of a pixel
DEFAULT_SIDE = 96
SUPERSAMPLING = 4


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [IMAGE]: `image_HWC` uint8, 1 or 3 channels, longer side at most `settings.image_size`; `title`, `notes`.

    Upright, on white where transparent. Raises DataError for what is not one image, ResourceError for a URL that does
    not answer.
    """
    check_max_words(words, 1, "an image")
    if weights is not None:
        raise OptionError("This concept loads no weights.", "Leave --weights out.", option="weights")
    name, full_HWC = _read_image(words[0], offline) if words else ("a drawing", sample_drawing())
    image_HWC = limit_size(full_HWC, settings.image_size)
    notes = []
    if words and image_HWC.shape != full_HWC.shape:
        before, after = (f"{array.shape[1]} x {array.shape[0]}" for array in (full_HWC, image_HWC))
        notes.append(f"The image was resized from {before} to {after} pixels; --set image_size=… changes it.")
    return {"image_HWC": image_HWC, "title": name, "notes": notes}


def _read_image(word: Any, offline: bool) -> tuple[str, np.ndarray]:
    """Return name and pixels (H, W, C) uint8 of exactly one image. Raises DataError, ResourceError."""
    sources = list(islice(iter_sources(word, InputType.IMAGE), 2))
    if len(sources) != 1:
        names = " and ".join(source.name for source in sources) or "none"
        raise DataError(f"Expected one image; got {names}.", "Name one image.", value=len(sources))
    source = sources[0]
    try:
        content = source.read(offline)
        if isinstance(content, np.ndarray | Tensor):
            content = Image.fromarray(to_uint8(content))
        if isinstance(content, Image.Image):
            return source.name, to_array(apply_exif_orientation(content), None)
        return source.name, decode_image(content)
    except ImageReadError as reason:
        raise DataError(f"{source.name}: {reason}.", "Give an image, such as photo.jpg.", path=source.name) from None
    except (DataError, ResourceError) as error:
        cure = error.cure or "Give an image, such as photo.jpg."
        raise type(error)(f"{source.name}: {error.message.rstrip('.')}.", cure, path=source.name) from None


def limit_size(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Shrink an image so that its longer side is at most `side`; the proportions stay."""
    height, width = image_HWC.shape[:2]
    if max(height, width) <= side:
        return image_HWC
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(image_HWC[..., 0] if image_HWC.shape[2] == 1 else image_HWC)
    return to_array(image.resize(size, Image.Resampling.BILINEAR), image_HWC.shape[2])


def sample_drawing(side: int = DEFAULT_SIDE) -> np.ndarray:
    """Draw (side, side, 3) uint8: a shaded ball on a table before a striped wall, a ramp, and a letter.

    It has what kernels respond to: even areas, gradients, edges in all directions, and stripes of two widths.
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
    distance = np.hypot(x - 0.66, y - 0.68)
    light = np.clip(1 - np.hypot(x - 0.60, y - 0.61) / 0.34, 0, 1)
    image[distance < 0.18] = (np.array([0.45, 0.10, 0.05]) + light[..., None] * np.array([0.52, 0.62, 0.40]))[
        distance < 0.18
    ]
    fractions = image.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING, 3).mean((1, 3))
    return np.round(255 * fractions.clip(0, 1)).astype(np.uint8)
