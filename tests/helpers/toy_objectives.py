"""Small problems, one for each kind of training; every law of the loop is tested on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.padding import pad
from thalweg.data.batches import BatchStream, InMemoryBatches, SequenceBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.models.generate.base import GanModel, GanTraining, Generator
from thalweg.objectives.adversarial import Adversarial, AdversarialSettings
from thalweg.objectives.base import Batch, Loss, Objective, Phase
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


class ToyGenerator(Generator):
    """Vectors of 16 numbers from latents of 8, by any layers."""

    def __init__(self, layers: nn.Module | None = None, latent_dim: int = 8):
        super().__init__(latent_dim, latent_dim)
        self.layers = layers or nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        return latent_BL

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        return self.layers(style_BNW[:, 0])


class ToyDiscriminator(nn.Module):
    """One logit per vector, by any layers that give one number."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, label_B: Tensor | None = None) -> Tensor:
        return self.layers(x.flatten(1)).squeeze(1)


class GrowingGenerator(Generator):
    """Images of 16x16 pixels from three levels, the last of which fades in. Its styles are latents and classes."""

    num_levels = 3

    def __init__(self, num_styles: int = 1, num_classes: int = 0):
        super().__init__(8, 8, num_styles, num_classes)
        self.register_buffer("growth", torch.tensor(2.0))
        self.embed = nn.Embedding(max(1, num_classes), 8)
        self.levels = nn.ModuleList(nn.Linear(8 * num_styles, (4 * 2**level) ** 2) for level in range(3))

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        return latent_BL if label_B is None else latent_BL + self.embed(label_B)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        image = style_BNW.new_zeros(len(style_BNW), 1, 16, 16)
        for level, layer in enumerate(self.levels):
            side = 4 * 2**level
            detail = F.interpolate(layer(style_BNW.flatten(1)).view(-1, 1, side, side), size=16)
            image = image + detail * (1 + self.growth - level).clamp(0, 1)
        return image


class GrowingDiscriminator(nn.Module):
    """The same levels, added up; classes have biases and directions of their own."""

    def __init__(self, num_classes: int = 0):
        super().__init__()
        self.register_buffer("growth", torch.tensor(2.0))
        self.levels = nn.ModuleList(nn.Linear((4 * 2**level) ** 2, 8) for level in range(3))
        self.embed = nn.Embedding(max(1, num_classes), 8)

    def forward(self, image: Tensor, label_B: Tensor | None = None) -> Tensor:
        features = image.new_zeros(len(image), 8)
        for level, layer in enumerate(self.levels):
            part = layer(F.avg_pool2d(image, 4 // 2**level).flatten(1))
            features = features + part * (1 + self.growth - level).clamp(0, 1)
        row_B = torch.zeros(len(image), dtype=torch.int64) if label_B is None else label_B
        return (F.softplus(features) * self.embed(row_B)).sum(1)


def make_gan(layers: nn.Module, generator: Generator | None = None) -> GanModel:
    """Build a model of a discriminator's layers and a generator."""
    training_values = GanTraining(penalty_interval=4)
    return GanModel(generator or ToyGenerator(), ToyDiscriminator(layers), training_values)


class CharGRU(nn.Module):
    """A GRU over an alphabet of 11 characters."""

    def __init__(self, num_characters: int = 11, width: int = 16):
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(num_characters, width)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, num_characters)

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(1, batch_size, self.width)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.cell(self.embed(tokens), state)
        return self.out(y), state


class CharLSTM(CharGRU):
    """An LSTM, whose state is a tuple of two tensors."""

    def __init__(self, num_characters: int = 11, width: int = 16):
        super().__init__(num_characters, width)
        self.cell = nn.LSTM(width, width, num_layers=2, batch_first=True)

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(2, batch_size, self.width), torch.zeros(2, batch_size, self.width)


Toy = tuple[Objective, BatchStream]


def make_classify(batch_size: int, rank: int, world_size: int) -> Toy:
    """Batch statistics (in one process) and dropout: both kinds of hidden state that resuming can lose."""
    norm = nn.BatchNorm1d(32) if world_size == 1 else nn.Identity()
    model = nn.Sequential(nn.Linear(16, 32), norm, nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        logits = model(batch["image"])
        accuracy = (logits.argmax(1) == batch["label"]).float().mean().detach()
        return Loss(F.cross_entropy(logits, batch["label"]), len(logits), {"accuracy": accuracy})

    tensors = {"image": torch.randn(64, 16), "label": torch.randint(4, (64,))}
    return Supervised(model, criterion), InMemoryBatches(tensors, batch_size, 3, rank, world_size)


def make_detect(batch_size: int, rank: int, world_size: int) -> Toy:
    """One to five boxes per image, padded; the mean is over real boxes only."""
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 20), nn.Unflatten(1, (5, 4)))

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        error = F.l1_loss(model(batch["image"]), batch["box"], reduction="none").sum(-1)
        return Loss((error * batch["real"]).sum() / batch["real"].sum(), batch["real"].sum())

    boxes, real = pad([torch.rand(1 + int(n), 4) for n in torch.randint(5, (64,))], max_targets=5)
    tensors = {"image": torch.randn(64, 16), "box": boxes, "real": real}
    return Supervised(model, criterion), InMemoryBatches(tensors, batch_size, 3, rank, world_size)


