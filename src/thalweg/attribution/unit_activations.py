"""Activations of single units: the layers, the largest activation of each unit for each image, and where it comes from.

A unit is a map of a convolution or a neuron of a dense layer. N images, B of a batch, C units, T top images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import OptionError
from .feature_maps import pick_evenly, select_layers
from .hooks import CapturedLayer, eval_mode, forward_hooks, input_gradient, is_passthrough, single_image

#: largest numbers of layers to show
MAX_MAP_LAYERS = 5
MAX_DENSE_LAYERS = 3
#: random draws that the purity by chance is the mean of
NUM_DRAWS = 1000

#: pixels of an image: left, top, right, bottom
Box = tuple[int, int, int, int]


def all_layers(model: nn.Module, x_1CHW: Tensor) -> list[CapturedLayer]:
    """Return all layers with a number or a map for each unit, in the order of the forward pass; size (C, H, W)."""
    names: dict[nn.Module, str] = {}
    for name, layer in model.named_modules():
        if layer is not model:
            names[layer] = name
    captured: list[CapturedLayer] = []

    def record(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (2, 4):
            channels, height, width = (*output.shape[1:], 1, 1)[:3]
            captured.append(CapturedLayer(names[layer], layer, (channels, height, width), None))

    with eval_mode(model), forward_hooks(names, record), torch.no_grad():
        model(single_image(x_1CHW))
    return captured


def representative_layers(captured: Sequence[CapturedLayer]) -> list[CapturedLayer]:
    """Return the most informative layers, evenly spaced: maps after activations, and neurons after theirs."""
    maps: list[CapturedLayer] = []
    dense: list[CapturedLayer] = []
    for row in captured:
        if min(row.size[1:]) > 1 and not is_passthrough(row.layer):
            maps.append(row)
        if isinstance(row.layer, nn.Linear):
            dense.append(row)
        elif dense and row.size[1:] == (1, 1) and not is_passthrough(row.layer):
            dense[-1] = row
    return [*pick_evenly(select_layers(maps), MAX_MAP_LAYERS), *pick_evenly(dense, MAX_DENSE_LAYERS)]


def capture(
    model: nn.Module,
    x_BCHW: Float[Tensor, "B C H W"],
    layers: Mapping[str, nn.Module],
    reduce: Callable[[Tensor], Any],
    gradients: bool = False,
) -> dict[str, Any]:
    """Run the model and reduce the last output of each layer.

    Args:
        model: any model.
        x_BCHW: images as the model reads them.
        layers: layers of the model by name.
        reduce: computes the value to keep of each output (B, C, H, W); dense layers have maps of one pixel.
        gradients: whether to record gradients.

    Returns:
        The value of `reduce` by the name of the layer.
    """
    names = dict(zip(layers.values(), layers, strict=True))
    values: dict[str, Any] = {}

    def record(layer: nn.Module, _: Any, output: Tensor) -> None:
        # at once, because a later layer may write into the same memory
        if output.ndim != 4:
            output = output[..., None, None]
        values[names[layer]] = reduce(output)

    with eval_mode(model), forward_hooks(names, record), torch.set_grad_enabled(gradients):
        model(x_BCHW)
    return values


def layer_outputs(model: nn.Module, x_1CHW: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the full output (C, H, W) of each layer for one image, float32.

    Args:
        model: any model.
        x_1CHW: one image as the model reads it.
        layers: layers of the model by name.

    Returns:
        The outputs by the name of the layer.
    """

    def copy_output(output_1CHW: Tensor) -> Tensor:
        return output_1CHW[0].detach().float().cpu().clone()

    return capture(model, single_image(x_1CHW), layers, copy_output)


