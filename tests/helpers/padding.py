"""Pad targets of varying number (boxes, points) to tensors of one shape, so that shapes stay static on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(targets: Sequence[Tensor], max_targets: int | None = None) -> tuple[Tensor, Tensor]:
    """Stack targets (n_i, ...) to (B, N, ...) and return them with a mask `real` (B, N), 1 for a target, 0 for padding.

    N is `max_targets`, or the largest n_i (at least 1). Raises ValueError if an image has more targets than that.
    """
    largest = max(len(target) for target in targets)
    size = max_targets or max(1, largest)
    if largest > size:
        raise ValueError(f"too many targets in one image: {largest}; expected at most {size}")
    padded = targets[0].new_zeros((len(targets), size, *targets[0].shape[1:]))
    real = torch.zeros(len(targets), size, device=padded.device)
    for index, target in enumerate(targets):
        padded[index, : len(target)] = target
        real[index, : len(target)] = 1
    return padded, real
