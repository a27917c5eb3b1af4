"""Pillow's resizing as tensor operations that torch.onnx.export can follow, for images of any size.

Triangle filter, whole-number weights, and rounding after each of two passes, as `data.images.resize_and_crop` does: not
one level differs. N images, h w their size, H W that of the result.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

#: Pillow's weights are whole multiples of one by this
FIXED_POINT_ONE = 2**22


def resize_and_crop(image_NhwC: Tensor, size: tuple[int, int], resize: int | None = None) -> Tensor:
    """Resize the center of each image to `size` (H, W), first across, then downwards: (N, H, W, C), 0 to 255.

    Double precision holds every sum of bytes times Pillow's weights exactly.
    """
    h = torch.scalar_tensor(image_NhwC.shape[1], dtype=torch.float64)
    w = torch.scalar_tensor(image_NhwC.shape[2], dtype=torch.float64)
    (top, height), (left, width) = crop_ranges(h, w, size, resize)
    down_Hh = resampling_weights(image_NhwC.shape[1], top, height, size[0])
    across_wW = resampling_weights(image_NhwC.shape[2], left, width, size[1]).T
    x_NChw = image_NhwC.permute(0, 3, 1, 2).to(torch.float64)
    return round_levels(down_Hh @ round_levels(x_NChw @ across_wW)).permute(0, 2, 3, 1)


def crop_ranges(
    h: Tensor, w: Tensor, size: tuple[int, int], resize: int | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return start and length, in pixels, of the part of an image's height, and of its width, that is resized.

    Args:
        h: Height of the image.
        w: Its width.
        size: Height and width of the result.
        resize: The shorter side of what the whole image is resized to cover, before the center is cropped.

    Returns:
        Start and length of the rows, and of the columns.
    """
    high, wide = size
    if resize is None:
        # the part has the proportions of the result, in whole eighths of a pixel as in `data.images.resize_and_crop`
        height = torch.minimum(h, _round_eighths(w * high, wide))
        width = torch.minimum(w, _round_eighths(h * wide, high))
        return ((h - height) / 2, height), ((w - width) / 2, width)
    is_wide = w * high >= h * wide
    target = torch.where(is_wide, float(high), float(wide)).to(torch.float64)
    scale = min(size) * torch.where(is_wide, h, w)
    return _center_range(h, high, resize * target * h / scale), _center_range(w, wide, resize * target * w / scale)


def _round_eighths(numerator: Tensor, denominator: int) -> Tensor:
    return (8 * numerator / denominator + 0.5).floor().clamp(min=1) / 8


def _center_range(length: Tensor, size: int, resized: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and length, in pixels of the image, of the `size` central ones of so many `resized` pixels."""
    resized = resized.round()
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
