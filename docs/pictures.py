"""Draws the pictures of the README: a run on the digits that come along, and a drawing of our own, asked about.

python docs/pictures.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import thalweg

OUT = Path(__file__).parent / "pictures"


def drawing() -> Image.Image:
    """A four in blue pen on grey paper under a lamp, 220 by 300 pixels."""
    y, x = np.mgrid[:300, :220]
    paper = 205 - 45 * np.hypot(x - 30, y - 40) / 370
    page = Image.fromarray(np.stack([paper, paper, paper * 0.96], -1).astype(np.uint8))
    pen = ImageDraw.Draw(page)
    for stroke in ([(75, 70), (62, 160), (165, 152)], [(150, 60), (141, 160), (128, 245)]):
        pen.line(stroke, fill=(38, 44, 130), width=13, joint="curve")
    return page.filter(ImageFilter.GaussianBlur(1.6))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures in one, the left one as high as the right."""
    left = left.resize((left.width * right.height // left.height, right.height), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (left.width + right.width + 20, right.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 20, 0))
    return both


def main() -> None:
    """Writes docs/pictures/*.png, each 900 pixels wide."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = thalweg.train("classify", "digits", model="lenet", epochs=20, threads=1, out=f"{folder}/run")
        for name in ("curves", "confusion", "filters"):
            shutil.copy(run.path / "pictures" / f"{name}.png", OUT)
    network = thalweg.load("digits-lenet")
    network.explain(drawing()).draw().save(OUT / "looked-at.png")
    answer = next(iter(network.predict(drawing())))
    beside(drawing(), answer.draw()).save(OUT / "prediction.png")
    for path in OUT.glob("*.png"):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((900, 900), Image.Resampling.LANCZOS)
        picture.quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
