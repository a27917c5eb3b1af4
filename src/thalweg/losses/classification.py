"""Losses of a classifier: cross-entropy and squared error against one-hot targets, both with label smoothing.

B examples of a batch, K classes. Nothing here waits for the device, so all of it may stand in a captured step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def one_hot(labels_B: Tensor, classes: int, smoothing: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets (B, K) that are 1 at the label and 0 elsewhere; labels_B is int64 in [0, classes).

    With `smoothing` s in [0, 1] they are 1 - s + s/K at the label and s/K elsewhere (Szegedy et al., 2016;
    arXiv:1512.00567, section 7), so each row still sums to 1.
    """
    share = smoothing / classes
    targets_BK = torch.full((len(labels_B), classes), share, dtype=dtype, device=labels_B.device)
    return targets_BK.scatter_(1, labels_B[:, None], 1.0 - smoothing + share)


def cross_entropy(
    logits_BK: Tensor, labels_B: Tensor, smoothing: float = 0.0, weight_B: Tensor | None = None
) -> Tensor:
    """Mean over the batch of -sum_k target_k log softmax(logits)_k, in nats; a scalar.

    logits_BK are the raw outputs (no softmax before), labels_B is int64 in [0, K). The targets are those of `one_hot`.
    Each example counts `weight_B` times, where that is given; the sum is divided by B all the same.
    """
    if weight_B is None:
        return F.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
    return (F.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing, reduction="none") * weight_B).mean()


def squared_error(
    logits_BK: Tensor, labels_B: Tensor, smoothing: float = 0.0, weight_B: Tensor | None = None
) -> Tensor:
    """Mean over the batch of sum_k (logits_k - target_k)^2; a scalar.

    The raw outputs are compared with the targets of `one_hot`, not their softmax: the outputs themselves are to become
    0 and 1 (Hui and Belkin, 2021; arXiv:2006.07322). A sum over classes, so it does not shrink as classes are added.
    Each example counts `weight_B` times, where that is given.
    """
    targets_BK = one_hot(labels_B, logits_BK.shape[1], smoothing, logits_BK.dtype)
    if weight_B is not None:
        return ((logits_BK - targets_BK).square().sum(1) * weight_B).mean()
    return F.mse_loss(logits_BK, targets_BK, reduction="sum") / len(labels_B)


#: what `--loss` and the concept of the loss name
LOSSES = {"cross-entropy": cross_entropy, "squared-error": squared_error}
