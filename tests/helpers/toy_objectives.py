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
from thalweg.objectives.adversarial import Adversarial
from thalweg.objectives.base import Batch, Loss, Objective, Phase
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


class Generator(nn.Module):
    latent_dim = 8

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class GAN(nn.Module):
    """A generator and a discriminator as children of one model."""

    def __init__(self, network: nn.Module, discriminator: nn.Module):
        super().__init__()
        self.network = network
        self.discriminator = discriminator


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
    discriminator = nn.Sequential(nn.Linear(16, 32), nn.Softplus(), nn.Linear(32, 1))
    objective = Adversarial(GAN(Generator(), discriminator), r1_interval=4)
    return objective, InMemoryBatches({"image": torch.randn(64, 16)}, batch_size, 3, rank, world_size)


class TwoTimeScale(Adversarial):
    """The discriminator learns four times as fast as its penalty and the generator (Heusel et al. 2017)."""

    def phases(self) -> list[Phase]:
        discriminator, r1, generator = super().phases()
        return [replace(discriminator, lr_scale=4.0), r1, generator]


def make_two_time_scale(batch_size: int, rank: int, world_size: int) -> Toy:
    objective, batches = make_generate(batch_size, rank, world_size)
    return TwoTimeScale(objective.model, r1_interval=4), batches


class Delayed(Adversarial):
    """The generator starts after 7 steps; the penalty runs on steps 2 to 12 only."""

    def phases(self) -> list[Phase]:
        discriminator, r1, generator = super().phases()
        return [discriminator, replace(r1, interval=1, begins=2, ends=13), replace(generator, begins=7)]


def make_delayed(batch_size: int, rank: int, world_size: int) -> Toy:
    objective, batches = make_generate(batch_size, rank, world_size)
    return Delayed(objective.model), batches


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
