"""Three values: a loss that knows what it is a mean of, a phase of a step, and the objective that lists its phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

#: Tensors by name, with static shapes; targets of varying number are padded and carry `real`.
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Loss:
    """A scalar mean over `count` things (pictures, boxes, letters), so that it adds up over micro-batches and ranks.

    `metrics` are further means over the same items, for the curves; they are detached.
    """

    mean: Tensor
    count: Tensor | int
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One update inside a step: `loss` is differentiated with respect to the trainable weights of `module` only.

    `interval`: run on every n-th step only (lazy regularisation). `compile`: False where the loss itself differentiates,
    because torch.compile has no double backward.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch], Loss]
    interval: int = 1
    compile: bool = True


class Objective(nn.Module):
    """What is minimised. Its parameters and buffers are all that a checkpoint must know of it.

    `model` is what is averaged, scored and exported.
    """

    model: nn.Module

    def phases(self) -> list[Phase]:
        """The updates of one step, in order."""
        raise TypeError(f"{type(self).__name__} lists no phases")
