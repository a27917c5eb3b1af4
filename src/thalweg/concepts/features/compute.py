"""What the layers of a network answer to a picture, and what its units look for (Zeiler and Fergus 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attribution import unit_activations as units
from ...attribution.explain_image import first_layer_filters
from ...attribution.hooks import CapturedLayer
from ...config.options import Range
from ...errors import NonFiniteError, NotFoundError, OptionError
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

TEXT = load_text(__package__)

#: maps, filters and classes shown; pixels of a map along its longer side, above which it is shown smaller
MAX_UNITS, MAX_FILTERS, TOP_CLASSES, MAX_MAP_SIZE = 16, 24, 5, 64
#: layers whose units are shown, if none is named
NUM_LAYERS = 3
#: significant digits of the maps in the numbers
SIGNIFICANT_DIGITS = 5


class ExampleSet(Protocol):
    """Pictures (N, H, W, C) uint8 with their labels (N,) and where each comes from."""

    images: np.ndarray
    labels: np.ndarray
    sources: Sequence[str]


@dataclass(frozen=True)
class FeatureSettings:
    """What can be set: whose units are shown, how many, and among how many pictures their best ones are sought."""

    layer: Annotated[str, "layer whose units are shown, by name; each: up to three, from the first to the last"] = (
        "each"
    )
    units: Annotated[int, "units shown of a layer, those that answer this picture most strongly", Range(1, 10)] = 4
    top: Annotated[int, "pictures shown for each unit", Range(2, 16)] = 8
    pictures: Annotated[
        int, "pictures, of the training set, among which the best ones are sought", Range(2, 100_000)
    ] = 500
    seed: Annotated[int, "seed of which of them, and which test picture, are taken", Range(0, 2**31)] = 0


@register_concept(TEXT, FeatureSettings, input_kind="image_and_model")
def features(
    settings: FeatureSettings,
    network: nn.Module,
    x_1CHW: Tensor,
    picture_HWC: np.ndarray,
    classes: Sequence[str],
    probability_K: np.ndarray,
    training: ExampleSet | None = None,
    prepared: Callable[[np.ndarray], Tensor] | None = None,
    at_once: int = 64,
    told: str = "",
    notes: Sequence[str] = (),
) -> ConceptResult:
    """Maps, filters and the best pictures of units, for the picture `x_1CHW`, to which the answer is `probability_K`.

    `training` are pictures whose answers are compared, `prepared` makes of them what the network reads, `at_once` at a
    time. Raises NotFound for a layer that the network does not have, OptionError for a network in which no layer
    answers with units, NonFinite for an answer that is no number.
    """
    if not np.isfinite(probability_K).all():
        raise NonFiniteError(
            "The network's answer is not a number.", cure="Its weights are not finite: train it again."
        )
    road = {one.name: one for one in _select_layers(units.all_layers(network, x_1CHW), settings.layer)}
    layers = {name: one.layer for name, one in road.items()}
    found = units.layer_outputs(network, x_1CHW, layers)
    last = list(road.values())[-1]
    likeliest = np.argsort(-probability_K, kind="stable")[:TOP_CLASSES]
    numbers: dict[str, Any] = {
        "told": told,
        "answers": [{"class": classes[k], "probability": float(probability_K[k])} for k in likeliest],
        "layers": [_summarize_layer(one, found[name], classes if one is last else ()) for name, one in road.items()],
        "filters": _first_layer_filters(network, x_1CHW),
        "training": None,
        "units": [],
    }
    pictures: dict[int, np.ndarray] = {}
    if training is not None:
        batches = (prepared(training.images[at : at + at_once]) for at in range(0, len(training.labels), at_once))
        peaks = units.max_activations(network, batches, layers)
        numbers["training"] = _add_purity(numbers["layers"], peaks, training.labels, settings)
        for name in _choose_unit_layers(numbers["layers"], settings.layer):
            best = _strongest_units(settings, found[name], peaks[name], training, classes)
            _add_patches(best, network, layers[name], training, prepared, at_once)
            numbers["units"].append({"layer": name, "units": best})
        rows = {place["row"] for shown in numbers["units"] for unit in shown["units"] for place in unit["pictures"]}
        pictures = {row: training.images[row] for row in sorted(rows)}
    frames = _build_frames(numbers, picture_HWC, pictures)
    # the units of the last layer say most; without them, the maps of the first
    still = len(frames) - 2 if numbers["units"] else 1
    return ConceptResult(numbers, frames, _key_numbers(numbers), still, list(notes))


def _select_layers(every: list[CapturedLayer], named: str) -> list[CapturedLayer]:
    """The layers to be shown, in the order of their answers, the named one among them. Raises NotFound, OptionError."""
    road = units.representative_layers(every)
    last = {one.name: place for place, one in enumerate(every)}
    if named != "each":
        if named not in last:
            raise NotFoundError.for_unknown("layer", named, last)
        road = [*road, every[last[named]]]
    if not road:
        raise OptionError("No layer of this network answers with maps or neurons, so there is nothing to look at.")
    return sorted({one.name: one for one in road}.values(), key=lambda one: last[one.name])


def _summarize_layer(one: CapturedLayer, answer_CHW: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Which units answer most strongly, and what: maps, or a number each. `classes` are given if they are the units."""
    count, height, width = answer_CHW.shape
    is_map = height * width > 1
    strength_C = _activation_strength(answer_CHW)
    order_N = strength_C.argsort(descending=True, stable=True)[:MAX_UNITS]
    return {
        "name": one.name,
        "kind": type(one.layer).__name__,
        "units": count,
        "size": [height, width] if is_map else None,
        "silent": int((answer_CHW == 0).flatten(1).all(1).sum()),
        "zero": float((answer_CHW == 0).float().mean()),
        "strongest": order_N.tolist(),
        "strength": _round_values(strength_C[order_N]),
        "maps": _round_values(_downsample_maps(answer_CHW[order_N])) if is_map else None,
        "classes": [classes[k] for k in order_N] if len(classes) == count else None,
    }


