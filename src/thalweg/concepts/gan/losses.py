"""What the two players minimize: six losses, and two penalties on the gradient of the discriminator.

The discriminator returns a logit, high for what it takes for real. Saturating and non-saturating loss: Goodfellow et
al. 2014, arXiv:1406.2661; least squares: Mao et al. 2016, arXiv:1611.04076; Wasserstein with gradient penalty:
Gulrajani et al. 2017, arXiv:1704.00028; hinge: Lim and Ye 2017, arXiv:1705.02894; relativistic pairs:
Jolicoeur-Martineau 2018, arXiv:1807.00734; R1: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406.

B examples of a batch; the X of `x_BX` stands for what an example is made of: two coordinates, or pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdversarialLoss(NamedTuple):
    """Both losses, as functions of the logits of real and of generated examples (B,)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


def cross_entropy(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Return -log p(real) - log(1 - p(generated)), where p is the sigmoid of the logit."""
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def hinge(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Return how far real logits are below 1, and generated ones above -1."""
    return F.relu(1 - real_B).mean() + F.relu(1 + fake_B).mean()


def least_squares(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Return half of the squared distances of real logits from 1, and of generated ones from 0."""
    return ((real_B - 1).square().mean() + fake_B.square().mean()) / 2


LOSSES = {
    "logistic": AdversarialLoss(cross_entropy, lambda real_B, fake_B: F.softplus(-fake_B).mean()),
    "minimax": AdversarialLoss(cross_entropy, lambda real_B, fake_B: -F.softplus(fake_B).mean()),
    "hinge": AdversarialLoss(hinge, lambda real_B, fake_B: -fake_B.mean()),
    "least_squares": AdversarialLoss(least_squares, lambda real_B, fake_B: (fake_B - 1).square().mean() / 2),
    "wasserstein": AdversarialLoss(
        lambda real_B, fake_B: fake_B.mean() - real_B.mean(), lambda real_B, fake_B: -fake_B.mean()
    ),
    "relativistic": AdversarialLoss(
        lambda real_B, fake_B: F.softplus(fake_B - real_B).mean(),
        lambda real_B, fake_B: F.softplus(real_B - fake_B).mean(),
    ),
}


def measure_gradient(discriminator: nn.Module, x_BX: Tensor, create_graph: bool = False) -> Tensor:
    """Return the gradient of each logit with respect to its own example, in the shape of `x_BX`."""
    x_BX = x_BX.detach().requires_grad_()
    (gradient_BX,) = torch.autograd.grad(discriminator(x_BX).sum(), x_BX, create_graph=create_graph)
    return gradient_BX


def r1_penalty(discriminator: nn.Module, real_BX: Tensor) -> Tensor:
    """Return half of the mean squared length of the gradient at real examples."""
    gradient_BX = measure_gradient(discriminator, real_BX, create_graph=True)
    return gradient_BX.square().flatten(1).sum(1).mean() / 2


def gradient_penalty(discriminator: nn.Module, real_BX: Tensor, fake_BX: Tensor, fraction_B: Tensor) -> Tensor:
    """Return the mean squared distance from 1 of the length of the gradient between real and generated examples."""
    fraction_BX = fraction_B.reshape(-1, *[1] * (real_BX.ndim - 1))
    gradient_BX = measure_gradient(discriminator, torch.lerp(fake_BX, real_BX, fraction_BX), create_graph=True)
    return (gradient_BX.flatten(1).norm(dim=1) - 1).square().mean()
