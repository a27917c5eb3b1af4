"""Ours: the head of a ResNet-18 on 1,000 photos for 10 epochs, with the features computed once or in every epoch.

The photos are noise of many scales, 500 x 375 as JPEG in folders, and the weights are random: neither changes the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

#: cells along the shorter side of each layer of noise
SCALES = (2, 8, 32)


def write_photos(folder: Path, count: int) -> None:
    """Write `count` training photos in two classes, and a tenth as many for validation and for the test."""
    random = np.random.default_rng(0)
    for split, number in (("train", count), ("val", count // 10), ("test", count // 10)):
        for k in range(number):
            class_folder = folder / split / ("cat", "dog")[k % 2]
            class_folder.mkdir(parents=True, exist_ok=True)
            total = np.zeros((375, 500, 3), np.float32)
            for scale in SCALES:
                noise = Image.fromarray(random.integers(0, 256, (scale * 3, scale * 4, 3), np.uint8))
                total += np.asarray(noise.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
            image = Image.fromarray((total / len(SCALES)).astype(np.uint8))
            image.save(class_folder / f"{k}.jpg", quality=90)


def main() -> None:
    """Print {"seconds": …, "accuracy": …} of the training; photos and weights are there before."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache-features", choices=["yes", "no"], default="yes")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    os.environ["THALWEG_CACHE"] = str(Path("cache").absolute())  # empty: nothing was computed before
    write_photos(Path("photos"), options.samples)

    import safetensors.torch
    import torch

    import thalweg
    from thalweg.models.classify.resnet import resnet18

    torch.manual_seed(0)
    safetensors.torch.save_file(resnet18(3, 1000).state_dict(), "resnet18.safetensors")
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        run = thalweg.train(
            "classify",
            "photos",
            model="resnet18",
            weights="resnet18.safetensors",
            freeze=True,
            epochs=options.epochs,
            batch_size=64,
            report=False,
            cache_features=options.cache_features == "yes",
        )
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "accuracy": run.results["test"]["accuracy"]}))


if __name__ == "__main__":
    main()
