"""Calibration: whether a classifier's confidence equals its accuracy.

Guo, Pleiss, Sun, Weinberger, 2017 (arXiv:1706.04599), section 2. N examples, M bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class ReliabilityBins(NamedTuple):
    """Examples grouped by confidence into M bins of equal width over (0, 1]; means are NaN where a bin is empty."""

    #: examples in the bin, int64
    count_M: Int[np.ndarray, " M"]
    #: mean confidence, float64 in [0, 1]
    confidence_M: Float[np.ndarray, " M"]
    #: fraction of correct predictions, float64 in [0, 1]
    accuracy_M: Float[np.ndarray, " M"]


def reliability_bins(
    confidence_N: Float[np.ndarray, " N"], correct_N: Bool[np.ndarray, " N"], num_bins: int = 15
) -> ReliabilityBins:
    """Compute the numbers of a reliability diagram.

    Args:
        confidence_N: probability of the predicted class, in [0, 1].
        correct_N: whether the prediction is correct.
        num_bins: number of bins M.

    Returns:
        Counts, mean confidence and accuracy of each bin. A confidence on the edge between two bins belongs to the lower
        one, as in the paper.
    """
    # summed in sorted order, so that the order of the examples does not change the last bits
    order_N = np.argsort(confidence_N)
    confidence_N = confidence_N[order_N].astype(np.float64)
    weight_N = correct_N[order_N].astype(np.float64)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, num_bins - 1)
    count_M = np.bincount(bin_N, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence_M = np.bincount(bin_N, confidence_N, num_bins) / count_M
        accuracy_M = np.bincount(bin_N, weight_N, num_bins) / count_M
    return ReliabilityBins(count_M, confidence_M, accuracy_M)


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Compute the mean over the examples of |accuracy - confidence| of their bin, in [0, 1]. NaN without examples."""
    total = bins.count_M.sum()
    if total == 0:
        return float("nan")
    gap_M = np.where(bins.count_M > 0, np.abs(bins.accuracy_M - bins.confidence_M), 0.0)
    return float((bins.count_M * gap_M).sum() / total)
