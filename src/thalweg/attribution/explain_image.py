"""Why does a classifier answer so? One picture, every method that the network is capable of, one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..errors import NonFiniteError, NotFoundError, OptionError
from . import hooks as probe
from .feature_maps import FeatureMaps, feature_maps
from .grad_cam import grad_cam
from .integrated_gradients import integrated_gradients
from .occlusion import occlusion

#: said of maps where the answer is more than the network's to the picture as it is
TTA_NOTE = "Maps are of the picture as it is; the answer is averaged over views of it."
#: integrated gradients that miss what they should add up to by more than this share of it get a note
MAX_COMPLETENESS_GAP = 0.05


class AttributionMap(NamedTuple):
    """What one method says of every pixel."""

    #: the method's name for people, and a line about this map
    title: str
    caption: str
    #: float32; its unit is the method's
    heat_HW: np.ndarray
    #: what else was found, as JSON values
    numbers: dict[str, Any]
    #: why the map is not to be trusted, if it is not
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """What a network looked at when it answered, or would have to answer, `label`.

    `target` is the number of that class, `answers` are the five likeliest classes with their probabilities, and that
    one where it is not among them; `heats` are the maps by method; `layers` the feature maps, `filters` the weights
    (O, C, h, w) of the first layer; `notes` say, by method, why it is missing or not to be trusted.
    """

    target: int
    label: str
    probability: float
    answers: list[tuple[str, float]]
    picture_HWC: np.ndarray = field(repr=False)
    heats: dict[str, AttributionMap] = field(repr=False)
    layers: list[FeatureMaps] = field(repr=False)
    filters: np.ndarray | None = field(repr=False)
    notes: dict[str, str]

    def json(self) -> dict[str, Any]:
        """{"target", "label", "probability", "top": [{"label", "probability"}, …], "methods": {…}, "notes": {…}}."""
        methods: dict[str, Any] = {method: heat.numbers for method, heat in self.heats.items()}
        if self.layers:
            methods["feature-maps"] = [layer.json() for layer in self.layers]
        return {
            "target": self.target,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": probability} for label, probability in self.answers],
            "methods": methods,
            "notes": self.notes,
        }

    def draw(self) -> Image.Image:
        """The picture, what each method says of it, and the likeliest answers, side by side."""
        from ..plots.attribution import Panel, plot_attribution_panels

        panels = [Panel(heat.title, heat.heat_HW, heat.note or heat.caption) for heat in self.heats.values()]
        return plot_attribution_panels(self.picture_HWC, panels, self.answers, self.label)

    def pictures(self) -> dict[str, Image.Image]:
        """All that there is to see, by file name without ending: looked-at, feature-maps, filters."""
        from ..plots.feature_maps import plot_feature_maps
        from ..plots.image_grid import plot_filters

        drawn = {"looked-at": self.draw()}
        if self.layers:
            drawn["feature-maps"] = plot_feature_maps(self.layers)
        if self.filters is not None:
            drawn["filters"] = plot_filters(self.filters, title="Filters of the first layer")
        return drawn


def _run_grad_cam(network: nn.Module, x_1CHW: Tensor, target: int, black_1CHW: Tensor | None) -> AttributionMap:
    heat_HW, coarse_hw, layer = grad_cam(network, x_1CHW, target)
    high, wide = coarse_hw.shape
    note = "" if coarse_hw.any() else "Nothing in the last maps speaks for this class."
    numbers = {"layer": layer, "map": coarse_hw.tolist()}
    return AttributionMap("Grad-CAM", f"{high} x {wide} map of {layer}", heat_HW, numbers, note)


def _run_integrated_gradients(
    network: nn.Module, x_1CHW: Tensor, target: int, black_1CHW: Tensor | None
) -> AttributionMap:
    attributions_CHW, change, gap = integrated_gradients(network, x_1CHW, target, black_1CHW)
    far = abs(gap) > MAX_COMPLETENESS_GAP * abs(change)
    note = f"The pixels add up to {change + gap:.3g}, not to the {change:.3g} that they should." if far else ""
    numbers = {"change": change, "sum": change + gap, "gap": gap}
    caption = f"the logit changed by {change:+.2f}; the pixels add up to {change + gap:+.2f}"
    return AttributionMap("Integrated gradients", caption, _box_blur(attributions_CHW.sum(0)), numbers, note)


def _run_occlusion(network: nn.Module, x_1CHW: Tensor, target: int, black_1CHW: Tensor | None) -> AttributionMap:
    drop_HW, drop_RS, patch, stride = occlusion(network, x_1CHW, target)
    numbers = {"patch": patch, "stride": stride, "largest": float(drop_RS.max()), "map": drop_RS.tolist()}
    least, most = 0 - float(drop_RS.max()), 0 - float(drop_RS.min())
    caption = f"covering {patch} x {patch} pixels changes the probability by {least:+.2g} to {most:+.2g}"
    return AttributionMap("Occlusion", caption, drop_HW, numbers)


_ATTRIBUTION_METHODS = {
    "grad-cam": _run_grad_cam,
    "integrated-gradients": _run_integrated_gradients,
    "occlusion": _run_occlusion,
}
METHODS = (*_ATTRIBUTION_METHODS, "feature-maps")


def explain_image(
    network: nn.Module,
    x_1CHW: Tensor,
    picture_HWC: np.ndarray,
    classes: Sequence[str],
    methods: Sequence[str] = METHODS,
    target: int | str | None = None,
    black_1CHW: Tensor | None = None,
    answering: nn.Module | None = None,
) -> Explanation:
    """Explains the answer to the picture `x_1CHW`, as the network reads it; `picture_HWC` is the same as uint8.

    `target` is the class in question, by number or name (default: the likeliest). `black_1CHW` is a black picture as
    the network reads it, at which integrated gradients begin (default: zeros, the mean colour). `answering` is what
    gives the logits where the network alone does not, but an average over views: all but maps of layers are of that.

    A method that the network is not capable of is left out and the reason noted. Raises NotFound for an unknown method
    or class, OptionError for no method, and for a picture or names that do not fit, NonFinite for an answer that is no
    number.
    """
    if not methods:
        raise OptionError("There is no method among those to be used.", cure=f"Give some of {', '.join(METHODS)}.")
    for method in methods:
        if method not in METHODS:
            raise NotFoundError.for_unknown("method", method, METHODS)
    answering = answering or network
    probability_K = _predict_proba(answering, x_1CHW)
    number = _class_index(target, classes, probability_K)
    if picture_HWC.shape[:2] != x_1CHW.shape[2:]:
        raise OptionError(
            f"The picture is {picture_HWC.shape[:2]}, what the network reads {tuple(x_1CHW.shape[2:])}.",
            cure="Give the pixels that the tensor was made of.",
        )
    heats, layers, filters, notes = {}, [], None, {}
    for method in methods:
        of_layers = method in ("grad-cam", "feature-maps")
        notes[method] = TTA_NOTE if of_layers and answering is not network else ""
        try:
            if method == "feature-maps":
                filters = first_layer_filters(network, x_1CHW)
                layers = feature_maps(network, x_1CHW)
            else:
                heats[method] = _ATTRIBUTION_METHODS[method](
                    network if of_layers else answering, x_1CHW, number, black_1CHW
                )
                notes[method] = f"{heats[method].note} {notes[method]}".strip()
        except OptionError as error:
            notes[method] = error.message
    return Explanation(
        target=number,
        label=classes[number],
        probability=float(probability_K[number]),
        answers=[(classes[k], float(probability_K[k])) for k in _top_classes(probability_K, number)],
        picture_HWC=picture_HWC,
        heats=heats,
        layers=layers,
        filters=filters,
        notes={method: note for method, note in notes.items() if note},
    )


def _top_classes(probability_K: np.ndarray, number: int) -> list[int]:
    """The five likeliest classes, and the one in question."""
    best = np.argsort(-probability_K, kind="stable")[:5].tolist()
    return best if number in best else [*best, number]


def first_layer_filters(network: nn.Module, x_1CHW: Tensor) -> np.ndarray | None:
    """The first layer's weights (O, C, h, w); a dense layer's in the picture's shape, None where they do not fit it."""
    weight = next((w for w in network.parameters() if w.ndim in (2, 4)), None)
    if weight is None:
        return None
    if weight.ndim == 2:
        if weight.shape[1] != x_1CHW[0].numel():
            return None
        weight = weight.unflatten(1, x_1CHW.shape[1:])
    return weight.detach().float().cpu().numpy()


