"""Truncated back-propagation through time (Williams and Peng 1990, doi:10.1162/neco.1990.2.4.490).

The network stays pure, `logits, state = network(tokens, state)`; the state that one piece of text leaves for the next
lives here, in a buffer, so that it is saved and restored like every other tensor.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Batch, Loss, Objective, Phase

# B rows of text, T letters, V letters of the alphabet, S layers of state, D its width


class Recurrent(Objective):
    """Predicts the next letter; the state of each row is carried from batch to batch.

    `network.initial_state(rows)` gives the state (S, B, D) before anything was read. A batch holds `tokens` (B, T),
    `targets` (B, T) and `resets` (B,), 1 where a row begins a new text and forgets.
    """

    def __init__(self, network: nn.Module, rows: int):
        super().__init__()
        self.model = network
        self.register_buffer("state_SBD", network.initial_state(rows))

    def loss(self, batch: Batch) -> Loss:
        """Mean cross-entropy per letter in nats; the part `bits` is the same in bits."""
        begin: Tensor = self.state_SBD * (1 - batch["resets"])[None, :, None]
        logits_BTV, end = self.model(batch["tokens"], begin)
        self.state_SBD.copy_(end.detach())
        mean = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch["targets"].flatten())
        return Loss(mean, batch["targets"].numel(), {"bits": mean.detach() / math.log(2)})

    def phases(self) -> list[Phase]:
        """One phase, named fit."""
        return [Phase("fit", self.model, self.loss)]
