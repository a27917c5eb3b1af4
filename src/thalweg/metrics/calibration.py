"""Is a classifier as often right as it says? (Guo, Pleiss, Sun, Weinberger, 2017; arXiv:1706.04599, section 2.)

N examples, M bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ReliabilityBins(NamedTuple):
    """Examples grouped by confidence into M bins of equal width over (0, 1]; means are NaN where a bin is empty."""

    #: examples in the bin, int64
    count_M: np.ndarray
    #: mean confidence, float64 in [0, 1]
    confidence_M: np.ndarray
    #: share that was right, float64 in [0, 1]
    accuracy_M: np.ndarray


def reliability_bins(confidence_N: np.ndarray, right_N: np.ndarray, bins: int = 15) -> ReliabilityBins:
    """The reliability diagram's numbers: confidence_N in [0, 1] is the probability of the answer, right_N is boolean.

    A confidence on the edge between two bins belongs to the lower one, as in the paper.
    """
    confidence_N, right_N = np.asarray(confidence_N, np.float64), np.asarray(right_N, np.float64)
    # summed in sorted order, so that the order of the examples cannot be seen in the last bits
    order = np.argsort(confidence_N)
    confidence_N, right_N = confidence_N[order], right_N[order]
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1)
    count_M = np.bincount(bin_N, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence_M = np.bincount(bin_N, confidence_N, bins) / count_M
        accuracy_M = np.bincount(bin_N, right_N, bins) / count_M
    return ReliabilityBins(count_M, confidence_M, accuracy_M)


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Mean over the examples of |accuracy - confidence| of their bin, in [0, 1]. NaN without examples."""
    total = bins.count_M.sum()
    if total == 0:
        return float("nan")
    gap_M = np.where(bins.count_M > 0, np.abs(bins.accuracy_M - bins.confidence_M), 0.0)
    return float((bins.count_M * gap_M).sum() / total)
