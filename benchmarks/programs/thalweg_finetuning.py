"""Ours: the last layer of a ResNet-18 on 1,000 photos for 10 epochs, with the features computed once or in every epoch.

The photos are noise of many scales, 500 x 375 as JPEG in folders, and the weights are random: neither changes the time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def photos(folder: Path, count: int) -> None:
    """`count` training photos in two classes, and a tenth as many for validation and for the test."""
    draw = np.random.default_rng(0)
    for part, number in (("train", count), ("valid", count // 10), ("test", count // 10)):
        for k in range(number):
            place = folder / part / ("cat", "dog")[k % 2]
            place.mkdir(parents=True, exist_ok=True)
            layers = [Image.fromarray(draw.integers(0, 256, (s * 3, s * 4, 3), np.uint8)) for s in (2, 8, 32)]
            layers = [np.asarray(layer.resize((500, 375), Image.Resampling.BICUBIC), np.float32) for layer in layers]
            Image.fromarray((sum(layers) / 3).astype(np.uint8)).save(place / f"{k}.jpg", quality=90)


def main() -> None:
    """Prints {"seconds": …, "accuracy": …} of the training, photos and weights being there already."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", choices=["yes", "no"], default="yes")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    os.environ["THALWEG_CACHE"] = str(Path("cache").absolute())  # empty: nothing was computed before
    photos(Path("photos"), asked.samples)

    import safetensors.torch
    import torch

    import thalweg
    from thalweg.models.classify.resnet import resnet18

    torch.manual_seed(0)
    safetensors.torch.save_file(resnet18(3, 1000).state_dict(), "resnet18.safetensors")
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        run = thalweg.train(
            "classify", "photos", model="resnet18", weights="resnet18.safetensors", freeze=True, epochs=asked.epochs,
            batch=64, report=False, cache=asked.cache == "yes",
        )  # fmt: skip
    seconds = time.perf_counter() - began
    print(f'{{"seconds": {seconds}, "accuracy": {run.results["test"]["accuracy"]}}}')


if __name__ == "__main__":
    main()
