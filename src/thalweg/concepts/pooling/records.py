"""What the concept pooling computes, as typed values."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np

from ..conv_numpy import avg_pool, max_pool, output_size, subsample


class PoolSpec(NamedTuple):
    """Hyperparameters of a pooling layer."""

    window: int
    stride: int
    padding: int

    def output_size(self, size: int) -> int:
        """Return the output size along one axis."""
        return output_size(size, self.window, self.stride, self.padding)

    def apply(self, kind: str, x_HW: np.ndarray) -> np.ndarray:
        """Return the output (O, P) of 'max', 'average' or 'subsampling'."""
        if kind == "max":
            return max_pool(x_HW, *self)[0]
        if kind == "average":
            return avg_pool(x_HW, *self)
        return subsample(x_HW, *self)


class Sizes(TypedDict):
    """Height and width of the image and of the output."""

    image: list[int]
    output: list[int]


class SelectedPixels(TypedDict):
    """The pixels that max pooling outputs: row and column of each, and fractions of all pixels."""

    positions: list[list[int]]
    fraction: float
    covered_fraction: float


class PoolStep(TypedDict):
    """One window of the crop. `window` has None in the padding; `argmax` is the row and column in the crop."""

    position: list[int]
    window: list[list[float | None]]
    max: float
    argmax: list[int]
    sum: float
    average: float


class PoolCrop(TypedDict):
    """A crop that is pooled like an image of its own. `corner` is its row and column in the image."""

    corner: list[int]
    values: list[list[float]]
    outputs: dict[str, list[list[float]]]
    argmax: list[list[list[int]]]
    steps: list[PoolStep]


class ShiftSensitivity(TypedDict):
    """Relative change of each output for each shift, and the outputs at shifts 0 and 1.

    `color_limit` is the difference with the strongest color in plots.
    """

    shifts: list[int]
    change: dict[str, list[float | None]]
    original: dict[str, list[list[float]]]
    shifted: dict[str, list[list[float]]]
    color_limit: float


class PoolingNumbers(TypedDict):
    """All numbers of the concept, as JSON values. `shift` is None if the image is too small to be shifted."""

    image_name: str
    image: list[list[float]]
    kinds: list[str]
    window: int
    stride: int
    padding: int
    sizes: Sizes
    outputs: dict[str, list[list[float]]]
    selected: SelectedPixels
    crop: PoolCrop
    shift: ShiftSensitivity | None
    max_difference: float
    size_formula: str
