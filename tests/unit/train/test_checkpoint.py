"""Checkpoints: whole or not there, exact, and never silently wrong."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data.stream import Resident
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised
from thalweg.train import checkpoint
from thalweg.train.recipe import RATES, Recipe
from thalweg.train.trainer import Trainer


def filters(optimizer: str) -> Trainer:
    """Convolutions whose weights lie in memory channels last, as a session keeps them."""
    torch.manual_seed(1)
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    net = nn.Sequential(*body).to(memory_format=torch.channels_last)

    def criterion(net: nn.Module, b: Batch) -> Loss:
        return Loss(F.cross_entropy(net(b["image"]), b["label"]), len(b["label"]))

    data = {"image": torch.randn(32, 3, 6, 6), "label": torch.randint(4, (32,))}
    recipe = Recipe(steps=12, lr=RATES[optimizer], optimizer=optimizer, report=3, ema=0.9)
    return Trainer(Supervised(net, criterion), Resident(data, 8, 3), recipe)


@pytest.mark.parametrize("optimizer", RATES)
def test_resuming_filters_changes_nothing_for_any_optimiser(optimizer, tmp_path):
    whole, first, second = (filters(optimizer) for _ in range(3))
    rows = list(whole)
    before = list(islice(first, 2))
    saved = checkpoint.save(tmp_path, first.step, first.state_dict())
    second.load_state_dict(checkpoint.read(saved))
    assert before + list(second) == rows
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name]), name
