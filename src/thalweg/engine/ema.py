"""The exponential moving average of a model's parameters (Polyak and Juditsky 1992, doi:10.1137/0330046)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..objectives.base import averaged_child


def copy_for_ema(model: nn.Module) -> nn.Module:
    """Return a copy of the part of `model` that is averaged, without gradients."""
    return copy.deepcopy(averaged_child(model)).requires_grad_(False)


def ema_decay_at(step: int, max_decay: float) -> float:
    """Return the decay of a step, counted from 0: smaller at first, to forget the initial parameters."""
    return min(max_decay, (step + 1) / (step + 10))


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged parameters toward those of `model`, and copy its buffers."""
    child = averaged_child(model)
    averages: list[Tensor] = list(ema_model.parameters())
    params: list[Tensor] = list(child.parameters())
    torch._foreach_lerp_(averages, params, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
    # Batch statistics belong to the parameters that produced them, and are averages already.
    for ema_buffer, buffer in zip(ema_model.buffers(), child.buffers(), strict=True):
        ema_buffer.copy_(buffer)


def with_ema(model: nn.Module, ema_model: nn.Module) -> nn.Module:
    """Return `model` with averaged parameters: a view that shares every child that is not averaged."""
    if averaged_child(model) is model:
        return ema_model
    view = copy.copy(model)
    view._modules = {**model._modules, "network": ema_model}
    return view