def _activation_strength(answer_CHW: Tensor) -> Tensor:
    """Of a map the root mean square; of a neuron its answer, as the likeliest class comes first."""
    is_map = answer_CHW.shape[1:].numel() > 1
    return answer_CHW.square().mean((1, 2)).sqrt() if is_map else answer_CHW[:, 0, 0]


def _downsample_maps(maps_NHW: Tensor) -> Tensor:
    """Maps of at most `MAX_MAP_SIZE` pixels: of larger ones, means over areas."""
    longer = max(maps_NHW.shape[1:])
    if longer <= MAX_MAP_SIZE:
        return maps_NHW
    return F.adaptive_avg_pool2d(maps_NHW, [max(1, round(side * MAX_MAP_SIZE / longer)) for side in maps_NHW.shape[1:]])


def _round_values(values: Tensor) -> list:
    """As a list, to `SIGNIFICANT_DIGITS` digits of the largest value, which is more than can be seen."""
    values = values.double().numpy()
    largest = np.abs(values).max(initial=0)
    return np.round(values, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(largest)) if largest else 0).tolist()


def _first_layer_filters(network: nn.Module, x_1CHW: Tensor) -> dict[str, Any] | None:
    """The filters of the first layer whose answer to this picture is strongest, and that answer, before activation."""
    weight_OCHW = first_layer_filters(network, x_1CHW)
    if weight_OCHW is None:
        return None
    first = next(
        (name, layer)
        for name, layer in network.named_modules()
        if any(weight.ndim in (2, 4) for weight in layer.parameters(recurse=False))
    )
    (answer_CHW,) = units.layer_outputs(network, x_1CHW, dict([first])).values()
    order_N = _activation_strength(answer_CHW).argsort(descending=True, stable=True)[:MAX_FILTERS]
    is_map = answer_CHW.shape[1:].numel() > 1
    return {
        "layer": first[0],
        "of": len(weight_OCHW),
        "size": list(weight_OCHW.shape[1:]),
        "units": order_N.tolist(),
        "weights": _round_values(torch.from_numpy(weight_OCHW)[order_N]),
        "maps": _round_values(_downsample_maps(answer_CHW[order_N])) if is_map else None,
        "sums": None if is_map else _round_values(answer_CHW[order_N, 0, 0]),
    }


def _add_purity(
    layers: list[dict], peaks: dict[str, np.ndarray], label_N: np.ndarray, settings: FeatureSettings
) -> dict[str, Any]:
    """Adds to each layer how many of the best pictures of each of its units are of one class; what chance would do."""
    top = min(settings.top, len(label_N))
    for layer in layers:
        share_C = units.purity(peaks[layer["name"]], label_N, top)
        layer["purity"] = {
            "units": len(share_C),
            "mean": float(share_C.mean()) if len(share_C) else None,
            "of": np.bincount(np.round(share_C * top).astype(int), minlength=top + 1).tolist(),
        }
    return {"pictures": len(label_N), "top": top, "chance": units.chance_purity(label_N, top, settings.seed)}


def _choose_unit_layers(layers: list[dict[str, Any]], named: str) -> list[str]:
    """The layers whose units are shown: not the last, whose units are the classes, where there are others."""
    if named != "each":
        return [named]
    return [
        layer["name"]
        for layer in units.pick_evenly([one for one in layers if not one["classes"]] or layers, NUM_LAYERS)
    ]


