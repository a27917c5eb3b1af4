"""What the two players minimize: the losses that `generate` trains with, and the saturating one; the gradient of D.

The discriminator returns a logit, high for what it takes for real. B examples of a batch; the X of `x_BX` stands for
what an example is made of: two coordinates, or pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import adversarial


def minimax_generator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of -softplus(D(fake)), which saturates (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1)."""
    return -F.softplus(fake_logit_B).mean()


LOSSES = {
    **adversarial.LOSSES,
    "minimax": adversarial.AdversarialLoss(adversarial.logistic_discriminator, minimax_generator),
}


def measure_gradient(discriminator: nn.Module, x_BX: Tensor) -> Tensor:
    """Return the gradient of each logit with respect to its own example, in the shape of `x_BX`."""
    x_BX = x_BX.detach().requires_grad_()
    (gradient_BX,) = torch.autograd.grad(discriminator(x_BX).sum(), x_BX)
    return gradient_BX