def max_activations(
    model: nn.Module, batches: Iterable[Tensor], layers: Mapping[str, nn.Module]
) -> dict[str, np.ndarray]:
    """Return the largest activation (N, C) of each unit for each image.

    Args:
        model: any model.
        batches: images (B, C, H, W) as the model reads them.
        layers: layers of the model by name.

    Returns:
        Activations (N, C) by the name of the layer.
    """

    def max_over_pixels(output_BCHW: Tensor) -> Tensor:
        return output_BCHW.flatten(2).amax(2).float().cpu()

    parts: dict[str, list[Tensor]] = {}
    for name in layers:
        parts[name] = []
    for x_BCHW in batches:
        captured = capture(model, x_BCHW, layers, max_over_pixels)
        for name in layers:
            parts[name].append(captured[name])
    peaks: dict[str, np.ndarray] = {}
    for name, peaks_BC in parts.items():
        peaks[name] = torch.cat(peaks_BC).numpy()
    return peaks


def top_images(peak_N: Float[np.ndarray, " N"], top: int) -> Int[np.ndarray, " T"]:
    """Return the indices of at most `top` images with the largest activations, largest first, without those of 0."""
    order_T = np.argsort(-peak_N, kind="stable")[:top]
    return order_T[peak_N[order_T] != 0]


def receptive_patches(
    model: nn.Module, x_BCHW: Float[Tensor, "B C H W"], layer: nn.Module, unit_B: Sequence[int]
) -> list[Box | None]:
    """Return the box of pixels that the largest activation of a unit depends on: where its gradient is not zero.

    Args:
        model: any model.
        x_BCHW: images as the model reads them.
        layer: a layer of the model.
        unit_B: index of the unit for each image.

    Returns:
        A box for each image; None where there is no gradient, as behind a step.
    """
    row_B = torch.arange(len(x_BCHW))
    index_B = torch.as_tensor(unit_B)

    def max_of_units(output_BCHW: Tensor) -> Tensor:
        output_BP = output_BCHW[row_B, index_B].flatten(1)
        return output_BP[row_B, output_BP.argmax(1)]

    with eval_mode(model):
        x_BCHW = x_BCHW.detach().clone().requires_grad_(True)
        peak_B = capture(model, x_BCHW, {"layer": layer}, max_of_units, gradients=True)["layer"]
        try:
            used_BHW = (input_gradient(peak_B, x_BCHW) != 0).any(1).cpu().numpy()
        except OptionError:
            return [None] * len(x_BCHW)
    return list(map(_bounding_box, used_BHW))


def _bounding_box(used_HW: np.ndarray) -> Box | None:
    rows = np.flatnonzero(used_HW.any(1))
    columns = np.flatnonzero(used_HW.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def majority_class(label_T: Int[np.ndarray, " T"]) -> tuple[int, int]:
    """Return the most frequent of these labels and its count; there must be at least one."""
    count_K = np.bincount(label_T)
    return int(count_K.argmax()), int(count_K.max())


def purity(peak_NC: Float[np.ndarray, "N C"], label_N: Int[np.ndarray, " N"], top: int) -> Float[np.ndarray, " active"]:
    """Compute, for each unit, the fraction of its top images that have the most frequent class among them.

    Args:
        peak_NC: largest activation of each unit for each image.
        label_N: class of each image.
        top: number of top images.

    Returns:
        Fractions of the units that are active for at least `top` images.
    """
    order_TC = np.argsort(-peak_NC, axis=0, kind="stable")[:top]
    active_C = (np.take_along_axis(peak_NC, order_TC, 0) != 0).all(0)
    fractions: list[float] = []
    for label_T in label_N[order_TC[:, active_C]].T:
        fractions.append(majority_class(label_T)[1] / top)
    return np.array(fractions, np.float64)


def chance_purity(label_N: Int[np.ndarray, " N"], top: int, seed: int) -> float:
    """Compute the same fraction for images drawn at random: the mean over many draws.

    Args:
        label_N: class of each image.
        top: number of images in each draw.
        seed: seed of the draws.

    Returns:
        A fraction in (0, 1].
    """
    random = np.random.default_rng(seed)
    counts: list[int] = []
    for _ in range(NUM_DRAWS):
        label_T = label_N[random.choice(len(label_N), top, replace=False)]
        counts.append(majority_class(label_T)[1])
    return float(np.mean(counts) / top)
