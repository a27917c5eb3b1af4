"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661): two players, each with its own loss.

Penalties of the discriminator and the path length of the generator are phases that run on every n-th step only, as in
StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, section 4, lazy regularization); their losses are multiplied by n. The
betas and the learning rate of Adam are not corrected for them, unlike there. A penalty of every step is part of the
discriminator's loss instead, because Adam would bring two updates to the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.discriminator_augment import ada_augment, adapt_probability, diff_augment
from ..losses.adversarial import (
    LOSSES,
    compute_margins,
    drift_penalty,
    interpolate,
    one_centered_penalty,
    path_lengths,
    zero_centered_penalty,
)
from ..models.generate.base import GanModel, GanTraining, Generator
from .base import Batch, Loss, Objective, Phase

#: steps from one path length regularization to the next, and the fraction by which the mean length moves to a new one
PATH_LENGTH_INTERVAL = 4
PATH_LENGTH_DECAY = 0.01
#: batches from one change of the augmentation to the next, the mean sign that it aims at, and the images in which its
#: probability can rise from 0 to 1 (arXiv:2006.06676, section 3.2 and appendix C)
ADA_INTERVAL = 4
ADA_TARGET = 0.6
ADA_IMAGES = 500_000
#: fraction by which the mean accuracy of the discriminator moves to that of a batch
ACCURACY_DECAY = 0.05


@dataclass(frozen=True)
class AdversarialSettings(GanTraining):
    """How both players are trained.

    Attributes:
        augment: What the discriminator sees of every image: none, diff or ada, see `discriminator_augment`.
        growth_images: Images of each fade, and of each hold before it; 0: the networks grow in half of the training.
        num_ranks: Processes that train together; each sees its part of a batch.
    """

    augment: str = "none"
    growth_images: int = 0
    num_ranks: int = 1


class Scored(NamedTuple):
    """Images as the discriminator judges them."""

    image_BCHW: Tensor
    logit_B: Tensor


