"""What a trained network answers to examples that it has never seen, all at once and one by one.

Calibration: Guo et al. 2017, arXiv:1706.04599. Entropy: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x. N
examples, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch

from ...config.options import Range
from ...errors import pluralize
from ...metrics.calibration import expected_calibration_error
from ...metrics.classification import MetricAccumulator
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .projection import pca, trustworthiness, tsne

TEXT = load_text(__package__)


@dataclass(frozen=True)
class PredictionSettings:
    """What can be set: how many examples, and how they are brought to two dimensions."""

    examples: Annotated[int, "examples of the test set, at most", Range(2, 10000)] = 1000
    embedding: Annotated[Literal["pca", "t-sne"], "how features are brought to two dimensions"] = "pca"
    perplexity: Annotated[float, "of t-sne: about how many neighbours count", Range(2, 200)] = 30.0
    neighbours: Annotated[int, "neighbours in the drawing that trustworthiness is of", Range(1, 100)] = 10
    pictures: Annotated[int, "pictures shown of mistakes, and of unsure answers", Range(1, 18)] = 18
    seed: Annotated[int, "seed of which examples are taken, and of t-sne", Range(0, 2**31)] = 0


@register_concept(TEXT, PredictionSettings, input_kind="test_predictions")
def predictions(
    settings: PredictionSettings,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    logits: np.ndarray,
    features: np.ndarray,
    sources: Sequence[str],
    told: str = "",
    notes: Sequence[str] = (),
) -> ConceptResult:
    """The answers to `labels` (N,) by `logits` (N, K), and `features` (N, D) in two dimensions.

    `images` (N, H, W, C) uint8 are only shown. Raises NonFinite where an answer is no number.
    """
    p_NK = torch.from_numpy(np.asarray(logits, np.float64)).softmax(1).numpy()
    scores = MetricAccumulator(len(classes))
    scores.add(p_NK, labels)
    judged, entropy_N, results = scores.judged, entropy(p_NK), scores.results()
    unsure = np.argsort(-entropy_N, kind="stable")[: settings.pictures]
    bins = scores.bins
    numbers: dict[str, Any] = {
        "told": told,
        "classes": list(classes),
        "labels": judged.label_N.tolist(),
        "answers": judged.predicted_N.tolist(),
        "confidence": judged.confidence_N.tolist(),
        "entropy": entropy_N.tolist(),
        "most_entropy": float(np.log2(len(classes))),
        "embedding": _embed(settings, features),
        "worst": [_describe_example(row, p_NK, labels, entropy_N, sources) for row in scores.worst(settings.pictures)],
        "unsure": [_describe_example(row, p_NK, labels, entropy_N, sources) for row in unsure],
        "calibration": {
            "count": bins.count_M.tolist(),
            "confidence": [_nan_to_none(value) for value in bins.confidence_M],
            "accuracy": [_nan_to_none(value) for value in bins.accuracy_M],
            "error": expected_calibration_error(bins),
        },
        "results": results,
    }
    return ConceptResult(
        numbers, _build_frames(numbers, images), key_numbers=_key_numbers(numbers), key_frame=0, notes=notes
    )


def entropy(p_NK: np.ndarray) -> np.ndarray:
    """(N,) in bits: 0 for one sure class, log2 K where all K are alike."""
    p_NK = np.asarray(p_NK, np.float64)
    return -np.sum(p_NK * np.log2(np.where(p_NK > 0, p_NK, 1)), 1) + 0.0


def _embed(settings: PredictionSettings, features_ND: np.ndarray) -> dict[str, Any]:
    points_N2, shares = pca(features_ND)
    if settings.embedding == "t-sne":
        points_N2, shares = tsne(features_ND, settings.perplexity, settings.seed), None
    near = min(settings.neighbours, (len(features_ND) - 1) // 2)
    return {
        "kind": settings.embedding,
        "features": features_ND.shape[1],
        "points": points_N2.tolist(),
        "shares": shares,
        "neighbours": near,
        "trustworthiness": trustworthiness(features_ND, points_N2, near) if near else None,
    }


def _describe_example(
    row: int, p_NK: np.ndarray, label_N: np.ndarray, entropy_N: np.ndarray, sources: Sequence[str]
) -> dict[str, Any]:
    """One example, and the two classes that the network thought of first."""
    first, second = np.argsort(-p_NK[row], kind="stable")[:2].tolist() if p_NK.shape[1] > 1 else (0, 0)
    return {
        "row": int(row),
        "source": sources[row],
        "label": int(label_N[row]),
        "answer": first,
        "probability": float(p_NK[row, first]),
        "second": second,
        "second_probability": float(p_NK[row, second]),
        "truth": float(p_NK[row, label_N[row]]),
        "entropy": float(entropy_N[row]),
    }


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    results, found = numbers["results"], numbers["embedding"]
    low, high = 100 * results["accuracy_low"], 100 * results["accuracy_high"]
    trust = found["trustworthiness"]
    return {
        "right": f"{100 * results['accuracy']:.2f} % of {results['examples']} (95 % interval {low:.2f} to {high:.2f})",
        "calibration error": f"{100 * numbers['calibration']['error']:.2f} %",
        "mean entropy": f"{np.mean(numbers['entropy']):.3f} bits, of at most {numbers['most_entropy']:.3f}",
        "neighbours kept (trustworthiness)": "too few examples"
        if trust is None
        else f"{trust:.3f} of the {found['neighbours']} nearest, by {found['features']} features",
    }


def _build_frames(numbers: dict[str, Any], images: np.ndarray) -> list[Frame]:
    from .plot import plot_calibration, plot_embedding, plot_examples

    found, results, worst = numbers["embedding"], numbers["results"], numbers["worst"]
    wrong = sum(a != b for a, b in zip(numbers["answers"], numbers["labels"], strict=True))
    crosses = "the cross is the one mistake" if wrong == 1 else f"crosses are the {wrong} mistakes"
    unsure = len(numbers["unsure"])
    worst_told = f"The mistakes with the least probability for the true class, {len(worst)} of {wrong}."
    trust = "" if found["trustworthiness"] is None else f" Trustworthiness {found['trustworthiness']:.3f}."
    how = (
        f"principal components, which hold {100 * sum(found['shares']):.0f} % of the variance"
        if found["shares"]
        else "t-SNE"
    )
    captions = [
        f"{pluralize(results['examples'], 'example')} by {found['features']} features, brought to two by {how}; "
        f"{crosses if wrong else 'there is no mistake'}.{trust}",
        "The same with pictures where there is room, mistakes first, in orange.",
        ("The only mistake." if wrong == 1 else worst_told) if worst else "No example was mistaken.",
        f"The {f'{unsure} examples' if unsure > 1 else 'example'} that the network was least sure of, by the entropy "
        "of its answer.",
        f"Is it as often right as it says? Calibration error {100 * numbers['calibration']['error']:.2f} %. At "
        "the right how unsure right and wrong answers were.",
    ]
    drawings = [
        (plot_embedding, (numbers, None)),
        (plot_embedding, (numbers, images)),
        (plot_examples, (numbers, "worst", images)),
        (plot_examples, (numbers, "unsure", images)),
        (plot_calibration, (numbers,)),
    ]
    return [Frame(caption, drawing, given) for caption, (drawing, given) in zip(captions, drawings, strict=True)]
