"""Predictions of a trained model on a test set: projection, mistakes, uncertainty, calibration.

Calibration: Guo et al. 2017, arXiv:1706.04599. Entropy: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x. N
examples, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from ...config.parsing import Range
from ...metrics.calibration import ReliabilityBins, expected_calibration_error
from ...metrics.classification import MetricAccumulator
from ...registry import register_concept
from ..base import ConceptResult, load_text
from .projection import pca, trustworthiness, tsne
from .records import CalibrationNumbers, ExampleNumbers, Method, PredictionNumbers, ProjectionNumbers

TEXT = load_text(__package__)


@dataclass(frozen=True)
class PredictionSettings:
    """Settings of the concept."""

    examples: Annotated[int, "maximum number of test examples", Range(2, 10000)] = 1000
    projection: Annotated[Method, "how features are projected to two dimensions"] = "pca"
    perplexity: Annotated[float, "perplexity of t-sne: approximate number of neighbors", Range(2, 200)] = 30.0
    neighbors: Annotated[int, "neighbors in the plot that trustworthiness checks", Range(1, 100)] = 10
    images: Annotated[int, "images shown of the worst mistakes and of the least certain predictions", Range(1, 18)] = 18
    seed: Annotated[int, "seed of the sample of examples, and of t-sne", Range(0, 2**31)] = 0


@dataclass(frozen=True)
class PredictionInputs:
    """What the concept explains: `images` (N, H, W, C) uint8, `labels` (N,), `logits` (N, K), `features` (N, D).

    `sources` has the file or name of each example; `images` are only shown.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    logits: np.ndarray
    features: np.ndarray
    sources: Sequence[str]
    title: str = ""
    notes: Sequence[str] = ()


@register_concept(TEXT, PredictionSettings, input_kind="test_predictions")
def predictions(settings: PredictionSettings, **inputs: Any) -> ConceptResult:
    """Show where the test examples lie, the worst mistakes, the least certain predictions, and the calibration.

    Args:
        settings: Numbers of examples and images, and the projection.
        **inputs: The fields of `PredictionInputs`.

    Returns:
        Numbers and frames.

    Raises:
        NonFiniteError: A prediction is NaN or inf.
    """
    from .captions import build_frames, describe_key_numbers

    data = PredictionInputs(**inputs)
    probability_NK = torch.from_numpy(np.asarray(data.logits, np.float64)).softmax(1).numpy()
    accumulator = MetricAccumulator(len(data.classes))
    accumulator.add(probability_NK, data.labels)
    scored = accumulator.scored
    entropy_N = entropy(probability_NK)
    uncertain = np.argsort(-entropy_N, kind="stable")[: settings.images]
    mistakes = accumulator.worst_mistakes(settings.images)
    numbers: PredictionNumbers = {
        "title": data.title,
        "classes": list(data.classes),
        "labels": scored.label_N.tolist(),
        "predictions": scored.predicted_N.tolist(),
        "confidence": scored.confidence_N.tolist(),
        "entropy": entropy_N.tolist(),
        "max_entropy": float(np.log2(len(data.classes))),
        "projection": _project(settings, data.features),
        "mistakes": _describe_examples(mistakes, probability_NK, data, entropy_N),
        "uncertain": _describe_examples(uncertain, probability_NK, data, entropy_N),
        "calibration": _describe_calibration(accumulator.bins),
        "metrics": accumulator.results(),
    }
    frames = build_frames(numbers, data.images)
    return ConceptResult(dict(numbers), frames, describe_key_numbers(numbers), key_frame=0, notes=data.notes)


def entropy(probability_NK: np.ndarray) -> np.ndarray:
    """Compute the entropy (N,) in bits: 0 for a probability of 1, log2 K for equal probabilities."""
    p_NK = np.asarray(probability_NK, np.float64)
    return -np.sum(p_NK * np.log2(np.where(p_NK > 0, p_NK, 1)), 1) + 0.0


def _project(settings: PredictionSettings, features_ND: np.ndarray) -> ProjectionNumbers:
    """Project the features to two dimensions."""
    explained_variance: list[float] | None = None
    if settings.projection == "t-sne":
        points_N2 = tsne(features_ND, settings.perplexity, settings.seed)
    else:
        points_N2, explained_variance = pca(features_ND)
    neighbors = min(settings.neighbors, (len(features_ND) - 1) // 2)
    trust = None
    if neighbors:
        trust = trustworthiness(features_ND, points_N2, neighbors)
    return {
        "method": settings.projection,
        "num_features": features_ND.shape[1],
        "points": points_N2.tolist(),
        "explained_variance": explained_variance,
        "neighbors": neighbors,
        "trustworthiness": trust,
    }


def _describe_examples(
    indices: Iterable[int], probability_NK: np.ndarray, data: PredictionInputs, entropy_N: np.ndarray
) -> list[ExampleNumbers]:
    """Describe single examples with their two most probable classes."""
    examples: list[ExampleNumbers] = []
    for index in indices:
        probability_K = probability_NK[index]
        label = int(data.labels[index])
        order = np.argsort(-probability_K, kind="stable").tolist()
        first = order[0]
        second = order[1] if len(order) > 1 else first
        examples.append(
            {
                "index": int(index),
                "source": data.sources[index],
                "label": label,
                "prediction": first,
                "confidence": float(probability_K[first]),
                "runner_up": second,
                "runner_up_probability": float(probability_K[second]),
                "label_probability": float(probability_K[label]),
                "entropy": float(entropy_N[index]),
            }
        )
    return examples


def _describe_calibration(bins: ReliabilityBins) -> CalibrationNumbers:
    return {
        "count": bins.count_M.tolist(),
        "confidence": _nan_to_none(bins.confidence_M),
        "accuracy": _nan_to_none(bins.accuracy_M),
        "error": expected_calibration_error(bins),
    }


def _nan_to_none(values: np.ndarray) -> list[float | None]:
    """Return the values as a list, with None for NaN."""
    masked = values.astype(object)
    masked[np.isnan(values)] = None
    return masked.tolist()
