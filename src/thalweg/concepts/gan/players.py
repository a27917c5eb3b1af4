"""Train a generator against a discriminator: the whole of adversarial training in one loop.

Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1, with Adam. B examples of a batch, N real examples, L numbers of a
latent; the X of `real_NX` stands for what an example is made of: two coordinates, or pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...losses.adversarial import one_centered_penalty, zero_centered_penalty
from .losses import LOSSES

#: Adam's betas: little momentum, because the opponent's reply is late by as much as it looks back
BETAS = (0.5, 0.99)
#: from this fraction of the steps on, both learning rates fall linearly to zero
DECAY_START = 0.5


class Players(NamedTuple):
    """Generator (B, L) -> (B, X), discriminator (B, X) -> logits (B,), and L."""

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int


@dataclass(frozen=True)
class GanRun:
    """How both are trained."""

    label: str
    loss: str
    r1: float
    gradient_penalty: float
    generator_lr: float
    discriminator_lr: float
    generator_steps: int
    discriminator_steps: int
    batch_size: int
    steps: int
    seed: int

    @property
    def has_penalty(self) -> bool:
        """Whether the gradient of the discriminator is penalized."""
        return self.r1 > 0 or self.gradient_penalty > 0


class StepLosses(NamedTuple):
    """Losses of both players before the update of a step, without penalties."""

    discriminator: float
    generator: float


def iter_steps(players: Players, real_NX: Tensor, run: GanRun) -> Iterator[StepLosses]:
    """Train both networks; yield after every step. Ends early where a loss is infinite or NaN."""
    random = torch.Generator().manual_seed(run.seed)
    generator_optimizer = torch.optim.Adam(players.generator.parameters(), run.generator_lr, BETAS, fused=True)
    discriminator_optimizer = torch.optim.Adam(
        players.discriminator.parameters(), run.discriminator_lr, BETAS, fused=True
    )
    for step in range(run.steps):
        scale = min(1.0, (1 - step / run.steps) / (1 - DECAY_START))
        generator_optimizer.param_groups[0]["lr"] = scale * run.generator_lr
        discriminator_optimizer.param_groups[0]["lr"] = scale * run.discriminator_lr
        discriminator_losses = []
        for _ in range(run.discriminator_steps):
            loss, penalty = _discriminator_loss(players, real_NX, run, random)
            discriminator_losses.append(loss.item())
            _minimize(loss + penalty, discriminator_optimizer)
        generator_losses = []
        for _ in range(run.generator_steps):
            loss = _generator_loss(players, real_NX, run, random)
            generator_losses.append(loss.item())
            _minimize(loss, generator_optimizer)
        if not all(map(math.isfinite, (*discriminator_losses, *generator_losses))):
            return
        yield StepLosses(discriminator_losses[0], generator_losses[0])


def draw_latents(count: int, latent_dim: int, random: torch.Generator) -> Tensor:
    """Return latents (count, L) from the normal distribution."""
    return torch.randn(count, latent_dim, generator=random)


def find_snapshot(result: Any, step: int) -> Any:
    """Return the last snapshot of a run up to `step`."""
    return [snapshot for snapshot in result.snapshots if snapshot["step"] <= step][-1]


def _draw_real(real_NX: Tensor, run: GanRun, random: torch.Generator) -> Tensor:
    return real_NX[torch.randint(len(real_NX), (run.batch_size,), generator=random)]


def _discriminator_loss(
    players: Players, real_NX: Tensor, run: GanRun, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the loss of the discriminator, and its penalties."""
    real_BX = _draw_real(real_NX, run, random).requires_grad_()
    with torch.no_grad():
        fake_BX = players.generator(draw_latents(run.batch_size, players.latent_dim, random))
    real_logit_B, fake_logit_B = players.discriminator(torch.cat([real_BX, fake_BX])).chunk(2)
    loss = LOSSES[run.loss].discriminator(real_logit_B, fake_logit_B)
    penalty = torch.zeros(())
    if run.r1:
        penalty = penalty + run.r1 * zero_centered_penalty(real_logit_B, real_BX)
    if run.gradient_penalty:
        fraction_BX = torch.rand(run.batch_size, *[1] * (real_BX.ndim - 1), generator=random)
        between_BX = fake_BX.lerp(real_BX.detach(), fraction_BX).requires_grad_()
        penalty = penalty + run.gradient_penalty * one_centered_penalty(players.discriminator(between_BX), between_BX)
    return loss, penalty


def _generator_loss(players: Players, real_NX: Tensor, run: GanRun, random: torch.Generator) -> Tensor:
    fake_B = players.discriminator(players.generator(draw_latents(run.batch_size, players.latent_dim, random)))
    real_B = fake_B
    if LOSSES[run.loss].needs_real:
        real_B = players.discriminator(_draw_real(real_NX, run, random))
    return LOSSES[run.loss].generator(real_B, fake_B)


def _minimize(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
