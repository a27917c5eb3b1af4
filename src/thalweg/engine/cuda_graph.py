"""An update recorded once and replayed: on a GPU one call in place of the hundreds that it takes to launch its kernels.

A CUDA graph holds what the device was told to do, not what the host decided meanwhile. So whatever changes from step to
step has to lie in memory that stays: the batch is copied into place, rates are tensors, sums grow in place. Random
numbers stay those of the step, because a replay begins with the seed and position of the device's generator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..objectives.base import Batch, Phase

#: updates of each kind that are done as usual before one is recorded: libraries choose kernels and get their memory
WARMUP_CALLS = 3


class StepRecorder(Protocol):
    """Does work as usual, or records it."""

    def run(self, work: Callable[[], None]) -> None:
        """Does the work now."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does the work each time it is called; the work itself is not done yet."""


class CudaGraphRecorder:
    """CUDA graphs, recorded on a stream of their own, as torch.cuda.graph asks for."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        torch.backends.cudnn.benchmark = True  # shapes stay, so it pays to look for the quickest convolutions once

    def run(self, work: Callable[[], None]) -> None:
        """Does the work on that stream, between what was launched before and what will be after."""
        usual = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            work()
        usual.wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A graph's replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            work()
        return graph.replay


class GraphedStep:
    """`work(due, batch)`, from the fourth call with the same phases due on as a replay of what was recorded.

    Batches must keep their names, shapes and types.
    """

    def __init__(self, work: Callable[[list[Phase], Batch], None], recorder: StepRecorder):
        self.work, self.recorder = work, recorder
        self.batch: dict[str, Tensor] = {}
        self.calls: Counter[tuple[str, ...]] = Counter()
        self.replays: dict[tuple[str, ...], Callable[[], None]] = {}

    def __call__(self, due: list[Phase], batch: Batch) -> None:
        """One step."""
        if not self.batch:
            self.batch = {name: torch.empty_like(value) for name, value in batch.items()}
        for name, value in batch.items():
            self.batch[name].copy_(value)
        kind = tuple(phase.name for phase in due)
        if self.calls[kind] < WARMUP_CALLS:
            self.calls[kind] += 1
            self.recorder.run(lambda: self.work(due, self.batch))
            return
        if kind not in self.replays:
            self.replays[kind] = self.recorder.record(lambda: self.work(due, self.batch))
        self.replays[kind]()
