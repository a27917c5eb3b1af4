"""RandAugment and TrivialAugment: operations drawn anew for every image of a batch, on its device.

Images are floats of 0 to 1 (B, C, H, W). Operations and their ranges are those of the papers; a translation is a
fraction of the image, the edges of photos are filled by reflection, and a turn, shear or translation is bilinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .photo_augment import to_gray

GEOMETRIC_OPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPS = (
    "identity",
    "autocontrast",
    "equalize",
    "solarize",
    "posterize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    *GEOMETRIC_OPS,
)
#: magnitudes are 0 to MAX_MAGNITUDE
MAX_MAGNITUDE = 30


@dataclass(frozen=True)
class Strengths:
    """The effect of each operation at the largest magnitude.

    Attributes:
        rotate: Angle in degrees.
        shear: Shear, as a fraction of the side.
        translate: Shift, as a fraction of the side.
        enhance: How far a factor of color, contrast, brightness or sharpness is from 1.
        posterize: Bits that are cleared.
    """

    rotate: float
    shear: float
    translate: float
    enhance: float
    posterize: int


#: of Cubuk et al. 2020, and the wide ones of Müller and Hutter 2021
RAND_STRENGTHS = Strengths(rotate=30, shear=0.3, translate=0.45, enhance=0.9, posterize=4)
TRIVIAL_STRENGTHS = Strengths(rotate=135, shear=0.99, translate=0.45, enhance=0.99, posterize=6)


def rand_augment(x_BCHW: Tensor, magnitude: float, border: str = "reflection") -> Tensor:
    """Apply two random operations of one magnitude, 0 to 30, to each image (Cubuk et al. 2020, arXiv:1909.13719)."""
    level_B = torch.full((len(x_BCHW),), magnitude / MAX_MAGNITUDE, device=x_BCHW.device)
    for _ in range(2):
        x_BCHW = apply_random_ops(x_BCHW, level_B, RAND_STRENGTHS, border)
    return x_BCHW


def trivial_augment(x_BCHW: Tensor, max_level: float = 1.0, border: str = "reflection") -> Tensor:
    """Apply one random operation of random magnitude to each image (Müller and Hutter 2021, arXiv:2103.10158)."""
    level_B = torch.rand(len(x_BCHW), device=x_BCHW.device) * max_level
    return apply_random_ops(x_BCHW, level_B, TRIVIAL_STRENGTHS, border)


def apply_random_ops(x_BCHW: Tensor, level_B: Tensor, strengths: Strengths, border: str) -> Tensor:
    """Apply one operation to each image, drawn from OPS, at its level of 0 to 1; half of the signs are negative."""
    op_B = torch.randint(len(OPS), (len(x_BCHW),), device=x_BCHW.device)
    sign_B = torch.randint(2, (len(x_BCHW),), device=x_BCHW.device) * 2 - 1
    return apply_ops(x_BCHW, op_B, level_B, sign_B, strengths, border)


def apply_ops(  # noqa: PLR0913
    x_BCHW: Tensor, op_B: Tensor, level_B: Tensor, sign_B: Tensor, strengths: Strengths, border: str
) -> Tensor:
    """Apply to each image the operation whose index in OPS it drew."""
    signed_B = level_B * sign_B
    factor_B = 1 + signed_B * strengths.enhance
    bits_B = (level_B * strengths.posterize).round()
    pointwise: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
        "autocontrast": (autocontrast, level_B),
        "equalize": (equalize, level_B),
        "solarize": (solarize, 1 - level_B),
        "posterize": (posterize, bits_B),
        "color": (adjust_color, factor_B),
        "contrast": (adjust_contrast, factor_B),
        "brightness": (adjust_brightness, factor_B),
        "sharpness": (adjust_sharpness, factor_B),
    }
    for name, (change, amount_B) in pointwise.items():
        x_BCHW = apply_where(op_B == OPS.index(name), x_BCHW, change, amount_B)
    theta_B23 = geometric_matrices(op_B, signed_B, strengths, x_BCHW)
    is_geometric_B = op_B >= OPS.index(GEOMETRIC_OPS[0])
    return apply_where(is_geometric_B, x_BCHW, partial(transform_affine, border=border), theta_B23)


def apply_where(
    is_drawn_B: Tensor, x_BCHW: Tensor, change: Callable[[Tensor, Tensor], Tensor], amount_B: Tensor
) -> Tensor:
    """Change the images that drew an operation.

    The CPU computes only these; another device computes all, because it need not wait to learn which.
    """
    if x_BCHW.device.type != "cpu":
        return torch.where(is_drawn_B[:, None, None, None], change(x_BCHW, amount_B), x_BCHW)
    rows = is_drawn_B.nonzero()[:, 0]
    if not len(rows):
        return x_BCHW
    return x_BCHW.index_copy(0, rows, change(x_BCHW[rows], amount_B[rows]))


def geometric_matrices(op_B: Tensor, signed_B: Tensor, strengths: Strengths, x_BCHW: Tensor) -> Tensor:
    """Return the maps (B, 2, 3) from places of the result to places of the image, both from -1 to 1."""
    height, width = x_BCHW.shape[2:]
    amounts = {}
    for name in GEOMETRIC_OPS:
        strength = getattr(strengths, name.split("_")[0])
        amounts[name] = torch.where(op_B == OPS.index(name), signed_B * strength, 0.0)
    angle_B = amounts["rotate"] * (math.pi / 180)
    cos_B = angle_B.cos()
    sin_B = angle_B.sin()
    x_from_y_B = -sin_B * (height / width) + amounts["shear_x"]
    y_from_x_B = sin_B * (width / height) + amounts["shear_y"]
    rows = [cos_B, x_from_y_B, 2 * amounts["translate_x"], y_from_x_B, cos_B, 2 * amounts["translate_y"]]
    return torch.stack(rows, 1).view(-1, 2, 3)


def transform_affine(x_BCHW: Tensor, theta_B23: Tensor, border: str = "reflection") -> Tensor:
    """Resample each image by its own affine map, bilinear."""
    grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW.contiguous(), grid_BHW2, padding_mode=border, align_corners=False)


def blend(x_BCHW: Tensor, base: Tensor, factor_B: Tensor) -> Tensor:
    """Return base + factor * (x - base), clamped; a factor of 1 changes nothing."""
    factor_B111 = factor_B[:, None, None, None]
    return (base + factor_B111 * (x_BCHW - base)).clamp(0, 1)


def adjust_brightness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply the levels."""
    return (x_BCHW * factor_B[:, None, None, None]).clamp(0, 1)


