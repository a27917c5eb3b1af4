"""Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2): how the probability drops as parts are covered.

A square slides over the image, and the model predicts each covered image anew. That needs no gradients and no maps, so
it works for every model.

Differs from the paper: a pixel gets the mean over all squares that cover it, instead of one value per square's center.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import class_logits, eval_mode, single_image

#: images per forward pass; more images of 224 pixels exceed a CPU's cache and take longer
BATCH_SIZE = 8


class Occlusion(NamedTuple):
    """Drops of the probability, -1 to 1; negative where the class becomes more probable."""

    #: mean over the squares that cover a pixel, float32
    drop_HW: Float[np.ndarray, "H W"]
    #: one per square, rows from the top
    drop_RS: Float[np.ndarray, "R S"]
    #: side of the square and its step in pixels
    patch: int
    stride: int


def occlusion(
    model: nn.Module,
    x_1CHW: Tensor,
    target: int,
    patch: int | None = None,
    stride: int | None = None,
    fill: float | Tensor = 0.0,
) -> Occlusion:
    """Compute the drop of the probability of a class as a square slides over the image.

    Args:
        model: a classifier.
        x_1CHW: one image as the model reads it.
        target: index of the class.
        patch: side of the square in pixels; by default about a sixth of the image's shorter side.
        stride: step of the square in pixels; by default half the square.
        fill: what replaces the covered pixels, a number or a tensor that broadcasts to (C, patch, patch), on the
            model's scale: 0 is the mean color of a normalized image.

    Returns:
        The drops by square and by pixel.

    Raises:
        OptionError: an unknown class, or squares that leave out pixels.
    """
    x_1CHW = single_image(x_1CHW)
    height, width = x_1CHW.shape[2:]
    # even, so that squares at half their side's distance cover every pixel equally often
    patch = patch or max(1, 2 * (min(height, width) // 12))
    stride = stride or max(1, patch // 2)
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise OptionError(
            f"patch={patch}, stride={stride}: such squares do not cover every pixel of {width} x {height}.",
            cure=f"Use a patch of 1 to {min(height, width)} and a stride of 1 to the patch.",
            option="patch",
            value=(patch, stride),
            allowed=range(1, min(height, width) + 1),
        )
    tops = _window_starts(height, patch, stride)
    lefts = _window_starts(width, patch, stride)
    squares: list[tuple[slice, slice]] = []
    for top in tops:
        for left in lefts:
            squares.append((slice(top, top + patch), slice(left, left + patch)))
    drop_N = _probability_drops(model, x_1CHW, target, squares, fill)
    total_HW = np.zeros((height, width))
    count_HW = np.zeros((height, width))
    for square, drop in zip(squares, drop_N, strict=True):
        total_HW[square] += drop
        count_HW[square] += 1
    drop_HW = (total_HW / count_HW).astype(np.float32)
    return Occlusion(drop_HW, drop_N.reshape(len(tops), len(lefts)), patch, stride)


def _probability_drops(
    model: nn.Module, x_1CHW: Tensor, target: int, squares: list[tuple[slice, slice]], fill: float | Tensor
) -> np.ndarray:
    """Return how much the probability drops when each of the squares (N,) is covered."""
    drops: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        full_1 = _target_probability(model, x_1CHW, target)
        for start in range(0, len(squares), BATCH_SIZE):
            batch = squares[start : start + BATCH_SIZE]
            covered_BCHW = x_1CHW.repeat(len(batch), 1, 1, 1)
            for image_CHW, (rows, columns) in zip(covered_BCHW, batch, strict=True):
                image_CHW[:, rows, columns] = fill
            drops.append(full_1 - _target_probability(model, covered_BCHW, target))
    return torch.cat(drops).cpu().numpy()


def _window_starts(size: int, patch: int, stride: int) -> list[int]:
    """Return the first pixels of squares that leave out no pixel, with the first and the last one at the edges."""
    steps = math.ceil((size - patch) / stride)
    starts: list[int] = []
    for step in range(steps + 1):
        starts.append(min(step * stride, size - patch))
    return starts


def _target_probability(model: nn.Module, x_BCHW: Tensor, target: int) -> Tensor:
    return class_logits(model, x_BCHW, target).float().softmax(1)[:, target]
