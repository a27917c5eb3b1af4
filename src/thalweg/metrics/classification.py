"""Metrics of a classifier from its probabilities: pure functions, and `MetricAccumulator`, which collects batches.

N examples, K classes. Undefined values (the recall of a class that never occurs) are NaN in arrays and None in dicts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ..errors import DataError, NonFiniteError
from .calibration import ReliabilityBins, expected_calibration_error, reliability_bins
from .confidence_interval import wilson_interval

#: lower bound for the probability of the true class, so that the loss stays finite (87.3 nats)
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


class ScoredPredictions(NamedTuple):
    """Per example, everything that the metrics depend on."""

    #: true class, int64 in [0, K)
    label_N: Int[np.ndarray, " N"]
    #: most probable class, int64; the first one among equals
    predicted_N: Int[np.ndarray, " N"]
    #: how many classes come before the true one when sorted by probability, int64; 0 is correct
    rank_N: Int[np.ndarray, " N"]
    #: probability of the predicted class, float64
    confidence_N: Float[np.ndarray, " N"]
    #: probability of the true class, float64
    truth_N: Float[np.ndarray, " N"]


class PerClassMetrics(NamedTuple):
    """Precision, recall and F1 of each class, float64 in [0, 1], NaN where undefined."""

    precision_K: Float[np.ndarray, " K"]
    recall_K: Float[np.ndarray, " K"]
    f1_K: Float[np.ndarray, " K"]


class MacroMetrics(NamedTuple):
    """Means of precision, recall and F1 over the classes that occur in the labels, and how many classes those are."""

    precision: float
    recall: float
    f1: float
    num_classes: int


def score_predictions(probabilities_NK: Float[np.ndarray, "N K"], label_N: Int[np.ndarray, " N"]) -> ScoredPredictions:
    """Compare probabilities, in [0, 1], with labels, in [0, K)."""
    p_NK = np.asarray(probabilities_NK, np.float64)
    label_N = np.asarray(label_N, np.int64)
    truth_N1 = np.take_along_axis(p_NK, label_N[:, None], axis=1)
    # equals are ranked by their index, as argmax does, so that rank 0 means that the prediction is correct
    before_NK = (p_NK > truth_N1) | ((p_NK == truth_N1) & (np.arange(p_NK.shape[1]) < label_N[:, None]))
    return ScoredPredictions(label_N, p_NK.argmax(1), before_NK.sum(1), p_NK.max(1), truth_N1[:, 0])


def top_k_accuracy(predictions: ScoredPredictions, k: int = 1) -> float:
    """Compute the fraction of examples whose true class is among the k most probable. NaN without examples."""
    return _exact_mean(predictions.rank_N < k)


def log_loss(predictions: ScoredPredictions) -> float:
    """Compute the mean of -log(probability of the true class), in nats. NaN without examples.

    A probability of 0 counts as MIN_PROBABILITY.
    """
    return _exact_mean(-np.log(np.maximum(predictions.truth_N, MIN_PROBABILITY)))


def confusion_matrix(
    label_N: Int[np.ndarray, " N"], predicted_N: Int[np.ndarray, " N"], num_classes: int
) -> Int[np.ndarray, "K K"]:
    """Count the examples of each pair of true class (row) and predicted class (column), as (K, K) int64.

    Args:
        label_N: true classes, in [0, K).
        predicted_N: predicted classes, in [0, K).
        num_classes: number of classes K.

    Returns:
        Counts (K, K), int64.
    """
    cell_N = np.asarray(label_N, np.int64) * num_classes + np.asarray(predicted_N, np.int64)
    return np.bincount(cell_N, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def per_class_metrics(confusion_KK: Int[np.ndarray, "K K"]) -> PerClassMetrics:
    """Compute precision, recall and F1 of each class.

    Precision is undefined for a class that is never predicted, recall for one that never occurs, F1 where both hold.
    """
    correct_K = np.diagonal(confusion_KK).astype(np.float64)
    predicted_K = confusion_KK.sum(0)
    occurring_K = confusion_KK.sum(1)
    with np.errstate(invalid="ignore"):
        precision_K = correct_K / predicted_K
        recall_K = correct_K / occurring_K
        f1_K = 2 * correct_K / (predicted_K + occurring_K)
    return PerClassMetrics(precision_K, recall_K, f1_K)


def macro_metrics(confusion_KK: Int[np.ndarray, "K K"]) -> MacroMetrics:
    """Average precision, recall and F1 over the classes that occur in the labels. NaN without examples.

    All three are means over the same classes. A class that occurs but is never predicted has precision 0 here, as in
    scikit-learn; predictions of a class that never occurs lower only the recall of the true classes.
    """
    metrics = per_class_metrics(confusion_KK)
    occurs_K = confusion_KK.sum(1) > 0
    return MacroMetrics(
        precision=_exact_mean(np.nan_to_num(metrics.precision_K[occurs_K], nan=0.0)),
        recall=_exact_mean(metrics.recall_K[occurs_K]),
        f1=_exact_mean(metrics.f1_K[occurs_K]),
        num_classes=int(occurs_K.sum()),
    )


class MetricAccumulator:
    """Collect batches of predictions. The metrics are the same to the last bit for any batch size and order."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._batches = [score_predictions(np.empty((0, num_classes)), np.empty(0, np.int64))]

    def add(self, probabilities_NK: np.ndarray, label_N: np.ndarray) -> None:
        """Add N examples: probabilities (N, K) float in [0, 1], labels (N,) int in [0, K).

        Raises DataError for shapes or labels that do not fit, NonFiniteError for probabilities that are NaN or inf.
        """
        self._check(probabilities_NK, label_N)
        self._batches.append(score_predictions(probabilities_NK, label_N))

    def _check(self, probabilities_NK: np.ndarray, label_N: np.ndarray) -> None:
        shape = probabilities_NK.shape
        if label_N.ndim != 1 or shape != (len(label_N), self.num_classes):
            raise DataError(
                f"Probabilities {shape} and labels {label_N.shape} do not fit {self.num_classes} classes.",
                cure=f"Give probabilities (N, {self.num_classes}) and labels (N,).",
                value=(shape, label_N.shape),
            )
        outside_N = (label_N < 0) | (label_N >= self.num_classes)
        if outside_N.any():
            label = int(label_N[outside_N][0])
            raise DataError(
                f"Label {label} is outside of the {self.num_classes} classes.",
                cure=f"Labels are whole numbers from 0 to {self.num_classes - 1}.",
                value=label,
                allowed=range(self.num_classes),
            )
        finite_N = np.isfinite(probabilities_NK).all(1)
        if not finite_N.all():
            index = len(self) + int(np.flatnonzero(~finite_N)[0])
            raise NonFiniteError(
                f"The probabilities of example {index} are NaN or inf.",
                cure="Its input or the weights are not finite; train with a lower --lr or with --grad-clip 1.",
                indices=(index,),
            )

    def __len__(self) -> int:
        return sum(len(batch.label_N) for batch in self._batches)

    @property
    def scored(self) -> ScoredPredictions:
        """All examples, in the order in which they were added."""
        if len(self._batches) > 1:
            self._batches = [ScoredPredictions(*map(np.concatenate, zip(*self._batches, strict=True)))]
        return self._batches[0]

    @property
    def confusion(self) -> Int[np.ndarray, "K K"]:
        """Counts (K, K) int64: the row is the true class, the column the prediction."""
        return confusion_matrix(self.scored.label_N, self.scored.predicted_N, self.num_classes)

    @property
    def bins(self) -> ReliabilityBins:
        """The numbers of the reliability diagram, 15 bins."""
        return reliability_bins(self.scored.confidence_N, self.scored.rank_N == 0)

    @property
    def per_class(self) -> list[dict[str, float | int | None]]:
        """For each class: precision, recall, f1 (None where undefined) and examples, how often it occurs."""
        confusion_KK = self.confusion
        metrics = per_class_metrics(confusion_KK)
        rows: list[dict[str, float | int | None]] = []
        for label, examples in enumerate(confusion_KK.sum(1)):
            row = {
                "precision": _nan_to_none(metrics.precision_K[label]),
                "recall": _nan_to_none(metrics.recall_K[label]),
                "f1": _nan_to_none(metrics.f1_K[label]),
                "examples": int(examples),
            }
            rows.append(row)
        return rows

    def results(self) -> dict[str, float | int | None]:
        """Return the metrics by name, ready for JSON: None where undefined, never NaN.

        examples; accuracy and its 95 % interval accuracy_low, accuracy_high; top5 (top K if K < 5); loss in nats;
        macro_precision, macro_recall (also called balanced accuracy) and macro_f1, all three means over the
        macro_classes classes that occur in the labels; calibration_error.
        """
        predictions = self.scored
        macro = macro_metrics(self.confusion)
        low, high = wilson_interval(int((predictions.rank_N == 0).sum()), len(self))
        return {
            "examples": len(self),
            "accuracy": _nan_to_none(top_k_accuracy(predictions)),
            "accuracy_low": low,
            "accuracy_high": high,
            "top5": _nan_to_none(top_k_accuracy(predictions, 5)),
            "loss": _nan_to_none(log_loss(predictions)),
            "macro_precision": _nan_to_none(macro.precision),
            "macro_recall": _nan_to_none(macro.recall),
            "macro_f1": _nan_to_none(macro.f1),
            "macro_classes": macro.num_classes,
            "calibration_error": _nan_to_none(expected_calibration_error(self.bins)),
        }

    def worst_mistakes(self, count: int) -> Int[np.ndarray, " M"]:
        """Return the indices of at most `count` mistakes, the least probable true class first."""
        wrong_M = np.flatnonzero(self.scored.rank_N > 0)
        return wrong_M[np.argsort(self.scored.truth_N[wrong_M], kind="stable")][:count]


def _exact_mean(values: Shaped[np.ndarray, " N"]) -> float:
    """Compute the correctly rounded mean, which does not depend on the order of the values. NaN without values."""
    return math.fsum(values) / len(values) if len(values) else float("nan")


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
