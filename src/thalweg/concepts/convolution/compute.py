"""Convolution: one small kernel at every position of an image (Fukushima 1980; LeCun et al. 1989)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ...config.parsing import Range
from ...errors import OptionError
from ...registry import register_concept
from ..base import ConceptResult, load_text
from ..conv_numpy import GRAY_WEIGHTS, ConvSpec, effective_kernel, receptive_fields
from ..convolution_steps import MAX_CELLS, CropSetting, build_crop_steps
from .kernels import KERNELS, MAX_WEIGHT, parse_kernels
from .records import ConvolutionNumbers, OutputKind, Sizes, StackLayer

TEXT = load_text(__package__)

Channels = Literal["gray", "color", "color+gray"]
CHANNEL_NAMES: dict[Channels, tuple[str, ...]] = {
    "gray": ("gray",),
    "color": ("red", "green", "blue"),
    "color+gray": ("red", "green", "blue", "gray"),
}
#: maximum number of output values per feature map
MAX_OUTPUT_VALUES = 1_000_000


@dataclass(frozen=True)
class ConvolutionSettings:
    """Settings of the concept. Pixel values are 0 to 255."""

    kernel: Annotated[
        str | list[list[float]],
        f"{', '.join(KERNELS)}, or rows of weights such as '1,0,-1;2,0,-2;1,0,-1'",
        Range(-MAX_WEIGHT, MAX_WEIGHT),
    ] = "edge"
    stride: Annotated[int, "step between two positions of the kernel, in pixels", Range(1, 4)] = 1
    padding: Annotated[int, "zeros added on every side of the image", Range(0, 4)] = 0
    dilation: Annotated[int, "distance between neighboring weights, in pixels", Range(1, 4)] = 1
    transposed: Annotated[bool, "compute a transposed convolution, which upsamples"] = False
    channels: Annotated[Channels, "input channels"] = "gray"
    groups: Annotated[int, "channel groups; each has a feature map of its own", Range(1, 4)] = 1
    depthwise: Annotated[bool, "depthwise convolution: one group per channel"] = False
    layers: Annotated[int, "layers of the stack whose receptive field is shown", Range(1, 8)] = 3
    crop: CropSetting = "auto"
    image_size: Annotated[int, "maximum of height and width; larger images are downscaled", Range(4, 256)] = 128


@register_concept(TEXT, ConvolutionSettings, input_kind="image")
def convolution(
    settings: ConvolutionSettings, image_HWC: np.ndarray, title: str, notes: Sequence[str] = ()
) -> ConceptResult:
    """Convolve an image: every product on a crop, the full output, and the receptive field of a stack.

    Args:
        settings: Kernel, hyperparameters and crop.
        image_HWC: Image, uint8; C is 1 or 3.
        title: Name of the image.
        notes: Notes on how the image was read.

    Returns:
        Numbers and frames.

    Raises:
        OptionError: The kernel is invalid or does not fit into the image, or the groups do not divide the channels.
    """
    from .captions import build_frames, describe_key_numbers, list_warnings

    kernels, divisor = parse_kernels(settings.kernel)
    channels = CHANNEL_NAMES[settings.channels]
    spec = _build_spec(settings, len(channels))
    x_CHW = extract_channels(image_HWC, settings.channels)
    kernel_shape = kernels[0].shape
    sizes = _check_sizes(spec, x_CHW.shape[1:], kernel_shape)
    output_GOP = spec.apply(x_CHW, kernels)
    output_kind, color_limit = _choose_color_scale(output_GOP, kernels, spec, len(channels))
    numbers: ConvolutionNumbers = {
        "image_name": title,
        "image": x_CHW.tolist(),
        "channels": list(channels),
        "groups": spec.groups,
        "kernel": _name_kernel(settings.kernel),
        "kernels": [kernel.tolist() for kernel in kernels],
        "divisor": divisor,
        "stride": spec.stride,
        "padding": spec.padding,
        "dilation": spec.dilation,
        "transposed": spec.transposed,
        "sizes": sizes,
        "params": len(kernels) * kernels[0].size * len(channels),
        "output": output_GOP.tolist(),
        "output_kind": output_kind,
        "color_limit": color_limit,
        "crop": build_crop_steps(x_CHW, kernels, spec, settings.crop),
        "layers": _trace_stack(spec, settings.layers, x_CHW.shape[1:], kernel_shape),
        "max_difference": float(np.abs(output_GOP - _torch_output(x_CHW, kernels, spec)).max()),
        "size_formula": _format_size_formula(spec, x_CHW.shape[2], kernel_shape[1]),
    }
    return ConceptResult(
        dict(numbers),
        build_frames(numbers),
        describe_key_numbers(numbers),
        key_frame=-1,
        notes=[*notes, *list_warnings(numbers)],
    )


def _build_spec(settings: ConvolutionSettings, channels: int) -> ConvSpec:
    """Collect the hyperparameters. Raises OptionError if the groups do not divide the channels."""
    groups = channels if settings.depthwise else settings.groups
    if channels % groups:
        allowed = []
        for count in (1, 2, 3, 4):
            if channels % count == 0:
                allowed.append(count)
        other = next(name for name, names in CHANNEL_NAMES.items() if len(names) % groups == 0)
        raise OptionError(
            f"groups: {groups}; expected a divisor of the number of channels, {channels}.",
            cure=f"Give {' or '.join(map(str, allowed))}, or other channels: --set channels={other}",
            option="groups",
            value=groups,
            allowed=allowed,
        )
    return ConvSpec(settings.stride, settings.padding, settings.dilation, groups, settings.transposed)


def _name_kernel(kernel: str | list[list[float]]) -> str:
    """Return the name of the kernel, 'custom' if it has none."""
    if isinstance(kernel, str) and kernel in KERNELS:
        return kernel
    return "custom"


def extract_channels(image_HWC: np.ndarray, channels: Channels) -> np.ndarray:
    """Return the channels (C, H, W), float64 with whole numbers from 0 to 255."""
    color_HW3 = np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3)).astype(np.float64)
    gray_HW1 = np.round(color_HW3 @ np.array(GRAY_WEIGHTS))[..., None]
    parts = {"gray": [gray_HW1], "color": [color_HW3], "color+gray": [color_HW3, gray_HW1]}
    return np.concatenate(parts[channels], axis=2).transpose(2, 0, 1)


def _check_sizes(spec: ConvSpec, image_shape: Sequence[int], kernel_shape: Sequence[int]) -> Sizes:
    """Compute heights and widths. Raises OptionError if the kernel does not fit or the output is too large."""
    window = [effective_kernel(size, spec.dilation) for size in kernel_shape]
    if max(window) >= MAX_CELLS:
        raise OptionError(
            f"dilation: {spec.dilation} makes the kernel {max(window)} pixels wide; expected at most {MAX_CELLS - 1}.",
            cure="Give a smaller kernel or dilation.",
            option="dilation",
            value=max(window),
            allowed=[1, MAX_CELLS - 1],
        )
    output = _compute_output_sizes(spec, image_shape, kernel_shape)
    if min(output) < 1:
        raise _empty_output_error(spec, image_shape, window)
    if output[0] * output[1] > MAX_OUTPUT_VALUES:
        raise OptionError(
            f"image_size: an output of {output[1]} x {output[0]} values; expected at most {MAX_OUTPUT_VALUES:,}.",
            cure="Give a smaller image_size or stride.",
            option="image_size",
            value=output,
            allowed=[1, MAX_OUTPUT_VALUES],
        )
    return {"image": list(image_shape), "window": window, "output": output}


def _compute_output_sizes(spec: ConvSpec, shape: Sequence[int], kernel_shape: Sequence[int]) -> list[int]:
    sizes = []
    for size, kernel in zip(shape, kernel_shape, strict=True):
        sizes.append(spec.output_size(size, kernel))
    return sizes


def _empty_output_error(spec: ConvSpec, image_shape: Sequence[int], window: Sequence[int]) -> OptionError:
    """Build the error for an output without values."""
    if spec.transposed:
        return OptionError(
            f"padding: {spec.padding} cuts off the whole output; expected less.",
            cure="Give less padding.",
            option="padding",
            value=spec.padding,
        )
    padding = ""
    if spec.padding:
        padding = f" with {spec.padding} zeros on every side"
    return OptionError(
        f"kernel: {window[1]} x {window[0]} pixels; expected at most the image's "
        f"{image_shape[1]} x {image_shape[0]}{padding}.",
        cure="Give a smaller kernel or dilation, or a larger image.",
        option="kernel",
        value=list(window),
        allowed=[size + 2 * spec.padding for size in image_shape],
    )


def _choose_color_scale(
    output_GOP: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec, channels: int
) -> tuple[OutputKind, float]:
    """Choose how plots color the output, and the value with the strongest color.

    A kernel with a positive sum gives an 'image': its white is the output for a white area. Other outputs are 'signed',
    or the 'magnitude' of two outputs.
    """
    kernel_sum = float(kernels[0].sum())
    if len(kernels) == 1 and kernel_sum > 1e-9:
        overlap = spec.stride**2 if spec.transposed else 1
        return "image", 255 * kernel_sum * channels / spec.groups / overlap
    # a quantile: a few outliers must not make everything else pale
    color_limit = float(np.quantile(np.abs(output_GOP), 0.99)) or float(np.abs(output_GOP).max()) or 1.0
    if len(kernels) == 2:
        return "magnitude", color_limit
    return "signed", color_limit


def _torch_output(x_CHW: np.ndarray, kernels: Sequence[np.ndarray], spec: ConvSpec) -> np.ndarray:
    """Compute the same as `ConvSpec.apply` with PyTorch's layers."""
    x_1CHW = torch.from_numpy(x_CHW)[None]
    channels = len(x_CHW)
    maps = []
    for kernel in kernels:
        kernel_hw = torch.from_numpy(kernel)
        if spec.transposed:
            weight = kernel_hw.expand(channels, 1, -1, -1)
            output = F.conv_transpose2d(x_1CHW, weight, None, spec.stride, spec.padding, 0, spec.groups, spec.dilation)
        else:
            weight = kernel_hw.expand(spec.groups, channels // spec.groups, -1, -1)
            output = F.conv2d(x_1CHW, weight, None, spec.stride, spec.padding, spec.dilation, spec.groups)
        maps.append(output[0].numpy())
    if len(maps) == 1:
        return maps[0]
    return np.hypot(*maps)


def _trace_stack(
    spec: ConvSpec, layers: int, image_shape: Sequence[int], kernel_shape: Sequence[int]
) -> list[StackLayer]:
    """Compute output size and receptive field of each layer of a stack of identical layers."""
    heights = receptive_fields(kernel_shape[0], spec.stride, spec.dilation, layers)
    widths = receptive_fields(kernel_shape[1], spec.stride, spec.dilation, layers)
    size: list[int] | None = list(image_shape)
    stack: list[StackLayer] = []
    for height, width in zip(heights, widths, strict=True):
        if size is not None:
            size = _compute_output_sizes(spec, size, kernel_shape)
            if min(size) < 1:
                size = None
        stack.append({"size": size, "receptive_field": [height, width]})
    return stack


def _format_size_formula(spec: ConvSpec, size: int, kernel_size: int) -> str:
    """Format the formula of the output's width with its numbers."""
    extent = f"{spec.dilation}·({kernel_size} - 1)"
    output = spec.output_size(size, kernel_size)
    if spec.transposed:
        return f"width: ({size} - 1)·{spec.stride} - 2·{spec.padding} + {extent} + 1 = {output}"
    return f"width: floor(({size} + 2·{spec.padding} - {extent} - 1) / {spec.stride}) + 1 = {output}"
