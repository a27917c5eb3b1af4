"""Draw a contact sheet: examples of a data set with their labels, to check before training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: side of an example, gap between examples, height of a label, in pixels
CELL_SIZE = 72
GAP = 8
TEXT_HEIGHT = 16
_FONT_SIZE = 12
_MAX_COLUMNS = 8


def contact_sheet(images_NHWC: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """Return the examples, uint8, in rows, each above its label; small ones are enlarged without smoothing."""
    count = len(images_NHWC)
    columns = max(1, min(_MAX_COLUMNS, math.ceil(math.sqrt(count))))
    rows = max(1, math.ceil(count / columns))
    cell_width = CELL_SIZE + GAP
    cell_height = CELL_SIZE + GAP + TEXT_HEIGHT
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for index, (pixels_HWC, label) in enumerate(zip(images_NHWC, labels, strict=True)):
        left = GAP + index % columns * cell_width
        top = GAP + index // columns * cell_height
        cell = _resize_to_cell(pixels_HWC)
        sheet.paste(cell, (left + (CELL_SIZE - cell.width) // 2, top + (CELL_SIZE - cell.height) // 2))
        draw.text((left, top + CELL_SIZE + 1), _fit_text(label, font), fill="black", font=font)
    return sheet


def _resize_to_cell(pixels_HWC: np.ndarray) -> Image.Image:
    pixels = pixels_HWC
    if pixels_HWC.shape[2] == 1:
        pixels = pixels_HWC[..., 0]
    image = Image.fromarray(pixels)
    longer = max(image.size)
    resampling = Image.Resampling.NEAREST if longer <= CELL_SIZE else Image.Resampling.BOX
    width, height = (max(1, round(CELL_SIZE * side / longer)) for side in image.size)
    return image.resize((width, height), resampling)


def _fit_text(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Shorten a text to one line of the width of a cell."""
    text = " ".join(text.split())
    if font.getlength(text) <= CELL_SIZE:
        return text
    while text and font.getlength(text + "…") > CELL_SIZE:
        text = text[:-1]
    return text + "…"
