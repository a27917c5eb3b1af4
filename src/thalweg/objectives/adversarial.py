"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661), with the non-saturating loss.

R1 (Mescheder, Geiger, Nowozin 2018, arXiv:1801.04406) is a third phase that runs on every n-th step only, as in
StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, section 4, lazy regularisation).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Batch, Loss, Objective, Phase


class Adversarial(Objective):
    """Two networks, two losses in turn.

    `generator.latent` is the width of its input; `critic` gives one logit per picture, high for real ones. `r1` is the
    weight of the gradient penalty (0 for none), `every` how many steps lie between two penalties.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, r1: float = 1.0, every: int = 16):
        super().__init__()
        self.model, self.critic, self.r1, self.every = generator, critic, r1, every

    def fake(self, count: int) -> Tensor:
        """`count` pictures from normally distributed latents."""
        device = next(self.model.parameters()).device
        return self.model(torch.randn(count, self.model.latent, device=device))

    def critic_loss(self, batch: Batch) -> Loss:
        """softplus(D(fake)) + softplus(-D(real)); parts: mean logits of both."""
        real = self.critic(batch["image"]).float()
        with torch.no_grad():
            pictures = self.fake(len(real))
        fake = self.critic(pictures).float()
        mean = F.softplus(fake).mean() + F.softplus(-real).mean()
        return Loss(mean, len(real), {"real": real.detach().mean(), "fake": fake.detach().mean()})

    def r1_loss(self, batch: Batch) -> Loss:
        """r1 / 2 * |gradient of D at real pictures|^2, times `every` to make up for the steps left out."""
        real = batch["image"].detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.critic(real).sum(), real, create_graph=True)
        return Loss(self.r1 / 2 * self.every * gradient.square().flatten(1).sum(1).mean(), len(real))

    def generator_loss(self, batch: Batch) -> Loss:
        """softplus(-D(fake)), the non-saturating loss (section 3 of the paper)."""
        count = len(batch["image"])
        return Loss(F.softplus(-self.critic(self.fake(count)).float()).mean(), count)

    def phases(self) -> list[Phase]:
        """critic, r1 (every n-th step), generator."""
        penalty = [Phase("r1", self.critic, self.r1_loss, interval=self.every, compile=False)] if self.r1 else []
        return [
            Phase("critic", self.critic, self.critic_loss),
            *penalty,
            Phase("generator", self.model, self.generator_loss),
        ]