def make_generate(batch_size: int, rank: int, world_size: int) -> Toy:
    """Two networks, two losses, a gradient penalty on every fourth step."""
    model = make_gan(nn.Sequential(nn.Linear(16, 32), nn.Softplus(), nn.Linear(32, 1)))
    objective = Adversarial(model)
    return objective, InMemoryBatches({"image": torch.randn(64, 16)}, batch_size, 3, rank, world_size)


class TwoTimeScale(Adversarial):
    """The discriminator learns four times as fast as its penalty and the generator (Heusel et al. 2017)."""

    def phases(self) -> list[Phase]:
        discriminator, penalty, generator = super().phases()
        return [replace(discriminator, lr_scale=4.0), penalty, generator]


def make_two_time_scale(batch_size: int, rank: int, world_size: int) -> Toy:
    objective, batches = make_generate(batch_size, rank, world_size)
    return TwoTimeScale(objective.model), batches


class Delayed(Adversarial):
    """The generator starts after 7 steps; the penalty runs on steps 2 to 12 only."""

    def phases(self) -> list[Phase]:
        discriminator, penalty, generator = super().phases()
        return [discriminator, replace(penalty, interval=1, begins=2, ends=13), replace(generator, begins=7)]


def make_delayed(batch_size: int, rank: int, world_size: int) -> Toy:
    objective, batches = make_generate(batch_size, rank, world_size)
    return Delayed(objective.model), batches


def make_growing(batch_size: int, rank: int, world_size: int) -> Toy:
    """Networks that grow, classes, mixed styles, and everything that is remembered between steps."""
    model = GanModel(GrowingGenerator(4, 3), GrowingDiscriminator(3), GanTraining())
    settings = AdversarialSettings(
        r1=0.1, r2=0.1, penalty_interval=4, path_length=0.1, mixing=0.5, augment="ada", num_ranks=world_size
    )
    objective = Adversarial(model, settings)
    objective.set_length(12 * batch_size)
    tensors = {"image": torch.randn(64, 1, 16, 16), "label": torch.randint(3, (64,))}
    return objective, InMemoryBatches(tensors, batch_size, 3, rank, world_size)


def make_write(batch_size: int, rank: int, world_size: int) -> Toy:
    """Text whose state continues from batch to batch."""
    tokens = torch.randint(11, (batch_size * 40 + 1,))
    batches = SequenceBatches(tokens, batch_size, 5, rank, world_size)
    return Recurrent(CharGRU(), batch_size), batches


def make_write_lstm(batch_size: int, rank: int, world_size: int) -> Toy:
    """The same with a state of two tensors."""
    tokens = torch.randint(11, (batch_size * 40 + 1,))
    batches = SequenceBatches(tokens, batch_size, 5, rank, world_size)
    return Recurrent(CharLSTM(), batch_size), batches


TOY_OBJECTIVES: dict[str, Callable[[int, int, int], Toy]] = {
    "classify": make_classify,
    "detect": make_detect,
    "generate": make_generate,
    "two-time-scale": make_two_time_scale,
    "delayed": make_delayed,
    "growing": make_growing,
    "write": make_write,
    "write-lstm": make_write_lstm,
}
#: the toys with one loss, reported as `loss`
SINGLE_LOSS_TOYS = ["classify", "detect", "write", "write-lstm"]


def make_trainer(
    toy: str, *, seed: int = 1, batch_size: int = 8, rank: int = 0, world_size: int = 1, **config: Any
) -> Trainer:
    """Return a trainer of the toy; equal arguments give equal trainers."""
    torch.manual_seed(seed)
    objective, batches = TOY_OBJECTIVES[toy](batch_size, rank, world_size)
    settings = {"steps": 24, "lr": 3e-3, "ema_decay": 0.9, "grad_clip": 1.0, "report_every": 6, **config}
    return Trainer(objective, batches, TrainConfig(**settings))
