"""Convolution, transposed convolution and pooling in plain NumPy, one kernel weight at a time.

C channels, G groups; H W image, h w kernel, O P output; float64 throughout.

Dumoulin and Visin 2016, arXiv:1603.07285; receptive fields: Araujo, Norris and Sim 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

#: weights of red, green and blue in gray (ITU-R BT.601, as in Pillow)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)


class ConvSpec(NamedTuple):
    """Hyperparameters of a convolution besides its kernel."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False

    def output_size(self, size: int, kernel_size: int) -> int:
        """Return the output size along one axis."""
        return output_size(size, kernel_size, self.stride, self.padding, self.dilation, self.transposed)

    def apply(self, x_CHW: np.ndarray, kernels: Sequence[np.ndarray]) -> np.ndarray:
        """Return the feature maps (G, O, P) of one kernel, or the magnitude of the maps of two kernels."""
        conv = conv_transpose if self.transposed else convolve
        maps = []
        for kernel in kernels:
            maps.append(conv(x_CHW, kernel, self.stride, self.padding, self.dilation, self.groups))
        if len(maps) == 1:
            return maps[0]
        return np.hypot(*maps)


def effective_kernel(kernel_size: int, dilation: int = 1) -> int:
    """Return the extent of a dilated kernel in pixels, from its first weight to its last."""
    return dilation * (kernel_size - 1) + 1


def output_size(
    size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1, transposed: bool = False
) -> int:
    """Compute the output size of a convolution along one axis.

    Args:
        size: Input size.
        kernel_size: Number of weights.
        stride: Step between two positions of the kernel.
        padding: Zeros added at each end; cut off at each end if `transposed`.
        dilation: Distance between neighboring weights.
        transposed: Compute the size for a transposed convolution.

    Returns:
        The number of output values; below 1 if the kernel does not fit.
    """
    if transposed:
        return stride * (size - 1) + effective_kernel(kernel_size, dilation) - 2 * padding
    return (size + 2 * padding - effective_kernel(kernel_size, dilation)) // stride + 1


def receptive_fields(kernel_size: int, stride: int, dilation: int, layers: int) -> list[int]:
    """Compute the receptive field after 1, 2, …, `layers` identical layers.

    A stack of transposed layers spreads one value over equally many output values.

    Args:
        kernel_size: Number of weights along the axis.
        stride: Stride of each layer.
        dilation: Dilation of each layer.
        layers: Number of layers.

    Returns:
        The receptive fields in pixels, one per layer.
    """
    field = 1
    jump = 1
    fields = []
    for _ in range(layers):
        field += (effective_kernel(kernel_size, dilation) - 1) * jump
        jump *= stride
        fields.append(field)
    return fields


def _strided_slice(offset: int, count: int, stride: int) -> slice:
    """Return the `count` indices that one weight visits, starting at `offset`."""
    return slice(offset, offset + stride * (count - 1) + 1, stride)


