"""Truncated backpropagation through time (Williams and Peng 1990, doi:10.1162/neco.1990.2.4.490).

The model stays a pure function, `logits, state = model(tokens, state)`. The state that one batch leaves for the next
is kept here, in buffers, so that it is saved and restored like every other tensor.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Batch, Loss, Objective, Phase

# B rows of text, T characters, V characters of the alphabet, S layers of state, D its width


class Recurrent(Objective):
    """Predict the next character; the state of each row of text is carried from batch to batch.

    A batch holds `tokens` and `targets` (B, T), `row` (B,) int64, the index of each row among all rows of the text,
    and `resets` (B,), 1 where a row starts a new text from the initial state. Because the state is indexed by row,
    micro-batches and ranks, which hold some of the rows, compute what one large batch computes.

    Args:
        model: A module with `initial_state(batch_size)`, which returns zeros: a tensor (S, B, D), or a tuple of them,
            such as the hidden and the cell state of an LSTM.
        batch_size: The number of rows over all ranks.
    """

    def __init__(self, model: nn.Module, batch_size: int):
        super().__init__()
        self.model = model
        state = cast(Any, model).initial_state(batch_size)
        self.is_tuple = isinstance(state, tuple)
        states = _to_tuple(state)
        self.num_states = len(states)
        for index, state_SBD in enumerate(states):
            self.register_buffer(f"state_{index}", state_SBD)

    def loss(self, batch: Batch) -> Loss:
        """Return the mean cross-entropy per character in nats; the metric `bits` is the same in bits."""
        logits_BTV, state = self.model(batch["tokens"], self._load_state(batch))
        self._store_state(batch, state)
        mean = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch["targets"].flatten())
        return Loss(mean, batch["targets"].numel(), {"bits": mean.detach() / math.log(2)})

    def phases(self) -> list[Phase]:
        """Return one phase, named fit."""
        return [Phase("fit", self.model, self.loss)]

    def _load_state(self, batch: Batch) -> Tensor | tuple[Tensor, ...]:
        keep_B = 1 - batch["resets"]
        states = []
        for index in range(self.num_states):
            state_SBD = self.get_buffer(f"state_{index}").index_select(1, batch["row"])
            states.append(state_SBD * keep_B[None, :, None])
        if self.is_tuple:
            return tuple(states)
        return states[0]

    def _store_state(self, batch: Batch, state: Tensor | tuple[Tensor, ...]) -> None:
        for index, state_SBD in enumerate(_to_tuple(state)):
            buffer = self.get_buffer(f"state_{index}")
            buffer.index_copy_(1, batch["row"], state_SBD.detach().to(buffer.dtype))


def _to_tuple(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if isinstance(state, tuple):
        return state
    return (state,)
