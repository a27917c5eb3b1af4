"""Feature maps (Zeiler and Fergus 2014, arXiv:1311.2901): what each layer answers to a picture.

Of every convolution the answer is taken behind its activation, of a block of several convolutions that of the block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import CapturedLayer, capture_maps

#: layers shown of a network that has more
MAX_LAYERS = 12


class FeatureMaps(NamedTuple):
    """The strongest answers of one layer."""

    #: the layer's name in the network, and its class
    name: str
    kind: str
    #: how many maps the layer has
    channels: int
    #: which of them these are, strongest first
    channel_N: np.ndarray
    #: the maps, float32
    maps_NHW: np.ndarray

    def json(self) -> dict[str, Any]:
        """Name, kind, the maps' number and size, and which are the strongest."""
        size = list(self.maps_NHW.shape[1:])
        strongest = self.channel_N.tolist()
        return {"name": self.name, "kind": self.kind, "channels": self.channels, "size": size, "strongest": strongest}


def feature_maps(network: nn.Module, x_1CHW: Tensor, most: int = 16) -> list[FeatureMaps]:
    """The `most` strongest maps of at most 12 layers, from the first to the last, evenly spread over the depth.

    A map is as strong as its root mean square. Raises OptionError for a network that makes no maps.
    """

    def strongest(map_1CHW: Tensor) -> tuple[np.ndarray, np.ndarray]:
        map_CHW = map_1CHW[0].float()
        order_N = map_CHW.square().mean((1, 2)).argsort(descending=True, stable=True)[:most]
        return order_N.cpu().numpy(), map_CHW[order_N].cpu().numpy()

    found = select_layers(capture_maps(network, x_1CHW, strongest))
    if not found:
        raise OptionError("The network has no convolution that answers with maps, so there are no maps to look at.")
    if len(found) > MAX_LAYERS:
        found = [found[index] for index in torch.linspace(0, len(found) - 1, MAX_LAYERS).round().int().tolist()]
    return [FeatureMaps(one.name, type(one.layer).__name__, one.size[0], *one.kept) for one in found]


def select_layers(seen: list[CapturedLayer]) -> list[CapturedLayer]:
    """The last answer after each convolution and before the next; inside a block that is itself among them, none.

    Where blocks leave fewer than four, what is inside them is shown too.
    """
    every: list[CapturedLayer] = []
    for one in seen:
        if isinstance(one.layer, nn.Conv2d):
            every.append(one)
        elif every:
            every[-1] = one
    blocks = [one for one in every if not any(one.name.startswith(f"{other.name}.") for other in every)]
    return blocks if len(blocks) >= 4 else every
