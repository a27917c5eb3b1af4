"""Axes that bend: the direction of an attribute depends on the style, as in StyleFlow (arXiv:2008.02401).

What a linear axis moves besides its attribute differs from image to image, and cancels only on average. Here, a small
network adds to each linear axis what the style at hand needs, and an edit follows it in a few steps. Differs from
StyleFlow: steps along directions instead of a normalizing flow, trained through the generator like `linear_axes`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...registry import register_model
from ..generate.base import Generator
from .linear_axes import MIN_LENGTH, LinearAxes, build_generator, check_counts

#: steps of an edit
STEPS = 4


class LocalAxes(LinearAxes):
    """Linear axes, and a network from a style (B, W) to what is added to each direction (B, K, W)."""

    def __init__(self, generator: Generator, num_axes: int, num_attributes: int, width: int):
        super().__init__(generator, num_axes, num_attributes)
        style_dim = generator.style_dim
        last = nn.Linear(width, num_axes * style_dim)
        # it begins with the linear axes
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.bend = nn.Sequential(nn.Linear(style_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def move(self, style_BW: Tensor, change_BK: Tensor, length_K: Tensor) -> Tensor:
        """Return the difference (B, W) that changes make to styles, along axes of those relative lengths."""
        scale_BK = change_BK * (self.norm_K * length_K.clamp_min(MIN_LENGTH)) / STEPS
        difference_BW = torch.zeros_like(style_BW)
        for _ in range(STEPS):
            centered_BW = style_BW + difference_BW - self.center_W
            bend_BKW = self.bend(centered_BW).unflatten(1, self.direction_KW.shape)
            direction_BKW = F.normalize(self.direction_KW + bend_BKW, dim=2)
            difference_BW = difference_BW + torch.einsum("bk,bkw->bw", scale_BK, direction_BKW)
        return difference_BW


@register_model(task="edit", paper="arXiv:2008.02401", training={"lr": 0.003})
def local_axes(
    generator: str,
    generator_kwargs: dict[str, Any],
    num_axes: int,
    num_attributes: int,
    has_fixed_directions: bool = False,
    width: int = 256,
) -> nn.Module:
    """Axes that bend with the style: on each single image, less moves besides the attribute.

    Args:
        generator: name of the generator's model.
        generator_kwargs: arguments of the generator's model.
        num_axes: axes, one for each attribute.
        num_attributes: attributes that are measured on images.
        has_fixed_directions: not possible here.
        width: units of both hidden layers.

    Returns:
        A model from styles (B, W) and changes (B, K) to images.

    Raises:
        OptionError: a model that is no generator, numbers below 1, or fixed directions.
    """
    check_counts(num_axes=num_axes, num_attributes=num_attributes, width=width)
    if has_fixed_directions:
        raise OptionError(
            "local_axes trains its directions; --axes pca and sefa fix them.",
            "Give --axes supervised, or --model linear_axes.",
            option="axes",
            value=has_fixed_directions,
            allowed=["supervised"],
        )
    return LocalAxes(build_generator(generator, generator_kwargs), num_axes, num_attributes, width)
