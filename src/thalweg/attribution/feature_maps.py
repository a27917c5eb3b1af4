"""Feature maps (Zeiler and Fergus 2014, arXiv:1311.2901): the outputs of each layer for one image.

The output of a convolution is taken after its activation, that of a block of several convolutions after the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import CapturedLayer, capture_maps

#: largest number of layers to show
MAX_LAYERS = 12

Item = TypeVar("Item")


class FeatureMaps(NamedTuple):
    """The strongest maps of one layer."""

    #: name of the layer in the model, and its class
    name: str
    kind: str
    #: number of maps of the layer
    channels: int
    #: indices of these maps among them, strongest first
    channel_N: Int[np.ndarray, " N"]
    #: the maps, float32
    maps_NHW: Float[np.ndarray, "N H W"]

    def json(self) -> dict[str, Any]:
        """Return name, kind, number and size of the maps, and the indices of the strongest."""
        return {
            "name": self.name,
            "kind": self.kind,
            "channels": self.channels,
            "size": list(self.maps_NHW.shape[1:]),
            "strongest": self.channel_N.tolist(),
        }


def feature_maps(model: nn.Module, x_1CHW: Tensor, max_maps: int = 16) -> list[FeatureMaps]:
    """Return the strongest maps of at most 12 layers, evenly spaced from the first to the last.

    The strength of a map is its root mean square.

    Args:
        model: any model with convolutions.
        x_1CHW: one image as the model reads it.
        max_maps: largest number of maps of each layer.

    Returns:
        The maps by layer, in the order of the forward pass.

    Raises:
        OptionError: the model has no layer that returns maps.
    """

    def select_strongest(map_1CHW: Tensor) -> tuple[np.ndarray, np.ndarray]:
        map_CHW = map_1CHW[0].float()
        order_N = map_CHW.square().mean((1, 2)).argsort(descending=True, stable=True)[:max_maps]
        return order_N.cpu().numpy(), map_CHW[order_N].cpu().numpy()

    layers = select_layers(capture_maps(model, x_1CHW, select_strongest))
    if not layers:
        raise OptionError(
            "The model has no convolution that returns maps, so there are no feature maps.",
            cure="Use the method 'integrated-gradients' or 'occlusion', which work for every model.",
            allowed=("integrated-gradients", "occlusion"),
        )
    rows: list[FeatureMaps] = []
    for captured in pick_evenly(layers, MAX_LAYERS):
        channel_N, maps_NHW = captured.value
        rows.append(FeatureMaps(captured.name, type(captured.layer).__name__, captured.size[0], channel_N, maps_NHW))
    return rows


def select_layers(captured: Sequence[CapturedLayer]) -> list[CapturedLayer]:
    """Return the last output after each convolution and before the next, and of a block only its own output.

    Where that leaves fewer than four layers, the layers inside the blocks are returned too.
    """
    layers: list[CapturedLayer] = []
    for row in captured:
        if isinstance(row.layer, nn.Conv2d):
            layers.append(row)
        elif layers:
            layers[-1] = row
    prefixes: list[str] = []
    for row in layers:
        prefixes.append(f"{row.name}.")
    blocks = layers_outside(layers, prefixes)
    if len(blocks) >= 4:
        return blocks
    return layers


def layers_outside(layers: Sequence[CapturedLayer], prefixes: Sequence[str]) -> list[CapturedLayer]:
    """Return the layers whose names start with none of the prefixes."""
    outside: list[CapturedLayer] = []
    for row in layers:
        if not row.name.startswith(tuple(prefixes)):
            outside.append(row)
    return outside


def pick_evenly(items: Sequence[Item], max_items: int) -> list[Item]:
    """Return at most `max_items` of the items, evenly spaced, including the first and the last."""
    if len(items) <= max_items:
        return list(items)
    indices = torch.linspace(0, len(items) - 1, max_items).round().int().tolist()
    return [items[index] for index in indices]
