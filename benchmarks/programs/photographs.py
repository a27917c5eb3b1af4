"""Folders of photos to decode, and what times a contender that decodes them."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from contract import report
from PIL import Image

#: width and height of a camera's photos; shorter side after resizing, and side of the crop
CAMERA = (3000, 2000)
RESIZE = 256
SIZE = 224


def parse_arguments() -> argparse.Namespace:
    """Parse what the contenders of DECODING take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=["camera", "web"], default="camera")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--passes", type=int, default=3)
    return parser.parse_args()


def write_photos(kind: str, count: int) -> list[Path]:
    """Write `count` JPEG files into the current folder: COCO's as they are ("web"), or of a camera's size ("camera").

    The latter are COCO's, enlarged, with grain, so that a file is as large and as slow as a camera's (about 1.5 MB).
    """
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    originals = sorted((Path(os.environ.get("THALWEG_DATA", default)) / "coco_subset" / "images").glob("*.jpg"))
    random = np.random.default_rng(0)
    paths = []
    for i in range(count):
        original = originals[i % len(originals)]
        path = Path(f"{i}.jpg")
        paths.append(path)
        if kind == "web":
            path.write_bytes(original.read_bytes())
            continue
        large = np.asarray(Image.open(original).convert("RGB").resize(CAMERA, Image.Resampling.BICUBIC), np.float32)
        grain = random.normal(0, 4, large.shape).astype(np.float32)
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return paths


def race(decode: Callable[[list[Path]], Iterable[np.ndarray]]) -> None:
    """Print the line of a program of DECODING: images per second after one warm-up pass, and the mean of all bytes."""
    options = parse_arguments()
    files = write_photos(options.kind, options.count)
    seconds = []
    levels: list[float] = []
    for _ in range(options.passes + 1):
        start = time.perf_counter()
        levels = [float(image_HWC[::8, ::8].mean()) for image_HWC in decode(files)]
        seconds.append(time.perf_counter() - start)
    report(images_per_second=len(files) / statistics.median(seconds[1:]), level=statistics.fmean(levels))
