"""A stand-in for CUDA graphs on the CPU: operations are recorded once and executed again at every replay.

As with a graph, Python does not run again: numbers that the host computed stay those of the recording, and results are
written to the memory they were first written to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

#: operations that make the GPU and the CPU wait for each other, which a graph cannot hold
SYNCING_OPS = ("lift_fresh", "nonzero", "_local_scalar_dense", "is_nonzero", "equal", "masked_select", "unique")


class RecordedOp(NamedTuple):
    """An operation with its arguments and results."""

    function: Any
    args: Any
    kwargs: Any
    result: Any


class OpRecorder(TorchDispatchMode):
    """Record every operation below autograd."""

    def __init__(self):
        super().__init__()
        self.ops: list[RecordedOp] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        saved_args, saved_kwargs = tree_map(alias_tensor, (args, kwargs))
        result = function(*args, **kwargs)
        self.ops.append(RecordedOp(function, saved_args, saved_kwargs, tree_map(alias_tensor, result)))
        return result


def alias_tensor(value):
    """Return a view of the same memory whose shape and strides never change."""
    return value.detach() if isinstance(value, Tensor) else value


class FakeCudaGraphRecorder:
    """Like thalweg.engine.cuda_graph.CudaGraphRecorder, on the CPU."""

    def __init__(self):
        self.num_recordings = 0
        self.syncing_ops: list[str] = []

    def run(self, step_fn: Callable[[], None]) -> None:
        step_fn()

    def record(self, step_fn: Callable[[], None]) -> Callable[[], None]:
        self.num_recordings += 1
        recorder = OpRecorder()
        with recorder:
            step_fn()  # a graph would only be recorded here, so this counts as the first replay
        for op in recorder.ops:
            name = op.function.overloadpacket.__name__
            if name.startswith(SYNCING_OPS):
                self.syncing_ops.append(name)
        num_replays = 0

        def replay() -> None:
            nonlocal num_replays
            num_replays += 1
            if num_replays > 1:
                with torch.no_grad():
                    for op in recorder.ops:
                        replay_op(op)

        return replay


def replay_op(op: RecordedOp) -> None:
    """Execute an operation again and write its results to the memory of the first ones."""
    results = tree_flatten(op.function(*op.args, **op.kwargs))[0]
    first_results = tree_flatten(op.result)[0]
    for result, first in zip(results, first_results, strict=True):
        if isinstance(result, Tensor) and result.data_ptr() != first.data_ptr():
            first.copy_(result)
