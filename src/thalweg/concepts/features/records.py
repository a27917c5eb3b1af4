"""What the concept features computes, as typed values."""

from __future__ import annotations

from typing import TypedDict


class ClassProbability(TypedDict):
    """One of the most probable classes."""

    name: str
    probability: float


class LayerPurity(TypedDict):
    """Purity of the active units of a layer: mean, and how many units have 0, 1, … top images of one class."""

    units: int
    mean: float | None
    histogram: list[int]


class LayerNumbers(TypedDict):
    """One layer. `size` and `maps` are None for neurons; `classes` are the names if each unit is a class.

    `inactive` counts the units that are zero everywhere; `zero_fraction` is the fraction of zero activations.
    """

    name: str
    kind: str
    units: int
    size: list[int] | None
    inactive: int
    zero_fraction: float
    strongest: list[int]
    strength: list[float]
    maps: list[list[list[float]]] | None
    classes: list[str] | None
    purity: LayerPurity | None


class FilterNumbers(TypedDict):
    """Filters of the first layer; `maps` for a convolution, else `pre_activations`."""

    layer: str
    count: int
    size: list[int]
    units: list[int]
    weights: list[list[list[list[float]]]]
    maps: list[list[list[float]]] | None
    pre_activations: list[float] | None


class TopImage(TypedDict):
    """A training image: `index` is its row in the sample, `patch` the box (left, top, right, bottom)."""

    index: int
    source: str
    label: str
    activation: float
    patch: list[int] | None


class UnitNumbers(TypedDict):
    """A unit: its activation for the image, the fraction of training images below it, and its top images."""

    unit: int
    activation: float
    percentile: float
    majority_class: str | None
    majority_count: int
    images: list[TopImage]


class LayerUnits(TypedDict):
    """The units of one layer."""

    layer: str
    units: list[UnitNumbers]


class TrainingNumbers(TypedDict):
    """Number of training images, top images per unit, and the purity of random images."""

    images: int
    top_k: int
    chance_purity: float


class FeatureNumbers(TypedDict):
    """All numbers of the concept, as JSON values."""

    title: str
    predictions: list[ClassProbability]
    layers: list[LayerNumbers]
    filters: FilterNumbers | None
    training: TrainingNumbers | None
    units: list[LayerUnits]
