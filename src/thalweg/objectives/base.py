"""The interface between objectives and the trainer: `Loss`, `Phase` and `Objective`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

#: Tensors by name, with static shapes; targets of varying number are padded and carry a mask `real`.
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Loss:
    """A scalar loss: the mean over `count` items (images, boxes, characters).

    The trainer weights each mean by its count, so that micro-batches and ranks add up to the loss of the full batch.
    `metrics` are detached means over the same items, reported beside the loss.
    """

    mean: Tensor
    count: Tensor | int
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One optimizer update within a training step, on the trainable parameters of `module`.

    Attributes:
        name: The key of the phase in reports.
        module: The module whose parameters are updated. Phases with the same module share one optimizer.
        loss: Computes the loss of a batch.
        interval: Run on every n-th step only (lazy regularization).
        compile: False if the loss itself differentiates, because torch.compile has no double backward.
        lr_scale: Factor on the learning rate (two-time-scale update rule, Heusel et al. 2017, arXiv:1706.08500).
        begins: The first step on which the phase runs.
        ends: The first step on which the phase no longer runs; None: it runs until the end.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch], Loss]
    interval: int = 1
    compile: bool = True
    lr_scale: float = 1.0
    begins: int = 0
    ends: int | None = None

    def is_due(self, step: int) -> bool:
        """Return True if the phase runs on `step`, counted from 0."""
        if step < self.begins:
            return False
        if self.ends is not None and step >= self.ends:
            return False
        return step % self.interval == 0


class Objective(nn.Module):
    """A training objective. Its parameters and buffers are everything that a checkpoint must hold of it.

    `model` is averaged (see `averaged_child`), scored and exported. It may hold several networks as children.
    """

    model: nn.Module

    def phases(self) -> list[Phase]:
        """Return the updates of one step, in order."""
        raise TypeError(f"{type(self).__name__} defines no phases")

    def set_length(self, num_examples: int) -> None:
        """Learn how many examples the training will see, for what follows them; called once it is planned.

        What is derived from it belongs into a buffer, so that a training that is resumed for longer goes on as before.
        """
        return None


def averaged_child(model: nn.Module) -> nn.Module:
    """Return the module whose parameters are averaged: the child `network` if `model` has one, else `model`."""
    child = model._modules.get("network")
    if child is None:
        return model
    return child
