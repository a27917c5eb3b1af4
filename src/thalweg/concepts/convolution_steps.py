"""A convolution step by step: a small crop of the image, some kernel positions, every product, the partial output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

import numpy as np

from ..config.parsing import Range
from ..errors import OptionError
from .conv_numpy import ConvSpec, effective_kernel, find_textured_crop

#: maximum number of values along one side of a crop
MAX_CELLS = 16
#: desired number of kernel positions along one side of a crop
TARGET_POSITIONS = 8
#: minimum number of values along one side of a crop
MIN_CELLS = 5
#: approximate number of steps
MAX_STEPS = 12

#: a setting of the concepts that slide a window
CropSetting = Annotated[
    list[int] | Literal["auto"],
    "row and column of the crop computed step by step; auto: the one with the most contrast",
    Range(0, 255),
]


class ConvStep(TypedDict):
    """One kernel position in one channel. All values are JSON.

    `position` is the row and column of the output value, or of the input value of a transposed convolution.
    `window` has the input values under the kernel; `products` has one matrix per kernel. `channel_sums` has the sums
    of each channel of the group so far, one per kernel, and `total` their sum. `complete` is true at the group's last
    channel. `output` is the partial output of the group, None where nothing is computed yet.
    """

    position: list[int]
    channel: int
    group: int
    window: list[list[float]]
    products: list[list[list[float]]]
    channel_sums: list[list[float]]
    total: list[float]
    complete: bool
    output: list[list[float | None]]


class ConvCrop(TypedDict):
    """A crop that is convolved like an image of its own. `corner` is its row and column in the image."""

    corner: list[int]
    values: list[list[list[float]]]
    output: list[list[list[float]]]
    steps: list[ConvStep]


def build_crop_steps(
    x_CHW: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec, corner: Sequence[int] | str
) -> ConvCrop:
    """Convolve a crop of the image and list the steps.

    Args:
        x_CHW: Image.
        kernels: One or two kernels (h, w) of the same shape.
        spec: Stride, padding, dilation and groups.
        corner: Row and column of the crop, or 'auto' for the crop with the largest standard deviation.

    Returns:
        The crop, its output and the steps.

    Raises:
        OptionError: The crop does not lie inside the image.
    """
    kernel_height, kernel_width = kernels[0].shape
    height = _choose_crop_size(x_CHW.shape[1], effective_kernel(kernel_height, spec.dilation), spec)
    width = _choose_crop_size(x_CHW.shape[2], effective_kernel(kernel_width, spec.dilation), spec)
    top, left = resolve_crop_corner(x_CHW, (height, width), corner)
    crop_Chw = x_CHW[:, top : top + height, left : left + width]
    return {
        "corner": [top, left],
        "values": crop_Chw.tolist(),
        "output": spec.apply(crop_Chw, kernels).tolist(),
        "steps": _build_steps(crop_Chw, kernels, spec),
    }


def _choose_crop_size(size: int, extent: int, spec: ConvSpec) -> int:
    """Choose the side of the crop: about TARGET_POSITIONS kernel positions, at most MAX_CELLS values."""
    if spec.transposed:
        max_copies = (MAX_CELLS - extent + 2 * spec.padding) // spec.stride + 1
        return min(size, max(2, min(TARGET_POSITIONS, max_copies)))
    target = min(MAX_CELLS, extent + (TARGET_POSITIONS - 1) * spec.stride)
    return min(size, max(target - 2 * spec.padding, extent - 2 * spec.padding, MIN_CELLS))


def resolve_crop_corner(x_CHW: np.ndarray, shape: Sequence[int], corner: Sequence[int] | str) -> tuple[int, int]:
    """Return the top left corner of a crop of this (height, width).

    Args:
        x_CHW: Image.
        shape: Height and width of the crop.
        corner: Row and column, or 'auto' for the crop with the largest standard deviation.

    Returns:
        Row and column.

    Raises:
        OptionError: The crop does not lie inside the image.
    """
    height, width = shape
    if isinstance(corner, str):
        return find_textured_crop(x_CHW.mean(0), height, width)
    max_row = x_CHW.shape[1] - height
    max_column = x_CHW.shape[2] - width
    if len(corner) != 2 or corner[0] > max_row or corner[1] > max_column:
        text = ",".join(map(str, corner))
        raise OptionError(
            f"crop: {text}; expected a row from 0 to {max_row} and a column from 0 to {max_column} "
            f"for a crop of {width} x {height} pixels.",
            cure="Give both numbers, such as --set crop=0,0, or --set crop=auto.",
            option="crop",
            value=list(corner),
            allowed=[[0, 0], [max_row, max_column]],
        )
    return corner[0], corner[1]


def pick_positions(count: int, target: int) -> list[int]:
    """Return about `target` of the indices 0 to `count` - 1, sorted: the first three, and others up to the last."""
    leading = 3 if target > 4 else 1
    first = range(min(leading, count))
    rest = np.linspace(0, count - 1, max(2, target - len(first) + 1)).astype(int).tolist()
    return sorted({*first, *rest})


def _build_steps(crop_Chw: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec) -> list[ConvStep]:
    """List every channel at some output positions, or at some input positions of a transposed convolution."""
    channels, height, width = crop_Chw.shape
    if not spec.transposed:
        height = spec.output_size(height, kernels[0].shape[0])
        width = spec.output_size(width, kernels[0].shape[1])
    group_size = channels // spec.groups
    steps: list[ConvStep] = []
    for index in pick_positions(height * width, max(2, MAX_STEPS // channels)):
        row, column = divmod(index, width)
        channel_sums: list[list[float]] = []
        for channel in range(channels):
            if channel % group_size == 0:
                channel_sums = []
            window_hw = _window_values(crop_Chw[channel], (row, column), kernels[0].shape, spec)
            products = []
            sums = []
            for kernel in kernels:
                product = kernel * window_hw
                products.append(product.tolist())
                sums.append(float(product.sum()))
            channel_sums = [*channel_sums, sums]
            steps.append(
                {
                    "position": [row, column],
                    "channel": channel,
                    "group": channel // group_size,
                    "window": window_hw.tolist(),
                    "products": products,
                    "channel_sums": channel_sums,
                    "total": list(map(sum, zip(*channel_sums, strict=True))),
                    "complete": len(channel_sums) == group_size,
                    "output": _partial_output(crop_Chw, kernels, spec, index, channel),
                }
            )
    return steps


def _window_values(
    x_hw: np.ndarray, position: tuple[int, int], kernel_shape: tuple[int, ...], spec: ConvSpec
) -> np.ndarray:
    """Return the values (h, w) that the weights are multiplied by: the window, or one value if transposed."""
    row, column = position
    if spec.transposed:
        return np.full(kernel_shape, x_hw[row, column])
    rows = row * spec.stride + spec.dilation * np.arange(kernel_shape[0])
    columns = column * spec.stride + spec.dilation * np.arange(kernel_shape[1])
    return np.pad(x_hw, spec.padding)[np.ix_(rows, columns)]


def _partial_output(
    crop_Chw: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec, index: int, channel: int
) -> list[list[float | None]]:
    """Return the group's output after this position and channel, None where nothing is computed yet."""
    group_size = len(crop_Chw) // spec.groups
    group = channel // group_size
    if spec.transposed:
        return _partial_transposed_output(crop_Chw, kernels, spec, index, channel)
    is_complete = channel % group_size == group_size - 1
    return _truncate_output(spec.apply(crop_Chw, kernels)[group], index + is_complete)


