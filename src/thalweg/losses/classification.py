"""Losses of a classifier: cross-entropy and squared error against one-hot targets, both with label smoothing.

B examples of a batch, K classes. Nothing here waits for the device, so CUDA graphs can capture all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def one_hot(
    labels_B: Int[Tensor, " B"], num_classes: int, smoothing: float = 0.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B K"]:
    """Return targets: 1 at the label and 0 elsewhere, or their mixture with the uniform distribution.

    Args:
        labels_B: labels, int64 in [0, num_classes).
        num_classes: number of classes K.
        smoothing: s in [0, 1]; targets are 1 - s + s/K at the label and s/K elsewhere (Szegedy et al., 2016;
            arXiv:1512.00567, section 7), so each row still sums to 1.
        dtype: type of the targets.

    Returns:
        Targets (B, K).
    """
    off_target = smoothing / num_classes
    targets_BK = torch.full((len(labels_B), num_classes), off_target, dtype=dtype, device=labels_B.device)
    return targets_BK.scatter_(1, labels_B[:, None], 1.0 - smoothing + off_target)


def cross_entropy(
    logits_BK: Float[Tensor, "B K"],
    labels_B: Int[Tensor, " B"],
    smoothing: float = 0.0,
    weight_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean over the batch of -sum_k target_k log softmax(logits)_k, in nats.

    Args:
        logits_BK: raw outputs, without a softmax.
        labels_B: labels, int64 in [0, K).
        smoothing: label smoothing; the targets are those of `one_hot`.
        weight_B: how often each example counts; the weighted sum is still divided by B.

    Returns:
        A scalar.
    """
    if weight_B is None:
        return F.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
    return (F.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing, reduction="none") * weight_B).mean()


def squared_error(
    logits_BK: Float[Tensor, "B K"],
    labels_B: Int[Tensor, " B"],
    smoothing: float = 0.0,
    weight_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean over the batch of sum_k (logits_k - target_k)^2.

    The raw outputs themselves, not their softmax, are to become 0 and 1 (Hui and Belkin, 2021; arXiv:2006.07322). The
    error is summed over the classes, so it does not shrink as classes are added.

    Args:
        logits_BK: raw outputs.
        labels_B: labels, int64 in [0, K).
        smoothing: label smoothing; the targets are those of `one_hot`.
        weight_B: how often each example counts; the weighted sum is still divided by B.

    Returns:
        A scalar.
    """
    targets_BK = one_hot(labels_B, logits_BK.shape[1], smoothing, logits_BK.dtype)
    if weight_B is not None:
        return ((logits_BK - targets_BK).square().sum(1) * weight_B).mean()
    return F.mse_loss(logits_BK, targets_BK, reduction="sum") / len(labels_B)


#: losses by the name that `--loss` and the concept `loss` use
LOSSES: dict[str, Callable[..., Tensor]] = {"cross-entropy": cross_entropy, "squared-error": squared_error}
