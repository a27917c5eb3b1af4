"""Plot the images of the documents: runs on the bundled digits, a drawn digit, and images of the bundled generator.

python docs/pictures.py [classified|generated]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import thalweg
from thalweg.predictions.image import ImageGrid

OUTPUT = Path(__file__).parent / "pictures"
#: strokes of a four, in pixels
STROKES = ([(75, 70), (62, 160), (165, 152)], [(150, 60), (141, 160), (128, 245)])
GAP = 20
#: seeds of the rows of the interpolation, the steps of each, and the seed of the digit that is edited
FIRST_SEEDS = (1, 14, 24, 41)
NUM_STEPS = 11
EDITED_SEED = 20


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


def save_classified(folder: Path) -> None:
    """Save plots of a run on the bundled digits, and what the bundled LeNet says of a drawn four."""
    with tempfile.TemporaryDirectory() as temporary:
        run = thalweg.train("classify", "digits", model="lenet", epochs=20, cpu_threads=1, out=f"{temporary}/run")
        for name in ("curves", "confusion", "filters"):
            shutil.copy(run.path / "plots" / f"{name}.png", folder)
    model = thalweg.load("digits-lenet")
    digit = draw_digit()
    model.explain(digit).draw().save(folder / "attribution.png")
    prediction = next(iter(model.predict(digit)))
    join_images(digit, prediction.draw()).save(folder / "prediction.png")


def save_generated(folder: Path) -> None:
    """Save samples of the bundled generator, ways from one to the next, and a digit with three sliders."""
    generator = thalweg.load("digits-dcgan")
    next(iter(generator.sample(way="grid", count=64))).draw().save(folder / "generated.png")
    rows = []
    for seed in FIRST_SEEDS:
        way = next(iter(generator.sample(way="interpolate", count=2, seed=seed, frames=NUM_STEPS - 1)))
        rows.append(way.frames_THWC[:NUM_STEPS])  # the other half leads back
    ImageGrid("interpolation", np.concatenate(rows), NUM_STEPS).draw().save(folder / "interpolation.png")
    with tempfile.TemporaryDirectory() as temporary:
        options = {"num_latents": 5000, "epochs": 8, "cpu_threads": 1, "report": False, "out": f"{temporary}/run"}
        editor = thalweg.train("edit", model="local_axes", **options)
        next(iter(editor.sample(way="sweep", count=1, seed=EDITED_SEED))).draw().save(folder / "edited.png")


def main() -> None:
    """Write docs/pictures/*.png, each at most 900 pixels wide."""
    OUTPUT.mkdir(exist_ok=True)
    steps = {"classified": save_classified, "generated": save_generated}
    with tempfile.TemporaryDirectory() as temporary:
        for name in sys.argv[1:] or steps:
            steps[name](Path(temporary))
        for path in Path(temporary).glob("*.png"):
            image = Image.open(path).convert("RGB")
            image.thumbnail((900, 900), Image.Resampling.LANCZOS)
            image.quantize(128).save(OUTPUT / path.name, optimize=True)


if __name__ == "__main__":
    main()
