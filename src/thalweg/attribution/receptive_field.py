"""Positions of a map's cells in the image: the centers of their receptive fields (Araujo, Norris, Sim 2019).

A convolution or pooling of kernel k, dilation d, padding p and stride s moves the first cell by (k - 1) d / 2 - p cells
of the map before it, and puts its cells s times as far apart (Distill, doi:10.23915/distill.00021, equations 5 and 6).
Along parallel branches these are the same, so each map size is computed once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .hooks import eval_mode, forward_hooks, single_image


class CellGrid(NamedTuple):
    """Along one axis of the image in pixels: the center of the first cell, and the distance of neighbors."""

    first: float
    step: float


def cell_centers(
    model: nn.Module, x_1CHW: Tensor, map_size: tuple[int, int]
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " w"]]:
    """Compute the rows and columns of the image at which the cells of a map are centered.

    Args:
        model: any model.
        x_1CHW: one image as the model reads it.
        map_size: height and width (h, w) of the map.

    Returns:
        Rows (h,) and columns (w,) in pixels. They are evenly spaced over the image if the model produces that size by
        other means than convolutions and pooling.
    """
    image_size = tuple(x_1CHW.shape[2:])
    #: for rows and columns: size of a map -> its grid
    grids: list[dict[int, CellGrid]] = []
    for size in image_size:
        grids.append({size: CellGrid(0.0, 1.0)})

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for tensor in (*inputs[:1], output):
            if not isinstance(tensor, Tensor) or tensor.ndim != 4:
                return
        for axis, known in enumerate(grids):
            size_in = inputs[0].shape[2 + axis]
            size_out = output.shape[2 + axis]
            if size_in in known and size_out not in known:
                known[size_out] = _propagate_grid(layer, axis, known[size_in])

    layers = list(filter(_is_strided, model.modules()))
    with eval_mode(model), forward_hooks(layers, record), torch.no_grad():
        model(single_image(x_1CHW))
    rows_h = _grid_positions(grids[0], image_size[0], map_size[0])
    columns_w = _grid_positions(grids[1], image_size[1], map_size[1])
    return rows_h, columns_w


def _grid_positions(grids: dict[int, CellGrid], image_size: int, map_size: int) -> np.ndarray:
    """Return the centers (map_size,) of the cells of a map along one axis."""
    even = CellGrid((image_size / map_size - 1) / 2, image_size / map_size)
    grid = grids.get(map_size, even)
    return grid.first + grid.step * np.arange(map_size)


def upsample_map(
    map_hw: Float[np.ndarray, "h w"],
    centers: tuple[Float[np.ndarray, " h"], Float[np.ndarray, " w"]],
    image_size: tuple[int, int],
) -> Float[np.ndarray, "H W"]:
    """Interpolate a map linearly between its cells; it is constant beyond the outermost ones.

    Args:
        map_hw: a map.
        centers: rows (h,) and columns (w,) of the cells in the image, as `cell_centers` returns them.
        image_size: height and width of the image.

    Returns:
        The map at the image's resolution, float32.
    """
    rows_Hh = _interpolation_weights(centers[0], image_size[0])
    columns_Ww = _interpolation_weights(centers[1], image_size[1])
    return (rows_Hh @ map_hw @ columns_Ww.T).astype(np.float32)


def _interpolation_weights(center_c: np.ndarray, image_size: int) -> np.ndarray:
    """Return the weight (image_size, c) of each cell at each pixel along one axis."""
    pixels = np.arange(image_size)
    columns: list[np.ndarray] = []
    for unit_c in np.eye(len(center_c)):
        columns.append(np.interp(pixels, center_c, unit_c))
    return np.stack(columns, axis=1)


def _is_strided(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution or a pooling, and not one that enlarges maps."""
    return hasattr(layer, "kernel_size") and hasattr(layer, "stride") and not getattr(layer, "transposed", False)


def _propagate_grid(layer: nn.Module, axis: int, grid: CellGrid) -> CellGrid:
    """Return the grid of a layer's output from that of its input."""
    kernel = _axis_setting(layer, "kernel_size", axis, 1)
    dilation = _axis_setting(layer, "dilation", axis, 1)
    padding = _axis_setting(layer, "padding", axis, 0)
    stride = _axis_setting(layer, "stride", axis, 1)
    offset = (kernel - 1) * dilation / 2 - padding
    return CellGrid(grid.first + offset * grid.step, grid.step * stride)


def _axis_setting(layer: nn.Module, name: str, axis: int, default: int) -> int:
    """Return a layer's setting along one axis."""
    value: Any = getattr(layer, name, default)
    if isinstance(value, str):
        return 0  # padding "valid"; "same" changes no size
    if isinstance(value, tuple):
        return value[axis]
    return value
