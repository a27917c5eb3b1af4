"""One picture of many examples, each with its label: what a person looks at before training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: pixels across one example, pixels between them, height of a label
CELL_SIZE, GAP, TEXT_HEIGHT = 72, 8, 16


def contact_sheet(images: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """The examples (N, H, W, C) uint8 in rows, small ones enlarged without smoothing, each above its label."""
    columns = max(1, min(8, math.ceil(math.sqrt(len(images)))))
    rows = max(1, math.ceil(len(images) / columns))
    wide, high = CELL_SIZE + GAP, CELL_SIZE + GAP + TEXT_HEIGHT
    page = Image.new("RGB", (columns * wide + GAP, rows * high + GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for number, (values, label) in enumerate(zip(images, labels, strict=True)):
        left, top = GAP + number % columns * wide, GAP + number // columns * high
        picture = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
        way = Image.Resampling.NEAREST if max(picture.size) <= CELL_SIZE else Image.Resampling.BOX
        page.paste(picture.resize((CELL_SIZE, CELL_SIZE), way), (left, top))
        pen.text((left, top + CELL_SIZE + 1), _fit_text(label, font), fill="black", font=font)
    return page


def _fit_text(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text in one line, cut to the width of a cell."""
    text = " ".join(text.split())
    if font.getlength(text) <= CELL_SIZE:
        return text
    while text and font.getlength(text + "…") > CELL_SIZE:
        text = text[:-1]
    return text + "…"
