"""Pillow in a loop: open, RGB, the shorter side to 256, the middle 224 x 224, an array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from photographs import RESIZE, SIZE, race
from PIL import Image


def decoded(files: list[Path]) -> Iterator[np.ndarray]:
    """Arrays (224, 224, 3), one file after the other."""
    for file in files:
        picture = Image.open(file).convert("RGB")
        width, height = picture.size
        short = min(width, height)
        picture = picture.resize((RESIZE * width // short, RESIZE * height // short), Image.Resampling.BILINEAR)
        left, top = (picture.width - SIZE) // 2, (picture.height - SIZE) // 2
        yield np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))


if __name__ == "__main__":
    race(decoded)
