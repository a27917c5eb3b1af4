"""A training of a second: two clouds of points, and one small model that separates them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data.batches import InMemoryBatches
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised
from thalweg.tasks.base import Setup


def make_setup(seed: int = 3, batch_size: int = 32) -> Setup:
    """Return model, batches and transform; equal arguments give equal setups."""
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    points = torch.randn(256, 8) + 2.0 * labels[:, None]
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        return Loss(F.cross_entropy(model(batch["image"]), batch["label"]), len(batch["label"]))

    batches = InMemoryBatches({"image": points, "label": labels}, batch_size, seed)
    return Setup(Supervised(model, criterion), batches, lambda batch: batch)
