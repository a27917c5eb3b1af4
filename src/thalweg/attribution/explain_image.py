"""Explain a prediction: one image, every attribution method that works for the model, one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from ..errors import NonFiniteError, NotFoundError, OptionError
from .feature_maps import FeatureMaps, feature_maps
from .grad_cam import grad_cam
from .hooks import class_logits, eval_mode, single_image, unknown_class_error
from .integrated_gradients import integrated_gradients
from .occlusion import occlusion

#: note on maps of layers if the prediction averages over views of the image
TTA_NOTE = "Maps are of the image as it is; the prediction is averaged over views of it."
#: integrated gradients whose sum misses the change of the logit by more than this fraction of it get a note
MAX_COMPLETENESS_GAP = 0.05


class InputImage(NamedTuple):
    """One image: as the model reads it, and its pixels, and a black image as the model reads it.

    Without a black image, integrated gradients use zeros, the mean color, as the baseline.
    """

    x_1CHW: Tensor
    image_HWC: UInt8[np.ndarray, "H W C"]
    black_1CHW: Tensor | None = None


class AttributionMap(NamedTuple):
    """The attribution of every pixel by one method."""

    #: name of the method for readers, and a line about this map
    title: str
    caption: str
    #: float32, in the unit of the method
    heat_HW: Float[np.ndarray, "H W"]
    #: further results, as JSON values
    numbers: dict[str, Any]
    #: why the map is not reliable, if it is not
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """What in an image the probability of a class depends on.

    `target` is the index of the class, `label` its name. `predictions` are the five most probable classes with their
    probabilities, and the target if it is not among them. `attributions` are the maps by method, `layers` the feature
    maps, `filters` the weights (O, C, h, w) of the first layer. `notes` say by method why its result is missing or not
    reliable.
    """

    target: int
    label: str
    probability: float
    predictions: list[tuple[str, float]]
    image_HWC: UInt8[np.ndarray, "H W C"] = field(repr=False)
    attributions: dict[str, AttributionMap] = field(repr=False)
    layers: list[FeatureMaps] = field(repr=False)
    filters: Float[np.ndarray, "O C h w"] | None = field(repr=False)
    notes: dict[str, str]

    def json(self) -> dict[str, Any]:
        """Return {"target", "label", "probability", "top": [{"label", "probability"}, …], "methods", "notes"}."""
        methods: dict[str, Any] = {}
        for method, result in self.attributions.items():
            methods[method] = result.numbers
        if self.layers:
            methods["feature-maps"] = list(map(FeatureMaps.json, self.layers))
        top: list[dict[str, Any]] = []
        for label, probability in self.predictions:
            top.append({"label": label, "probability": probability})
        return {
            "target": self.target,
            "label": self.label,
            "probability": self.probability,
            "top": top,
            "methods": methods,
            "notes": self.notes,
        }

    def draw(self) -> Image.Image:
        """Draw the image, the map of each method, and the most probable classes, side by side."""
        from ..plots.attribution import Panel, plot_attribution_panels

        panels: list[Panel] = []
        for result in self.attributions.values():
            panels.append(Panel(result.title, result.heat_HW, result.note or result.caption))
        return plot_attribution_panels(self.image_HWC, panels, self.predictions, self.label)

    def images(self) -> dict[str, Image.Image]:
        """Draw everything, by file name without suffix: attribution, feature-maps, filters."""
        from ..plots.feature_maps import plot_feature_maps
        from ..plots.image_grid import plot_filters

        plots = {"attribution": self.draw()}
        if self.layers:
            plots["feature-maps"] = plot_feature_maps(self.layers)
        if self.filters is not None:
            plots["filters"] = plot_filters(self.filters, title="Filters of the first layer")
        return plots


def _run_grad_cam(model: nn.Module, image: InputImage, target: int) -> AttributionMap:
    heat_HW, coarse_hw, layer = grad_cam(model, image.x_1CHW, target)
    height, width = coarse_hw.shape
    note = ""
    if not coarse_hw.any():
        note = "The last maps contain no evidence for this class."
    numbers = {"layer": layer, "map": coarse_hw.tolist()}
    return AttributionMap("Grad-CAM", f"{height} x {width} map of {layer}", heat_HW, numbers, note)


def _run_integrated_gradients(model: nn.Module, image: InputImage, target: int) -> AttributionMap:
    attributions_CHW, change, gap = integrated_gradients(model, image.x_1CHW, target, image.black_1CHW)
    total = change + gap
    note = ""
    if abs(gap) > MAX_COMPLETENESS_GAP * abs(change):
        note = f"The attributions add up to {total:.3g}; exact ones would add up to {change:.3g}."
    numbers = {"change": change, "sum": total, "gap": gap}
    caption = f"the logit changed by {change:+.2f}; the pixels add up to {total:+.2f}"
    return AttributionMap("Integrated gradients", caption, _box_blur(attributions_CHW.sum(0)), numbers, note)


def _run_occlusion(model: nn.Module, image: InputImage, target: int) -> AttributionMap:
    drop_HW, drop_RS, patch, stride = occlusion(model, image.x_1CHW, target)
    max_drop = float(drop_RS.max())
    min_drop = float(drop_RS.min())
    numbers = {"patch": patch, "stride": stride, "largest": max_drop, "map": drop_RS.tolist()}
    # from 0, because the negative of 0.0 would print as -0
    changes = f"{0 - max_drop:+.2g} to {0 - min_drop:+.2g}"
    caption = f"covering {patch} x {patch} pixels changes the probability by {changes}"
    return AttributionMap("Occlusion", caption, drop_HW, numbers)


_ATTRIBUTION_METHODS: dict[str, Callable[[nn.Module, InputImage, int], AttributionMap]] = {
    "grad-cam": _run_grad_cam,
    "integrated-gradients": _run_integrated_gradients,
    "occlusion": _run_occlusion,
}
METHODS = (*_ATTRIBUTION_METHODS, "feature-maps")
#: methods that read the layers of the model itself, and not its average over views
_LAYER_METHODS = ("grad-cam", "feature-maps")


def explain_image(
    model: nn.Module,
    image: InputImage,
    classes: Sequence[str],
    methods: Sequence[str] = METHODS,
    target: int | str | None = None,
    tta_model: nn.Module | None = None,
) -> Explanation:
    """Explain a model's prediction for an image.

    A method that does not work for the model is left out, with the reason in `notes`.

    Args:
        model: a classifier.
        image: the image as the model reads it, and its pixels.
        classes: names of the classes.
        methods: names out of METHODS.
        target: index or name of the class to explain; by default the most probable one.
        tta_model: what computes the logits if they are averaged over views of the image; all methods but those on
            feature maps then explain that average.

    Returns:
        The results of all methods.

    Raises:
        NotFoundError: an unknown method or class name.
        OptionError: no method, or pixels or class names that do not fit.
        NonFiniteError: the logits are NaN or inf.
    """
    _check_methods(methods)
    predictor = tta_model or model
    probability_K = _predict_proba(predictor, image.x_1CHW)
    index = _class_index(target, classes, probability_K)
    _check_size(image)
    attributions: dict[str, AttributionMap] = {}
    layers: list[FeatureMaps] = []
    filters: np.ndarray | None = None
    notes: dict[str, str] = {}
    for method in methods:
        note = ""
        explained = predictor
        if method in _LAYER_METHODS:
            explained = model
            if predictor is not model:
                note = TTA_NOTE
        try:
            if method == "feature-maps":
                filters = first_layer_filters(model, image.x_1CHW)
                layers = feature_maps(model, image.x_1CHW)
            else:
                result = _ATTRIBUTION_METHODS[method](explained, image, index)
                attributions[method] = result
                note = f"{result.note} {note}".strip()
        except OptionError as error:
            note = error.message
        if note:
            notes[method] = note
    predictions: list[tuple[str, float]] = []
    for class_index in _top_classes(probability_K, index):
        predictions.append((classes[class_index], float(probability_K[class_index])))
    return Explanation(
        target=index,
        label=classes[index],
        probability=float(probability_K[index]),
        predictions=predictions,
        image_HWC=image.image_HWC,
        attributions=attributions,
        layers=layers,
        filters=filters,
        notes=notes,
    )


def _check_methods(methods: Sequence[str]) -> None:
    if not methods:
        raise OptionError(
            "methods: none; expected at least one.",
            cure=f"Use some of {', '.join(METHODS)}.",
            option="methods",
            value=methods,
            allowed=METHODS,
        )
    for method in methods:
        if method not in METHODS:
            raise NotFoundError.for_unknown("method", method, METHODS)


def _check_size(image: InputImage) -> None:
    pixels = tuple(image.image_HWC.shape[:2])
    size = tuple(image.x_1CHW.shape[2:])
    if pixels != size:
        raise OptionError(
            f"image_HWC: {pixels} pixels; expected the {size} of the tensor.",
            cure="Pass the pixels that the tensor was made of.",
            option="image_HWC",
            value=pixels,
            allowed=(size,),
        )


def _top_classes(probability_K: np.ndarray, target: int) -> list[int]:
    """Return the indices of the five most probable classes, and the target."""
    top: list[int] = np.argsort(-probability_K, kind="stable")[:5].tolist()
    if target not in top:
        top.append(target)
    return top


def first_layer_filters(model: nn.Module, x_1CHW: Tensor) -> Float[np.ndarray, "O C h w"] | None:
    """Return the first layer's weights (O, C, h, w), of a dense layer in the image's shape; None if they do not fit."""
    weight = next((param for param in model.parameters() if param.ndim in (2, 4)), None)
    if weight is None:
        return None
    if weight.ndim == 4:
        return weight.detach().float().cpu().numpy()
    if weight.shape[1] != x_1CHW[0].numel():
        return None
    return weight.detach().unflatten(1, x_1CHW.shape[1:]).float().cpu().numpy()


def _box_blur(heat_HW: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Average over a square around each pixel, of side 1 for small images and 5 for images of 224 pixels.

    Otherwise neighbors that nearly cancel out would hide their sum from the eye.
    """
    radius = min(heat_HW.shape) // 100
    heat_11HW = torch.from_numpy(heat_HW)[None, None]
    return F.avg_pool2d(heat_11HW, 2 * radius + 1, 1, radius, count_include_pad=False)[0, 0].numpy()


def _predict_proba(model: nn.Module, x_1CHW: Tensor) -> np.ndarray:
    with eval_mode(model), torch.no_grad():
        logits_1K = class_logits(model, single_image(x_1CHW), 0)
        probability_K = logits_1K[0].float().softmax(0).cpu().numpy()
    if not np.isfinite(probability_K).all():
        raise NonFiniteError("The model's logits are NaN or inf.", cure="Use finite weights.")
    return probability_K


def _class_index(target: int | str | None, classes: Sequence[str], probability_K: np.ndarray) -> int:
    """Return the index of the class to explain."""
    num_classes = len(probability_K)
    if len(classes) != num_classes:
        raise OptionError(
            f"classes: {len(classes)} names; expected the model's {num_classes}.",
            cure="Give a name for each class.",
            option="classes",
            value=len(classes),
            allowed=(num_classes,),
        )
    if target is None:
        return int(probability_K.argmax())
    if isinstance(target, str):
        if target not in classes:
            raise NotFoundError.for_unknown("class", target, classes)
        return list(classes).index(target)
    if not 0 <= target < num_classes:
        raise unknown_class_error(target, num_classes)
    return target
