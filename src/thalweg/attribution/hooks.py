"""Run a model without side effects: its mode, hooks, gradients and buffers are the same afterwards.

B images, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..errors import OptionError


class CapturedLayer(NamedTuple):
    """A layer that returned a map: its name, the layer, the size (C, H, W) of the map, and a value computed from it."""

    name: str
    layer: nn.Module
    size: tuple[int, int, int]
    value: Any


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and enable gradients inside, and restore the mode of every layer afterwards."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def forward_hooks(layers: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """Call `hook(layer, inputs, output)` after each forward pass of these layers inside; it may replace the output."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def single_image(x_1CHW: Tensor) -> Float[Tensor, "1 C H W"]:
    """Return a copy of one image. Raises OptionError for any other shape."""
    if x_1CHW.ndim != 4 or len(x_1CHW) != 1:
        shape = tuple(x_1CHW.shape)
        raise OptionError(
            f"image: a tensor of shape {shape}; expected one image (1, C, H, W).", "Pass a single image.", value=shape
        )
    with torch.inference_mode(False):
        return x_1CHW.detach().clone()


def class_logits(model: nn.Module, x_BCHW: Float[Tensor, "B C H W"], target: int) -> Float[Tensor, "B K"]:
    """Compute the logits of all classes. Raises OptionError if the model has no class with the index `target`.

    Args:
        model: a classifier.
        x_BCHW: images as the model reads them.
        target: index of a class.

    Returns:
        Logits (B, K).

    Raises:
        OptionError: the model has no class with that index.
    """
    logits_BK = model(x_BCHW)
    num_classes = logits_BK.shape[1]
    if not 0 <= target < num_classes:
        raise unknown_class_error(target, num_classes)
    return logits_BK


def unknown_class_error(target: int, num_classes: int) -> OptionError:
    """Return the error for a class index that the model does not have."""
    return OptionError(
        f"target: class {target}; expected 0 to {num_classes - 1}.",
        cure=f"Use the index of one of the model's {num_classes} classes.",
        option="target",
        value=target,
        allowed=range(num_classes),
    )


def input_gradient(output_B: Float[Tensor, " B"], wrt: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compute the gradient of the sum of the outputs with respect to a tensor. Raises OptionError if there is none."""
    gradient = None
    if output_B.requires_grad:
        (gradient,) = torch.autograd.grad(output_B.sum(), wrt, allow_unused=True)
    if gradient is None:
        raise OptionError(
            "The output has no gradient there: an activation of the model, such as the step, has no derivative.",
            cure="Use the method 'occlusion', which needs no gradient.",
            allowed=("occlusion",),
        )
    return gradient.detach()


def is_feature_map(output: Any) -> bool:
    """Return whether a layer's output is (B, C, H, W) with more than one pixel in each direction."""
    return isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1


def capture_maps(
    model: nn.Module, x_1CHW: Tensor, reduce: Callable[[Tensor], Any] = lambda _: None
) -> list[CapturedLayer]:
    """Return the layers that return maps, in the order of the forward pass.

    Sequences, dropout and pooling are skipped, because they compute nothing of their own or only shrink maps.

    Args:
        model: any model.
        x_1CHW: one image as the model reads it.
        reduce: computes the value to keep of each map (1, C, H, W).

    Returns:
        A row per layer and call, with the value of `reduce`.
    """
    names: dict[nn.Module, str] = {}
    for name, layer in model.named_modules():
        if layer is not model and not is_passthrough(layer):
            names[layer] = name
    captured: list[CapturedLayer] = []

    def record(layer: nn.Module, _: Any, output: Any) -> None:
        if is_feature_map(output):
            _, channels, height, width = output.shape
            value = reduce(output.detach())
            captured.append(CapturedLayer(names[layer], layer, (channels, height, width), value))

    with eval_mode(model), forward_hooks(names, record), torch.no_grad():
        model(single_image(x_1CHW))
    return captured


def is_passthrough(layer: nn.Module) -> bool:
    """Return whether a layer only passes on, or shrinks, what another layer computed."""
    pooling = type(layer).__module__ == "torch.nn.modules.pooling"
    return pooling or isinstance(layer, (nn.Sequential, nn.Identity, _DropoutNd))
