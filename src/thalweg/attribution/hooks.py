"""Asking a network without leaving a trace: modes, hooks, gradients and buffers are afterwards what they were before.

B pictures, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..errors import OptionError


class CapturedLayer(NamedTuple):
    """A layer that answered with a map: its name, itself, the map's size (C, H, W), and what was kept of the map."""

    name: str
    layer: nn.Module
    size: tuple[int, int, int]
    kept: Any


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Within it the network evaluates, and gradients can be asked for even where they were switched off."""
    modes = {module: module.training for module in network.modules()}
    for module in modes:
        module.training = False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def forward_hooks(layers: Iterable[nn.Module], hook: Callable) -> Iterator[None]:
    """Within it, `hook(layer, inputs, output)` hears every answer of these layers and may replace it."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def single_image(x_1CHW: Tensor) -> Tensor:
    """One picture as floats that nobody else holds. Raises OptionError for any other shape."""
    if x_1CHW.ndim != 4 or len(x_1CHW) != 1:
        raise OptionError(f"A tensor of shape {tuple(x_1CHW.shape)} is not one picture.", cure="Give (1, C, H, W).")
    with torch.inference_mode(False):
        return x_1CHW.detach().clone()


def class_logits(network: nn.Module, x_BCHW: Tensor, target: int) -> Tensor:
    """Logits (B, K). Raises OptionError where the network has no class of that number."""
    logits_BK = network(x_BCHW)
    if not 0 <= target < logits_BK.shape[1]:
        raise OptionError(
            f"There is no class number {target}.", cure=f"Give 0 to {logits_BK.shape[1] - 1}, the network's classes."
        )
    return logits_BK


def input_gradient(answer_B: Tensor, at: Tensor) -> Tensor:
    """The gradient of the sum of the answers at a tensor, in its shape. Raises OptionError where there is none."""
    found = None
    if answer_B.requires_grad:
        (found,) = torch.autograd.grad(answer_B.sum(), at, allow_unused=True)
    if found is None:
        raise OptionError(
            "The answer has no gradient there: an activation of the network, such as the step, has no slope.",
            cure="Use the method 'occlusion', which needs none.",
        )
    return found.detach()


def is_feature_map(output: Any) -> bool:
    """Whether a layer's answer is (B, C, H, W) of more than one pixel each way."""
    return isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1


def capture_maps(
    network: nn.Module, x_1CHW: Tensor, keep: Callable[[Tensor], Any] = lambda _: None
) -> list[CapturedLayer]:
    """The layers that answer with maps, in the order of their answers, each with what `keep(map)` makes of the map.

    Left out is what computes nothing of its own, or only makes maps smaller: sequences, dropout, pooling.
    """
    names = {
        layer: name for name, layer in network.named_modules() if layer is not network and not is_passthrough(layer)
    }
    found: list[CapturedLayer] = []

    def note(layer: nn.Module, _, output: Any) -> None:
        if is_feature_map(output):
            found.append(CapturedLayer(names[layer], layer, tuple(output.shape[1:]), keep(output.detach())))

    with eval_mode(network), forward_hooks(names, note), torch.no_grad():
        network(single_image(x_1CHW))
    return found


def is_passthrough(layer: nn.Module) -> bool:
    """Whether a layer only passes on, or makes smaller, what another computed."""
    pooling = type(layer).__module__ == "torch.nn.modules.pooling"
    return pooling or isinstance(layer, (nn.Sequential, nn.Identity, _DropoutNd))
