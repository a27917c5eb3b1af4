"""Four small problems, one for each shape that a training can take; every law of the loop is held for all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.padding import pad
from thalweg.data.batches import InMemoryBatches, SequenceBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.objectives.adversarial import Adversarial
from thalweg.objectives.base import Batch, Loss, Objective
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


class Generator(nn.Module):
    latent = 8

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class LetterGRU(nn.Module):
    """A GRU over 11 letters."""

    def __init__(self, letters: int = 11, width: int = 16):
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(letters, width)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, letters)

    def initial_state(self, rows: int) -> Tensor:
        return torch.zeros(1, rows, self.width)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.cell(self.embed(tokens), state)
        return self.out(y), state


def make_classify(batch: int, rank: int, ranks: int) -> tuple[Objective, InMemoryBatches]:
    """Batch statistics (when alone) and dropout: both kinds of hidden state that a resume can lose."""
    norm = nn.BatchNorm1d(32) if ranks == 1 else nn.Identity()
    net = nn.Sequential(nn.Linear(16, 32), norm, nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))

    def criterion(net: nn.Module, b: Batch) -> Loss:
        logits = net(b["image"])
        right = (logits.argmax(1) == b["label"]).float().mean().detach()
        return Loss(F.cross_entropy(logits, b["label"]), len(logits), {"accuracy": right})

    data = {"image": torch.randn(64, 16), "label": torch.randint(4, (64,))}
    return Supervised(net, criterion), InMemoryBatches(data, batch, 3, rank, ranks)


def make_detect(batch: int, rank: int, ranks: int) -> tuple[Objective, InMemoryBatches]:
    """One to five boxes per picture, padded; the mean is over real boxes only."""
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 20), nn.Unflatten(1, (5, 4)))

    def criterion(net: nn.Module, b: Batch) -> Loss:
        error = F.l1_loss(net(b["image"]), b["box"], reduction="none").sum(-1)
        return Loss((error * b["real"]).sum() / b["real"].sum(), b["real"].sum())

    boxes, real = pad([torch.rand(1 + int(n), 4) for n in torch.randint(5, (64,))], most=5)
    return Supervised(net, criterion), InMemoryBatches(
        {"image": torch.randn(64, 16), "box": boxes, "real": real}, batch, 3, rank, ranks
    )


def make_generate(batch: int, rank: int, ranks: int) -> tuple[Objective, InMemoryBatches]:
    """Two networks, two losses, a gradient penalty on every fourth step."""
    critic = nn.Sequential(nn.Linear(16, 32), nn.Softplus(), nn.Linear(32, 1))
    return Adversarial(Generator(), critic, every=4), InMemoryBatches(
        {"image": torch.randn(64, 16)}, batch, 3, rank, ranks
    )


def make_text(batch: int, rank: int, ranks: int) -> tuple[Objective, SequenceBatches]:
    """Text whose state goes on from batch to batch."""
    tokens = torch.randint(11, (batch * 40 + 1,))
    return Recurrent(LetterGRU(), batch // ranks), SequenceBatches(tokens, batch, 5, rank, ranks)


TOY_OBJECTIVES: dict[str, Callable] = {
    "classify": make_classify,
    "detect": make_detect,
    "generate": make_generate,
    "write": make_text,
}


def make_trainer(toy: str, *, seed: int = 1, batch: int = 8, rank: int = 0, ranks: int = 1, **recipe) -> Trainer:
    """A trainer of the toy; equal arguments give equal trainers."""
    torch.manual_seed(seed)
    objective, stream = TOY_OBJECTIVES[toy](batch, rank, ranks)
    settings = {"steps": 24, "lr": 3e-3, "ema_decay": 0.9, "grad_clip": 1.0, "report_every": 6, **recipe}
    return Trainer(objective, stream, TrainConfig(**settings))
