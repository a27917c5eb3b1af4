"""A CUDA graph's stand-in on processors: operations are noted when a step is recorded, and done again at every replay.

As of a graph, Python is not run again: numbers that the host computed stay those of the recording, and results come to
lie where they lay then.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

#: operations with which a GPU waits for the processor, or the processor for it: no graph can hold them
SYNCING_OPS = ("lift_fresh", "nonzero", "_local_scalar_dense", "is_nonzero", "equal", "masked_select", "unique")


class OpRecorder(TorchDispatchMode):
    """Every operation below autograd, with its arguments and results."""

    def __init__(self):
        super().__init__()
        self.done: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = tree_map(alias_tensor, (args, kwargs or {}))
        result = function(*args, **(kwargs or {}))
        self.done.append((function, *before, tree_map(alias_tensor, result)))
        return result


def alias_tensor(value):
    """The same memory under a shape and strides that nobody changes afterwards."""
    return value.detach() if isinstance(value, Tensor) else value


class FakeCudaGraphRecorder:
    """As thalweg.engine.cuda_graph.Graphs, on the processor."""

    def __init__(self):
        self.recorded, self.waits = 0, []

    def run(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        notes = OpRecorder()
        with notes:
            work()  # a graph would only be recorded here; so the first replay has been done already
        self.waits += [n for n in (note[0].overloadpacket.__name__ for note in notes.done) if n.startswith(SYNCING_OPS)]
        replays = 0

        def replay() -> None:
            nonlocal replays
            replays += 1
            if replays > 1:
                with torch.no_grad():
                    for note in notes.done:
                        replay_op(*note)

        return replay


def replay_op(function, args, kwargs, result) -> None:
    """Does an operation once more and puts what comes out where it was."""
    for value, before in zip(tree_flatten(function(*args, **kwargs))[0], tree_flatten(result)[0], strict=True):
        if isinstance(value, Tensor) and value.data_ptr() != before.data_ptr():
            before.copy_(value)
