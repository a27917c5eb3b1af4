"""Several processes as one: who am I, and sums over all. Alone, every function does nothing.

Started by `torchrun -m thalweg train ...`; gloo on processors, NCCL on CUDA.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def get_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device):
    """Joins the group that torchrun describes in the environment, and leaves it at the end; alone, does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # else all would talk through the first
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_reduce_sum(tensors: list[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in one exchange."""
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    parts = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])


def all_gather(tensor: Tensor) -> Tensor:
    """(ranks, ...): the tensor of every process."""
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def any_rank(flag: bool) -> bool:
    """True in every process if it is true in any."""
    if world_size() == 1:
        return flag
    votes = _to_device_tensor(float(flag))
    dist.all_reduce(votes)
    return bool(votes.item())


def broadcast_from_0(number: float) -> float:
    """The number of rank 0, in every process: times differ between them, and what follows from times must not."""
    if world_size() == 1:
        return number
    told = _to_device_tensor(number)
    dist.broadcast(told, 0)
    return told.item()


def _to_device_tensor(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
