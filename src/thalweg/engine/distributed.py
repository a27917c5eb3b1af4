"""Training in several processes: ranks, and sums over all of them. In a single process every function does nothing.

Started by `torchrun -m thalweg train ...`; gloo on CPUs, NCCL on CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def get_rank() -> int:
    """Return the index of this process, from 0."""
    if _is_initialized():
        return dist.get_rank()
    return 0


def get_rank_and_world_size() -> tuple[int, int]:
    """Return the index of this process and the number of all."""
    return get_rank(), world_size()


def world_size() -> int:
    """Return the number of processes that train together."""
    if _is_initialized():
        return dist.get_world_size()
    return 1


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun describes in the environment, and leave it at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        backend = "nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # else all ranks would use the first GPU
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_reduce_sum(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    flat = torch.cat(list(map(torch.flatten, tensors)))
    dist.all_reduce(flat)
    pieces = flat.split(list(map(torch.numel, tensors)))
    sums = list(map(torch.Tensor.view_as, pieces, tensors))
    torch._foreach_copy_(tensors, sums)  # pyright: ignore[reportPrivateImportUsage]


def all_gather(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes, stacked as (ranks, ...)."""
    tensors = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(tensors, tensor.contiguous())
    return torch.stack(tensors)


def any_rank(flag: bool) -> bool:
    """Return True in every process if `flag` is True in any."""
    if world_size() == 1:
        return flag
    votes = _to_device_tensor(float(flag))
    dist.all_reduce(votes)
    return bool(votes.item())


def broadcast_from_0(number: float) -> float:
    """Return the number of rank 0 in every process, so that timing-based decisions agree on all ranks."""
    if world_size() == 1:
        return number
    value = _to_device_tensor(number)
    dist.broadcast(value, 0)
    return value.item()


def _to_device_tensor(number: float) -> Tensor:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return torch.tensor(number, dtype=torch.float64, device=device)
