"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where the last maps contain evidence for a class.

The maps A of the last convolution are summed, each weighted with the mean gradient of the class's logit with respect to
it (equation 1), and negative values are set to 0 (equation 2). Before global average pooling and one linear layer this
is the class activation map of Zhou et al. 2016 (arXiv:1512.04150), up to a constant factor.

Where the classifier itself is a convolution, as in SqueezeNet, there is one last map per class, and only that of the
target counts. Each value of the coarse map is drawn at the center of its receptive field (`receptive_field`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import OptionError
from .feature_maps import layers_outside
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

#: an output whose aspect ratio differs from the image's by more than this factor is no map: its channels come last
MAX_ASPECT_CHANGE = 2


class GradCam(NamedTuple):
    """Evidence for a class by position."""

    #: at the image's resolution, float32, scaled to a maximum of 1; all 0 where there is no evidence for the class
    heat_HW: Float[np.ndarray, "H W"]
    #: the coarse map itself, in units of logits, at least 0
    coarse_hw: Float[np.ndarray, "h w"]
    #: name of the layer whose maps are summed
    layer: str


def grad_cam(model: nn.Module, x_1CHW: Tensor, target: int, layer: nn.Module | None = None) -> GradCam:
    """Compute the evidence for a class from the maps of one layer.

    Args:
        model: a classifier with convolutions.
        x_1CHW: one image as the model reads it.
        target: index of the class.
        layer: a layer of the model; by default `last_feature_map_layer`.

    Returns:
        The coarse map, and the same at the image's resolution.

    Raises:
        OptionError: a model without maps, a layer that returns none, an unknown class, an output without a gradient.
    """
    layer = layer or last_feature_map_layer(model, x_1CHW)
    name = _find_name(model, layer)
    maps: list[Tensor] = []

    def detach_maps(_: nn.Module, inputs: Any, output: Any) -> Tensor | None:
        if not is_feature_map(output):
            return None
        # Detached from the layers below, so a frozen model has a gradient here too and no deeper one is computed.
        # Later layers may write into the clone.
        maps[:] = [output.detach().requires_grad_()]
        return maps[0].clone()

    with eval_mode(model):
        with forward_hooks([layer], detach_maps):
            logit_1 = class_logits(model, single_image(x_1CHW), target)[:, target]
        if not maps:
            raise OptionError(
                f"layer: '{name}' returns no maps.", cure="Use a convolution, or leave the layer out.", value=name
            )
        _check_aspect(maps[0], x_1CHW, name)
        weight_1C11 = input_gradient(logit_1, maps[0]).mean((2, 3), keepdim=True)
        coarse_hw = (weight_1C11 * maps[0].detach()).sum(1)[0].relu().float().cpu().numpy()
    centers = cell_centers(model, x_1CHW, coarse_hw.shape)
    height, width = x_1CHW.shape[2:]
    heat_HW = upsample_map(coarse_hw, centers, (height, width))
    return GradCam(heat_HW / max(heat_HW.max(), 1e-12), coarse_hw, name)


def _find_name(model: nn.Module, layer: nn.Module) -> str:
    for name, module in model.named_modules():
        if module is layer:
            return name
    raise OptionError(
        "layer: it is not part of the model.", cure="Use one of model.modules().", value=type(layer).__name__
    )


def _check_aspect(map_1Chw: Tensor, x_1CHW: Tensor, name: str) -> None:
    """Raise OptionError for an output whose channels come last, which its aspect ratio shows."""
    map_height, map_width = map_1Chw.shape[2:]
    height, width = x_1CHW.shape[2:]
    if not 1 / MAX_ASPECT_CHANGE <= map_height * width / (map_width * height) <= MAX_ASPECT_CHANGE:
        raise OptionError(
            f"layer: '{name}' returns no maps but {map_height} x {map_width} for an image of {height} x {width}.",
            cure="Use the method 'integrated-gradients', which works for every model.",
            value=name,
            allowed=("integrated-gradients",),
        )


def last_feature_map_layer(model: nn.Module, x_1CHW: Tensor) -> nn.Module:
    """Return the last layer that returns maps of more than one pixel each way, after activation and block.

    Pooling does not count, because the maps before it are finer. Raises OptionError if no convolution returns maps.
    """
    captured = capture_maps(model, x_1CHW)
    if not any(isinstance(row.layer, nn.Conv2d) for row in captured):
        raise OptionError(
            "The model has no convolution that returns maps, so Grad-CAM has nothing to show.",
            cure="Use the method 'integrated-gradients', which works for every model.",
            allowed=("integrated-gradients",),
        )
    return (_exclude_squeeze_layers(model, x_1CHW, captured) or captured)[-1].layer


def _exclude_squeeze_layers(model: nn.Module, x_1CHW: Tensor, captured: list[CapturedLayer]) -> list[CapturedLayer]:
    """Drop layers inside a block that itself returns one pixel: they are only a branch or a step of it."""
    names: dict[nn.Module, str] = {}
    for name, layer in model.named_modules():
        if not is_passthrough(layer):
            names[layer] = f"{name}."
    squeezing: list[str] = []

    def record(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) == 1:
            squeezing.append(names[layer])

    with eval_mode(model), forward_hooks(names, record), torch.no_grad():
        model(single_image(x_1CHW))
    return layers_outside(captured, squeezing)
