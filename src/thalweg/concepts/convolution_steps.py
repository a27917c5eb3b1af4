"""A convolution by hand: a small part of a picture, a few places of the window, every product, the output so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OptionError
from .conv_numpy import ConvSpec, effective_kernel, most_textured_crop

#: most values along a side of what is written out; places in a row that are aimed at; least side; about so many steps
MAX_CELLS, TARGET_POSITIONS, MIN_CELLS, MAX_STEPS = 16, 8, 5, 12


def build_crop_steps(
    x_CHW: np.ndarray, kernels: Sequence[np.ndarray], how: ConvSpec, at: Sequence[int] | str
) -> dict[str, Any]:
    """A part of the picture, convolved like a picture of its own, and steps on the way, as JSON values.

    `at` is the row and column of its corner, or 'auto' for the part whose values differ most. Raises OptionError where
    it would not lie in the picture.
    """
    window = kernels[0].shape
    extent = [
        _crop_size(size, effective_kernel(one, how.dilation), how)
        for size, one in zip(x_CHW.shape[1:], window, strict=True)
    ]
    top, left = crop_corner(x_CHW, extent, at)
    part_Chw = x_CHW[:, top : top + extent[0], left : left + extent[1]]
    return {
        "at": [top, left],
        "values": part_Chw.tolist(),
        "output": how.output(part_Chw, kernels).tolist(),
        "steps": _build_steps(part_Chw, kernels, how),
    }


def _crop_size(size: int, reach: int, how: ConvSpec) -> int:
    """How many values along a side of the crop, so that the window has about PLACES places and all can be written."""
    if how.transposed:
        return min(size, max(2, min(TARGET_POSITIONS, (MAX_CELLS - reach + 2 * how.padding) // how.stride + 1)))
    most = min(MAX_CELLS, reach + (TARGET_POSITIONS - 1) * how.stride)
    return min(size, max(most - 2 * how.padding, reach - 2 * how.padding, MIN_CELLS))


def crop_corner(x_CHW: np.ndarray, extent: Sequence[int], at: Sequence[int] | str) -> tuple[int, int]:
    """Where a crop of that extent begins. Raises OptionError where it would not lie in the picture."""
    if isinstance(at, str):
        return most_textured_crop(x_CHW.mean(0), *extent)
    last = [size - part for size, part in zip(x_CHW.shape[1:], extent, strict=True)]
    if len(at) != 2 or at[0] > last[0] or at[1] > last[1]:
        told = f"at: {','.join(map(str, at))} is no corner of a crop of {extent[1]} x {extent[0]} in this picture."
        raise OptionError(told, cure=f"Give a row up to {last[0]} and a column up to {last[1]}: --set at=0,0")
    return at[0], at[1]


def pick_positions(count: int, wanted: int) -> list[int]:
    """About `wanted` of the places 0 to `count` - 1, in order: the first three, and others up to the last."""
    first = range(min(3 if wanted > 4 else 1, count))
    rest = np.linspace(0, count - 1, max(2, wanted - len(first) + 1)).astype(int).tolist()
    return sorted({*first, *rest})


def _build_steps(part_Chw: np.ndarray, kernels: Sequence[np.ndarray], how: ConvSpec) -> list[dict[str, Any]]:
    """Every channel at some places of the window, or of the value that a transposed convolution lays out."""
    channels, extent, window = len(part_Chw), part_Chw.shape[1:], kernels[0].shape
    together = channels // how.groups
    high, wide = extent if how.transposed else map(how.size, extent, window)
    found = []
    for place in pick_positions(high * wide, max(2, MAX_STEPS // channels)):
        row, column = divmod(place, wide)
        for channel in range(channels):
            group, first = channel // together, channel % together == 0
            under_hw = _window_values(part_Chw[channel], row, column, window, how)
            terms = [kernel * under_hw for kernel in kernels]
            before = [] if first else found[-1]["parts"]
            parts = [*before, [float(term.sum()) for term in terms]]
            whole = len(parts) == together
            known = _accumulate_transposed(part_Chw, kernels, how, place, channel) if how.transposed else None
            if known is None:
                known = _truncate_output(how.output(part_Chw, kernels)[group], place + whole)
            found.append(
                {
                    "place": [row, column],
                    "channel": channel,
                    "group": group,
                    "under": under_hw.tolist(),
                    "terms": [term.tolist() for term in terms],
                    "parts": parts,
                    "sums": [sum(part[number] for part in parts) for number in range(len(kernels))],
                    "whole": whole,
                    "output": known,
                }
            )
    return found


def _window_values(x_hw: np.ndarray, row: int, column: int, window: Sequence[int], how: ConvSpec) -> np.ndarray:
    """The values (h, w) that the weights are multiplied with: those under the window, or the one that is laid out."""
    if how.transposed:
        return np.full(window, x_hw[row, column])
    rows, columns = (
        start * how.stride + how.dilation * np.arange(one) for start, one in zip((row, column), window, strict=True)
    )
    return np.pad(x_hw, how.padding)[np.ix_(rows, columns)]


def _truncate_output(output_OP: np.ndarray, count: int) -> list[list[float | None]]:
    """The first `count` values in the order of reading; None for the others."""
    wide = output_OP.shape[1]
    return [
        [float(value) if row * wide + column < count else None for column, value in enumerate(values)]
        for row, values in enumerate(output_OP)
    ]


def _accumulate_transposed(
    part_Chw: np.ndarray, kernels: Sequence[np.ndarray], how: ConvSpec, place: int, channel: int
) -> list[list[float | None]]:
    """The group's output of all values up to this place and channel; None where no kernel has lain yet."""
    together = len(part_Chw) // how.groups
    group = channel // together
    done_Chw = np.zeros_like(part_Chw)
    flat_CN = done_Chw.reshape(len(part_Chw), -1)
    flat_CN[:, :place] = 1
    flat_CN[group * together : channel + 1, place] = 1
    values_OP = how.output(part_Chw * done_Chw, kernels)[group]
    touched_OP = how.output(done_Chw, [np.ones_like(kernels[0])])[group] > 0
    return [
        [float(value) if there else None for value, there in zip(values, row, strict=True)]
        for values, row in zip(values_OP, touched_OP, strict=True)
    ]
