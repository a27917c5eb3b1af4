"""What can be said of a classifier from its probabilities: pure functions, and `MetricAccumulator`, which adds up batches.

N examples, K classes. Undefined values (the recall of a class that never occurs) are NaN in arrays and None in dicts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..errors import DataError, NonFiniteError
from .calibration import ReliabilityBins, expected_calibration_error, reliability_bins
from .confidence_interval import wilson_interval

#: a probability of 0 for the truth counts as this much, so that the loss stays finite (87.3 nats)
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


class ScoredPredictions(NamedTuple):
    """What every figure here follows from, per example."""

    #: the truth, int64 in [0, K)
    label_N: np.ndarray
    #: the most probable class, int64; of equals the first
    predicted_N: np.ndarray
    #: how many classes come before the truth when sorted by probability, int64; 0 is right
    rank_N: np.ndarray
    #: probability of the predicted class, float64
    confidence_N: np.ndarray
    #: probability of the truth, float64
    truth_N: np.ndarray


class PerClassMetrics(NamedTuple):
    """Precision, recall and F1 of each class, float64 in [0, 1], NaN where undefined."""

    precision_K: np.ndarray
    recall_K: np.ndarray
    f1_K: np.ndarray


def score_predictions(probabilities_NK: np.ndarray, label_N: np.ndarray) -> ScoredPredictions:
    """Compares probabilities, float in [0, 1], with labels, int in [0, K)."""
    p_NK, label_N = np.asarray(probabilities_NK, np.float64), np.asarray(label_N, np.int64)
    truth_N1 = np.take_along_axis(p_NK, label_N[:, None], axis=1)
    # equals are ranked by their index, as argmax does, so that rank 0 and "predicted is the truth" are one thing
    before_NK = (p_NK > truth_N1) | ((p_NK == truth_N1) & (np.arange(p_NK.shape[1]) < label_N[:, None]))
    return ScoredPredictions(label_N, p_NK.argmax(1), before_NK.sum(1), p_NK.max(1), truth_N1[:, 0])


def top_k_accuracy(judged: ScoredPredictions, k: int = 1) -> float:
    """Share of examples whose truth is among the k most probable classes; accuracy for k = 1. NaN without any."""
    return _exact_mean(judged.rank_N < k)


def log_loss(judged: ScoredPredictions) -> float:
    """Mean of -log(probability of the truth), in nats; a probability of 0 counts as SMALLEST. NaN without examples."""
    return _exact_mean(-np.log(np.maximum(judged.truth_N, MIN_PROBABILITY)))


def confusion_matrix(label_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """Counts (K, K) int64: row is the truth, column the prediction."""
    cell_N = np.asarray(label_N, np.int64) * classes + np.asarray(predicted_N, np.int64)
    return np.bincount(cell_N, minlength=classes * classes).reshape(classes, classes)


def per_class_metrics(confusion_KK: np.ndarray) -> PerClassMetrics:
    """Precision (of those called so, how many are), recall (of those that are, how many are called so) and F1.

    Precision is undefined for a class never predicted, recall for one that never occurs, F1 where both hold.
    """
    hit_K = np.diagonal(confusion_KK).astype(np.float64)
    called_K, are_K = confusion_KK.sum(0), confusion_KK.sum(1)
    with np.errstate(invalid="ignore"):
        return PerClassMetrics(hit_K / called_K, hit_K / are_K, 2 * hit_K / (called_K + are_K))


def nan_mean(value_K: np.ndarray) -> float:
    """Mean over the classes for which the value is defined; NaN if for none."""
    return _exact_mean(value_K[~np.isnan(value_K)])


class MetricAccumulator:
    """Adds up batches of predictions; every figure is the same to the last bit however they were cut or ordered."""

    def __init__(self, classes: int):
        self.classes = classes
        self._batches = [score_predictions(np.empty((0, classes)), np.empty(0))]

    def add(self, probabilities_NK: np.ndarray, labels_N: np.ndarray) -> None:
        """Adds N examples: probabilities (N, K) float in [0, 1], labels (N,) int in [0, K).

        Raises DataError for shapes or labels that do not fit, NonFinite for probabilities that are not numbers.
        """
        p_NK, label_N = np.asarray(probabilities_NK), np.asarray(labels_N)
        if label_N.ndim != 1 or p_NK.shape != (len(label_N), self.classes):
            raise DataError(
                f"Scores.add got probabilities {p_NK.shape} and labels {label_N.shape} for {self.classes} classes.",
                cure=f"Give probabilities (N, {self.classes}) and labels (N,).",
            )
        if len(label_N) and not 0 <= label_N.min() <= label_N.max() < self.classes:
            raise DataError(
                f"Scores.add got labels from {label_N.min()} to {label_N.max()} for {self.classes} classes.",
                cure=f"Labels are whole numbers from 0 to {self.classes - 1}.",
            )
        if not np.isfinite(p_NK).all():
            row = len(self) + int(np.flatnonzero(~np.isfinite(p_NK).all(1))[0])
            raise NonFiniteError(
                f"The probabilities of example {row} are not finite numbers.",
                cure="Its input or the weights are not finite; train with a lower --lr or with --clip 1.",
                indices=(row,),
            )
        self._batches.append(score_predictions(p_NK, label_N))

    def __len__(self) -> int:
        return sum(len(batch.label_N) for batch in self._batches)

    @property
    def judged(self) -> ScoredPredictions:
        """Everything that was added, example by example in the order of adding."""
        if len(self._batches) > 1:
            self._batches = [ScoredPredictions(*map(np.concatenate, zip(*self._batches, strict=True)))]
        return self._batches[0]

    @property
    def confusion(self) -> np.ndarray:
        """Counts (K, K) int64: row is the truth, column the prediction."""
        return confusion_matrix(self.judged.label_N, self.judged.predicted_N, self.classes)

    @property
    def bins(self) -> ReliabilityBins:
        """The reliability diagram's numbers, 15 bins."""
        return reliability_bins(self.judged.confidence_N, self.judged.rank_N == 0)

    @property
    def per_class(self) -> list[dict[str, float | int | None]]:
        """For each class: precision, recall, f1 (None where undefined) and examples, the number that truly are it."""
        confusion_KK = self.confusion
        rows = zip(*per_class_metrics(confusion_KK), confusion_KK.sum(1), strict=True)
        return [
            {"precision": _nan_to_none(p), "recall": _nan_to_none(r), "f1": _nan_to_none(f), "examples": int(n)}
            for p, r, f, n in rows
        ]

    def results(self) -> dict[str, float | int | None]:
        """The figures by name, ready for JSON: None where undefined, never NaN.

        examples; accuracy and its 95 % interval accuracy_low, accuracy_high; top5 (top K if K < 5); loss in nats;
        macro_precision, macro_recall (also called balanced accuracy), macro_f1; calibration_error.
        """
        judged, classes = self.judged, per_class_metrics(self.confusion)
        low, high = wilson_interval(int((judged.rank_N == 0).sum()), len(self))
        return {
            "examples": len(self),
            "accuracy": _nan_to_none(top_k_accuracy(judged)),
            "accuracy_low": low,
            "accuracy_high": high,
            "top5": _nan_to_none(top_k_accuracy(judged, 5)),
            "loss": _nan_to_none(log_loss(judged)),
            "macro_precision": _nan_to_none(nan_mean(classes.precision_K)),
            "macro_recall": _nan_to_none(nan_mean(classes.recall_K)),
            "macro_f1": _nan_to_none(nan_mean(classes.f1_K)),
            "calibration_error": _nan_to_none(expected_calibration_error(self.bins)),
        }

    def worst(self, count: int) -> np.ndarray:
        """Rows (counted from 0 as added), int64, of at most `count` mistakes, the least likely truth first."""
        wrong = np.flatnonzero(self.judged.rank_N > 0)
        return wrong[np.argsort(self.judged.truth_N[wrong], kind="stable")][:count]


def _exact_mean(values: np.ndarray) -> float:
    """Correctly rounded, so that the order of the values cannot be seen in it."""
    return math.fsum(values) / len(values) if len(values) else float("nan")


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
