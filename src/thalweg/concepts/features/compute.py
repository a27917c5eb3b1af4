"""Feature maps, filters, and the images that activate units most (Zeiler and Fergus 2014).

N images, C units, H W pixels, K classes, T top images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attribution import unit_activations as units
from ...attribution.explain_image import first_layer_filters
from ...attribution.hooks import CapturedLayer
from ...config.parsing import Range
from ...errors import NonFiniteError, NotFoundError, OptionError
from ...registry import register_concept
from ..base import ConceptResult, load_text
from .records import (
    ClassProbability,
    FeatureNumbers,
    FilterNumbers,
    LayerNumbers,
    LayerUnits,
    TopImage,
    TrainingNumbers,
    UnitNumbers,
)

TEXT = load_text(__package__)

#: maximum number of feature maps or neurons shown per layer
MAX_UNITS = 16
#: maximum number of filters shown
MAX_FILTERS = 24
#: number of classes shown with their probability
TOP_CLASSES = 5
#: maximum height and width of a feature map in the numbers; larger maps are downsampled
MAX_MAP_SIZE = 64
#: number of layers whose units are shown if none is named
NUM_LAYERS = 3
#: significant digits of the numbers of a layer, relative to the largest
SIGNIFICANT_DIGITS = 5


class ExampleSet(Protocol):
    """Images (N, H, W, C) uint8 with their labels (N,) and the source of each."""

    images: np.ndarray
    labels: np.ndarray
    sources: Sequence[str]


@dataclass(frozen=True)
class FeatureSettings:
    """Settings of the concept."""

    layer: Annotated[str, "name of the layer whose units are shown; auto: up to three, from the first to the last"] = (
        "auto"
    )
    units: Annotated[int, "units shown per layer, those with the highest activation for this image", Range(1, 10)] = 4
    top_k: Annotated[int, "top images shown per unit", Range(2, 16)] = 8
    images: Annotated[int, "training images searched for the top images", Range(2, 100_000)] = 500
    seed: Annotated[int, "seed of the sample of training images, and of the test image", Range(0, 2**31)] = 0


@dataclass(frozen=True)
class FeatureInputs:
    """What the concept explains: a model and an image.

    `x_1CHW` is the preprocessed image and `probability_K` the prediction. `training` has the images searched for the
    top images; `preprocess` preprocesses a batch of them, and `batch_size` is the batch size.
    """

    model: nn.Module
    x_1CHW: Tensor
    image_HWC: np.ndarray
    classes: Sequence[str]
    probability_K: np.ndarray
    training: ExampleSet | None = None
    preprocess: Callable[[np.ndarray], Tensor] | None = None
    batch_size: int = 64
    title: str = ""
    notes: Sequence[str] = ()


@register_concept(TEXT, FeatureSettings, input_kind="image_and_model")
def features(settings: FeatureSettings, **inputs: Any) -> ConceptResult:
    """Show feature maps, filters, and the top images of units.

    Args:
        settings: Layer and numbers of units and images.
        **inputs: The fields of `FeatureInputs`.

    Returns:
        Numbers and frames.

    Raises:
        NotFoundError: The model has no layer of this name.
        OptionError: No layer of the model outputs feature maps or neurons.
        NonFiniteError: The prediction is NaN or inf.
    """
    from .captions import build_frames, describe_key_numbers

    data = FeatureInputs(**inputs)
    if not np.isfinite(data.probability_K).all():
        raise NonFiniteError("The prediction is NaN or inf.", cure="The weights are not finite: train the model again.")
    layers = _select_layers(units.all_layers(data.model, data.x_1CHW), settings.layer)
    modules = {layer.name: layer.layer for layer in layers}
    outputs = units.layer_outputs(data.model, data.x_1CHW, modules)
    numbers: FeatureNumbers = {
        "title": data.title,
        "predictions": _top_classes(data.probability_K, data.classes),
        "layers": _summarize_layers(layers, outputs, data.classes),
        "filters": _first_layer_filters(data.model, data.x_1CHW),
        "training": None,
        "units": [],
    }
    top_images: dict[int, np.ndarray] = {}
    if data.training is not None and data.preprocess is not None:
        search = UnitSearch(data.model, data.training, data.preprocess, data.batch_size, data.classes)
        peaks = search.max_activations(modules)
        numbers["training"] = _add_purity(numbers["layers"], peaks, data.training.labels, settings)
        for name in _choose_unit_layers(numbers["layers"], settings.layer):
            peak_C = outputs[name].flatten(1).amax(1).numpy()
            unit_numbers = search.describe_units(peak_C, peaks[name], settings)
            search.add_patches(unit_numbers, modules[name])
            numbers["units"].append({"layer": name, "units": unit_numbers})
        top_images = _collect_images(numbers["units"], data.training.images)
    frames = build_frames(numbers, data.image_HWC, top_images)
    # the units of the last layer are the most informative frame; without them, the feature maps of the first layer
    key_frame = len(frames) - 2 if numbers["units"] else 1
    return ConceptResult(dict(numbers), frames, describe_key_numbers(numbers), key_frame, list(data.notes))


# --- layers of one image ----------------------------------------------------------------------------------------------


def _select_layers(all_layers: list[CapturedLayer], name: str) -> list[CapturedLayer]:
    """Select the layers to show, in forward order. Raises NotFoundError for an unknown name, OptionError for none."""
    layers = units.representative_layers(all_layers)
    last_index = {layer.name: index for index, layer in enumerate(all_layers)}
    if name != "auto":
        if name not in last_index:
            raise NotFoundError.for_unknown("layer", name, last_index)
        layers = [*layers, all_layers[last_index[name]]]
    if not layers:
        raise OptionError(
            "No layer of this model outputs feature maps or neurons.",
            cure="Name another model, such as digits-lenet.",
            option="layer",
            value=name,
            allowed=list(last_index),
        )
    unique = {layer.name: layer for layer in layers}
    return sorted(unique.values(), key=lambda layer: last_index[layer.name])


def _top_classes(probability_K: np.ndarray, classes: Sequence[str]) -> list[ClassProbability]:
    """Return the most probable classes, the first one first."""
    order = np.argsort(-probability_K, kind="stable")[:TOP_CLASSES]
    top: list[ClassProbability] = []
    for k in order:
        top.append({"name": classes[int(k)], "probability": float(probability_K[k])})
    return top


def _summarize_layers(
    layers: Sequence[CapturedLayer], outputs: Mapping[str, Tensor], classes: Sequence[str]
) -> list[LayerNumbers]:
    """Summarize every layer. The units of the last layer may be the classes."""
    summaries = []
    for layer in layers[:-1]:
        summaries.append(_summarize_layer(layer, outputs[layer.name], ()))
    last = layers[-1]
    return [*summaries, _summarize_layer(last, outputs[last.name], classes)]


def _summarize_layer(layer: CapturedLayer, output_CHW: Tensor, classes: Sequence[str]) -> LayerNumbers:
    """Return the strongest units of a layer: a feature map or a number each."""
    count, height, width = output_CHW.shape
    is_zero_CHW = output_CHW == 0
    strength_C = _activation_strength(output_CHW)
    order_N = strength_C.argsort(descending=True, stable=True)[:MAX_UNITS]
    numbers: LayerNumbers = {
        "name": layer.name,
        "kind": type(layer.layer).__name__,
        "units": count,
        "size": None,
        "inactive": int(is_zero_CHW.flatten(1).all(1).sum()),
        "zero_fraction": float(is_zero_CHW.float().mean()),
        "strongest": order_N.tolist(),
        "strength": _round_values(strength_C[order_N]),
        "maps": None,
        "classes": None,
        "purity": None,
    }
    if height * width > 1:
        numbers["size"] = [height, width]
        numbers["maps"] = _round_values(_downsample_maps(output_CHW[order_N]))
    if len(classes) == count:
        numbers["classes"] = [classes[int(k)] for k in order_N]
    return numbers


def _activation_strength(output_CHW: Tensor) -> Tensor:
    """Return the root mean square of each feature map, or the signed activation of each neuron."""
    is_map = output_CHW.shape[1:].numel() > 1
    if is_map:
        return output_CHW.square().mean((1, 2)).sqrt()
    return output_CHW[:, 0, 0]


def _downsample_maps(maps_NHW: Tensor) -> Tensor:
    """Average maps over areas so that both sides have at most MAX_MAP_SIZE pixels."""
    longer = max(maps_NHW.shape[1:])
    if longer <= MAX_MAP_SIZE:
        return maps_NHW
    height = max(1, round(maps_NHW.shape[1] * MAX_MAP_SIZE / longer))
    width = max(1, round(maps_NHW.shape[2] * MAX_MAP_SIZE / longer))
    return F.adaptive_avg_pool2d(maps_NHW, (height, width))


def _round_values(tensor: Tensor) -> list[Any]:
    """Return a tensor as lists, rounded to SIGNIFICANT_DIGITS digits of the largest value."""
    values = tensor.double().numpy()
    largest = np.abs(values).max(initial=0)
    decimals = 0
    if largest:
        decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(largest))
    return np.round(values, decimals).tolist()


def _first_layer_filters(model: nn.Module, x_1CHW: Tensor) -> FilterNumbers | None:
    """Return the strongest filters of the first layer, with their outputs before the activation function."""
    weight_OCHW = first_layer_filters(model, x_1CHW)
    if weight_OCHW is None:
        return None
    name, layer = _first_weighted_layer(model)
    output_CHW = units.layer_outputs(model, x_1CHW, {name: layer})[name]
    order_N = _activation_strength(output_CHW).argsort(descending=True, stable=True)[:MAX_FILTERS]
    numbers: FilterNumbers = {
        "layer": name,
        "count": len(weight_OCHW),
        "size": list(weight_OCHW.shape[1:]),
        "units": order_N.tolist(),
        "weights": _round_values(torch.from_numpy(weight_OCHW)[order_N]),
        "maps": None,
        "pre_activations": None,
    }
    if output_CHW.shape[1:].numel() > 1:
        numbers["maps"] = _round_values(_downsample_maps(output_CHW[order_N]))
    else:
        numbers["pre_activations"] = _round_values(output_CHW[order_N, 0, 0])
    return numbers


def _first_weighted_layer(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the first layer with a weight matrix or kernel, and its name."""
    for name, layer in model.named_modules():
        if any(param.ndim in (2, 4) for param in layer.parameters(recurse=False)):
            return name, layer
    raise LookupError("the model has no weights")


