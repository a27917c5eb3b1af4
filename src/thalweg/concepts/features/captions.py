"""Features in words: the frames with their captions, and the key numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...plots.style import ellipsize, format_percent
from ..base import Frame
from .plot import format_layer_size, plot_filters, plot_layer, plot_overview, plot_purity
from .plot_units import plot_units
from .records import FeatureNumbers, FilterNumbers, LayerNumbers, LayerUnits, TrainingNumbers

_MAX_NAME_LENGTH = 40


def build_frames(numbers: FeatureNumbers, image_HWC: np.ndarray, top_images: Mapping[int, np.ndarray]) -> list[Frame]:
    """Return the frames: overview, each layer, filters, units of each layer, purity."""
    frames = [Frame(_describe_prediction(numbers), plot_overview, (numbers, image_HWC))]
    for index, layer in enumerate(numbers["layers"]):
        frames.append(Frame(_describe_layer(layer), plot_layer, (numbers, index, image_HWC)))
    if numbers["filters"]:
        frames.append(Frame(_describe_filters(numbers["filters"]), plot_filters, (numbers,)))
    for index, layer_units in enumerate(numbers["units"]):
        frames.append(Frame(_describe_units(layer_units), plot_units, (numbers, index, top_images)))
    if numbers["training"]:
        frames.append(Frame(_describe_purity(numbers["training"]), plot_purity, (numbers,)))
    return frames


def describe_key_numbers(numbers: FeatureNumbers) -> dict[str, str]:
    """Return the numbers that matter most, as text."""
    top = numbers["predictions"][0]
    key_numbers = {
        "prediction": f"{top['name']} ({format_percent(top['probability'])})",
        "layers shown": ", ".join(layer["name"] for layer in numbers["layers"]),
    }
    if numbers["training"]:
        chance = format_percent(numbers["training"]["chance_purity"], 0)
        key_numbers["purity"] = f"{_format_purity_range(numbers)}, first to last layer; {chance} for random images"
    return key_numbers


def _format_purity_range(numbers: FeatureNumbers) -> str:
    """Format the mean purity of the first and of the last layer with active units."""
    means = []
    for layer in numbers["layers"]:
        if layer["purity"] and layer["purity"]["mean"] is not None:
            means.append(layer["purity"]["mean"])
    if not means:
        return "no active unit"
    if means[0] == means[-1]:
        return format_percent(means[0], 0)
    return f"{format_percent(means[0], 0)} to {format_percent(means[-1], 0)}"


def _shorten(name: str) -> str:
    return ellipsize(name, _MAX_NAME_LENGTH)


def _describe_prediction(numbers: FeatureNumbers) -> str:
    top = numbers["predictions"][0]
    return (
        f"The prediction for this image is {_shorten(top['name'])} ({format_percent(top['probability'])}); "
        "the next frames show the layers before it."
    )


def _describe_layer(layer: LayerNumbers) -> str:
    name = f"{_shorten(layer['name'])} ({layer['kind']})"
    if layer["classes"]:
        output = "feature map" if layer["size"] else "logit"
        return f"{name} has one {output} per class; the strongest is that of {_shorten(layer['classes'][0])}."
    text = f"{name} has {format_layer_size(layer)}"
    if layer["inactive"]:
        text += f"; {layer['inactive']} of them are inactive"
    text += f"; the strongest is unit {layer['strongest'][0]}"
    if layer["size"]:
        text += f", and {format_percent(layer['zero_fraction'], 0)} of all activations are zero"
    return f"{text}."


def _describe_filters(filters: FilterNumbers) -> str:
    return (
        f"{len(filters['units'])} of the {filters['count']} filters of {_shorten(filters['layer'])}, with their output "
        "before the activation function: blue where the pixels match the filter, orange where they match its opposite."
    )


def _describe_units(layer_units: LayerUnits) -> str:
    text = f"Training images with the highest activation of units of {_shorten(layer_units['layer'])}"
    active = []
    for unit in layer_units["units"]:
        if unit["images"]:
            active.append(unit)
    if not active:
        return f"{text}: none, because no unit is active."
    purest = max(active, key=lambda unit: unit["majority_count"])
    count = f"{purest['majority_count']} of {len(purest['images'])}"
    majority_class = _shorten(purest["majority_class"] or "")
    return f"{text}; the purest unit here is {purest['unit']}: {count} are {majority_class}."


def _describe_purity(training: TrainingNumbers) -> str:
    return (
        f"Purity of all units of each layer: the fraction of the {training['top_k']} top images that belong to one "
        f"class; {format_percent(training['chance_purity'], 0)} for random images."
    )
