"""Batches of sentence pairs of similar lengths, so that little is padded; the order is a function of the step."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from .tokens import BEGIN, PAD

# N pairs, B pairs of a batch, S source tokens, T target tokens

#: batches that are sorted by length together; more pad less, fewer mix better
POOL_BATCHES = 50
#: epochs in which the fraction of teacher forcing falls to its end
FORCING_EPOCHS = 10


@dataclass(frozen=True)
class EncodedPairs:
    """Sentence pairs as token ids, each with its end."""

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.sources)


def pad_rows(rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Return rows of token ids as a tensor (B, L), filled up with padding to the longest."""
    length = max(map(len, rows))
    filled = [[*row, *([PAD] * (length - len(row)))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).to(device or "cpu")


def make_batch(pairs: EncodedPairs, rows: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Return `source` (B, S), and `inputs` and `targets` (B, T): what the decoder reads, and what it predicts."""
    targets = [pairs.targets[row] for row in rows]
    return {
        "source": pad_rows([pairs.sources[row] for row in rows], device),
        "inputs": pad_rows([[BEGIN, *target[:-1]] for target in targets], device),
        "targets": pad_rows(targets, device),
    }


class PairBatches:
    """Endless batches of sentence pairs. Yields what `make_batch` returns, and `forcing` (B,).

    In epoch e the pairs are shuffled by (seed, e), sorted by length within pools of 50 batches, and the batches are
    shuffled again. Pairs that do not fill a last batch are left out of that epoch. `forcing` is the fraction of
    reference tokens that the decoder reads, which falls from 1 to its end within ten epochs.

    Args:
        pairs: The training pairs.
        batch_size: Pairs per step over all ranks.
        device: Where batches go.
        seed: Seeds the order.
        ranks: Index of this process, and the number of processes.
        teacher_forcing: The fraction at the end; 1 for none but reference tokens.

    Raises:
        DataError: If the ranks cannot take equal parts of a batch.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        ranks: tuple[int, int] = (0, 1),
        teacher_forcing: float = 1.0,
    ):
        self.rank, self.world_size = ranks
        self.pairs = pairs
        self.batch_size = min(batch_size, len(pairs))
        if self.batch_size < self.world_size or self.batch_size % self.world_size:
            raise DataError(
                f"A batch of {self.batch_size} pairs cannot be split over {self.world_size} ranks; expected a "
                "multiple.",
                cure=f"Set --batch-size to a multiple of {self.world_size}.",
                option="batch_size",
                value=self.batch_size,
            )
        self.device = device
        self.seed = seed
        self.teacher_forcing = teacher_forcing
        self.steps_per_epoch = len(pairs) // self.batch_size
        self.step = 0
        self._epoch = -1
        self._batches_LB = torch.empty(0, dtype=torch.long)
        lengths = [(len(target), len(source)) for source, target in zip(pairs.sources, pairs.targets, strict=True)]
        longest = max(length for pair in lengths for length in pair) + 1
        self._length_keys_N = torch.tensor([target * longest + source for target, source in lengths])

    def _order_epoch(self, epoch: int) -> Tensor:
        """Return the pairs of each batch of an epoch (L, B)."""
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        count = self.steps_per_epoch * self.batch_size
        order_N = torch.randperm(len(self.pairs), generator=generator)[:count]
        pools = []
        for pool in order_N.split(POOL_BATCHES * self.batch_size):
            by_length = self._length_keys_N[pool].argsort(stable=True)
            pools.append(pool[by_length])
        batches_LB = torch.cat(pools).reshape(self.steps_per_epoch, self.batch_size)
        return batches_LB[torch.randperm(self.steps_per_epoch, generator=generator)]

    def batch_indices(self, step: int) -> list[int]:
        """Return the indices of the pairs that step `step` uses on this rank."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches_LB = self._order_epoch(epoch)
            self._epoch = epoch
        return self._batches_LB[position, self.rank :: self.world_size].tolist()

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        while True:
            rows = self.batch_indices(self.step)
            batch = make_batch(self.pairs, rows, self.device)
            progress = min(1.0, self.step / (FORCING_EPOCHS * self.steps_per_epoch))
            forcing = 1 - (1 - self.teacher_forcing) * progress
            batch["forcing"] = torch.full((len(rows),), forcing, device=self.device)
            self.step += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches yielded."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after that number of batches."""
        self.step = state["step"]


def iterate_by_length(pairs: EncodedPairs, batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of all pairs in batches of similar lengths, the shortest first."""
    order = sorted(range(len(pairs)), key=lambda row: (len(pairs.targets[row]), len(pairs.sources[row]), row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
