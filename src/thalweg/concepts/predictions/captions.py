"""Predictions in words: the frames with their captions, and the key numbers."""

from __future__ import annotations

import numpy as np

from ...errors import pluralize
from ..base import Frame
from .plot import count_mistakes, plot_calibration, plot_examples, plot_projection
from .records import PredictionNumbers


def build_frames(numbers: PredictionNumbers, images_NHWC: np.ndarray) -> list[Frame]:
    """Return the frames: projection as points and as images, mistakes, uncertain predictions, calibration."""
    error = f"{100 * numbers['calibration']['error']:.2f} %"
    return [
        Frame(_describe_projection(numbers), plot_projection, (numbers, None)),
        Frame(
            "The same with images where there is room, mistakes first, in orange.",
            plot_projection,
            (numbers, images_NHWC),
        ),
        Frame(_describe_mistakes(numbers), plot_examples, (numbers, "mistakes", images_NHWC)),
        Frame(_describe_uncertain(numbers), plot_examples, (numbers, "uncertain", images_NHWC)),
        Frame(
            f"Does the confidence match the accuracy? The calibration error is {error}. At the right, the entropy of "
            "correct and of wrong predictions.",
            plot_calibration,
            (numbers,),
        ),
    ]


def _describe_projection(numbers: PredictionNumbers) -> str:
    projection = numbers["projection"]
    method = "t-SNE"
    if projection["explained_variance"]:
        method = f"PCA, which explains {100 * sum(projection['explained_variance']):.0f} % of the variance"
    count = pluralize(len(numbers["labels"]), "example")
    text = f"{count} of {projection['num_features']} features, projected to two dimensions by {method}; "
    text += _describe_crosses(count_mistakes(numbers))
    if projection["trustworthiness"] is not None:
        text += f" The trustworthiness is {projection['trustworthiness']:.3f}."
    return text


def _describe_crosses(mistakes: int) -> str:
    if mistakes == 0:
        return "there is no mistake."
    if mistakes == 1:
        return "the cross is the only mistake."
    return f"crosses are the {mistakes} mistakes."


def _describe_mistakes(numbers: PredictionNumbers) -> str:
    mistakes = count_mistakes(numbers)
    if mistakes == 0:
        return "There is no mistake."
    if mistakes == 1:
        return "The only mistake."
    shown = len(numbers["mistakes"])
    return f"The worst mistakes, {shown} of {mistakes}: those with the lowest probability of the true class."


def _describe_uncertain(numbers: PredictionNumbers) -> str:
    predictions = pluralize(len(numbers["uncertain"]), "prediction")
    return f"The least certain: {predictions} with the highest entropy of the class probabilities."


def describe_key_numbers(numbers: PredictionNumbers) -> dict[str, str]:
    """Return the numbers that matter most, as text."""
    metrics = numbers["metrics"]
    projection = numbers["projection"]
    low = 100 * (metrics["accuracy_low"] or 0)
    high = 100 * (metrics["accuracy_high"] or 0)
    trust = "too few examples"
    if projection["trustworthiness"] is not None:
        trust = f"{projection['trustworthiness']:.3f} for {projection['neighbors']} neighbors"
        trust += f" and {projection['num_features']} features"
    accuracy = f"{100 * (metrics['accuracy'] or 0):.2f} % of {metrics['examples']} examples"
    return {
        "accuracy": f"{accuracy} (95 % confidence interval {low:.2f} to {high:.2f})",
        "calibration error": f"{100 * numbers['calibration']['error']:.2f} %",
        "mean entropy": f"{np.mean(numbers['entropy']):.3f} bits, at most {numbers['max_entropy']:.3f}",
        "trustworthiness": trust,
    }
