"""Endless batches of sequences that are made for the step: nothing is seen twice, and any step can be made again."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from .dataset import SequenceSplit
from .sequences import MIN_LENGTHS, generate_sequences

#: sequences that grow begin at the full length divided by two to this power
NUM_DOUBLINGS = 6

# B sequences, T steps, C numbers in a step


class FreshBatches:
    """Batches of new sequences, a function of (seed, step); each rank takes its part of the same batch.

    Args:
        split: The training split; its length is that of an epoch.
        batch_size: Sequences per step over all ranks.
        context: Device, seed, rank and world_size.
        grow_every: Steps until the length of the sequences doubles, from a 64th to the full one; 0: always full.

    Raises:
        DataError: If the ranks cannot take equal parts of a batch.
    """

    def __init__(self, split: SequenceSplit, batch_size: int, context: Any, grow_every: int = 0):
        self.split = split
        self.batch_size = min(batch_size, len(split))
        if self.batch_size % context.world_size:
            raise DataError(
                f"A batch of {self.batch_size} sequences cannot be split over {context.world_size} ranks; expected a "
                "multiple.",
                cure=f"Set --batch-size to a multiple of {context.world_size}.",
                option="batch_size",
                value=self.batch_size,
            )
        self.device = context.device
        self.seed = context.seed
        self.rank = context.rank
        self.world_size = context.world_size
        self.grow_every = grow_every
        self.steps_per_epoch = len(split) // self.batch_size
        self.step = 0

    def length_at(self, step: int) -> int:
        """Return the length of the sequences in a step, counted from 0."""
        full = self.split.problem.length
        if not self.grow_every:
            return full
        halvings = max(0, NUM_DOUBLINGS - step // self.grow_every)
        return max(full >> halvings, min(full, MIN_LENGTHS[self.split.problem.name]))

    def make_batch(self, step: int) -> dict[str, Tensor]:
        """Return this rank's `inputs` and `targets` of a step."""
        problem = replace(self.split.problem, length=self.length_at(step))
        sequences = generate_sequences(problem, self.batch_size, (self.split.stream, self.seed, step))
        size = self.batch_size // self.world_size
        part = slice(self.rank * size, (self.rank + 1) * size)
        return {
            "inputs": torch.from_numpy(sequences.inputs[part]).to(self.device),
            "targets": torch.from_numpy(sequences.targets[part]).to(self.device),
        }

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        while True:
            batch = self.make_batch(self.step)
            self.step += 1
            yield batch

    def batch_indices(self, step: int) -> list[int]:
        """Return the numbers of the sequences that step `step` uses on this rank, counted through the training."""
        size = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * size
        return list(range(first, first + size))

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches yielded."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after that number of batches."""
        self.step = state["step"]


def encode_inputs(inputs: Tensor, num_inputs: int) -> Tensor:
    """Return inputs (B, T, C) float32: symbols (B, T) become one-hot vectors, numbers (B, T, C) stay."""
    if inputs.is_floating_point():
        return inputs
    return torch.nn.functional.one_hot(inputs.long(), num_inputs).float()