def adjust_color(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the gray image."""
    return blend(x_BCHW, to_gray(x_BCHW), factor_B)


def adjust_contrast(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the mean brightness."""
    return blend(x_BCHW, to_gray(x_BCHW).mean((2, 3), keepdim=True), factor_B)


def adjust_sharpness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with a smoothed image; the outermost pixels stay."""
    if min(x_BCHW.shape[2:]) < 3:
        return x_BCHW
    channels = x_BCHW.shape[1]
    # the filter that Pillow calls SMOOTH: a mean of 3x3 in which the center counts five times
    sum_BCHW = F.avg_pool2d(x_BCHW, 3, 1, divisor_override=1) + 4 * x_BCHW[:, :, 1:-1, 1:-1]
    smooth_BCHW = F.pad(sum_BCHW / 13, (1, 1, 1, 1))
    inside_11HW = F.pad(torch.ones_like(sum_BCHW[:1, :1], dtype=torch.bool), (1, 1, 1, 1))
    base_BCHW = torch.where(inside_11HW.expand(1, channels, -1, -1), smooth_BCHW, x_BCHW)
    return blend(x_BCHW, base_BCHW, factor_B)


def solarize(x_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    """Invert the levels from a threshold on."""
    return torch.where(x_BCHW >= threshold_B[:, None, None, None], 1 - x_BCHW, x_BCHW)


def posterize(x_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    """Clear that many low bits of each level."""
    step_B111 = (2**bits_B)[:, None, None, None]
    return ((x_BCHW * 255).round() / step_B111).floor() * step_B111 / 255


def autocontrast(x_BCHW: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to the levels 0 to 1; a channel of one level stays."""
    low_BC11 = x_BCHW.amin((2, 3), keepdim=True)
    range_BC11 = x_BCHW.amax((2, 3), keepdim=True) - low_BC11
    return torch.where(range_BC11 > 0, (x_BCHW - low_BC11) / range_BC11.clamp(min=1e-6), x_BCHW)


def equalize(x_BCHW: Tensor, _: Tensor) -> Tensor:
    """Spread the levels of each channel evenly over the pixels, by integers as Pillow does."""
    level_BCP = (x_BCHW * 255).round().long().flatten(2)
    count_BCL = torch.zeros(*level_BCP.shape[:2], 256, dtype=torch.long, device=x_BCHW.device)
    count_BCL.scatter_add_(2, level_BCP, torch.ones_like(level_BCP))
    highest_BC1 = level_BCP.amax(2, keepdim=True)
    step_BC1 = (level_BCP.shape[2] - count_BCL.gather(2, highest_BC1)) // 255
    before_BCL = count_BCL.cumsum(2) - count_BCL
    table_BCL = (step_BC1 // 2 + before_BCL) // step_BC1.clamp(min=1)
    equal_BCP = table_BCL.clamp(max=255).gather(2, level_BCP).to(x_BCHW.dtype) / 255
    return torch.where(step_BC1[..., None] > 0, equal_BCP.view(x_BCHW.shape), x_BCHW)
