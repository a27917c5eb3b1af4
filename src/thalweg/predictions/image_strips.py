"""Rows of images that change from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png


@dataclass(frozen=True, repr=False)
class ImageStrips(DisplayedPrediction):
    """Rows of images (R, T, H, W, C) uint8 with a name each; `steps` (T) are the changes of the columns."""

    source: str
    images_RTHWC: np.ndarray = field(repr=False)
    row_names: Sequence[str]
    steps: Sequence[float]
    seed: int | None = None

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    def brief(self) -> list[str]:
        """Return one line: "sample 1: thickness, slant; -3 to +3"."""
        return [f"{self.source}: {', '.join(self.row_names)}; {self.steps[0]:+g} to {self.steps[-1]:+g}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        values = self.json()
        return [{**values, "rows": ", ".join(self.row_names), "steps": ", ".join(f"{step:g}" for step in self.steps)}]

    def json(self) -> dict[str, Any]:
        """Return {"source", "seed", "rows", "steps", "width", "height"}; the size is that of one image."""
        height, width = self.images_RTHWC.shape[2:4]
        return {
            "source": self.source,
            "seed": self.seed,
            "rows": list(self.row_names),
            "steps": list(self.steps),
            "width": width,
            "height": height,
        }

    def draw(self) -> Image.Image:
        """Draw the rows with their names."""
        from ..plots.editing import plot_strips

        return plot_strips(self.images_RTHWC, self.row_names, [f"{step:+g}" if step else "0" for step in self.steps])

    def files(self) -> dict[str, bytes]:
        """Return the drawing."""
        return {".png": encode_png(self.draw())}
