"""Batches: endless orders over data that is already on the device, each a function of the step alone.

A stream is told its seed, rank and number of ranks, counts the batches that were used, and can name the rows of any
step, so that resuming is exact and a bad batch can be reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ..errors import DataError


class BatchStream(Protocol):
    """What the trainer needs of a source of batches."""

    steps_per_epoch: int
    batch_size: int
    device: torch.device

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches without end, from the current position on."""

    def batch_indices(self, step: int) -> list[int]:
        """The rows of the training set that step `step` uses on this rank."""

    def state_dict(self) -> dict:
        """The position."""

    def load_state_dict(self, state: dict) -> None:
        """Continues at a saved position."""


class InMemoryBatches:
    """The whole training set on the device; a batch is an index into it.

    `tensors` share their first dimension N. `batch_size` is the number of examples over all ranks; each rank takes its part.
    The order of epoch e is a permutation drawn from (seed, e); examples that do not fill a last batch are left out of
    that epoch. Raises DataError where the ranks cannot share a batch.
    """

    def __init__(self, tensors: dict[str, Tensor], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        self.tensors, self.seed, self.rank, self.world_size = tensors, seed, rank, world_size
        self.examples = len(next(iter(tensors.values())))
        self.batch_size = min(batch_size, self.examples)
        if self.batch_size < world_size or self.batch_size % world_size:
            raise DataError(
                f"A batch of {self.batch_size} examples cannot be shared by {world_size} ranks.",
                cure="Give --batch a multiple of the number of ranks.",
            )
        self.device = next(iter(tensors.values())).device
        self.steps_per_epoch = self.examples // self.batch_size
        self.step, self._epoch, self._order = 0, -1, torch.empty(0)

    def _indices(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            self._order = torch.randperm(self.examples, generator=generator).to(self.device)
            self._epoch = epoch
        share = self.batch_size // self.world_size
        start = position * self.batch_size + self.rank * share
        return self._order[start : start + share]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            rows = self._indices(self.step)
            self.step += 1
            yield {name: values.index_select(0, rows) for name, values in self.tensors.items()}

    def batch_indices(self, step: int) -> list[int]:
        """The rows that step `step` uses on this rank."""
        return self._indices(step).tolist()

    def state_dict(self) -> dict:
        """The number of batches used."""
        return {"step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Continues after that number of batches."""
        self.step = state["step"]


class FeatureViewBatches(InMemoryBatches):
    """As Resident, over V versions of the same N examples: `features` is (V, N, ...), all else (N, ...).

    Which version of an example an epoch sees is drawn from (seed, epoch, example).
    """

    def __init__(self, tensors: dict[str, Tensor], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        self.features = tensors["features"]
        super().__init__({k: v for k, v in tensors.items() if k != "features"}, batch_size, seed, rank, world_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            rows, epoch = self._indices(self.step), self.step // self.steps_per_epoch
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            view = torch.randint(len(self.features), (self.examples,), generator=generator).to(self.device)[rows]
            self.step += 1
            batch = {name: values.index_select(0, rows) for name, values in self.tensors.items()}
            yield {"features": match_memory_format(self.features[view, rows]), **batch}


def match_memory_format(features: Tensor) -> Tensor:
    """Features as a network leaves them in memory: dropout draws its numbers in the order in which they lie there."""
    return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features


class SequenceBatches:
    """One long sequence (N,) cut into `batch_size` rows that go on from batch to batch, `length` items at a time.

    Yields `tokens` (B, T), `targets` (B, T) and `resets` (B,), 1 where the rows begin again at their first item.
    """

    def __init__(self, tokens_N: Tensor, batch_size: int, length: int, rank: int = 0, world_size: int = 1):
        if batch_size % world_size or len(tokens_N) < batch_size * (length + 1):
            raise DataError(
                f"A sequence of {len(tokens_N)} items does not give {batch_size} rows of {length + 1} over {world_size} ranks.",
                cure="Give more text, a smaller --batch, or a --batch that the ranks can share.",
            )
        self.length, self.batch_size, share = length, batch_size, batch_size // world_size
        width = (len(tokens_N) - 1) // batch_size
        first = torch.arange(rank * share, (rank + 1) * share) * width
        self.rows_BW = torch.stack([tokens_N[f : f + width + 1] for f in first.tolist()])
        self.steps_per_epoch, self.device = width // length, tokens_N.device
        self.step = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            position = self.step % self.steps_per_epoch
            start = position * self.length
            piece = self.rows_BW[:, start : start + self.length + 1]
            self.step += 1
            starts = torch.full((len(piece),), float(position == 0), device=piece.device)
            yield {"tokens": piece[:, :-1], "targets": piece[:, 1:], "resets": starts}

    def batch_indices(self, step: int) -> list[int]:
        """The first item of the piece that step `step` reads."""
        return [step % self.steps_per_epoch * self.length]

    def state_dict(self) -> dict:
        """The number of batches used."""
        return {"step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Continues after that number of batches."""
        self.step = state["step"]
