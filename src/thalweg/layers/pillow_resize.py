"""Pillow's resizing as tensor operations that torch.onnx.export can follow, for images of any size.

Triangle filter, whole-number weights, and rounding after each of two passes, as `data.images.resize_and_crop` does: not
one level differs. N images, h w their size, S the side of the result.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

#: Pillow's weights are whole multiples of one by this
FIXED_POINT_ONE = 2**22


def resize_and_crop(image_NhwC: Tensor, size: int, resize: int | None = None) -> Tensor:
    """Resize the center of each image, first across, then downwards: (N, S, S, C), 0 to 255.

    Double precision holds every sum of bytes times Pillow's weights exactly.
    """
    h = torch.scalar_tensor(image_NhwC.shape[1], dtype=torch.float64)
    w = torch.scalar_tensor(image_NhwC.shape[2], dtype=torch.float64)
    side = torch.minimum(h, w)
    down_Sh = resampling_weights(image_NhwC.shape[1], *crop_range(h, side, size, resize), size)
    across_wS = resampling_weights(image_NhwC.shape[2], *crop_range(w, side, size, resize), size).T
    x_NChw = image_NhwC.permute(0, 3, 1, 2).to(torch.float64)
    return round_levels(down_Sh @ round_levels(x_NChw @ across_wS)).permute(0, 2, 3, 1)


def crop_range(length: Tensor, side: Tensor, size: int, resize: int | None) -> tuple[Tensor, Tensor]:
    """Return start and length, in pixels, of the part of an image's height or width `length` that is kept.

    `side` is the shorter of the two. With `resize` that is brought to so many pixels, and `size` of them are kept.
    """
    if resize is None:
        return (length - side) / 2, side
    resized = (resize * length / side).round()
    scale = length / resized
    return ((resized - size) / 2).round() * scale, size * scale


def resampling_weights(length: int | torch.SymInt, start: Tensor, side: Tensor, size: int) -> Tensor:
    """Return Pillow's weights (S, length) for `side` pixels from `start` on: triangles, wider when shrinking."""
    scale = side / size
    center_S = start + (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    pixel_L = torch.arange(cast(int, length), dtype=torch.float64) + 0.5
    triangle_SL = (1 - (pixel_L - center_S[:, None]).abs() / scale.clamp(min=1)).clamp(min=0)
    return (triangle_SL / triangle_SL.sum(1, keepdim=True) * FIXED_POINT_ONE + 0.5).floor()


def round_levels(sums: Tensor) -> Tensor:
    """Round sums of bytes times whole weights to levels 0 to 255."""
    return (sums / FIXED_POINT_ONE + 0.5).floor()
