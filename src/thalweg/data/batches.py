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
    device: torch.device

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches without end, from the current position on."""

    def rows(self, step: int) -> list[int]:
        """The rows of the training set that step `step` uses on this rank."""

    def state_dict(self) -> dict:
        """The position."""

    def load_state_dict(self, state: dict) -> None:
        """Continues at a saved position."""


class InMemoryBatches:
    """The whole training set on the device; a batch is an index into it.

    `tensors` share their first dimension N. `batch` is the number of examples over all ranks; each rank takes its part.
    The order of epoch e is a permutation drawn from (seed, e); examples that do not fill a last batch are left out of
    that epoch. Raises DataError where the ranks cannot share a batch.
    """

    def __init__(self, tensors: dict[str, Tensor], batch: int, seed: int = 0, rank: int = 0, ranks: int = 1):
        self.tensors, self.seed, self.rank, self.ranks = tensors, seed, rank, ranks
        self.examples = len(next(iter(tensors.values())))
        self.batch = min(batch, self.examples)
        if self.batch < ranks or self.batch % ranks:
            raise DataError(
                f"A batch of {self.batch} examples cannot be shared by {ranks} ranks.",
                cure="Give --batch a multiple of the number of ranks.",
            )
        self.device = next(iter(tensors.values())).device
        self.steps_per_epoch = self.examples // self.batch
        self.step, self._epoch, self._order = 0, -1, torch.empty(0)

    def _indices(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            self._order = torch.randperm(self.examples, generator=generator).to(self.device)
            self._epoch = epoch
        share = self.batch // self.ranks
        start = position * self.batch + self.rank * share
        return self._order[start : start + share]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            rows = self._indices(self.step)
            self.step += 1
            yield {name: values.index_select(0, rows) for name, values in self.tensors.items()}

    def rows(self, step: int) -> list[int]:
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

    def __init__(self, tensors: dict[str, Tensor], batch: int, seed: int = 0, rank: int = 0, ranks: int = 1):
        self.features = tensors["features"]
        super().__init__({k: v for k, v in tensors.items() if k != "features"}, batch, seed, rank, ranks)

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
    """One long sequence (N,) cut into `batch` rows that go on from batch to batch, `length` items at a time.

    Yields `tokens` (B, T), `next` (B, T) and `starts` (B,), 1 where the rows begin again at their first item.
    """

    def __init__(self, tokens_N: Tensor, batch: int, length: int, rank: int = 0, ranks: int = 1):
        if batch % ranks or len(tokens_N) < batch * (length + 1):
            raise DataError(
                f"A sequence of {len(tokens_N)} items does not give {batch} rows of {length + 1} over {ranks} ranks.",
                cure="Give more text, a smaller --batch, or a --batch that the ranks can share.",
            )
        self.length, share = length, batch // ranks
        width = (len(tokens_N) - 1) // batch
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
            yield {"tokens": piece[:, :-1], "next": piece[:, 1:], "starts": starts}

    def rows(self, step: int) -> list[int]:
        """The first item of the piece that step `step` reads."""
        return [step % self.steps_per_epoch * self.length]

    def state_dict(self) -> dict:
        """The number of batches used."""
        return {"step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Continues after that number of batches."""
        self.step = state["step"]
