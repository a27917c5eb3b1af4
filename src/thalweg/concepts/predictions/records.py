"""What the concept predictions computes, as typed values."""

from __future__ import annotations

from typing import Literal, TypedDict

Method = Literal["pca", "t-sne"]


class ProjectionNumbers(TypedDict):
    """Coordinates in two dimensions. `explained_variance` has a fraction per axis, None for t-SNE.

    `trustworthiness` is None if there are too few examples.
    """

    method: Method
    num_features: int
    points: list[list[float]]
    explained_variance: list[float] | None
    neighbors: int
    trustworthiness: float | None


class ExampleNumbers(TypedDict):
    """One example: its label and the two most probable classes, all as class indices."""

    index: int
    source: str
    label: int
    prediction: int
    confidence: float
    runner_up: int
    runner_up_probability: float
    label_probability: float
    entropy: float


class CalibrationNumbers(TypedDict):
    """Reliability diagram: values per confidence bin, None for empty bins, and the expected calibration error."""

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    error: float


class PredictionNumbers(TypedDict):
    """All numbers of the concept, as JSON values. `confidence` and `entropy` (in bits) are per example."""

    title: str
    classes: list[str]
    labels: list[int]
    predictions: list[int]
    confidence: list[float]
    entropy: list[float]
    max_entropy: float
    projection: ProjectionNumbers
    mistakes: list[ExampleNumbers]
    uncertain: list[ExampleNumbers]
    calibration: CalibrationNumbers
    metrics: dict[str, float | int | None]
