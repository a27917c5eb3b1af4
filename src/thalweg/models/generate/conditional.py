"""How networks read the class of an image (Miyato and Koyama 2018, arXiv:1802.05637, for the discriminator)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import OptionError
from .base import Generator

# B images, D numbers of a vector, L of a latent, W of a style

#: numbers by which a class joins a latent, where no mapping network follows
CLASS_DIM = 32


class ClassEmbedding(nn.Module):
    """Classes (B,) -> learned vectors (B, dim)."""

    def __init__(self, num_classes: int, dim: int):
        super().__init__()
        self.vectors = nn.Embedding(num_classes, dim)

    def forward(self, label_B: Tensor | None) -> Tensor:
        """Return the vector of each class. Raises OptionError without classes."""
        if label_B is None:
            raise OptionError(
                f"label: none; expected a class from 0 to {self.vectors.num_embeddings - 1} for each image.",
                "This model makes images of a class: name one.",
                option="label",
                allowed=list(range(self.vectors.num_embeddings)),
            )
        return self.vectors(label_B)


class ClassProjection(nn.Module):
    """Features (B, D) and classes (B,) -> how well they fit (B,), to be added to the logits of a discriminator."""

    def __init__(self, num_classes: int, dim: int):
        super().__init__()
        self.embedding = ClassEmbedding(num_classes, dim)
        self.scale = 1 / math.sqrt(dim)

    def forward(self, feature_BD: Tensor, label_B: Tensor | None) -> Tensor:
        """Return the inner product with the vector of the class, over the root of its length."""
        return self.scale * (feature_BD * self.embedding(label_B)).sum(1)


class LatentGenerator(Generator):
    """A generator whose style is the latent, in a conditional model followed by a learned vector of the class."""

    def __init__(self, latent_dim: int, num_classes: int, class_dim: int = CLASS_DIM):
        style_dim = latent_dim
        if num_classes:
            style_dim += class_dim
        super().__init__(latent_dim, style_dim, num_classes=num_classes)
        if num_classes:
            self.embedding = ClassEmbedding(num_classes, class_dim)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return the styles (B, W). Raises OptionError where a conditional model gets no classes."""
        if not self.num_classes:
            return latent_BL
        style_BW = torch.cat([latent_BL, self.embedding(label_B)], 1)
        self.track_mean_style(style_BW)
        return style_BW
