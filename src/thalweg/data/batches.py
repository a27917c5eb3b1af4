"""Endless batches; the order is a function of the step. Here are those from data that is already on the device.

A batch stream knows its seed and rank, counts the batches it has yielded, and can name the examples of any step.
Resuming is therefore exact, and a bad batch can be reported.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import DataError


class BatchStream(Protocol):
    """What the trainer needs from a source of batches. `batch_size` counts the examples over all ranks.

    An iterator is closed when it is no longer needed: a stream that works ahead in threads ends them then.
    """

    steps_per_epoch: int
    batch_size: int
    device: torch.device

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        """Yield batches without end, from the current position."""
        ...

    def batch_indices(self, step: int) -> list[int]:
        """Return the indices of the training examples that step `step` uses on this rank."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position."""
        ...


class BatchOrder:
    """Which examples each step uses.

    The order of epoch e is a random permutation seeded by (seed, e). Examples that do not fill a last batch are left
    out of that epoch.

    Args:
        num_examples: The number of examples.
        batch_size: The number of examples per step over all ranks; each rank takes an equal part.
        seed: Seeds the order.
        rank: The index of this process.
        world_size: The number of processes.
        device: Where the indices are needed.

    Raises:
        DataError: If there are no examples, or the ranks cannot take equal parts of a batch.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ):
        self.num_examples = num_examples
        self.batch_size = min(batch_size, num_examples)
        if self.batch_size < world_size or self.batch_size % world_size:
            raise _batch_split_error(self.batch_size, world_size)
        self.seed = seed
        self.rank = rank
        self.rank_size = self.batch_size // world_size
        self.steps_per_epoch = num_examples // self.batch_size
        self.device = device
        self._epoch = -1
        self._permutation = torch.empty(0)

    def indices(self, step: int) -> Tensor:
        """Return the indices (B,) of the examples that step `step` uses on this rank."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._permutation = self.permutation(epoch).to(self.device)
            self._epoch = epoch
        start = position * self.batch_size + self.rank * self.rank_size
        return self._permutation[start : start + self.rank_size]

    def permutation(self, epoch: int) -> Tensor:
        """Return the order of the examples in an epoch."""
        return torch.randperm(self.num_examples, generator=self.generator(epoch))

    def generator(self, epoch: int) -> torch.Generator:
        """Return a random generator for an epoch."""
        return torch.Generator().manual_seed((self.seed << 20) + epoch)


class OrderedBatches:
    """What all streams in the order of a `BatchOrder` share: their position is the number of batches yielded."""

    def __init__(self, order: BatchOrder, device: torch.device):
        self.order = order
        self.batch_size = order.batch_size
        self.steps_per_epoch = order.steps_per_epoch
        self.device = device
        self.step = 0

    def batch_indices(self, step: int) -> list[int]:
        """Return the indices of the examples that step `step` uses on this rank."""
        return self.order.indices(step).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches yielded."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after that number of batches."""
        self.step = state["step"]


class InMemoryBatches(OrderedBatches):
    """Batches that index tensors on the device.

    Args:
        tensors: Tensors by name, with a common first dimension N.
        batch_size: See `BatchOrder`, as the others.
        seed: Seeds the order.
        rank: The index of this process.
        world_size: The number of processes.

    Raises:
        DataError: If there are no examples, or the ranks cannot take equal parts of a batch.
    """

    def __init__(self, tensors: dict[str, Tensor], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        first = next(iter(tensors.values()))
        self.tensors = tensors
        super().__init__(BatchOrder(len(first), batch_size, seed, rank, world_size, first.device), first.device)

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        while True:
            indices_B = self.order.indices(self.step)
            self.step += 1
            batch = {}
            for name, values in self.tensors.items():
                batch[name] = values.index_select(0, indices_B)
            yield batch


class FeatureViewBatches(InMemoryBatches):
    """Batches of cached features: `features` is (V, N, ...), V augmented views of N examples; all else is (N, ...).

    The view of an example in an epoch is random, seeded by (seed, epoch, example).
    """

    def __init__(self, tensors: dict[str, Tensor], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        self.features = tensors["features"]
        others = dict(tensors)
        del others["features"]
        super().__init__(others, batch_size, seed, rank, world_size)

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        while True:
            indices_B = self.order.indices(self.step)
            generator = self.order.generator(self.step // self.steps_per_epoch)
            view_N = torch.randint(len(self.features), (self.order.num_examples,), generator=generator)
            view_B = view_N.to(self.device)[indices_B]
            self.step += 1
            batch = {"features": match_memory_format(self.features[view_B, indices_B])}
            for name, values in self.tensors.items():
                batch[name] = values.index_select(0, indices_B)
            yield batch


def match_memory_format(features: Tensor) -> Tensor:
    """Return features in the memory format of a model's output, because dropout masks follow the order in memory."""
    if features.ndim == 4:
        return features.contiguous(memory_format=torch.channels_last)
    return features


class SequenceBatches:
    """One long sequence cut into `batch_size` rows, which continue from batch to batch.

    Yields `tokens` and `targets` (B, T), `row` (B,) int64, the index of each row, and `resets` (B,), 1 where the rows
    start again at their first token.

    Args:
        tokens_N: The sequence.
        batch_size: The number of rows over all ranks.
        length: The number of tokens T of a row in one batch.
        rank: The index of this process.
        world_size: The number of processes.

    Raises:
        DataError: If the sequence is too short, or the ranks cannot take equal parts of the rows.
    """

    def __init__(self, tokens_N: Tensor, batch_size: int, length: int, rank: int = 0, world_size: int = 1):
        if batch_size % world_size:
            raise _batch_split_error(batch_size, world_size)
        min_tokens = batch_size * (length + 1)
        if len(tokens_N) < min_tokens:
            raise DataError(
                f"The text is too short: {len(tokens_N):,} tokens; expected at least {min_tokens:,} "
                f"for {batch_size} rows of {length + 1}.",
                cure="Use more text or a smaller --batch-size.",
                value=len(tokens_N),
                allowed=[min_tokens],
            )
        row_length = (len(tokens_N) - 1) // batch_size
        rows_per_rank = batch_size // world_size
        self.batch_size = batch_size
        self.length = length
        self.device = tokens_N.device
        self.row_B = torch.arange(rank * rows_per_rank, (rank + 1) * rows_per_rank, device=self.device)
        rows = []
        for start in (self.row_B * row_length).tolist():
            rows.append(tokens_N[start : start + row_length + 1])
        self.tokens_BL = torch.stack(rows)
        self.steps_per_epoch = row_length // length
        self.step = 0

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        while True:
            position = self.step % self.steps_per_epoch
            start = position * self.length
            tokens_BT = self.tokens_BL[:, start : start + self.length + 1]
            resets_B = torch.full((len(tokens_BT),), float(position == 0), device=self.device)
            self.step += 1
            yield {"tokens": tokens_BT[:, :-1], "targets": tokens_BT[:, 1:], "row": self.row_B, "resets": resets_B}

    def batch_indices(self, step: int) -> list[int]:
        """Return the position within the rows at which step `step` starts."""
        return [step % self.steps_per_epoch * self.length]

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches yielded."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after that number of batches."""
        self.step = state["step"]


def _batch_split_error(batch_size: int, world_size: int) -> DataError:
    return DataError(
        f"A batch of {batch_size} examples cannot be split over {world_size} ranks; expected a multiple.",
        cure=f"Set --batch-size to a multiple of {world_size}.",
        option="batch_size",
        value=batch_size,
    )
