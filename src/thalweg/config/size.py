"""Sizes of images in pixels: one number for squares, WIDTHxHEIGHT for all others."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PATTERN = re.compile(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*", re.IGNORECASE)


#: height and width in pixels, as (height, width); one number for a square; or the text of an option
PixelSize = int | str | Sequence[int]


class Size(str):
    """Width and height in pixels, as text: "320x240"; the type of an option that also takes one number."""


def parse_size(text: str) -> int | Size | None:
    """Parse '320x240'; a square is one number, and anything else None."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    width = int(match[1])
    height = int(match[2])
    return width if width == height else Size(f"{width}x{height}")


def to_height_width(size: PixelSize) -> tuple[int, int]:
    """Return height and width of a size: 64 is (64, 64), and '320x240' is (240, 320). Raises ValueError."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, str):
        width, height = map(int, size.split("x"))
        return height, width
    height, width = size
    return height, width


def format_size(size: PixelSize) -> str:
    """Format a size as the option takes it: '64' for a square, '320x240' for any other."""
    height, width = to_height_width(size)
    return str(height) if height == width else f"{width}x{height}"