def _box_blur(heat_HW: np.ndarray) -> np.ndarray:
    """The mean over a square around each pixel, of a side of one for small pictures and 5 for those of 224 pixels.

    Neighbours that nearly cancel out would hide from the eye what they amount to.
    """
    reach = min(heat_HW.shape) // 100
    heat_11HW = torch.from_numpy(heat_HW)[None, None]
    return F.avg_pool2d(heat_11HW, 2 * reach + 1, 1, reach, count_include_pad=False)[0, 0].numpy()


def _predict_proba(network: nn.Module, x_1CHW: Tensor) -> np.ndarray:
    with probe.eval_mode(network), torch.no_grad():
        probability_K = probe.class_logits(network, probe.single_image(x_1CHW), 0)[0].float().softmax(0).cpu().numpy()
    if not np.isfinite(probability_K).all():
        raise NonFiniteError("The network's answer is not a number.", cure="Give finite weights.")
    return probability_K


def _class_index(target: int | str | None, classes: Sequence[str], probability_K: np.ndarray) -> int:
    """The number of the class in question."""
    if len(classes) != len(probability_K):
        raise OptionError(
            f"{len(classes)} names for a network of {len(probability_K)} classes.", cure="Give a name for each class."
        )
    if target is None:
        return int(probability_K.argmax())
    if isinstance(target, str):
        if target not in classes:
            raise NotFoundError.for_unknown("class", target, classes)
        return list(classes).index(target)
    if not 0 <= target < len(classes):
        raise OptionError(f"There is no class number {target}.", cure=f"Give 0 to {len(classes) - 1}, or a name.")
    return target