# --- top images of units ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnitSearch:
    """Search training images for those that activate units most."""

    model: nn.Module
    training: ExampleSet
    preprocess: Callable[[np.ndarray], Tensor]
    batch_size: int
    classes: Sequence[str]

    def max_activations(self, layers: Mapping[str, nn.Module]) -> dict[str, np.ndarray]:
        """Return the maximum activation (N, C) of each unit for each training image, by layer."""
        return units.max_activations(self.model, self._iter_batches(), layers)

    def _iter_batches(self) -> Iterator[Tensor]:
        for start in range(0, len(self.training.labels), self.batch_size):
            yield self.preprocess(self.training.images[start : start + self.batch_size])

    def describe_units(self, peak_C: np.ndarray, peak_NC: np.ndarray, settings: FeatureSettings) -> list[UnitNumbers]:
        """Return the most active units with their top images; patches are added by `add_patches`.

        Args:
            peak_C: Maximum activation of each unit for the explained image.
            peak_NC: The same for each training image.
            settings: Numbers of units and of top images.

        Returns:
            The units, the most active first.
        """
        unit_numbers: list[UnitNumbers] = []
        for unit in units.top_images(peak_C, settings.units).tolist():
            top_T = units.top_images(peak_NC[:, unit], settings.top_k)
            majority_class = None
            majority_count = 0
            if len(top_T):
                k, majority_count = units.majority_class(self.training.labels[top_T])
                majority_class = self.classes[k]
            images = []
            for index in top_T.tolist():
                images.append(self._describe_image(index, float(peak_NC[index, unit])))
            unit_numbers.append(
                {
                    "unit": unit,
                    "activation": float(peak_C[unit]),
                    "percentile": float((peak_NC[:, unit] < peak_C[unit]).mean()),
                    "majority_class": majority_class,
                    "majority_count": majority_count,
                    "images": images,
                }
            )
        return unit_numbers

    def _describe_image(self, index: int, activation: float) -> TopImage:
        return {
            "index": index,
            "source": str(self.training.sources[index]),
            "label": self.classes[int(self.training.labels[index])],
            "activation": activation,
            "patch": None,
        }

    def add_patches(self, unit_numbers: list[UnitNumbers], layer: nn.Module) -> None:
        """Set the patch of each top image: the pixels that the activation depends on."""
        pairs = []
        for unit in unit_numbers:
            for image in unit["images"]:
                pairs.append((unit["unit"], image))
        for start in range(0, len(pairs), self.batch_size):
            batch = pairs[start : start + self.batch_size]
            unit_B = []
            index_B = []
            for unit, image in batch:
                unit_B.append(unit)
                index_B.append(image["index"])
            x_BCHW = self.preprocess(self.training.images[index_B])
            patches = units.receptive_patches(self.model, x_BCHW, layer, unit_B)
            for (_, image), patch in zip(batch, patches, strict=True):
                if patch is not None:
                    image["patch"] = list(patch)