def convolve(
    x_CHW: np.ndarray, kernel_hw: np.ndarray, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """Convolve an image with one kernel that all channels share.

    The kernel is not flipped (cross-correlation), as in every deep-learning library. It must fit into the padded image.

    Args:
        x_CHW: Image.
        kernel_hw: Kernel.
        stride: Step between two positions of the kernel.
        padding: Zeros added on every side.
        dilation: Distance between neighboring weights.
        groups: Number of channel groups; must divide C.

    Returns:
        One feature map per group (G, O, P), summed over the channels of the group.
    """
    padded_CHW = np.pad(x_CHW.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    channels, image_height, image_width = x_CHW.shape
    height = output_size(image_height, kernel_hw.shape[0], stride, padding, dilation)
    width = output_size(image_width, kernel_hw.shape[1], stride, padding, dilation)
    group_size = channels // groups
    output_GOP = np.zeros((groups, height, width))
    for channel in range(channels):
        for i, j in np.ndindex(*kernel_hw.shape):
            rows = _strided_slice(i * dilation, height, stride)
            columns = _strided_slice(j * dilation, width, stride)
            output_GOP[channel // group_size] += kernel_hw[i, j] * padded_CHW[channel, rows, columns]
    return output_GOP


def conv_transpose(
    x_CHW: np.ndarray, kernel_hw: np.ndarray, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """Compute a transposed convolution: add each value times the kernel to the output, `stride` pixels apart.

    This operation carries the gradient back through `convolve`. The output must have at least one value.

    Args:
        x_CHW: Image.
        kernel_hw: Kernel that all channels share.
        stride: Distance between the copies of the kernel.
        padding: Rows and columns cut off on every side of the output.
        dilation: Distance between neighboring weights.
        groups: Number of channel groups; must divide C.

    Returns:
        One feature map per group (G, O, P).
    """
    channels, height, width = x_CHW.shape
    full_height = output_size(height, kernel_hw.shape[0], stride, 0, dilation, transposed=True)
    full_width = output_size(width, kernel_hw.shape[1], stride, 0, dilation, transposed=True)
    group_size = channels // groups
    output_GOP = np.zeros((groups, full_height, full_width))
    for channel in range(channels):
        for i, j in np.ndindex(*kernel_hw.shape):
            rows = _strided_slice(i * dilation, height, stride)
            columns = _strided_slice(j * dilation, width, stride)
            output_GOP[channel // group_size, rows, columns] += kernel_hw[i, j] * x_CHW[channel]
    return output_GOP[:, padding : full_height - padding, padding : full_width - padding]


def iter_window_values(
    x_HW: np.ndarray, window: int, stride: int, padding: int, fill: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Iterate over the cells of a sliding window, with the value under the cell at every window position.

    Args:
        x_HW: Image.
        window: Height and width of the window.
        stride: Step between two window positions.
        padding: Rows and columns added on every side.
        fill: Value of the padding.

    Yields:
        Row and column of the cell within the window, and its values (O, P).
    """
    padded_HW = np.pad(x_HW.astype(np.float64), padding, constant_values=fill)
    height = output_size(x_HW.shape[0], window, stride, padding)
    width = output_size(x_HW.shape[1], window, stride, padding)
    for i, j in np.ndindex(window, window):
        yield i, j, padded_HW[_strided_slice(i, height, stride), _strided_slice(j, width, stride)]


def max_pool(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Compute max pooling. Padding never wins; ties go to the first pixel.

    Args:
        x_HW: Image.
        window: Height and width of the window; it must fit into the padded image.
        stride: Step between two window positions.
        padding: Rows and columns added on every side, at most half of the window.

    Returns:
        The maximum of each window (O, P), and its row and column in the image (O, P, 2).
    """
    height = output_size(x_HW.shape[0], window, stride, padding)
    width = output_size(x_HW.shape[1], window, stride, padding)
    max_OP = np.full((height, width), -np.inf)
    argmax_OP2 = np.zeros((height, width, 2), np.int64)
    corners_OP2 = np.indices((height, width)).transpose(1, 2, 0) * stride - padding
    for i, j, values_OP in iter_window_values(x_HW, window, stride, padding, -np.inf):
        larger_OP = values_OP > max_OP
        max_OP[larger_OP] = values_OP[larger_OP]
        argmax_OP2[larger_OP] = corners_OP2[larger_OP] + (i, j)
    return max_OP, argmax_OP2


def avg_pool(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> np.ndarray:
    """Compute average pooling (O, P). Zero padding counts, as in a convolution.

    Args:
        x_HW: Image.
        window: Height and width of the window.
        stride: Step between two window positions.
        padding: Rows and columns of zeros added on every side.

    Returns:
        The mean of each window (O, P).
    """
    height = output_size(x_HW.shape[0], window, stride, padding)
    width = output_size(x_HW.shape[1], window, stride, padding)
    total_OP = np.zeros((height, width))
    for _, _, values_OP in iter_window_values(x_HW, window, stride, padding, 0.0):
        total_OP += values_OP
    return total_OP / window**2


def subsample(x_HW: np.ndarray, window: int, stride: int, padding: int = 0) -> np.ndarray:
    """Take every `stride`-th pixel, in the output size that pooling with this window has.

    Without padding, this is the first pixel of each window.

    Args:
        x_HW: Image.
        window: Height and width of the window.
        stride: Step between two pixels.
        padding: Padding of the pooling layer.

    Returns:
        The selected pixels (O, P).
    """
    height, width = x_HW.shape
    rows = stride * np.arange(output_size(height, window, stride, padding))
    columns = stride * np.arange(output_size(width, window, stride, padding))
    return x_HW.astype(np.float64)[np.ix_(rows.clip(max=height - 1), columns.clip(max=width - 1))]


def find_textured_crop(x_HW: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Return the top left corner (row, column) of the crop with the largest standard deviation, the first of equals."""
    crops = np.lib.stride_tricks.sliding_window_view(x_HW.astype(np.float64), (height, width))[::2, ::2]
    row, column = np.unravel_index(crops.std((2, 3)).argmax(), crops.shape[:2])
    return 2 * int(row), 2 * int(column)
