"""Axes that bend: the direction of an attribute depends on the style that is edited, as in StyleFlow (arXiv:2008.02401).

What a linear axis moves besides its attribute differs from image to image, and cancels only on average. Here, a small
network adds to each linear axis what the style at hand needs. Differs from StyleFlow: one step along directions instead
of a normalizing flow, trained through the generator like `linear_axes`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...registry import register_model
from ..generate.base import Generator
from .linear_axes import MIN_LENGTH, LinearAxes, build_generator


class LocalAxes(LinearAxes):
    """Linear axes, and a network from a style (B, W) to what is added to each direction (B, K, W)."""

    def __init__(self, generator: Generator, num_axes: int, num_attributes: int, width: int, steps: int):
        super().__init__(generator, num_axes, num_attributes)
        self.steps = steps
        style_dim = generator.style_dim
        self.bend = nn.Sequential(
            nn.Linear(style_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, num_axes * style_dim)
        )
        nn.init.zeros_(self.bend[-1].weight)
        nn.init.zeros_(self.bend[-1].bias)

    def move(self, style_BW: Tensor, change_BK: Tensor, length_K: Tensor) -> Tensor:
        """Return the difference (B, W) that changes make to styles, along axes of those relative lengths."""
        scale_BK = change_BK * (self.norm_K * length_K.clamp_min(MIN_LENGTH)) / self.steps
        now_BW = style_BW
        for _ in range(self.steps):
            bend_BKW = self.bend(now_BW - self.center_W).unflatten(1, self.direction_KW.shape)
            direction_BKW = F.normalize(self.direction_KW + bend_BKW, dim=2)
            now_BW = now_BW + torch.einsum("bk,bkw->bw", scale_BK, direction_BKW)
        return now_BW - style_BW


@register_model(task="edit", paper="arXiv:2008.02401")
def local_axes(
    generator: str,
    generator_kwargs: dict[str, Any],
    num_axes: int,
    num_attributes: int,
    has_fixed_directions: bool = False,
    width: int = 128,
    steps: int = 2,
) -> nn.Module:
    """Axes that bend with the style: less moves besides the attribute of each image.
    """
    return LocalAxes(build_generator(generator, generator_kwargs), num_axes, num_attributes, width, steps)
