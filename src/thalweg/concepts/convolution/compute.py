"""Convolution: the same few weights at every place of a picture (Fukushima 1980; LeCun et al. 1989)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ...config.options import Range
from ...errors import OptionError
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..conv_numpy import GRAY_WEIGHTS, ConvSpec, effective_kernel, receptive_fields
from ..convolution_steps import MAX_CELLS, build_crop_steps
from .kernels import KERNELS, parse_kernels

TEXT = load_text(__package__)

Channels = Literal["grey", "colour", "colour+grey"]
_CHANNEL_NAMES = {
    "grey": ("grey",),
    "colour": ("red", "green", "blue"),
    "colour+grey": ("red", "green", "blue", "grey"),
}
#: most values of the output
MAX_VALUES = 1_000_000


@dataclass(frozen=True)
class ConvolutionSettings:
    """What can be set. Grey values are 0 to 255."""

    kernel: Annotated[
        str | list[list[float]], f"{', '.join(KERNELS)}, or its rows, as '1,0,-1;2,0,-2;1,0,-1'", Range(-1000, 1000)
    ] = "edge"
    stride: Annotated[int, "how far the window moves at a time", Range(1, 4)] = 1
    padding: Annotated[int, "rows and columns of zeros laid around the picture", Range(0, 4)] = 0
    dilation: Annotated[int, "how far the weights lie apart", Range(1, 4)] = 1
    transposed: Annotated[bool, "the other way: each value is laid out times the kernel"] = False
    channels: Annotated[Channels, "what is read of the picture"] = "grey"
    groups: Annotated[int, "groups that the channels are divided into; each gives a map", Range(1, 4)] = 1
    depthwise: Annotated[bool, "each channel is a group of its own"] = False
    layers: Annotated[int, "layers in a stack, whose receptive field is shown", Range(1, 8)] = 3
    at: Annotated[
        list[int] | Literal["auto"], "row and column of the crop; auto is where values differ most", Range(0, 255)
    ] = "auto"
    side: Annotated[int, "longer side that the picture is brought to at most, in pixels", Range(4, 256)] = 128


@register_concept(TEXT, ConvolutionSettings, subject="picture")
def convolution(
    settings: ConvolutionSettings, picture_HWC: np.ndarray, told: str, notes: Sequence[str] = ()
) -> ConceptResult:
    """The window's sums on a crop, term by term, the whole output, its size, and what a stack of such layers sees.

    Raises OptionError for a kernel that is none, groups that do not divide the channels, and a window that is larger
    than the picture or than what can be written out.
    """
    (kernels, divisor), names = parse_kernels(settings.kernel), _CHANNEL_NAMES[settings.channels]
    groups = len(names) if settings.depthwise else settings.groups
    if len(names) % groups:
        allowed = [str(count) for count in (1, 2, 3, 4) if len(names) % count == 0]
        told = f"groups: the channels ({', '.join(names)}) cannot be divided into {groups} groups of one size."
        other = next(name for name, of in _CHANNEL_NAMES.items() if len(of) % groups == 0)
        raise OptionError(told, cure=f"Give {' or '.join(allowed)}, or other channels: --set channels={other}")
    how = ConvSpec(settings.stride, settings.padding, settings.dilation, groups, settings.transposed)
    x_CHW = _extract_channels(picture_HWC, settings.channels)
    sizes = _check_sizes(how, x_CHW.shape[1:], kernels[0].shape)
    output_GOP = how.output(x_CHW, kernels)
    kind, white = _choose_colors(output_GOP, kernels, how, len(names))
    numbers = {
        "told": told,
        "picture": x_CHW.tolist(),
        "channels": list(names),
        "groups": groups,
        "kernel": settings.kernel if isinstance(settings.kernel, str) and settings.kernel in KERNELS else "yours",
        "kernels": [kernel.tolist() for kernel in kernels],
        "divisor": divisor,
        "stride": settings.stride,
        "padding": settings.padding,
        "dilation": settings.dilation,
        "transposed": settings.transposed,
        "sizes": sizes,
        "weights": len(kernels) * groups * kernels[0].size * (len(names) // groups),
        "output": output_GOP.tolist(),
        "kind": kind,
        "white": white,
        "crop": build_crop_steps(x_CHW, kernels, how, settings.at),
        "layers": _trace_stack(how, settings.layers, x_CHW.shape[1:], kernels[0].shape),
        "largest_difference": float(np.abs(output_GOP - _torch_reference(x_CHW, kernels, how)).max()),
    }
    numbers["formula"] = _size_formula(numbers)
    return ConceptResult(
        numbers, _build_frames(numbers), _key_numbers(numbers), key_frame=-1, notes=[*notes, *_collect_notes(numbers)]
    )


def _extract_channels(picture_HWC: np.ndarray, settings: str) -> np.ndarray:
    """(C, H, W) float64, whole numbers from 0 to 255."""
    colour_HW3 = np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3)).astype(np.float64)
    grey_HW1 = np.round(colour_HW3 @ np.array(GRAY_WEIGHTS))[..., None]
    parts = {"grey": [grey_HW1], "colour": [colour_HW3], "colour+grey": [colour_HW3, grey_HW1]}
    return np.concatenate(parts[settings], axis=2).transpose(2, 0, 1)


def _check_sizes(how: ConvSpec, extent: Sequence[int], window: Sequence[int]) -> dict[str, list[int]]:
    """Heights and widths of picture, window and output. Raises OptionError where the window does not fit."""
    spans = [effective_kernel(one, how.dilation) for one in window]
    if max(spans) >= MAX_CELLS:
        told = (
            f"dilation: the window reaches over {max(spans)} pixels, more than the {MAX_CELLS - 1} that can be shown."
        )
        raise OptionError(told, cure="Give a smaller kernel or dilation.")
    output = [how.size(size, one) for size, one in zip(extent, window, strict=True)]
    if min(output) < 1 and how.transposed:
        told = f"padding: where {how.padding} rows and columns are cut off all around, nothing is left of the output."
        raise OptionError(told, cure="Give less padding.")
    if min(output) < 1:
        here, there = (f"{wide} x {high}" for high, wide in (spans, extent))
        around = f" with {how.padding} rows and columns of zeros around it" if how.padding else ""
        told = f"kernel: its window of {here} is larger than the picture of {there}{around}."
        raise OptionError(told, cure="Give a smaller kernel or dilation, or a larger picture.")
    if output[0] * output[1] > MAX_VALUES:
        raise OptionError(f"side: an output of {output[1]} x {output[0]} is too large.", cure="Give a smaller side.")
    return {"picture": list(extent), "window": spans, "output": output}


def _choose_colors(
    output_GOP: np.ndarray, kernels: Sequence[np.ndarray], how: ConvSpec, channels: int
) -> tuple[str, float]:
    """How the output is coloured, and the value that has the strongest colour.

    A 'picture', of the brightness that an even one has; else 'signed', or the 'length' of two answers.
    """
    weight = float(kernels[0].sum())
    if len(kernels) == 1 and weight > 1e-9:
        overlap = how.stride**2 if how.transposed else 1
        return "picture", 255 * weight * channels / how.groups / overlap
    # a few values far from all others should not make the rest pale
    strongest = float(np.quantile(np.abs(output_GOP), 0.99)) or float(np.abs(output_GOP).max()) or 1.0
    return "length" if len(kernels) == 2 else "signed", strongest


def _torch_reference(x_CHW: np.ndarray, kernels: Sequence[np.ndarray], how: ConvSpec) -> np.ndarray:
    """What PyTorch's own layers make of it, as `Slide.output`."""
    x_1CHW, channels = torch.from_numpy(x_CHW)[None], len(x_CHW)
    answers = []
    for kernel_hw in map(torch.from_numpy, kernels):
        if how.transposed:
            weight = kernel_hw.expand(channels, 1, -1, -1)
            made = F.conv_transpose2d(x_1CHW, weight, None, how.stride, how.padding, 0, how.groups, how.dilation)
        else:
            weight = kernel_hw.expand(how.groups, channels // how.groups, -1, -1)
            made = F.conv2d(x_1CHW, weight, None, how.stride, how.padding, how.dilation, how.groups)
        answers.append(made[0].numpy())
    return answers[0] if len(answers) == 1 else np.hypot(*answers)


def _trace_stack(how: ConvSpec, layers: int, extent: Sequence[int], window: Sequence[int]) -> list[dict[str, Any]]:
    """Of each layer of a stack: the size of its output, None where nothing is left, and the field of one value."""
    seen = [receptive_fields(one, how.stride, how.dilation, layers) for one in window]
    size, found = list(extent), []
    for field in zip(*seen, strict=True):
        if size is not None:
            size = [how.size(now, one) for now, one in zip(size, window, strict=True)]
            size = size if min(size) >= 1 else None
        found.append({"size": size, "field": list(field)})
    return found


def _build_frames(numbers: dict[str, Any]) -> list[Frame]:
    from .plot import plot_input_output, plot_overview, plot_receptive_fields, plot_window

    steps = numbers["crop"]["steps"]
    return [
        Frame(_intro_caption(numbers), plot_overview, (numbers,)),
        *(Frame(_step_caption(numbers, step), plot_window, (numbers, place)) for place, step in enumerate(steps)),
        Frame(_receptive_field_caption(numbers), plot_receptive_fields, (numbers,)),
        Frame(_final_caption(numbers), plot_input_output, (numbers,)),
    ]


def _format_size(size: Sequence[int]) -> str:
    """Width x height, of a height and a width."""
    return f"{size[1]} x {size[0]}"


def _intro_caption(numbers: dict[str, Any]) -> str:
    top, left = numbers["crop"]["at"]
    many = "kernels" if len(numbers["kernels"]) == 2 else "kernel"
    return (
        f"The picture, {_format_size(numbers['sizes']['picture'])} values, and the {many}. The crop at row {top}, "
        f"column {left} is worked out by hand, as a small picture of its own."
    )


def _step_caption(numbers: dict[str, Any], step: dict[str, Any]) -> str:
    row, column = step["place"]
    name = numbers["channels"][step["channel"]]
    of = f" of {name}" if len(numbers["channels"]) > 1 else ""
    if numbers["transposed"]:
        return f"The value at row {row}, column {column}{of} times every weight is added where the kernel lies."
    last = [part[0] if len(part) == 1 else None for part in step["parts"]][-1]
    products = f"{len(step['under']) * len(step['under'][0])} products"
    if last is None:
        across, down = map(format_number, step["parts"][-1])
        told = f"{products}{of} add up to {across} across and {down} down"
    else:
        told = f"{products}{of} add up to {format_number(last)}"
    if len(step["parts"]) > 1:
        sums = " and ".join(map(format_number, step["sums"]))
        told += f"; with the channels before, {sums}"
    if step["whole"] and len(step["sums"]) == 2:
        told += f"; the length of that vector is {format_number(np.hypot(*step['sums']))}"
    return f"Row {row}, column {column} of the output: {told}."


def _receptive_field_caption(numbers: dict[str, Any]) -> str:
    last, count = numbers["layers"][-1], len(numbers["layers"])
    layers = f"{count} such layers" if count > 1 else "this layer"
    if numbers["transposed"]:
        return f"Through {layers} one value spreads over {_format_size(last['field'])} values."
    return f"One value after {layers} sees {_format_size(last['field'])} pixels of the picture."


def _final_caption(numbers: dict[str, Any]) -> str:
    sizes = numbers["sizes"]
    maps = f"{numbers['groups']} maps of " if numbers["groups"] > 1 else ""
    way = "laid out by" if numbers["transposed"] else "under"
    return f"The whole picture, {_format_size(sizes['picture'])}, {way} the kernel: {maps}{_format_size(sizes['output'])} values."


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    sizes, last = numbers["sizes"], numbers["layers"][-1]
    values = np.array(numbers["output"])
    layers = len(numbers["layers"])
    kind = "spread" if numbers["transposed"] else "field"
    found = {
        "picture": f"{numbers['told']}, {_format_size(sizes['picture'])}, {', '.join(numbers['channels'])}",
        "kernel": f"{numbers['kernel']}, {_format_size(np.shape(numbers['kernels'][0]))}, reaching over "
        f"{_format_size(sizes['window'])} pixels",
        "output": f"{_format_size(sizes['output'])}, from {format_number(values.min())} to {format_number(values.max())}",
        "size": numbers["formula"],
        kind: f"{_format_size(numbers['layers'][0]['field'])} pixels",
        "difference": f"at most {numbers['largest_difference']:.1g} from PyTorch's own convolution",
    }
    if layers > 1:
        found[kind] += f"; of {layers} layers {_format_size(last['field'])}"
    return found


def _size_formula(numbers: dict[str, Any]) -> str:
    """The formula of the output's width with the numbers of this one."""
    size, window = numbers["sizes"]["picture"][1], len(numbers["kernels"][0][0])
    stride, padding, dilation = numbers["stride"], numbers["padding"], numbers["dilation"]
    output = numbers["sizes"]["output"][1]
    if numbers["transposed"]:
        return f"width: ({size} - 1)·{stride} - 2·{padding} + {dilation}·({window} - 1) + 1 = {output}"
    return f"width: floor(({size} + 2·{padding} - {dilation}·({window} - 1) - 1) / {stride}) + 1 = {output}"


def _collect_notes(numbers: dict[str, Any]) -> list[str]:
    gone = [place for place, layer in enumerate(numbers["layers"], 1) if layer["size"] is None]
    if not gone:
        return []
    return [
        f"In a stack nothing is left of this picture after layer {gone[0]}: the window is larger than what it gets."
    ]
