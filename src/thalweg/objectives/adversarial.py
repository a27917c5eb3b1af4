"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661), with the non-saturating loss.

R1 (Mescheder, Geiger, Nowozin 2018, arXiv:1801.04406) is a third phase that runs on every n-th step only, as in
StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, section 4, lazy regularization).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Batch, Loss, Objective, Phase


class Adversarial(Objective):
    """Train a generator and a discriminator in turn.

    Args:
        model: A module with the children `network`, the generator, whose attribute `latent_dim` is the size of its
            input, and `discriminator`, which returns one logit per image, high for real images.
        r1: Weight of the gradient penalty; 0 turns it off.
        r1_interval: Number of steps from one penalty to the next.
    """

    def __init__(self, model: nn.Module, r1: float = 1.0, r1_interval: int = 16):
        super().__init__()
        self.model = model
        self.r1 = r1
        self.r1_interval = r1_interval

    @property
    def generator(self) -> nn.Module:
        """The child `network` of the model."""
        return self.model.get_submodule("network")

    @property
    def discriminator(self) -> nn.Module:
        """The child `discriminator` of the model."""
        return self.model.get_submodule("discriminator")

    def generate(self, count: int) -> Tensor:
        """Return `count` images from normally distributed latents."""
        device = next(self.generator.parameters()).device
        latent_dim = cast(int, self.generator.latent_dim)
        return self.generator(torch.randn(count, latent_dim, device=device))

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Return softplus(D(fake)) + softplus(-D(real)); the metrics are the mean logits of both."""
        real_logit_B = self.discriminator(batch["image"]).float()
        with torch.no_grad():
            fake_BCHW = self.generate(len(real_logit_B))
        fake_logit_B = self.discriminator(fake_BCHW).float()
        mean = F.softplus(fake_logit_B).mean() + F.softplus(-real_logit_B).mean()
        metrics = {"real_logit": real_logit_B.detach().mean(), "fake_logit": fake_logit_B.detach().mean()}
        return Loss(mean, len(real_logit_B), metrics)

    def r1_loss(self, batch: Batch) -> Loss:
        """Return r1 / 2 * |gradient of D at real images|^2, times the interval to make up for the skipped steps."""
        real_BCHW = batch["image"].detach().requires_grad_(True)
        (gradient_BCHW,) = torch.autograd.grad(self.discriminator(real_BCHW).sum(), real_BCHW, create_graph=True)
        penalty = gradient_BCHW.square().flatten(1).sum(1).mean()
        return Loss(self.r1 / 2 * self.r1_interval * penalty, len(real_BCHW))

    def generator_loss(self, batch: Batch) -> Loss:
        """Return softplus(-D(fake)), the non-saturating loss (section 3 of the paper)."""
        count = len(batch["image"])
        fake_logit_B = self.discriminator(self.generate(count)).float()
        return Loss(F.softplus(-fake_logit_B).mean(), count)

    def phases(self) -> list[Phase]:
        """Return discriminator, r1 (every n-th step) and generator."""
        phases = [Phase("discriminator", self.discriminator, self.discriminator_loss)]
        if self.r1:
            r1 = Phase("r1", self.discriminator, self.r1_loss, interval=self.r1_interval, compile=False)
            phases.append(r1)
        phases.append(Phase("generator", self.generator, self.generator_loss))
        return phases
