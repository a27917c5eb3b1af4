"""Attributes of strokes, measured on images by formulas: thickness, slant, width, height, brightness.

They are the attributes of Morpho-MNIST (Castro et al. 2019, arXiv:1809.10780), section 3. Differs from it: there,
images are enlarged, binarized and skeletonized; here, every attribute is a smooth function of the gray levels, so that
a gradient can flow through it. Slant is the same formula. Width and height are those of the bar that has the same
second moments, after the slant is taken out; thickness is twice the area by the length of the outline, which is exact
for a ring and a little too small for short strokes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# B images, H W pixels; `ink` is 0 on the background and 1 on a stroke

#: keeps quotients finite on an empty image
_EPSILON = 1e-6


def measure_brightness(ink_BHW: Tensor) -> Tensor:
    """Return the mean level (B,), from 0 to 1."""
    return ink_BHW.mean((1, 2))


def measure_slant(ink_BHW: Tensor) -> Tensor:
    """Return the angle (B,) in degrees by which strokes lean to the right."""
    _, moment_xy_B, moment_yy_B = _central_moments(ink_BHW)
    return torch.atan(-moment_xy_B / (moment_yy_B + _EPSILON)).rad2deg()


def measure_width(ink_BHW: Tensor) -> Tensor:
    """Return the width (B,) in pixels, after the slant is taken out."""
    moment_xx_B, moment_xy_B, moment_yy_B = _central_moments(ink_BHW)
    upright_B = moment_xx_B - moment_xy_B.square() / (moment_yy_B + _EPSILON)
    return (12 * upright_B.clamp_min(_EPSILON)).sqrt()


def measure_height(ink_BHW: Tensor) -> Tensor:
    """Return the height (B,) in pixels."""
    return (12 * _central_moments(ink_BHW)[2].clamp_min(_EPSILON)).sqrt()


def measure_thickness(ink_BHW: Tensor) -> Tensor:
    """Return the thickness (B,) of strokes in pixels: twice their area by the length of their outline."""
    padded_BHW = F.pad(ink_BHW, (1, 1, 1, 1))
    down_BHW = padded_BHW[:, 1:].unfold(2, 2, 1).mean(3) - padded_BHW[:, :-1].unfold(2, 2, 1).mean(3)
    right_BHW = padded_BHW[..., 1:].unfold(1, 2, 1).mean(3) - padded_BHW[..., :-1].unfold(1, 2, 1).mean(3)
    outline_B = (down_BHW.square() + right_BHW.square() + _EPSILON**2).sqrt().sum((1, 2))
    return 2 * ink_BHW.sum((1, 2)) / (outline_B + _EPSILON)


#: the measures by name
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": measure_brightness,
    "height": measure_height,
    "slant": measure_slant,
    "thickness": measure_thickness,
    "width": measure_width,
}


def _central_moments(ink_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the second central moments xx, xy and yy (B,) per unit of ink; pixels are squares of side 1."""
    height, width = ink_BHW.shape[1:]
    x_W = torch.arange(width, device=ink_BHW.device, dtype=ink_BHW.dtype)
    y_H1 = torch.arange(height, device=ink_BHW.device, dtype=ink_BHW.dtype)[:, None]
    mass_B = ink_BHW.sum((1, 2)) + _EPSILON
    center_x_B11 = ((ink_BHW * x_W).sum((1, 2)) / mass_B)[:, None, None]
    center_y_B11 = ((ink_BHW * y_H1).sum((1, 2)) / mass_B)[:, None, None]
    dx_B1W = x_W - center_x_B11
    dy_BH1 = y_H1 - center_y_B11
    moment_xx_B = (ink_BHW * dx_B1W.square()).sum((1, 2)) / mass_B + 1 / 12
    moment_xy_B = (ink_BHW * dx_B1W * dy_BH1).sum((1, 2)) / mass_B
    moment_yy_B = (ink_BHW * dy_BH1.square()).sum((1, 2)) / mass_B + 1 / 12
    return moment_xx_B, moment_xy_B, moment_yy_B