def _add_purity(
    layers: list[LayerNumbers], peaks: Mapping[str, np.ndarray], label_N: np.ndarray, settings: FeatureSettings
) -> TrainingNumbers:
    """Set the purity of each layer and return the purity of random images."""
    top_k = min(settings.top_k, len(label_N))
    for layer in layers:
        purity_C = units.purity(peaks[layer["name"]], label_N, top_k)
        counts_C = np.round(purity_C * top_k).astype(int)
        mean = None
        if len(purity_C):
            mean = float(purity_C.mean())
        layer["purity"] = {
            "units": len(purity_C),
            "mean": mean,
            "histogram": np.bincount(counts_C, minlength=top_k + 1).tolist(),
        }
    chance = units.chance_purity(label_N, top_k, settings.seed)
    return {"images": len(label_N), "top_k": top_k, "chance_purity": chance}


def _choose_unit_layers(layers: list[LayerNumbers], name: str) -> list[str]:
    """Return the names of the layers whose units are shown; a layer whose units are the classes only if alone."""
    if name != "auto":
        return [name]
    hidden = []
    for layer in layers:
        if not layer["classes"]:
            hidden.append(layer)
    return [layer["name"] for layer in units.pick_evenly(hidden or layers, NUM_LAYERS)]


def _collect_images(layer_units: list[LayerUnits], images_NHWC: np.ndarray) -> dict[int, np.ndarray]:
    """Return the top images of all units by index."""
    indices = set()
    for layer in layer_units:
        for unit in layer["units"]:
            indices.update(image["index"] for image in unit["images"])
    images = {}
    for index in sorted(indices):
        images[index] = images_NHWC[index]
    return images