def _strongest_units(
    settings: FeatureSettings, answer_CHW: Tensor, peak_NC: np.ndarray, training: ExampleSet, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The units that answer this picture most strongly, each with its best pictures and their commonest class."""
    peak_C = answer_CHW.flatten(1).amax(1).numpy()
    found = []
    for unit in units.top_images(peak_C, settings.units).tolist():
        row_T = units.top_images(peak_NC[:, unit], settings.top)
        common, count = units.majority_class(training.labels[row_T]) if len(row_T) else (None, 0)
        found.append(
            {
                "unit": unit,
                "answer": float(peak_C[unit]),
                "above": float((peak_NC[:, unit] < peak_C[unit]).mean()),
                "class": None if common is None else classes[common],
                "of_class": count,
                "pictures": [
                    {
                        "row": row,
                        "source": str(training.sources[row]),
                        "class": classes[training.labels[row]],
                        "answer": float(peak_NC[row, unit]),
                    }
                    for row in row_T.tolist()
                ],
            }
        )
    return found


def _add_patches(
    best: list[dict[str, Any]],
    network: nn.Module,
    layer: nn.Module,
    training: ExampleSet,
    prepared: Callable[[np.ndarray], Tensor],
    at_once: int,
) -> None:
    """Adds to each of the best pictures the patch that the answer depends on."""
    pairs = [(unit["unit"], place) for unit in best for place in unit["pictures"]]
    for at in range(0, len(pairs), at_once):
        unit_B, places = zip(*pairs[at : at + at_once], strict=True)
        x_BCHW = prepared(training.images[[place["row"] for place in places]])
        for place, box in zip(places, units.receptive_patches(network, x_BCHW, layer, unit_B), strict=True):
            place["patch"] = box and list(box)


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    from ...plots.style import format_percent

    answer, training = numbers["answers"][0], numbers["training"]
    figures = {
        "answer": f"{answer['class']} ({format_percent(answer['probability'])})",
        "layers shown": ", ".join(layer["name"] for layer in numbers["layers"]),
    }
    if training:
        means = [one["purity"]["mean"] for one in numbers["layers"] if one["purity"]["mean"] is not None]
        told = (
            " to ".join(format_percent(mean, 0) for mean in dict.fromkeys((means[0], means[-1]))) if means else "none"
        )
        figures["best pictures of one class"] = (
            f"{told}, first to last layer; {format_percent(training['chance'], 0)} by chance"
        )
    return figures


def _build_frames(numbers: dict[str, Any], picture_HWC: np.ndarray, pictures: dict[int, np.ndarray]) -> list[Frame]:
    from ...plots.style import ellipsize, format_percent
    from . import plot as draw

    answer, training = numbers["answers"][0], numbers["training"]
    told = (
        f"The network takes this picture for {ellipsize(answer['class'], 40)} ({format_percent(answer['probability'])})"
    )
    frames = [Frame(f"{told}; what it answers on the way comes next.", draw.plot_overview, (numbers, picture_HWC))]
    for place, layer in enumerate(numbers["layers"]):
        frames.append(Frame(_layer_caption(layer), draw.plot_layer, (numbers, place, picture_HWC)))
    if shown := numbers["filters"]:
        told = f"{len(shown['units'])} of the {shown['of']} filters of {ellipsize(shown['layer'], 40)} and their answers to "
        told += (
            "this picture before the activation: blue where the pixels fit the filter, orange where the opposite does."
        )
        frames.append(Frame(told, draw.plot_filters, (numbers,)))
    for place, shown in enumerate(numbers["units"]):
        frames.append(Frame(_units_caption(shown), draw.plot_units, (numbers, place, pictures)))
    if training:
        told = (
            f"How many of the {training['top']} best pictures of a unit are of one class, for all units of each layer; "
        )
        told += f"{format_percent(training['chance'], 0)} would be chance."
        frames.append(Frame(told, draw.plot_purity, (numbers,)))
    return frames


def _layer_caption(layer: dict[str, Any]) -> str:
    from ...plots.style import ellipsize, format_percent

    name, strongest = f"{ellipsize(layer['name'], 40)} ({layer['kind']})", layer["strongest"][0]
    if layer["classes"]:
        what = "map" if layer["size"] else "number"
        return (
            f"{name} answers with a {what} for each class; the largest is that of {ellipsize(layer['classes'][0], 40)}."
        )
    silent = f"; {layer['silent']} of them are silent" if layer["silent"] else ""
    if not layer["size"]:
        return f"{name} answers with {layer['units']} numbers{silent}; the largest is that of unit {strongest}."
    size = " x ".join(map(str, reversed(layer["size"])))
    told = f"{name} answers with {layer['units']} maps of {size}{silent}; the strongest is that of unit {strongest}"
    return f"{told}, and {format_percent(layer['zero'], 0)} of all values are zero."


def _units_caption(shown: dict[str, Any]) -> str:
    from ...plots.style import ellipsize

    told = f"Pictures that units of {ellipsize(shown['layer'], 40)} answer most strongly"
    known = [unit for unit in shown["units"] if unit["pictures"]]
    if not known:
        return f"{told}: none, as no unit answers."
    purest = max(known, key=lambda unit: unit["of_class"])
    of = f"{purest['of_class']} of {len(purest['pictures'])}"
    return f"{told}; the purest unit here is {purest['unit']}: {of} are {ellipsize(purest['class'], 40)}."
