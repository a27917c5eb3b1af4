"""Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2): what does the answer lose when a part is covered?

A square is moved over the picture, and the network is asked anew each time. It needs no slope and no maps, so it works
for every network.

Differs from the paper: a pixel is given the mean over all squares that cover it, not one square's centre the whole.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import class_logits, eval_mode, single_image

#: pictures that are asked about at once; more of 224 pixels fit no processor's cache and take longer
BATCH_SIZE = 8


class Occlusion(NamedTuple):
    """What covering costs: falls of probability, -1 to 1; negative where the class becomes likelier."""

    #: mean over the squares that cover a pixel, float32
    drop_HW: np.ndarray
    #: one per square, rows from the top
    drop_RS: np.ndarray
    #: side of the square and its step in pixels
    patch: int
    stride: int


def occlusion(
    network: nn.Module,
    x_1CHW: Tensor,
    target: int,
    patch: int | None = None,
    stride: int | None = None,
    fill: float | Tensor = 0.0,
) -> Occlusion:
    """The fall of the probability of the class number `target` as a square of side `patch` moves by `stride`.

    By default the square is about a sixth of the picture's shorter side, the stride half the square. What is covered
    becomes `fill`, a number or a tensor that broadcasts to (C, patch, patch), on the network's scale: 0 is the mean
    colour of a normalised picture. Raises OptionError for an unknown class, and for squares that do not fit or move.
    """
    x_1CHW = single_image(x_1CHW)
    high, wide = x_1CHW.shape[2:]
    # even, so that squares at half their side's distance cover every pixel equally often
    patch = patch or max(1, 2 * (min(high, wide) // 12))
    stride = stride or max(1, patch // 2)
    if not 1 <= patch <= min(high, wide) or not 1 <= stride <= patch:
        raise OptionError(
            f"patch={patch}, stride={stride}: such a square does not pass over every pixel of {wide} x {high}.",
            cure=f"Give a patch of 1 to {min(high, wide)} and a stride of 1 to the patch.",
        )
    rows, columns = _window_starts(high, patch, stride), _window_starts(wide, patch, stride)
    squares = [(slice(None), slice(r, r + patch), slice(c, c + patch)) for r, c in product(rows, columns)]
    with eval_mode(network), torch.no_grad():
        whole = _target_probability(network, x_1CHW, target)
        drops = []
        for start in range(0, len(squares), BATCH_SIZE):
            some = squares[start : start + BATCH_SIZE]
            covered_BCHW = x_1CHW.repeat(len(some), 1, 1, 1)
            for one_CHW, square in zip(covered_BCHW, some, strict=True):
                one_CHW[square] = fill
            drops.append(whole - _target_probability(network, covered_BCHW, target))
    drop_N = torch.cat(drops).cpu().numpy()
    total_HW, count_HW = np.zeros((high, wide)), np.zeros((high, wide))
    for (_, *square), drop in zip(squares, drop_N, strict=True):
        total_HW[tuple(square)] += drop
        count_HW[tuple(square)] += 1
    drop_HW = (total_HW / count_HW).astype(np.float32)
    return Occlusion(drop_HW, drop_N.reshape(len(rows), len(columns)), patch, stride)


def _window_starts(extent: int, patch: int, stride: int) -> list[int]:
    """First pixels of squares that leave nothing out, the first and the last at the edges."""
    steps = math.ceil((extent - patch) / stride)
    return [min(step * stride, extent - patch) for step in range(steps + 1)]


def _target_probability(network: nn.Module, x_BCHW: Tensor, target: int) -> Tensor:
    return class_logits(network, x_BCHW, target).float().softmax(1)[:, target]
