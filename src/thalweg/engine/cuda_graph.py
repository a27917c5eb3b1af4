"""Record a training step as a CUDA graph and replay it: one launch instead of hundreds.

A CUDA graph holds the operations of the device, not the decisions of the host. Whatever changes from step to step must
therefore lie in fixed memory: the batch is copied into place, learning rates are tensors, sums grow in place. Random
numbers stay those of the step, because a replay starts from the seed and offset of the device's generator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..objectives.base import Batch, Phase

#: steps of each kind that run normally before recording, while libraries choose kernels and allocate memory
WARMUP_CALLS = 3


class StepRecorder(Protocol):
    """Run a function, or record it for replay."""

    def run(self, step_fn: Callable[[], None]) -> None:
        """Run `step_fn` now."""
        ...

    def record(self, step_fn: Callable[[], None]) -> Callable[[], None]:
        """Record `step_fn` without running it and return a function that replays it."""
        ...


class CudaGraphRecorder:
    """CUDA graphs, recorded on a side stream, as torch.cuda.graph requires."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)
        torch.backends.cudnn.benchmark = True  # shapes are static, so searching for the fastest kernels pays off

    def run(self, step_fn: Callable[[], None]) -> None:
        """Run `step_fn` on the side stream, ordered before and after the current stream."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            step_fn()
        current.wait_stream(self.stream)

    def record(self, step_fn: Callable[[], None]) -> Callable[[], None]:
        """Record a graph and return its replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            step_fn()
        return graph.replay


class GraphedStep:
    """Call `step_fn(due, batch)`; from the fourth call with the same phases on, replay its recording.

    Batches must keep their names, shapes and dtypes.
    """

    def __init__(self, step_fn: Callable[[list[Phase], Batch], None], recorder: StepRecorder):
        self.step_fn = step_fn
        self.recorder = recorder
        self.batch: dict[str, Tensor] = {}
        self.calls: Counter[tuple[str, ...]] = Counter()
        self.replays: dict[tuple[str, ...], Callable[[], None]] = {}

    def __call__(self, due: list[Phase], batch: Batch) -> None:
        """Run one step."""
        self._copy_batch(batch)
        names = tuple(phase.name for phase in due)
        if self.calls[names] < WARMUP_CALLS:
            self.calls[names] += 1
            self.recorder.run(lambda: self.step_fn(due, self.batch))
            return
        if names not in self.replays:
            self.replays[names] = self.recorder.record(lambda: self.step_fn(due, self.batch))
        self.replays[names]()

    def _copy_batch(self, batch: Batch) -> None:
        if not self.batch:
            self.batch = {name: torch.empty_like(value) for name, value in batch.items()}
        for name, value in batch.items():
            self.batch[name].copy_(value)
