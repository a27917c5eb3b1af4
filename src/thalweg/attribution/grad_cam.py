"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in the last maps lies what speaks for a class?

The maps A of the last convolution are added up, each with the mean slope of the class's logit to it (equation 1), and
what is negative is cut off (equation 2). Behind global average pooling and one linear layer this is the class
activation map of Zhou et al. 2016 (arXiv:1512.04150), up to a constant factor.

Where the classifier is itself a convolution, as in SqueezeNet, the last maps are one per class, and only the target's
own counts. Each value of the small map is drawn where its receptive field is centred (`places`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import (
    CapturedLayer,
    capture_maps,
    class_logits,
    eval_mode,
    forward_hooks,
    input_gradient,
    is_feature_map,
    is_passthrough,
    single_image,
)
from .receptive_field import cell_centers, upsample_map

#: maps whose proportions differ from the picture's by more than this factor are none: their channels come last
MAX_ASPECT_CHANGE = 2


class GradCam(NamedTuple):
    """Where a network looked."""

    #: at the picture's resolution, float32, 0 to 1 where 1 is the largest; all 0 where nothing spoke for the class
    heat_HW: np.ndarray
    #: the map itself, in units of logit, at least 0
    coarse_hw: np.ndarray
    #: name of the layer whose maps were weighed
    layer: str


def grad_cam(network: nn.Module, x_1CHW: Tensor, target: int, layer: nn.Module | None = None) -> GradCam:
    """What in the picture speaks for the class number `target`, by the maps of `layer` (default: `last_feature_map_layer`).

    Raises OptionError for a network without maps, a layer that makes none, an unknown class, an answer without slope.
    """
    layer = layer or last_feature_map_layer(network, x_1CHW)
    name = next((name for name, module in network.named_modules() if module is layer), None)
    if name is None:
        raise OptionError("The layer is no part of the network.", cure="Give one of network.modules().")
    held: list[Tensor] = []

    def hold(_, inputs, output) -> Tensor | None:
        if not is_feature_map(output):
            return None
        # cut off from what is below: so a frozen network has a slope here too, and nothing deeper is computed;
        # the copy is what later layers may write into
        held[:] = [output.detach().requires_grad_()]
        return held[0].clone()

    with eval_mode(network):
        with forward_hooks([layer], hold):
            answer_1 = class_logits(network, single_image(x_1CHW), target)[:, target]
        if not held:
            raise OptionError(f"The layer '{name}' makes no maps.", cure="Give a convolution, or leave the layer out.")
        (high, wide), (whole_high, whole_wide) = held[0].shape[2:], x_1CHW.shape[2:]
        if not 1 / MAX_ASPECT_CHANGE <= high * whole_wide / (wide * whole_high) <= MAX_ASPECT_CHANGE:
            raise OptionError(
                f"The layer '{name}' makes no maps: {high} x {wide} of a picture of {whole_high} x {whole_wide}.",
                cure="Use the method 'integrated-gradients', which works for every network.",
            )
        weight_1C11 = input_gradient(answer_1, held[0]).mean((2, 3), keepdim=True)
        coarse_hw = (weight_1C11 * held[0].detach()).sum(1)[0].relu().float().cpu().numpy()
    heat_HW = upsample_map(coarse_hw, cell_centers(network, x_1CHW, coarse_hw.shape), x_1CHW.shape[2:])
    return GradCam(heat_HW / max(heat_HW.max(), 1e-12), coarse_hw, name)


def last_feature_map_layer(network: nn.Module, x_1CHW: Tensor) -> nn.Module:
    """The last layer that answers with maps of more than one pixel each way, behind the activation and the block.

    Poolings do not count, since the maps before them are finer. Raises OptionError where no convolution makes maps.
    """
    seen = capture_maps(network, x_1CHW)
    if not any(isinstance(one.layer, nn.Conv2d) for one in seen):
        raise OptionError(
            "The network has no convolution that answers with maps, so Grad-CAM has nothing to show.",
            cure="Use the method 'integrated-gradients', which works for every network.",
        )
    return (_exclude_squeeze_layers(network, x_1CHW, seen) or seen)[-1].layer


def _exclude_squeeze_layers(network: nn.Module, x_1CHW: Tensor, seen: list[CapturedLayer]) -> list[CapturedLayer]:
    """Those that are not inside a block that itself answers with one pixel: there they are a branch or a step of it."""
    names, small = {layer: f"{name}." for name, layer in network.named_modules() if not is_passthrough(layer)}, []

    def note(layer: nn.Module, _, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) == 1:
            small.append(names[layer])

    with eval_mode(network), forward_hooks(names, note), torch.no_grad():
        network(single_image(x_1CHW))
    return [one for one in seen if not one.name.startswith(tuple(small))]
