"""A window that slides over a picture: convolution, transposed convolution and pooling, written out.

C channels, G groups; H W the picture, h w the window, O P the output; float64 throughout.

Dumoulin and Visin 2016, arXiv:1603.07285; receptive fields: Araujo, Norris and Sim 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

#: shares of red, green and blue in grey (ITU-R BT.601, as Pillow has them)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)


class ConvSpec(NamedTuple):
    """How a kernel is moved over a picture."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False

    def size(self, size: int, window: int) -> int:
        """How many values come out along one side, as by `output_size`."""
        return output_size(size, window, self.stride, self.padding, self.dilation, self.transposed)

    def output(self, x_CHW: np.ndarray, kernels: Sequence[np.ndarray]) -> np.ndarray:
        """(G, O, P): what one kernel answers; of two, the length of the vector that their answers make."""
        moved = conv_transpose if self.transposed else convolve
        answers = [moved(x_CHW, kernel, *self[:4]) for kernel in kernels]
        return answers[0] if len(answers) == 1 else np.hypot(*answers)


def effective_kernel(window: int, dilation: int = 1) -> int:
    """How many pixels a window reaches over, from its first weight to its last."""
    return dilation * (window - 1) + 1


def output_size(
    size: int, window: int, stride: int = 1, padding: int = 0, dilation: int = 1, transposed: bool = False
) -> int:
    """How many values come out along one side; below 1 where the window does not fit."""
    if transposed:
        return stride * (size - 1) + effective_kernel(window, dilation) - 2 * padding
    return (size + 2 * padding - effective_kernel(window, dilation)) // stride + 1


def receptive_fields(window: int, stride: int, dilation: int, layers: int) -> list[int]:
    """How many pixels along one side a value sees after 1, 2, …, `layers` such layers.

    Over as many does one value spread through as many transposed ones.
    """
    seen, step, found = 1, 1, []
    for _ in range(layers):
        seen += (effective_kernel(window, dilation) - 1) * step
        step *= stride
        found.append(seen)
    return found


def _offset_slice(offset: int, count: int, stride: int) -> slice:
    """Where one weight lies at each of `count` places of its window."""
    return slice(offset, offset + stride * (count - 1) + 1, stride)


def convolve(
    x_CHW: np.ndarray, kernel_hw: np.ndarray, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """(G, O, P): at each place the sum of weights times values under them, over all channels of a group.

    `padding` zeros are laid around the picture. As in all deep learning the kernel is not turned by half a turn, so
    this is a cross-correlation. Expects a window that fits, and `groups` that divide C.
    """
    padded_CHW = np.pad(x_CHW.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    (channels, *sizes), together = x_CHW.shape, len(x_CHW) // groups
    high, wide = (
        output_size(size, window, stride, padding, dilation)
        for size, window in zip(sizes, kernel_hw.shape, strict=True)
    )
    output_GOP = np.zeros((groups, high, wide))
    for channel in range(channels):
        for row, column in np.ndindex(*kernel_hw.shape):
            rows, columns = _offset_slice(row * dilation, high, stride), _offset_slice(column * dilation, wide, stride)
            output_GOP[channel // together] += kernel_hw[row, column] * padded_CHW[channel, rows, columns]
    return output_GOP


def conv_transpose(
    x_CHW: np.ndarray, kernel_hw: np.ndarray, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """(G, O, P): transposed convolution. Each value times the kernel is added where it lies, `stride` apart.

    `padding` rows and columns are then cut off all around. It is what carries gradients back through `convolve`.
    Expects an output of at least one value.
    """
    (channels, height, width), together = x_CHW.shape, len(x_CHW) // groups
    whole = [
        output_size(size, window, stride, 0, dilation, transposed=True)
        for size, window in zip((height, width), kernel_hw.shape, strict=True)
    ]
    output_GOP = np.zeros((groups, *whole))
    for channel in range(channels):
        for row, column in np.ndindex(*kernel_hw.shape):
            rows, columns = (
                _offset_slice(row * dilation, height, stride),
                _offset_slice(column * dilation, width, stride),
            )
            output_GOP[channel // together, rows, columns] += kernel_hw[row, column] * x_CHW[channel]
    return output_GOP[:, padding : whole[0] - padding, padding : whole[1] - padding]


def sliding_values(
    x_HW: np.ndarray, window: int, stride: int, padding: int, outside: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(row, column, values (O, P)) for each place in the window: what lies there wherever the window is."""
    padded_HW = np.pad(x_HW.astype(np.float64), padding, constant_values=outside)
    high, wide = (output_size(size, window, stride, padding) for size in x_HW.shape)
    for row, column in np.ndindex(window, window):
        yield row, column, padded_HW[_offset_slice(row, high, stride), _offset_slice(column, wide, stride)]


def max_pool(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The largest value under each window (O, P), and where it is (O, P, 2), row and column; of equals, the first.

    What lies outside of the picture does not count. Expects a window that fits, and padding of at most half of it.
    """
    largest_OP, where_OP2 = None, None
    for row, column, values_OP in sliding_values(x_HW, window, stride, padding, -np.inf):
        starts = np.indices(values_OP.shape).transpose(1, 2, 0) * stride - padding
        here_OP2 = starts + (row, column)
        if largest_OP is None:
            largest_OP, where_OP2 = values_OP.copy(), here_OP2
            continue
        better_OP = values_OP > largest_OP
        largest_OP[better_OP], where_OP2[better_OP] = values_OP[better_OP], here_OP2[better_OP]
    return largest_OP, where_OP2


def avg_pool(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> np.ndarray:
    """The mean (O, P) of the values under each window; zeros around the picture count, as in a convolution."""
    return sum(values_OP for _, _, values_OP in sliding_values(x_HW, window, stride, padding, 0.0)) / window**2


def subsample(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> np.ndarray:
    """Every `stride`-th value of every `stride`-th row (O, P), as many as there are windows: pooling without pooling.

    It is the first value of each window, where nothing is padded.
    """
    rows, columns = (
        (stride * np.arange(output_size(size, window, stride, padding))).clip(max=size - 1) for size in x_HW.shape
    )
    return x_HW.astype(np.float64)[np.ix_(rows, columns)]


def most_textured_crop(x_HW: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Row and column of the upper left corner of that part of the picture whose values differ most; the first such."""
    parts = np.lib.stride_tricks.sliding_window_view(x_HW.astype(np.float64), (height, width))[::2, ::2]
    row, column = np.unravel_index(parts.std((2, 3)).argmax(), parts.shape[:2])
    return 2 * int(row), 2 * int(column)