class Adversarial(Objective):
    """Train a generator and a discriminator in turn, on batches of `image` and, for classes, `label`.

    Generated images have the classes of the batch. Networks that grow begin with 4x4 pixels once `set_length` was
    called; without it they are trained in full.

    Attributes:
        accuracy: Buffer: running mean of the fraction of images that the discriminator tells apart.
        images_seen: Buffer: real images that all ranks have seen.
        growth_images: Buffer: images of each fade and of each hold; 0: nothing grows.
        augment_probability: Buffer: the strength of the augmentation `ada`.
        real_sign_sum: Buffer: sum of the signs of the logits of real images since the last change of that strength,
            and `real_sign_images` and `real_sign_batches` how many there were.
        mean_path_length: Buffer: running mean of the path lengths.
    """

    accuracy: Tensor
    images_seen: Tensor
    growth_images: Tensor
    augment_probability: Tensor
    real_sign_sum: Tensor
    real_sign_images: Tensor
    real_sign_batches: Tensor
    mean_path_length: Tensor

    def __init__(self, model: GanModel, settings: AdversarialSettings | None = None):
        super().__init__()
        self.model = model
        self.settings = settings or AdversarialSettings(**vars(model.training_values))
        self.losses = LOSSES[self.settings.loss]
        self.register_buffer("accuracy", torch.full((), 0.5))
        if self.generator.num_levels > 1:
            self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
            self.register_buffer("growth_images", torch.zeros((), dtype=torch.int64))
        if self.settings.augment == "ada":
            for name in ("augment_probability", "real_sign_sum", "real_sign_images", "real_sign_batches"):
                self.register_buffer(name, torch.zeros(()))
        if self.settings.path_length:
            self.register_buffer("mean_path_length", torch.zeros(()))
        self.to(next(model.parameters()).device)

    @property
    def gan(self) -> GanModel:
        """The model, as what it is."""
        return cast(GanModel, self.model)

    @property
    def generator(self) -> Generator:
        """The child `network` of the model."""
        return self.gan.network

    @property
    def has_penalty(self) -> bool:
        """Whether a gradient of the discriminator is penalized."""
        return bool(self.settings.r1 or self.settings.r2 or self.settings.gradient_penalty)

    @property
    def penalizes_each_step(self) -> bool:
        """Whether the penalty is part of the discriminator's loss."""
        return self.has_penalty and self.settings.penalty_interval == 1

    def phases(self) -> list[Phase]:
        """Return discriminator, penalty and path length (every n-th step) and generator."""
        discriminator = self.gan.discriminator
        phases = [Phase("discriminator", discriminator, self.discriminator_loss)]
        if self.penalizes_each_step:
            phases = [Phase("discriminator", discriminator, self.penalized_discriminator_loss, compile=False)]
        elif self.has_penalty:
            interval = self.settings.penalty_interval
            phases.append(Phase("penalty", discriminator, self.penalty_loss, interval=interval, compile=False))
        phases.append(Phase("generator", self.generator, self.generator_loss))
        if self.settings.path_length:
            interval = PATH_LENGTH_INTERVAL
            phases.append(Phase("path_length", self.generator, self.path_length_loss, interval=interval, compile=False))
        return phases

    # --- the discriminator --------------------------------------------------------------------------------------------

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Return the discriminator's loss; the metrics are mean logits, and the fraction of images told apart."""
        self._grow(len(batch["image"]))
        each_step = self.penalizes_each_step
        label_B = batch.get("label")
        real = self._score(self._real_images(batch), label_B, each_step and self.settings.r1 > 0)
        fake = self._score(self._fake_images(batch), label_B, each_step and self.settings.r2 > 0)
        mean = self.losses.discriminator(real.logit_B, fake.logit_B)
        metrics = {"real_logit": real.logit_B.detach().mean(), "fake_logit": fake.logit_B.detach().mean()}
        if self.settings.drift:
            mean = mean + self.settings.drift * drift_penalty(real.logit_B)
        if each_step:
            penalties = self._penalties(real, fake, label_B)
            mean = mean + torch.stack(list(penalties.values())).sum()
            metrics |= {name: value.detach() for name, value in penalties.items()}
        metrics["accuracy"] = self._watch(real.logit_B.detach(), fake.logit_B.detach())
        return Loss(mean, len(real.image_BCHW), metrics)

    def penalized_discriminator_loss(self, batch: Batch) -> Loss:
        """Return the same in float32, whose precision second derivatives need."""
        with torch.autocast(batch["image"].device.type, enabled=False):
            return self.discriminator_loss(batch)

    def penalty_loss(self, batch: Batch) -> Loss:
        """Return the penalties of gradients in float32, times the interval to make up for the skipped steps."""
        settings = self.settings
        label_B = batch.get("label")
        real_BCHW = self._real_images(batch)
        with torch.autocast(real_BCHW.device.type, enabled=False):
            real = Scored(real_BCHW, real_BCHW)
            fake = real
            if settings.r1:
                real = self._score(real_BCHW, label_B, needs_gradient=True)
            if settings.r2 or settings.gradient_penalty:
                fake = self._score(self._fake_images(batch), label_B, needs_gradient=True)
            penalties = self._penalties(real, fake, label_B)
        mean = settings.penalty_interval * torch.stack(list(penalties.values())).sum()
        return Loss(mean, len(real_BCHW), {name: value.detach() for name, value in penalties.items()})

    def _penalties(self, real: Scored, fake: Scored, label_B: Tensor | None) -> dict[str, Tensor]:
        """Return each weighted penalty by its name."""
        settings = self.settings
        penalties = {}
        if settings.r1:
            penalties["r1"] = settings.r1 * zero_centered_penalty(real.logit_B, real.image_BCHW)
        if settings.r2:
            penalties["r2"] = settings.r2 * zero_centered_penalty(fake.logit_B, fake.image_BCHW)
        if settings.gradient_penalty:
            between_BCHW = interpolate(real.image_BCHW.detach(), fake.image_BCHW.detach())
            between = self._score(between_BCHW, label_B, needs_gradient=True)
            penalty = one_centered_penalty(between.logit_B, between.image_BCHW)
            penalties["gradient_penalty"] = settings.gradient_penalty * penalty
        return penalties

    def _real_images(self, batch: Batch) -> Tensor:
        """Return the real images at the level of the networks that see them."""
        image_BCHW = batch["image"].detach()
        if self.generator.num_levels > 1:
            return fade_images(image_BCHW, self.generator.get_buffer("growth"))
        return image_BCHW

    @torch.no_grad()
    def _fake_images(self, batch: Batch) -> Tensor:
        """Return as many generated images as there are real ones, without a gradient."""
        return self.generate(len(batch["image"]), batch.get("label"))

    def _score(self, image_BCHW: Tensor, label_B: Tensor | None, needs_gradient: bool = False) -> Scored:
        """Judge images; with a gradient, that of the logits with respect to images before they are augmented."""
        if needs_gradient:
            image_BCHW = image_BCHW.float().requires_grad_(True)
        return Scored(image_BCHW, self._discriminate(image_BCHW, label_B))

    def _discriminate(self, image_BCHW: Tensor, label_B: Tensor | None) -> Tensor:
        if self.settings.augment == "diff":
            image_BCHW = diff_augment(image_BCHW.float())
        elif self.settings.augment == "ada":
            image_BCHW = ada_augment(image_BCHW.float(), self.augment_probability)
        return self.gan.discriminator(image_BCHW, label_B).float()

    # --- the generator ------------------------------------------------------------------------------------------------

    def generator_loss(self, batch: Batch) -> Loss:
        """Return the generator's loss."""
        count = len(batch["image"])
        label_B = batch.get("label")
        style_BNW = self.draw_styles(count, label_B)
        fake_logit_B = self._discriminate(self.generator.synthesize(style_BNW), label_B)
        real_logit_B = fake_logit_B
        if self.losses.needs_real:
            real_logit_B = self._discriminate(self._real_images(batch), label_B)
        return Loss(self.losses.generator(real_logit_B, fake_logit_B), count)

    def path_length_loss(self, batch: Batch) -> Loss:
        """Return the squared distance of path lengths from their running mean, of half a batch and in float32.

        It is multiplied by the interval, to make up for the skipped steps.
        """
        count = max(1, len(batch["image"]) // 2)
        label_B = batch.get("label")
        if label_B is not None:
            label_B = label_B[:count]
        with torch.autocast(batch["image"].device.type, enabled=False):
            style_BNW = self.draw_styles(count, label_B)
            if not style_BNW.requires_grad:
                style_BNW.requires_grad_(True)
            length_B = path_lengths(self.generator.synthesize(style_BNW), style_BNW)
            self.mean_path_length.lerp_(length_B.detach().mean(), PATH_LENGTH_DECAY)
            penalty = (length_B - self.mean_path_length).square().mean()
        metrics = {"length": length_B.detach().mean()}
        return Loss(PATH_LENGTH_INTERVAL * self.settings.path_length * penalty, count, metrics)

    def generate(self, count: int, label_B: Tensor | None = None) -> Tensor:
        """Return `count` images (B, C, S, S) from normally distributed latents."""
        return self.generator.synthesize(self.draw_styles(count, label_B))

    def draw_styles(self, count: int, label_B: Tensor | None = None) -> Tensor:
        """Return styles (B, N, W) of latents; some are of two latents, which change at a random layer (mixing)."""
        generator = self.generator
        device = next(generator.parameters()).device
        style_BW = generator.map_latent(torch.randn(count, generator.latent_dim, device=device), label_B)
        style_BNW = generator.repeat_style(style_BW)
        num_styles = generator.num_styles
        if not self.settings.mixing or num_styles == 1:
            return style_BNW
        other_BW = generator.map_latent(torch.randn(count, generator.latent_dim, device=device), label_B)
        crossover_B = torch.randint(1, num_styles, (count,), device=device)
        is_mixed_B = torch.rand(count, device=device) < self.settings.mixing
        is_other_BN = torch.arange(num_styles, device=device) >= crossover_B[:, None]
        is_other_BN = is_other_BN & is_mixed_B[:, None]
        return torch.where(is_other_BN[:, :, None], generator.repeat_style(other_BW), style_BNW)

    # --- what is remembered -------------------------------------------------------------------------------------------

    def set_length(self, num_examples: int) -> None:
        """Begin to grow, if the networks can: by the settings, or so that they are whole after half of the images."""
        if self.generator.num_levels > 1:
            num_parts = 2 * (self.generator.num_levels - 1)
            self.growth_images.fill_(self.settings.growth_images or max(1, num_examples // (2 * num_parts)))

    @torch.no_grad()
    def _grow(self, count: int) -> None:
        """Set the level of the networks by the images seen so far, and count those of this batch."""
        num_levels = self.generator.num_levels
        if num_levels > 1:
            self.gan.set_growth(growth_at(self.images_seen, self.growth_images, num_levels))
            self.images_seen += count * self.settings.num_ranks

    @torch.no_grad()
    def _watch(self, real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
        """Return the fraction of images told apart; adapt the augmentation to how sure the discriminator is."""
        real_B, fake_B = compute_margins(self.losses, real_logit_B, fake_logit_B)
        accuracy = (torch.cat([real_B, fake_B]) > 0).float().mean()
        self.accuracy.lerp_(accuracy, ACCURACY_DECAY)
        if self.settings.augment == "ada":
            self.real_sign_sum += real_B.sign().sum()
            self.real_sign_images += len(real_B)
            self.real_sign_batches += 1
            mean_sign = self.real_sign_sum / self.real_sign_images
            num_images = self.real_sign_images * self.settings.num_ranks
            adapted = adapt_probability(self.augment_probability, mean_sign, num_images, ADA_TARGET, ADA_IMAGES)
            is_due = self.real_sign_batches >= ADA_INTERVAL
            self.augment_probability.copy_(torch.where(is_due, adapted, self.augment_probability))
            for buffer in (self.real_sign_sum, self.real_sign_images, self.real_sign_batches):
                buffer.mul_(~is_due)
        return accuracy


def growth_at(images_seen: Tensor, growth_images: Tensor, num_levels: int) -> Tensor:
    """Return the level after so many images: each is held, then the next fades in (arXiv:1710.10196, appendix A.1).

    Args:
        images_seen: Real images so far.
        growth_images: Images of each hold and of each fade; 0: the networks are whole.
        num_levels: Levels of the networks.

    Returns:
        A scalar float32 of 0 to `num_levels` - 1.
    """
    parts = images_seen.double() / growth_images.clamp(min=1)
    held = (parts / 2).floor()
    growth = (held + (parts - 2 * held - 1).clamp(min=0)).clamp(max=num_levels - 1)
    return torch.where(growth_images > 0, growth, num_levels - 1).float()


def fade_images(image_BCHW: Tensor, growth: Tensor) -> Tensor:
    """Return images with the detail of a level that fades in: a mixture of two averages over squares of pixels.

    It reads nothing on the host, so that a CUDA graph can hold it.

    Args:
        image_BCHW: Images of the last level, 4 * 2^n pixels high and wide.
        growth: The level, a scalar: 0 has squares of a 4x4 grid, 1.35 those of 8x8 and 35 % of what 16x16 adds.

    Returns:
        Images of the same size.
    """
    size = image_BCHW.shape[3]
    last_level = (size // 4).bit_length() - 1
    mixed_BCHW = image_BCHW * _level_weight(growth, last_level)
    for level in range(last_level):
        side = size // (4 * 2**level)
        average_BCHW = F.interpolate(F.avg_pool2d(image_BCHW, side), scale_factor=float(side), mode="nearest")
        mixed_BCHW = mixed_BCHW + average_BCHW * _level_weight(growth, level)
    return mixed_BCHW


def _level_weight(growth: Tensor, level: int) -> Tensor:
    return (1 - (growth - level).abs()).clamp(min=0)
