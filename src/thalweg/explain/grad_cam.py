"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in the last maps lies what speaks for a class?

The maps A of the last convolution are added up, each with the mean slope of the class's logit to it (equation 1), and
what is negative is cut off (equation 2). Behind global average pooling and one linear layer this is the class
activation map of Zhou et al. 2016 (arXiv:1512.04150), up to a constant factor.

Where the classifier is itself a convolution, as in SqueezeNet, the last maps are one per class, and only the target's
own counts. The small map is stretched over the whole picture, which is off by a little where convolutions do not pad.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import OptionError
from .probe import ask, is_map, maps, picture, slope, undisturbed, watching


class GradCam(NamedTuple):
    """Where a network looked."""

    #: at the picture's resolution, float32, 0 to 1 where 1 is the largest; all 0 where nothing spoke for the class
    heat_HW: np.ndarray
    #: the map itself, in units of logit, at least 0
    coarse_hw: np.ndarray
    #: name of the layer whose maps were weighed
    layer: str


def grad_cam(network: nn.Module, x_1CHW: Tensor, target: int, layer: nn.Module | None = None) -> GradCam:
    """What in the picture speaks for the class number `target`, by the maps of `layer` (default: `last_maps`).

    Raises OptionError for a network without maps, a layer that makes none, an unknown class, an answer without slope.
    """
    layer = layer or last_maps(network, x_1CHW)
    name = next((name for name, module in network.named_modules() if module is layer), None)
    if name is None:
        raise OptionError("The layer is no part of the network.", cure="Give one of network.modules().")
    held: list[Tensor] = []

    def hold(_, inputs, output) -> Tensor | None:
        if not is_map(output):
            return None
        # cut off from what is below: so a frozen network has a slope here too, and nothing deeper is computed;
        # the copy is what later layers may write into
        held[:] = [output.detach().requires_grad_()]
        return held[0].clone()

    with undisturbed(network):
        with watching([layer], hold):
            answer_1 = ask(network, picture(x_1CHW), target)[:, target]
        if not held:
            raise OptionError(f"The layer '{name}' makes no maps.", cure="Give a convolution, or leave the layer out.")
        weight_1C11 = slope(answer_1, held[0]).mean((2, 3), keepdim=True)
        coarse_11hw = (weight_1C11 * held[0].detach()).sum(1, keepdim=True).relu().float()
        heat_HW = F.interpolate(coarse_11hw, x_1CHW.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    heat_HW = heat_HW / heat_HW.max().clamp_min(1e-12)
    return GradCam(heat_HW.cpu().numpy(), coarse_11hw[0, 0].cpu().numpy(), name)


def last_maps(network: nn.Module, x_1CHW: Tensor) -> nn.Module:
    """The last layer that answers with maps of more than one pixel each way, behind the activation and the block.

    Poolings do not count, since the maps before them are finer. Raises OptionError where no convolution makes maps.
    """
    seen = maps(network, x_1CHW)
    if not any(isinstance(one.layer, nn.Conv2d) for one in seen):
        raise OptionError(
            "The network has no convolution that answers with maps, so Grad-CAM has nothing to show.",
            cure="Use the method 'integrated-gradients', which works for every network.",
        )
    return seen[-1].layer
