"""Supervised learning: one model, one loss."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .base import Batch, Loss, Objective, Phase

Criterion = Callable[[nn.Module, Batch], Loss]


class Supervised(Objective):
    """Minimize `criterion(model, batch)`, a pure function that returns a Loss."""

    def __init__(self, model: nn.Module, criterion: Criterion):
        super().__init__()
        self.model = model
        self.criterion = criterion

    def loss(self, batch: Batch) -> Loss:
        """Return the criterion of the model on one batch."""
        return self.criterion(self.model, batch)

    def phases(self) -> list[Phase]:
        """Return one phase, named fit."""
        return [Phase("fit", self.model, self.loss)]
