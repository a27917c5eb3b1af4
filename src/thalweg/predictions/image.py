"""Images that a model made: one, or a grid of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png, to_image

#: shorter side, in pixels, from which on an image is drawn at its own size
MIN_DRAWN_SIZE = 128


@dataclass(frozen=True, repr=False)
class ImagePrediction(DisplayedPrediction):
    """One image (H, W, C) uint8; `seed` is what it was generated from, None where that is no seed."""

    source: str
    image_HWC: np.ndarray = field(repr=False)
    seed: int | None = None

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.image_HWC.shape[:2]
        return width, height

    @property
    def image(self) -> Image.Image:
        """The image at its own size."""
        return to_image(self.image_HWC)

    def brief(self) -> list[str]:
        """Return one line: "sample 4, seed 3, 32x32"."""
        width, height = self.size
        if self.seed is None:
            return [f"{self.source}, {width}x{height}"]
        return [f"{self.source}, seed {self.seed}, {width}x{height}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "seed", "width", "height"}."""
        width, height = self.size
        return {"source": self.source, "seed": self.seed, "width": width, "height": height}

    def draw(self) -> Image.Image:
        """Return the image, enlarged without smoothing if it is small."""
        width, height = self.size
        scale = max(1, math.ceil(MIN_DRAWN_SIZE / min(width, height)))
        return self.image.resize((width * scale, height * scale), Image.Resampling.NEAREST)

    def files(self) -> dict[str, bytes]:
        """Return the image at its own size."""
        return {".png": encode_png(self.image)}


@dataclass(frozen=True, repr=False)
class ImageGrid(DisplayedPrediction):
    """Images (N, H, W, C) uint8 that are shown together."""

    source: str
    images_NHWC: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    def brief(self) -> list[str]:
        """Return one line: "samples, 64 images of 32x32"."""
        count, height, width = self.images_NHWC.shape[:3]
        noun = "image" if count == 1 else "images"
        return [f"{self.source}, {count} {noun} of {width}x{height}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "images", "width", "height"}; the size is that of one image."""
        count, height, width = self.images_NHWC.shape[:3]
        return {"source": self.source, "images": count, "width": width, "height": height}

    def draw(self) -> Image.Image:
        """Draw the images in a grid, enlarged without smoothing if they are small."""
        from ..plots.image_grid import plot_image_grid

        return plot_image_grid(self.images_NHWC)

    def files(self) -> dict[str, bytes]:
        """Return the drawing."""
        return {".png": encode_png(self.draw())}
