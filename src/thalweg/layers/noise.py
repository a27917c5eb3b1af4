"""Random numbers for each pixel of a map, from which a generator makes what is random in an image.

Karras, Laine, Aila 2019, arXiv:1812.04948, section 2. Differs from the paper: in evaluation the noise is fixed, so that
an image depends on its latent alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

# B images, C channels, S rows and columns of maps


class Noise(nn.Module):
    """Add one map of noise to all channels, with a learned strength that begins at 0.

    `channels` is the number of strengths: one for each channel, as in StyleGAN, or 1 for all, as in StyleGAN2. In
    training the noise comes from the generator of random numbers of the device, in evaluation from a buffer.
    """

    fixed_1SS: Tensor

    def __init__(self, size: int, channels: int = 1):
        super().__init__()
        self.strength_C11 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("fixed_1SS", torch.randn(1, size, size))

    def forward(self, x_BCSS: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
        """Return the maps with noise."""
        noise = self.fixed_1SS
        if self.training:
            noise = torch.randn(len(x_BCSS), *self.fixed_1SS.shape, device=x_BCSS.device)
        return x_BCSS + (self.strength_C11 * noise).to(x_BCSS.dtype)
