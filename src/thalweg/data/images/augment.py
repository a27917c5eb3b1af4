"""Random augmentation of training images, a whole batch at a time, on the device of the batch.

Functions take and return floats of 0 to 1 (B, C, H, W); `random_shift` also takes bytes. All geometric operations
(shift, rotate, scale, shear, elastic) together are one resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.parsing import Range
from ...errors import OptionError, did_you_mean
from .augment_policy import MAX_MAGNITUDE, rand_augment, trivial_augment
from .photo_augment import color_jitter, cutmix, mixup, random_crop, random_erase, uniform


class Amount(NamedTuple):
    """The number after the name of an operation: its default, its range, and what it means."""

    default: float
    range: Range
    meaning: str


_FRACTION = Range(0, 1)
_ANY = Range(0, 1000, below=True)
_ALPHA = Range(0, 100, above=True)

#: operations by name
OPERATIONS = {
    "crop": Amount(0.35, Range(0, 1, above=True), "smallest area of the random crop, as a fraction"),
    "shift": Amount(2.0, _ANY, "maximum shift in pixels"),
    "rotate": Amount(10.0, _ANY, "maximum angle in degrees"),
    "scale": Amount(0.1, _ANY, "maximum change of size, as a fraction"),
    "shear": Amount(0.1, _ANY, "maximum shear, as a fraction of the height"),
    "elastic": Amount(1.0, _ANY, "standard deviation of the elastic shift in pixels (Simard et al. 2003)"),
    "thickness": Amount(0.3, _FRACTION, "fraction of the images whose strokes become thinner or thicker"),
    "flip": Amount(0.5, _FRACTION, "fraction of the images that are mirrored"),
    "randaugment": Amount(9.0, Range(0, MAX_MAGNITUDE), "magnitude of two random operations"),
    "trivial": Amount(1.0, _FRACTION, "largest strength of one random operation"),
    "color": Amount(0.4, _FRACTION, "maximum change of brightness, contrast and saturation, as a fraction"),
    "cutout": Amount(0.25, _ANY, "side of the blank square, as a fraction (DeVries and Taylor 2017)"),
    "erase": Amount(0.25, _FRACTION, "fraction of the images in which a rectangle is erased"),
    "mixup": Amount(0.2, _ALPHA, "parameter of the Beta distribution that two images are blended by"),
    "cutmix": Amount(1.0, _ALPHA, "parameter of the Beta distribution of the area that comes from another image"),
}
AFFINE_OPS = ("rotate", "scale", "shear", "elastic")

#: control points along each side of the elastic field
ELASTIC_GRID = 6


def parse_augmentation(text: str) -> dict[str, float]:
    """Parse 'shift=3,rotate' as {'shift': 3.0, 'rotate': 10.0}, and 'none' as {}. Raises OptionError."""
    amounts = {}
    for part in text.split(","):
        part = part.strip()
        name, _, amount = part.partition("=")
        if name not in ("", "none"):
            amounts[name] = _parse_amount(part, name, amount)
    return amounts


def _parse_amount(part: str, name: str, amount: str) -> float:
    """Return the amount of one operation, such as "shift=3". Raises OptionError."""
    if name not in OPERATIONS:
        raise OptionError(
            f"--augment: unknown operation '{name}'.",
            cure=did_you_mean(name, OPERATIONS),
            option="augment",
            value=name,
            allowed=list(OPERATIONS),
        )
    operation = OPERATIONS[name]
    if not amount:
        return operation.default
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value not in operation.range:
        raise OptionError(
            f"--augment: {part}; expected {operation.range} after '='.",
            cure=f"The number is the {operation.meaning}.",
            option="augment",
            value=part,
            allowed=[operation.range.low, operation.range.high],
        )
    return value


def build_augmentation(text: str, is_handwriting: bool) -> Callable[[Tensor], Tensor]:
    """Build a function for all operations of `text` on single images: bytes (B, C, H, W) to floats of 0 to 1.

    The edges of handwriting are filled with black, those of other images by reflection.
    """
    amounts = parse_augmentation(text)
    border = "zeros" if is_handwriting else "reflection"
    needs_resampling = any(name in amounts for name in AFFINE_OPS)
    changes: list[Callable[[Tensor], Tensor]] = []
    if needs_resampling:
        changes.append(partial(random_affine, amounts=amounts, border=border))
    by_name: dict[str, Callable[..., Tensor]] = {
        "crop": random_crop,
        "thickness": random_stroke_width,
        "flip": random_flip,
        "randaugment": partial(rand_augment, border=border),
        "trivial": partial(trivial_augment, border=border),
        "color": color_jitter,
        "cutout": cutout,
        "erase": random_erase,
    }
    for name, change in by_name.items():
        if name in amounts:
            changes.append(partial(_apply, change, amounts[name]))

    def augment(image_BCHW: Tensor) -> Tensor:
        if "shift" in amounts and not needs_resampling:
            image_BCHW = random_shift(image_BCHW, int(amounts["shift"]), border)
        x_BCHW = image_BCHW.to(torch.float32).mul_(1 / 255)
        for change in changes:
            x_BCHW = change(x_BCHW)
        return x_BCHW

    return augment


def _apply(change: Callable[[Tensor, float], Tensor], amount: float, x_BCHW: Tensor) -> Tensor:
    return change(x_BCHW, amount)


def build_mixing(text: str) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Build a function that mixes each image (B, C, H, W) with the one before it, if `text` has such operations.

    It returns the images and the weight (B,) of the other image. Of mixup and cutmix, each batch gets one at random.
    """
    amounts = parse_augmentation(text)
    if "mixup" not in amounts and "cutmix" not in amounts:
        return None
    if "cutmix" not in amounts:
        return partial(mixup, alpha=amounts["mixup"])
    if "mixup" not in amounts:
        return partial(cutmix, alpha=amounts["cutmix"])

    def mix(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        is_blended = torch.rand((), device=x_BCHW.device) < 0.5
        blended_BCHW, blended_mix_B = mixup(x_BCHW, amounts["mixup"])
        pasted_BCHW, pasted_mix_B = cutmix(x_BCHW, amounts["cutmix"])
        mixed_BCHW = torch.where(is_blended, blended_BCHW, pasted_BCHW)
        return mixed_BCHW, torch.where(is_blended, blended_mix_B, pasted_mix_B)

    return mix


def random_shift(x_BCHW: Tensor, pixels: int, border: str = "zeros") -> Tensor:
    """Shift each image, bytes or floats, by whole pixels, up to `pixels` in both directions.

    Every shift of every image is a view of the padded batch, so that whole rows are copied instead of single pixels.
    """
    batch_size, channels, height, width = x_BCHW.shape
    pixels = min(pixels, height - 1, width - 1)  # beyond that, nothing is visible, and nothing can be reflected
    num_shifts = 2 * pixels + 1
    if border == "zeros":
        padded_BHWC = F.pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, *(pixels,) * 4))
    else:
        padded = F.pad(x_BCHW.to(torch.float32), (pixels,) * 4, mode="reflect")
        padded_BHWC = padded.permute(0, 2, 3, 1).to(x_BCHW.dtype)
    image_stride, row_stride, column_stride, channel_stride = padded_BHWC.stride()
    windows = padded_BHWC.as_strided(
        (batch_size, num_shifts, num_shifts, height, width, channels),
        (image_stride, row_stride, column_stride, row_stride, column_stride, channel_stride),
    )
    dy_B, dx_B = torch.randint(0, num_shifts, (2, batch_size), device=x_BCHW.device)
    return windows[torch.arange(batch_size, device=x_BCHW.device), dy_B, dx_B].permute(0, 3, 1, 2)


