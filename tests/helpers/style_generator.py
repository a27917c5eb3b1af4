"""A generator with layers of style, a mapping network and classes, small enough for any test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thalweg.models.generate.base import GanModel, GanTraining, Generator


class TinyStyleGenerator(Generator):
    """Each layer of style adds its own pattern: the first ones coarse, the last ones fine."""

    def __init__(self, image_size: int = 16, num_styles: int = 6, num_classes: int = 0, channels: int = 1):
        super().__init__(latent_dim=8, style_dim=5, num_styles=num_styles, num_classes=num_classes)
        self.map = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 5))
        self.embed = nn.Embedding(max(1, num_classes), 5)
        self.paint = nn.Parameter(torch.randn(num_styles, 5, channels * image_size * image_size) / 3)
        self.shape = (channels, image_size, image_size)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        style_BW = self.map(latent_BL)
        return style_BW if label_B is None else style_BW + self.embed(label_B)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        return torch.einsum("bnw,nwp->bp", style_BNW, self.paint).tanh().unflatten(1, self.shape)


def build_style_model(seed: int = 0, **kwargs: int) -> GanModel:
    """Build a model with random weights in evaluation mode, whose mean style is that of many latents."""
    torch.manual_seed(seed)
    generator = TinyStyleGenerator(**kwargs)
    with torch.no_grad():
        label_B = torch.arange(500) % generator.num_classes if generator.num_classes else None
        generator.mean_style.copy_(generator.map_latent(torch.randn(500, 8), label_B).mean(0))
    return GanModel(generator, nn.Flatten(), GanTraining()).eval()