def _truncate_output(output_OP: np.ndarray, count: int) -> list[list[float | None]]:
    """Return the first `count` values in reading order, None for the others."""
    width = output_OP.shape[1]
    is_done_OP = np.arange(output_OP.size).reshape(-1, width) < count
    return _mask_values(output_OP, is_done_OP)


def _partial_transposed_output(
    crop_Chw: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec, index: int, channel: int
) -> list[list[float | None]]:
    """Return the group's output of all values up to this position and channel, None outside of all kernels so far."""
    group_size = len(crop_Chw) // spec.groups
    group = channel // group_size
    is_done_Chw = np.zeros_like(crop_Chw)
    is_done_CN = is_done_Chw.reshape(len(crop_Chw), -1)
    is_done_CN[:, :index] = 1
    is_done_CN[group * group_size : channel + 1, index] = 1
    values_OP = spec.apply(crop_Chw * is_done_Chw, kernels)[group]
    coverage_OP = spec.apply(is_done_Chw, [np.ones_like(kernels[0])])[group]
    return _mask_values(values_OP, coverage_OP > 0)


def _mask_values(values_OP: np.ndarray, mask_OP: np.ndarray) -> list[list[float | None]]:
    """Return the values as lists, with None where the mask is False."""
    masked_OP = values_OP.astype(object)
    masked_OP[~mask_OP] = None
    return masked_OP.tolist()
