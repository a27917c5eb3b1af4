"""Targets of varying number (boxes, points) as tensors of one shape, so that shapes stay static on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(targets: Sequence[Tensor], most: int | None = None) -> tuple[Tensor, Tensor]:
    """Stacks targets (n_i, ...) into (B, N, ...) and `real` (B, N) float, 1 for a target and 0 for padding.

    N is `most`, or the largest n_i (at least 1). Raises ValueError where a picture has more targets than `most`.
    """
    size = most or max(1, *(len(t) for t in targets))
    if any(len(t) > size for t in targets):
        raise ValueError(f"a picture has {max(len(t) for t in targets)} targets, more than the {size} allowed for")
    padded = targets[0].new_zeros((len(targets), size, *targets[0].shape[1:]))
    real = torch.zeros(len(targets), size, device=padded.device)
    for row, target in enumerate(targets):
        padded[row, : len(target)] = target
        real[row, : len(target)] = 1
    return padded, real
