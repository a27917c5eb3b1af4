"""Compare the projection of held-out images with the nearest training images, by the mean squared error of pixels.

    python benchmarks/projection.py RUN [--count 20]

RUN is a run of `thalweg train generate`; its data must be where it was. Needs thalweg in the Python that runs it.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

import thalweg
from thalweg.predictions.base import to_image


def measure_nearest(image_HWC: np.ndarray, train_NHWC: np.ndarray) -> float:
    """Return the smallest mean squared error to a training image, of levels from 0 to 1."""
    errors = []
    for chunk_CHWC in np.array_split(train_NHWC, max(1, len(train_NHWC) // 5000)):
        errors.append(float(np.square((chunk_CHWC.astype(np.float32) - image_HWC) / 255).mean((1, 2, 3)).min()))
    return min(errors)


def main() -> None:
    """Print both errors, as means over the images, and for how many images the projection is nearer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    run: Any = thalweg.load(options.run)
    dataset = run.load_data()
    images_NHWC = dataset.test.spread(options.count).images
    projected = [row.pixel_mse for row in run.predict([to_image(image_HWC) for image_HWC in images_NHWC])]
    nearest = [measure_nearest(image_HWC, dataset.train.images) for image_HWC in images_NHWC]
    wins = sum(a < b for a, b in zip(projected, nearest, strict=True))
    ratio = statistics.mean(projected) / statistics.mean(nearest)
    print(f"projection {statistics.mean(projected):.5f}, nearest training image {statistics.mean(nearest):.5f}")
    print(f"ratio {ratio:.2f}; nearer for {wins} of {len(projected)} images")


if __name__ == "__main__":
    main()
