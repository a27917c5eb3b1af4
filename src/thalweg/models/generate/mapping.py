"""The mapping network of StyleGAN (Karras, Laine, Aila 2019, arXiv:1812.04948, section 2), and of its successors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.equalized import RELU_GAIN, EqualizedLinear
from ...layers.style import PixelNorm
from .base import Generator
from .conditional import ClassEmbedding
from .levels import LEAKY_SLOPE

#: the mapping network learns by this fraction of the speed of other layers (appendix C)
LR_MULTIPLIER = 0.01


class MappingNetwork(nn.Module):
    """Vectors (B, in_features) -> styles (B, style_dim)."""

    def __init__(self, in_features: int, style_dim: int, depth: int):
        super().__init__()
        layers = []
        for _ in range(depth):
            layers.append(EqualizedLinear(in_features, style_dim, RELU_GAIN, lr_multiplier=LR_MULTIPLIER))
            in_features = style_dim
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BI: Tensor) -> Tensor:
        """Return styles (B, style_dim)."""
        for layer in self.layers:
            x_BI = F.leaky_relu(layer(x_BI), LEAKY_SLOPE)
        return x_BI


class MappedGenerator(Generator):
    """A generator whose styles come from a mapping network; they have as many numbers as latents."""

    def __init__(self, latent_dim: int, num_styles: int, mapping_depth: int, num_classes: int):
        super().__init__(latent_dim, latent_dim, num_styles, num_classes)
        self.norm = PixelNorm()
        in_features = latent_dim
        if num_classes:
            self.embedding = ClassEmbedding(num_classes, latent_dim)
            in_features = 2 * latent_dim
        self.mapping = MappingNetwork(in_features, latent_dim, mapping_depth)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return the style (B, W) of each latent and, if conditional, class."""
        x_BI = self.norm(latent_BL)
        if self.num_classes:
            x_BI = torch.cat([x_BI, self.norm(self.embedding(label_B))], 1)
        style_BW = self.mapping(x_BI)
        self.track_mean_style(style_BW)
        return style_BW
