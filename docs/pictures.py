"""Plot the images of the documents: a run on the bundled digits, and a synthetic photo of a handwritten digit.

python docs/pictures.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import thalweg

OUTPUT = Path(__file__).parent / "pictures"
#: strokes of a four, in pixels
STROKES = ([(75, 70), (62, 160), (165, 152)], [(150, 60), (141, 160), (128, 245)])
GAP = 20


def draw_digit() -> Image.Image:
    """Return a four in blue ink on gray paper under a lamp, 220 x 300 pixels."""
    y, x = np.mgrid[:300, :220]
    brightness_HW = 205 - 45 * np.hypot(x - 30, y - 40) / 370
    pixels_HWC = np.stack([brightness_HW, brightness_HW, brightness_HW * 0.96], -1).astype(np.uint8)
    image = Image.fromarray(pixels_HWC)
    draw = ImageDraw.Draw(image)
    for stroke in STROKES:
        draw.line(stroke, fill=(38, 44, 130), width=13, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(1.6))


def join_images(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two images side by side, the left one scaled to the height of the right one."""
    width = left.width * right.height // left.height
    left = left.resize((width, right.height), Image.Resampling.LANCZOS)
    image = Image.new("RGB", (width + right.width + GAP, right.height), "white")
    image.paste(left, (0, 0))
    image.paste(right, (width + GAP, 0))
    return image


def main() -> None:
    """Write docs/pictures/*.png, each at most 900 pixels wide."""
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = thalweg.train("classify", "digits", model="lenet", epochs=20, cpu_threads=1, out=f"{folder}/run")
        for name in ("curves", "confusion", "filters"):
            shutil.copy(run.path / "plots" / f"{name}.png", OUTPUT)
    model = thalweg.load("digits-lenet")
    digit = draw_digit()
    model.explain(digit).draw().save(OUTPUT / "attribution.png")
    prediction = next(iter(model.predict(digit)))
    join_images(digit, prediction.draw()).save(OUTPUT / "prediction.png")
    for path in OUTPUT.glob("*.png"):
        image = Image.open(path).convert("RGB")
        image.thumbnail((900, 900), Image.Resampling.LANCZOS)
        image.quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
