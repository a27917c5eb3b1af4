"""Pillow in a loop: open, RGB, the shorter side to 256, the center 224 x 224, an array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from photographs import RESIZE, SIZE, race
from PIL import Image


def decode(files: list[Path]) -> Iterator[np.ndarray]:
    """Yield arrays (224, 224, 3), one file after the other."""
    for file in files:
        image = Image.open(file).convert("RGB")
        width, height = image.size
        short = min(width, height)
        image = image.resize((RESIZE * width // short, RESIZE * height // short), Image.Resampling.BILINEAR)
        left = (image.width - SIZE) // 2
        top = (image.height - SIZE) // 2
        yield np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


if __name__ == "__main__":
    race(decode)
