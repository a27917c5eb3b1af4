"""How well attributes of images follow requested changes: effect, leakage, monotonicity.

All changes are in standard deviations of the attribute over unedited images, steps in requested ones.
"""

from __future__ import annotations

import numpy as np

# T steps, N images, A attributes


def effect(change_TN: np.ndarray, step_T: np.ndarray) -> float:
    """Return the slope of an attribute's change against the step, by least squares through 0; 1 is as requested."""
    return float((step_T @ change_TN.mean(1)) / np.square(step_T).sum())


def leakage(change_TNA: np.ndarray, step_T: np.ndarray, target: int) -> float:
    """Return the mean absolute change of the other attributes, relative to the change of the target.

    0 without other attributes. An axis that does not move its target forward leaks without limit: its leakage is
    bounded by the quotient at an effect of 1 %.
    """
    others = np.delete(change_TNA, target, axis=2)
    if not others.size:
        return 0.0
    moved = np.abs(step_T).mean() * max(effect(change_TNA[..., target], step_T), 0.01)
    return float(np.abs(others).mean() / moved)


def drift(change_TNA: np.ndarray, step_T: np.ndarray, target: int) -> float:
    """Return the same of the mean change over all images: what the axis moves besides its target on average."""
    return leakage(change_TNA.mean(1, keepdims=True), step_T, target)


def monotonicity(change_TN: np.ndarray, step_T: np.ndarray) -> float:
    """Return Spearman's rank correlation of step and change, the mean over images."""
    return float(np.mean([spearman(step_T, change_T) for change_T in change_TN.T]))


def spearman(first_N: np.ndarray, second_N: np.ndarray) -> float:
    """Return the correlation of ranks; equal values have their mean rank, and 0 where all are equal."""
    rank_N = _rank(first_N)
    other_N = _rank(second_N)
    rank_N = rank_N - rank_N.mean()
    other_N = other_N - other_N.mean()
    norm = np.sqrt(np.square(rank_N).sum() * np.square(other_N).sum())
    return float(rank_N @ other_N / norm) if norm else 0.0


def _rank(values_N: np.ndarray) -> np.ndarray:
    _, index_N, count_U = np.unique(values_N, return_inverse=True, return_counts=True)
    mean_rank_U = np.cumsum(count_U) - (count_U - 1) / 2
    return mean_rank_U[index_N]
