"""What all networks that generate images share: the way from a latent to a style, and from styles to an image.

Interpolation, truncation, mixing, projection and editing work on styles, and so on every generator. Where a network has
no mapping network, the style is the latent itself (with the embedding of the class, if it is conditional).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# B images, L numbers in a latent, W numbers in a style, N styles of an image, C channels, S height and width

#: decay of the moving average of styles (arXiv:1812.04948, appendix B)
MEAN_STYLE_DECAY = 0.995


@dataclass(frozen=True)
class GanTraining:
    """What a model is trained with where the user leaves it open: losses and penalties of its paper.

    Attributes:
        loss: Name of the loss, see `losses/adversarial.py`.
        r1: Weight of the gradient penalty at real images; 0 for none.
        r2: The same at generated images.
        penalty_interval: Steps from one penalty of the discriminator to the next.
        gradient_penalty: Weight of the penalty of WGAN-GP, between real and generated images.
        drift: Weight of the squared logit of real images.
        path_length: Weight of the path length regularization of the generator.
        mixing: Fraction of generated training images that have styles of two latents.
    """

    loss: str = "logistic"
    r1: float = 1.0
    r2: float = 0.0
    penalty_interval: int = 16
    gradient_penalty: float = 0.0
    drift: float = 0.0
    path_length: float = 0.0
    mixing: float = 0.0


class Generator(nn.Module, ABC):
    """Latents (B, L) -> images (B, C, S, S) in [-1, 1].

    Attributes:
        latent_dim: Numbers in a latent, L.
        style_dim: Numbers in a style, W.
        num_styles: Styles of one image, from coarse to fine; 1 where a network has no layers of style.
        num_classes: Classes of a conditional generator; 0 for none.
        num_levels: Levels of a network that grows during training, from 4x4 on; 1 where it does not grow.
        mean_style: Buffer (W,): the mean of the styles of many latents, the center of truncation. Zeros where styles
            are latents; where not, a moving average of the styles of training.
    """

    mean_style: Tensor
    num_levels: int = 1

    def __init__(self, latent_dim: int, style_dim: int, num_styles: int = 1, num_classes: int = 0):
        super().__init__()
        self.latent_dim = latent_dim
        self.style_dim = style_dim
        self.num_styles = num_styles
        self.num_classes = num_classes
        # where styles are latents it stays zero, and weights need not hold it
        has_mapping = num_styles > 1 or num_classes > 0
        self.register_buffer("mean_style", torch.zeros(style_dim), persistent=has_mapping)

    @abstractmethod
    def map_latent(self, latent_BL: Float[Tensor, "B L"], label_B: Int[Tensor, " B"] | None = None) -> Tensor:
        """Return the style (B, W) of each latent; `label_B` are classes of a conditional generator."""

    @torch.no_grad()
    def track_mean_style(self, style_BW: Float[Tensor, "B W"]) -> None:
        """Move the mean style toward that of a batch; in training only."""
        if self.training:
            self.mean_style.lerp_(style_BW.detach().mean(0).to(self.mean_style.dtype), 1 - MEAN_STYLE_DECAY)

    @abstractmethod
    def synthesize(self, style_BNW: Float[Tensor, "B N W"]) -> Tensor:
        """Return the image (B, C, S, S) of the styles of each layer; N is `num_styles`."""

    def repeat_style(self, style_BW: Float[Tensor, "B W"]) -> Tensor:
        """Return the same style for all layers (B, N, W)."""
        return style_BW[:, None].expand(-1, self.num_styles, -1)

    def forward(self, latent_BL: Float[Tensor, "B L"], label_B: Int[Tensor, " B"] | None = None) -> Tensor:
        """Return the image (B, C, S, S) of each latent."""
        return self.synthesize(self.repeat_style(self.map_latent(latent_BL, label_B)))


class GanModel(nn.Module):
    """A generator, the child `network`, and its `discriminator`: images (B, C, S, S) and classes -> logits (B,).

    Called, it generates.
    """

    def __init__(self, generator: Generator, discriminator: nn.Module, training_values: GanTraining):
        super().__init__()
        self.network = generator
        self.discriminator = discriminator
        self.training_values = training_values

    def set_growth(self, growth: Tensor) -> None:
        """Set the buffers `growth` of both networks, which must have several levels.

        0 is the level of 4x4 pixels alone, 1.35 that of 8x8 with 35 % of that of 16x16.
        """
        for network in (self.network, self.discriminator):
            network.get_buffer("growth").copy_(growth)

    def forward(self, latent_BL: Float[Tensor, "B L"], label_B: Int[Tensor, " B"] | None = None) -> Tensor:
        """Return the image (B, C, S, S) of each latent."""
        return self.network(latent_BL, label_B)
