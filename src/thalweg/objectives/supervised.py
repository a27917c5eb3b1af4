"""Supervised learning: one network, one loss."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .base import Batch, Loss, Objective, Phase


class Supervised(Objective):
    """Minimises `criterion(network, batch)`, a pure function that returns a Loss."""

    def __init__(self, network: nn.Module, criterion: Callable[[nn.Module, Batch], Loss]):
        super().__init__()
        self.model, self.criterion = network, criterion

    def loss(self, batch: Batch) -> Loss:
        """The criterion of the network on one batch."""
        return self.criterion(self.model, batch)

    def phases(self) -> list[Phase]:
        """One phase, named fit."""
        return [Phase("fit", self.model, self.loss)]
