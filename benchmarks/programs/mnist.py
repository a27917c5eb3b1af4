"""MNIST from the official files, as arrays. Imports no framework, so that it costs every contender the same."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np


def find_folder() -> Path:
    """Return the folder of the four .gz files: THALWEG_DATA/mnist, or shared/data/mnist beside the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("THALWEG_DATA", default)) / "mnist"


def _read(name: str, header: int) -> np.ndarray:
    with gzip.open(find_folder() / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def load(samples: int = 60_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training images (N, 28, 28) uint8 and labels (N,) int64, then test images and labels.

    With fewer `samples`, these are the first ones, and the same fraction of the test set.
    """
    tests = max(samples // 6, 1)
    images = _read("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:samples]
    labels = _read("train-labels-idx1-ubyte.gz", 8)[:samples].astype(np.int64)
    test_images = _read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:tests]
    test_labels = _read("t10k-labels-idx1-ubyte.gz", 8)[:tests].astype(np.int64)
    return images, labels, test_images, test_labels
