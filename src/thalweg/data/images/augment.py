"""Random changes of training pictures, a whole batch at a time, on the device that the batch is on.

Functions take and give floats of 0 to 1 (B, C, H, W), `random_shift` also bytes. Geometry (shift, rotate, scale, shear,
elastic) is one resampling, however many of them are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import OptionError, did_you_mean

#: name -> (usual amount, what the amount is)
DEFAULT_AMOUNTS = {
    "shift": (2.0, "largest shift in pixels"),
    "rotate": (10.0, "largest angle in degrees"),
    "scale": (0.1, "largest change of size, as a share"),
    "shear": (0.1, "largest slant, as a share of the height"),
    "elastic": (1.0, "typical shift of each part in pixels, as of rubber (Simard et al. 2003)"),
    "thickness": (0.3, "share of the pictures whose strokes are made thinner or thicker"),
    "flip": (0.5, "share of the pictures that are mirrored"),
    "cutout": (0.25, "side of the square that is blanked, as a share (DeVries and Taylor 2017)"),
}
AFFINE_OPS = ("rotate", "scale", "shear", "elastic")


def parse_augmentation(text: str) -> dict[str, float]:
    """'shift=3,rotate' -> {'shift': 3.0, 'rotate': 10.0}; 'none' -> {}. Raises OptionError naming the part."""
    amounts = {}
    for part in (p.strip() for p in text.split(",")):
        name, _, amount = part.partition("=")
        if name in ("", "none"):
            continue
        if name not in DEFAULT_AMOUNTS:
            raise OptionError(f"--augment: there is no '{name}'.", cure=did_you_mean(name, DEFAULT_AMOUNTS))
        try:
            amounts[name] = float(amount) if amount else DEFAULT_AMOUNTS[name][0]
        except ValueError:
            raise OptionError(f"--augment: '{part}' has no number after '='.", cure=DEFAULT_AMOUNTS[name][1]) from None
        if not 0 <= amounts[name] < 1000:
            raise OptionError(f"--augment: {part} is out of range.", cure=DEFAULT_AMOUNTS[name][1])
    return amounts


def build_augmentation(text: str, ink: bool) -> Callable[[Tensor], Tensor]:
    """One function for all that `text` asks for: bytes (B, C, H, W) in, floats of 0 to 1 out.

    `ink`: the background is black, so that is what comes in at the edges.
    """
    amounts = parse_augmentation(text)
    border = "zeros" if ink else "reflection"
    turned = any(name in amounts for name in AFFINE_OPS)

    def augment(image_BCHW: Tensor) -> Tensor:
        if "shift" in amounts and not turned:
            image_BCHW = random_shift(image_BCHW, int(amounts["shift"]), border)
        x_BCHW = image_BCHW.to(torch.float32).mul_(1 / 255)
        if turned:
            x_BCHW = random_affine(x_BCHW, amounts, border)
        if "thickness" in amounts:
            x_BCHW = random_stroke_width(x_BCHW, amounts["thickness"])
        if "flip" in amounts:
            x_BCHW = random_flip(x_BCHW, amounts["flip"])
        if "cutout" in amounts:
            x_BCHW = cutout(x_BCHW, amounts["cutout"])
        return x_BCHW

    return augment


def uniform(count: int, amount: float, like: Tensor) -> Tensor:
    """(count,) uniform in [-amount, amount]."""
    return (torch.rand(count, device=like.device) * 2 - 1) * amount


def random_shift(x_BCHW: Tensor, pixels: int, border: str = "zeros") -> Tensor:
    """Each picture, bytes or floats, moved by whole pixels, up to `pixels` in both directions.

    Every shift of every picture is a view of the padded batch, so that whole rows are copied and no pixel is looked up.
    """
    batch, channels, height, width = x_BCHW.shape
    pixels = min(pixels, height - 1, width - 1)  # further away there is nothing left to see, or to mirror
    steps = 2 * pixels + 1
    if border == "zeros":
        padded = F.pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, *(pixels,) * 4))
    else:
        padded = F.pad(x_BCHW.to(torch.float32), (pixels,) * 4, mode="reflect").permute(0, 2, 3, 1).to(x_BCHW.dtype)
    example, row, column, channel = padded.stride()
    shape = (batch, steps, steps, height, width, channels)
    windows = padded.as_strided(shape, (example, row, column, row, column, channel))
    dy, dx = torch.randint(0, steps, (2, batch), device=x_BCHW.device)
    return windows[torch.arange(batch, device=x_BCHW.device), dy, dx].permute(0, 3, 1, 2)


def random_affine(x_BCHW: Tensor, amounts: dict[str, float], border: str = "zeros") -> Tensor:
    """Each picture turned, scaled, slanted, moved and stretched like rubber, in one bilinear resampling."""
    batch, _, height, width = x_BCHW.shape
    angle = uniform(batch, math.radians(amounts.get("rotate", 0.0)), x_BCHW)
    zoom = 1 + uniform(batch, amounts.get("scale", 0.0), x_BCHW)
    slant = uniform(batch, amounts.get("shear", 0.0), x_BCHW)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    dx = uniform(batch, 2 * amounts.get("shift", 0.0) / width, x_BCHW)
    dy = uniform(batch, 2 * amounts.get("shift", 0.0) / height, x_BCHW)
    theta = torch.stack([cos, slant - sin, dx, sin, cos, dy], 1).view(batch, 2, 3)
    grid = F.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    if amounts.get("elastic"):
        coarse = torch.randn(batch, 2, 6, 6, device=x_BCHW.device) * (2 * amounts["elastic"] / width)
        field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
        grid = grid + field.permute(0, 2, 3, 1)
    warped = F.grid_sample(x_BCHW.contiguous(), grid, padding_mode=border, align_corners=False)
    return warped


def random_stroke_width(x_BCHW: Tensor, share: float) -> Tensor:
    """Strokes of about `share` of the pictures made half a pixel to a pixel thinner or thicker (grey morphology)."""
    draw = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device)
    mix = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device)
    thick = F.max_pool2d(x_BCHW, 3, 1, 1)
    thin = -F.max_pool2d(-x_BCHW, 3, 1, 1)
    changed = torch.where(draw < share / 2, thick, thin)
    return torch.where(draw < share, torch.lerp(x_BCHW, changed, mix), x_BCHW)


def random_flip(x_BCHW: Tensor, share: float) -> Tensor:
    """About `share` of the pictures mirrored left to right."""
    chosen = torch.rand(len(x_BCHW), 1, 1, 1, device=x_BCHW.device) < share
    return torch.where(chosen, x_BCHW.flip(-1), x_BCHW)


def cutout(x_BCHW: Tensor, side: float) -> Tensor:
    """A black square of `side` times the height in each picture, its centre anywhere (arXiv:1708.04552)."""
    batch, _, height, width = x_BCHW.shape
    half = side * height / 2
    y = torch.rand(batch, 1, 1, 1, device=x_BCHW.device) * height
    x = torch.rand(batch, 1, 1, 1, device=x_BCHW.device) * width
    rows = torch.arange(height, device=x_BCHW.device)[None, None, :, None]
    columns = torch.arange(width, device=x_BCHW.device)[None, None, None, :]
    inside = ((rows + 0.5 - y).abs() < half) & ((columns + 0.5 - x).abs() < half)
    return x_BCHW.masked_fill(inside, 0.0)
