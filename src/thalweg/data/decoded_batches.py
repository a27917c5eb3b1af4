"""Endless batches of images that threads decode ahead of the training; order and pixels are functions of the step.

Threads rather than processes: Pillow decodes without holding the interpreter's lock, nothing is copied between
processes, and nothing is left behind when one of them dies. The position is the number of batches handed out; what was
decoded ahead is never saved, but made again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batches import BatchOrder, OrderedBatches
from .prefetch import MAX_BYTES_AHEAD, cpu_count

#: batches that are decoded ahead, within MAX_BYTES_AHEAD; at least one is
MAX_BATCHES_AHEAD = 2
#: images that a thread decodes before it says so: each time costs the interpreter's lock
MAX_IMAGES_PER_TASK = 16

#: (row, epoch) -> image (H, W, C) uint8, and the row that it shows: another one where the file cannot be read
DecodeFunction = Callable[[int, int], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class _PendingBatch:
    """A batch whose images are being decoded into their slots."""

    images: Any
    futures: list[Future[list[int]]]


class AheadBatches(OrderedBatches, ABC):
    """Batches of images that threads decode ahead, beside tensors that are indexed.

    The same bits come with any number of threads, and from any position.

    Args:
        decode: Called in the threads. What it draws at random must depend on row, epoch and its own seed alone.
        batch_bytes: Bytes of the images of a batch, on average; they decide how many batches are decoded ahead.
        tensors: The other tensors by name, with the first dimension N, on the device of the batches.
        order: Which examples each step uses.
        threads: The number of threads; None uses as many as there are processors.
    """

    def __init__(
        self,
        decode: DecodeFunction,
        batch_bytes: int,
        tensors: dict[str, Tensor],
        order: BatchOrder,
        threads: int | None = None,
    ):
        super().__init__(order, next(iter(tensors.values())).device)
        self.decode = decode
        self.tensors = tensors
        self.threads = threads or cpu_count()
        self.batches_ahead = max(1, min(MAX_BATCHES_AHEAD, MAX_BYTES_AHEAD // max(1, batch_bytes)))

    @abstractmethod
    def allocate(self, count: int) -> Any:
        """Return slots for the images of a batch."""

    @abstractmethod
    def collate(self, images: Any) -> dict[str, np.ndarray]:
        """Return what a batch holds of the images in its slots."""

    def __iter__(self) -> Generator[dict[str, Tensor]]:
        pending: deque[_PendingBatch] = deque()
        next_step = self.step
        pool = ThreadPoolExecutor(self.threads, "decode")
        try:
            while True:
                if next_step != self.step:  # another position was loaded meanwhile
                    _cancel(pending)
                while len(pending) <= self.batches_ahead:
                    pending.append(self._submit(pool, self.step + len(pending)))
                batch = self._wait(pending.popleft())
                self.step += 1
                next_step = self.step
                yield batch
        finally:
            _cancel(pending)
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> _PendingBatch:
        """Start to decode the images of a step, each into its slot of a new batch."""
        rows = self.order.indices(step).tolist()
        epoch = step // self.steps_per_epoch
        images = self.allocate(len(rows))

        def fill(slots: range) -> list[int]:
            decoded_rows = []
            for slot in slots:
                images[slot], row = self.decode(rows[slot], epoch)
                decoded_rows.append(row)
            return decoded_rows

        size = max(1, min(MAX_IMAGES_PER_TASK, len(rows) // (2 * self.threads)))
        futures = []
        for start in range(0, len(rows), size):
            futures.append(pool.submit(fill, range(start, min(start + size, len(rows)))))
        return _PendingBatch(images, futures)

    def _wait(self, pending: _PendingBatch) -> dict[str, Tensor]:
        """Return a batch once all of it is decoded. An error of a thread is raised here, at its own step."""
        rows = []
        for future in pending.futures:
            rows += future.result()
        row_B = torch.tensor(rows, device=self.device)
        batch = {}
        for name, array in self.collate(pending.images).items():
            batch[name] = torch.from_numpy(array).to(self.device)
        for name, values in self.tensors.items():
            batch[name] = values.index_select(0, row_B)
        return batch


class DecodedBatches(AheadBatches):
    """Batches with an `image` (B, H, W, C) uint8. `shape` is the (H, W, C) of each; see `AheadBatches` for the rest."""

    def __init__(
        self,
        decode: DecodeFunction,
        shape: tuple[int, int, int],
        tensors: dict[str, Tensor],
        order: BatchOrder,
        threads: int | None = None,
    ):
        super().__init__(decode, order.rank_size * int(np.prod(shape)), tensors, order, threads)
        self.shape = shape

    def allocate(self, count: int) -> np.ndarray:
        """Return an array (B, H, W, C) that the threads fill."""
        return np.empty((count, *self.shape), np.uint8)

    def collate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the array."""
        return {"image": images}


def _cancel(pending: deque[_PendingBatch]) -> None:
    """Cancel what has not begun, and forget the rest."""
    for batch in pending:
        for future in batch.futures:
            future.cancel()
    pending.clear()