def random_affine(x_BCHW: Tensor, amounts: Mapping[str, float], border: str = "zeros") -> Tensor:
    """Rotate, scale, shear, shift and elastically distort each image in one bilinear resampling."""
    batch_size, _, height, width = x_BCHW.shape
    angle_B = uniform(batch_size, math.radians(amounts.get("rotate", 0.0)), x_BCHW)
    scale_B = 1 + uniform(batch_size, amounts.get("scale", 0.0), x_BCHW)
    shear_B = uniform(batch_size, amounts.get("shear", 0.0), x_BCHW)
    cos_B = torch.cos(angle_B) * scale_B
    sin_B = torch.sin(angle_B) * scale_B
    dx_B = uniform(batch_size, 2 * amounts.get("shift", 0.0) / width, x_BCHW)
    dy_B = uniform(batch_size, 2 * amounts.get("shift", 0.0) / height, x_BCHW)
    theta_B23 = torch.stack([cos_B, shear_B - sin_B, dx_B, sin_B, cos_B, dy_B], 1).view(batch_size, 2, 3)
    grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
    if amounts.get("elastic"):
        std = 2 * amounts["elastic"] / width
        coarse = torch.randn(batch_size, 2, ELASTIC_GRID, ELASTIC_GRID, device=x_BCHW.device) * std
        field_B2HW = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
        grid_BHW2 = grid_BHW2 + field_B2HW.permute(0, 2, 3, 1)
    return F.grid_sample(x_BCHW.contiguous(), grid_BHW2, padding_mode=border, align_corners=False)


def random_stroke_width(x_BCHW: Tensor, fraction: float) -> Tensor:
    """Make the strokes of about `fraction` of the images up to a pixel thinner or thicker (gray morphology)."""
    draw_B111 = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device)
    mix_B111 = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device)
    dilated_BCHW = F.max_pool2d(x_BCHW, 3, 1, 1)
    eroded_BCHW = -F.max_pool2d(-x_BCHW, 3, 1, 1)
    changed_BCHW = torch.where(draw_B111 < fraction / 2, dilated_BCHW, eroded_BCHW)
    return torch.where(draw_B111 < fraction, torch.lerp(x_BCHW, changed_BCHW, mix_B111), x_BCHW)


def random_flip(x_BCHW: Tensor, fraction: float) -> Tensor:
    """Mirror about `fraction` of the images left to right."""
    is_flipped_B111 = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device) < fraction
    return torch.where(is_flipped_B111, x_BCHW.flip(-1), x_BCHW)


def cutout(x_BCHW: Tensor, side: float) -> Tensor:
    """Blank a square of `side` times the height in each image, its center anywhere (arXiv:1708.04552)."""
    batch_size, _, height, width = x_BCHW.shape
    half = side * height / 2
    y_B111 = torch.rand(batch_size, 1, 1, 1, device=x_BCHW.device) * height
    x_B111 = torch.rand(batch_size, 1, 1, 1, device=x_BCHW.device) * width
    rows = torch.arange(height, device=x_BCHW.device)[None, None, :, None]
    columns = torch.arange(width, device=x_BCHW.device)[None, None, None, :]
    inside = ((rows + 0.5 - y_B111).abs() < half) & ((columns + 0.5 - x_B111).abs() < half)
    return x_BCHW.masked_fill(inside, 0.0)
