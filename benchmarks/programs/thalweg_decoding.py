"""Ours: the photos of a folder as ImageNet models read them, decoded ahead by two threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from photographs import RESIZE, SIZE, race

from thalweg.data.images.image_decoding import decode_image
from thalweg.data.prefetch import prefetch_map

THREADS = 2


def decode(files: list[Path]) -> Iterator[np.ndarray]:
    """Yield arrays (224, 224, 3) in the order of the files."""
    return prefetch_map(partial(decode_image, channels=3, image_size=SIZE, resize=RESIZE), files, THREADS)


if __name__ == "__main__":
    race(decode)
