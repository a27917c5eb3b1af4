"""Where in the picture do the cells of a map lie? The centres of their receptive fields (Araujo, Norris, Sim 2019).

A convolution or pooling of kernel k, dilation d, padding p and stride s has its first cell ((k - 1) d / 2 - p) cells of
the map before away from the first one there, and its cells s times as far apart (Distill, doi:10.23915/distill.00021,
equations 5 and 6). Along parallel branches these are the same, so every extent is worked out once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .hooks import eval_mode, forward_hooks, single_image


def cell_centers(network: nn.Module, x_1CHW: Tensor, extent: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The rows (h,) and columns (w,) of the picture that the cells of a map of `extent` (h, w) are centred on.

    Evenly spread, as if the map filled the picture, where the network comes to that extent by other means.
    """
    known = tuple({whole: (0.0, 1.0)} for whole in x_1CHW.shape[2:])

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not all(isinstance(some, Tensor) and some.ndim == 4 for some in (*inputs[:1], output)):
            return
        for axis, places in enumerate(known):
            before, after = inputs[0].shape[2 + axis], output.shape[2 + axis]
            if before in places and after not in places:
                places[after] = _propagate_center(layer, axis, *places[before])

    layers = [layer for layer in network.modules() if _is_strided(layer)]
    with eval_mode(network), forward_hooks(layers, note), torch.no_grad():
        network(single_image(x_1CHW))
    found = []
    for places, whole, cells in zip(known, x_1CHW.shape[2:], extent, strict=True):
        first, jump = places.get(cells, ((whole / cells - 1) / 2, whole / cells))
        found.append(first + jump * np.arange(cells))
    return found[0], found[1]


def upsample_map(map_hw: np.ndarray, places: tuple[np.ndarray, np.ndarray], extent: tuple[int, int]) -> np.ndarray:
    """The map at a picture's `extent` (H, W): linear between cells, which are at `places`, and constant beyond them."""
    rows_Hh, columns_Ww = (
        np.stack([np.interp(np.arange(whole), place, one) for one in np.eye(len(place))], axis=1)
        for whole, place in zip(extent, places, strict=True)
    )
    return (rows_Hh @ map_hw @ columns_Ww.T).astype(np.float32)


def _is_strided(layer: nn.Module) -> bool:
    """Whether a layer is a convolution or a pooling; one that makes maps larger is not."""
    return hasattr(layer, "kernel_size") and hasattr(layer, "stride") and not getattr(layer, "transposed", False)


def _propagate_center(layer: nn.Module, axis: int, first: float, jump: float) -> tuple[float, float]:
    """The first cell's centre behind a layer, and the distance of two, along an axis."""

    def of(name: str, usual: int) -> int:
        value = getattr(layer, name, usual)
        if isinstance(value, str):
            return 0  # "valid": "same" changes no extent
        return value[axis] if isinstance(value, tuple) else value

    reach = (of("kernel_size", 1) - 1) * of("dilation", 1) / 2 - of("padding", 0)
    return first + reach * jump, jump * of("stride", 1)
