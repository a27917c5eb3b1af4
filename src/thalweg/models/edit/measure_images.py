"""Draw styles of a generator, and measure the images that are made of styles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..generate.base import Generator

# N styles, B of a batch, W numbers in a style, A attributes

#: images at a time
BATCH_SIZE = 100


def hash_weights(module: nn.Module) -> str:
    """Return the SHA-256, in hex, of the state of a module."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def draw_styles(generator: Generator, stream: torch.Generator, count: int) -> Tensor:
    """Draw the styles (count, W) of normally distributed latents, and of random classes of a conditional generator."""
    device = next(generator.parameters()).device
    latent_BL = torch.randn(count, generator.latent_dim, generator=stream).to(device)
    label_B = None
    if generator.num_classes:
        label_B = torch.randint(generator.num_classes, (count,), generator=stream).to(device)
    return generator.map_latent(latent_BL, label_B)


@torch.no_grad()
def measure_latents(
    generator: Generator, reader: nn.Module, stream: torch.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """Draw styles (count, W), and measure their images: values (count, A)."""
    generator.eval()
    style_BW = draw_styles(generator, stream, count)
    value_BA = reader(generator.synthesize(generator.repeat_style(style_BW)))
    return style_BW.float().cpu(), value_BA.float().cpu()


def measure_images(
    synthesize: Callable[..., Tensor], reader: Callable[[Tensor], Tensor], style_NW: Tensor, *arguments: Tensor
) -> np.ndarray:
    """Return the values (N, A) of the images that are made of styles and further arguments, in batches."""
    rows = []
    with torch.no_grad():
        for start in range(0, len(style_NW), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            image_BCHW = synthesize(style_NW[part], *(value[part] for value in arguments))
            rows.append(reader(image_BCHW).float().cpu().numpy())
    return np.concatenate(rows)
