"""Folders of photographs to decode, and what times a contender that decodes them."""

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

#: extents of a camera's pictures, and of what is brought to it
CAMERA, RESIZE, SIZE = (3000, 2000), 256, 224


def arguments() -> argparse.Namespace:
    """What the contenders of DECODING take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=["camera", "web"], default="camera")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--passes", type=int, default=3)
    return parser.parse_args()


def folder(kind: str, count: int) -> list[Path]:
    """`count` JPEG files in the folder of this process: COCO's as they are ("web"), or of a camera's size ("camera").

    The latter are COCO's, enlarged, with grain, so that a file weighs and takes as long as a camera's (about 1.5 MB).
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    found = sorted((Path(os.environ.get("THALWEG_DATA", beside)) / "coco_subset" / "images").glob("*.jpg"))
    draw, made = np.random.default_rng(0), []
    for number in range(count):
        original = found[number % len(found)]
        made.append(Path(f"{number}.jpg"))
        if kind == "web":
            made[-1].write_bytes(original.read_bytes())
            continue
        large = np.asarray(Image.open(original).convert("RGB").resize(CAMERA, Image.Resampling.BICUBIC), np.float32)
        grain = draw.normal(0, 4, large.shape).astype(np.float32)
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(made[-1], quality=92)
    return made


def race(decode: Callable[[list[Path]], Iterable[np.ndarray]]) -> None:
    """Prints the line of a program of DECODING: pictures a second, one pass not counted, and the mean of all bytes."""
    options = arguments()
    files, seconds, levels = folder(options.kind, options.count), [], []
    for _ in range(options.passes + 1):
        began = time.perf_counter()
        levels = [float(array[::8, ::8].mean()) for array in decode(files)]
        seconds.append(time.perf_counter() - began)
    report(pictures_per_second=len(files) / statistics.median(seconds[1:]), level=statistics.fmean(levels))
