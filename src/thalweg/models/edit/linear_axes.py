"""Linear axes in the space of styles, as in TL-GAN (Guan 2018, github.com/SummitKwan/transparent_latent_gan).

Differs from it: the axes are found in the styles that a mapping network makes, where there is one (Shen et al. 2020,
arXiv:1907.10786); all attributes are orthogonalized at once instead of one after the other; and the axes are then
trained through the frozen generator until the images change as requested (Jahanian et al. 2020, arXiv:1907.07171), so
that +1 means one standard deviation of the attribute. Where the style is the latent itself, an edited style keeps its
norm, because normally distributed latents of another norm were never trained on.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...registry import find_model, register_model
from ..generate.base import Generator
from .fit_axes import Axes

# B images, K axes, A attributes, W numbers in a style

#: shortest length of an axis, relative to its initial one
MIN_LENGTH = 0.05


class LinearAxes(nn.Module):
    """Styles (B, W) and changes (B, K) -> images (B, C, S, S) in [-1, 1].

    Attributes:
        generator: The frozen generator.
        direction_KW: Directions of any length; trained, unless the axes are found without attributes.
        length_K: How far +1 goes along each direction, relative to `norm_K`.
        norm_K: The same before training.
        readout_AW: Linear prediction of each standardized attribute from the centered style.
        raw_KW: The axes before they were orthogonalized.
        orthogonal_KW: The axes before they were trained.
        center_W: The mean style.
    """

    norm_K: Tensor
    center_W: Tensor
    readout_AW: Tensor
    raw_KW: Tensor
    orthogonal_KW: Tensor

    def __init__(self, generator: Generator, num_axes: int, num_attributes: int, has_fixed_directions: bool = False):
        super().__init__()
        self.generator = generator.requires_grad_(False).eval()
        width = generator.style_dim
        self.direction_KW = nn.Parameter(torch.ones(num_axes, width), requires_grad=not has_fixed_directions)
        self.length_K = nn.Parameter(torch.ones(num_axes))
        self.register_buffer("norm_K", torch.ones(num_axes))
        self.register_buffer("center_W", torch.zeros(width))
        self.register_buffer("readout_AW", torch.zeros(num_attributes, width))
        self.register_buffer("raw_KW", torch.zeros(num_axes, width))
        self.register_buffer("orthogonal_KW", torch.zeros(num_axes, width))
        self.keeps_norm = has_latent_styles(generator)

    def train(self, mode: bool = True) -> LinearAxes:
        """Set the mode; the generator stays in evaluation mode, whose batch statistics and noise are fixed."""
        super().train(mode)
        self.generator.eval()
        return self

    @torch.no_grad()
    def set_axes(self, axes: Axes) -> None:
        """Begin with axes that were fitted."""
        self.norm_K.copy_(torch.linalg.vector_norm(axes.direction_KW, dim=1))
        # numbers of about 1, so that one learning rate suits all generators
        self.direction_KW.copy_(F.normalize(axes.direction_KW, dim=1) * self.direction_KW.shape[1] ** 0.5)
        self.orthogonal_KW.copy_(axes.direction_KW)
        self.raw_KW.copy_(axes.raw_KW)
        self.readout_AW.copy_(axes.readout_AW)
        self.center_W.copy_(axes.center_W)

    def move(self, style_BW: Tensor, change_BK: Tensor, length_K: Tensor) -> Tensor:
        """Return the difference (B, W) that changes make to styles, along axes of those relative lengths."""
        length_K = self.norm_K * length_K.clamp_min(MIN_LENGTH)
        return (change_BK * length_K) @ F.normalize(self.direction_KW, dim=1)

    def edit_style(self, style_BW: Tensor, change_BK: Tensor, length_K: Tensor | None = None) -> Tensor:
        """Return the changed styles (B, W); no change returns the same bits."""
        return self.add(style_BW, self.move(style_BW, change_BK, self.length_K if length_K is None else length_K))

    def add(self, style_BW: Tensor, difference_BW: Tensor) -> Tensor:
        """Return the sum of a style and a difference; latents keep their norm."""
        edited_BW = style_BW + difference_BW
        if not self.keeps_norm:
            return edited_BW
        norm_B1 = torch.linalg.vector_norm(style_BW, dim=1, keepdim=True)
        edited_norm_B1 = torch.linalg.vector_norm(edited_BW, dim=1, keepdim=True)
        return edited_BW * (norm_B1 / edited_norm_B1)

    def synthesize(self, style_BW: Tensor) -> Tensor:
        """Return the images (B, C, S, S) of styles, the same style in every layer."""
        return self.generator.synthesize(self.generator.repeat_style(style_BW))

    def forward(self, style_BW: Tensor, change_BK: Tensor) -> Tensor:
        """Return the images (B, C, S, S) of the changed styles."""
        return self.synthesize(self.edit_style(style_BW, change_BK))


@torch.no_grad()
def has_latent_styles(generator: Generator) -> bool:
    """Whether the style of a generator is the latent itself."""
    if generator.latent_dim != generator.style_dim:
        return False
    param = next(generator.parameters())
    latent_1L = torch.linspace(-1, 1, generator.latent_dim, device=param.device, dtype=param.dtype)[None]
    label_1 = torch.zeros(1, dtype=torch.int64, device=param.device) if generator.num_classes else None
    return torch.equal(generator.map_latent(latent_1L, label_1), latent_1L)


def build_generator(name: str, kwargs: dict[str, Any]) -> Generator:
    """Build the generator of a model by name, without its discriminator. Raises NotFoundError, OptionError."""
    return cast(Generator, find_model(name, "generate")(**kwargs).get_submodule("network"))


def check_counts(**counts: int) -> None:
    """Raise OptionError for a number below 1."""
    for name, value in counts.items():
        if value < 1:
            raise OptionError(f"{name}: {value}; expected at least 1.", option=name, value=value)


@register_model(task="edit", paper="github.com/SummitKwan/transparent_latent_gan")
def linear_axes(
    generator: str,
    generator_kwargs: dict[str, Any],
    num_axes: int,
    num_attributes: int,
    has_fixed_directions: bool = False,
) -> nn.Module:
    """Linear axes in the space of styles of a frozen generator.

    Args:
        generator: name of the generator's model.
        generator_kwargs: arguments of the generator's model.
        num_axes: axes.
        num_attributes: attributes that are measured on images.
        has_fixed_directions: train only the lengths of the axes.

    Returns:
        A model from styles (B, W) and changes (B, K) to images.

    Raises:
        OptionError: a model that is no generator, or numbers below 1.
    """
    check_counts(num_axes=num_axes, num_attributes=num_attributes)
    return LinearAxes(build_generator(generator, generator_kwargs), num_axes, num_attributes, has_fixed_directions)
