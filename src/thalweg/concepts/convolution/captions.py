"""Convolution in words: the frames with their captions, the key numbers, and warnings."""

from __future__ import annotations

import numpy as np

from ...plots.number_format import format_number
from ..base import Frame
from ..convolution_steps import ConvStep
from .plot import (
    format_shape,
    name_field,
    plot_input_output,
    plot_overview,
    plot_receptive_fields,
    plot_window,
    pluralize_kernel,
)
from .records import ConvolutionNumbers


def build_frames(numbers: ConvolutionNumbers) -> list[Frame]:
    """Return the frames: overview, every step of the crop, receptive fields, full output."""
    frames = [Frame(_describe_overview(numbers), plot_overview, (numbers,))]
    for index, step in enumerate(numbers["crop"]["steps"]):
        frames.append(Frame(_describe_step(numbers, step), plot_window, (numbers, index)))
    frames.append(Frame(_describe_receptive_field(numbers), plot_receptive_fields, (numbers,)))
    frames.append(Frame(_describe_output(numbers), plot_input_output, (numbers,)))
    return frames


def _describe_overview(numbers: ConvolutionNumbers) -> str:
    row, column = numbers["crop"]["corner"]
    return (
        f"The image, {format_shape(numbers['sizes']['image'])} pixels, and the {pluralize_kernel(numbers)}. The next "
        f"frames compute the crop at row {row}, column {column} step by step, as a small image of its own."
    )


def _describe_step(numbers: ConvolutionNumbers, step: ConvStep) -> str:
    row, column = step["position"]
    channel = ""
    if len(numbers["channels"]) > 1:
        channel = f" of {numbers['channels'][step['channel']]}"
    if numbers["transposed"]:
        return f"The value at row {row}, column {column}{channel} times the kernel is added to the output."
    products = len(step["window"]) * len(step["window"][0])
    text = f"{products} products{channel} add up to {_format_sums(step['channel_sums'][-1])}"
    if len(step["channel_sums"]) > 1:
        text += f"; with the channels before, {' and '.join(map(format_number, step['total']))}"
    if step["complete"] and len(step["total"]) == 2:
        text += f"; the gradient magnitude is {format_number(np.hypot(step['total'][0], step['total'][1]))}"
    return f"Row {row}, column {column} of the output: {text}."


def _format_sums(sums: list[float]) -> str:
    """Format the sum of one kernel, or of the horizontal and the vertical Sobel kernel."""
    if len(sums) == 1:
        return format_number(sums[0])
    return f"{format_number(sums[0])} for x and {format_number(sums[1])} for y"


def _describe_receptive_field(numbers: ConvolutionNumbers) -> str:
    count = len(numbers["layers"])
    field = format_shape(numbers["layers"][-1]["receptive_field"])
    layers = "this layer"
    if count > 1:
        layers = f"{count} such layers"
    if numbers["transposed"]:
        return f"Through {layers} one value spreads over {field} values."
    return f"The receptive field of one value after {layers} is {field} pixels of the image."


def _describe_output(numbers: ConvolutionNumbers) -> str:
    sizes = numbers["sizes"]
    operation = "transposed convolution" if numbers["transposed"] else "convolution"
    maps = "a feature map"
    if numbers["groups"] > 1:
        maps = f"{numbers['groups']} feature maps"
    return (
        f"The {operation} turns the full image, {format_shape(sizes['image'])}, into {maps} of "
        f"{format_shape(sizes['output'])} values."
    )


def describe_key_numbers(numbers: ConvolutionNumbers) -> dict[str, str]:
    """Return the numbers that matter most, as text."""
    sizes = numbers["sizes"]
    layers = numbers["layers"]
    output = np.array(numbers["output"])
    field = f"{format_shape(layers[0]['receptive_field'])} pixels"
    if len(layers) > 1:
        field += f"; {format_shape(layers[-1]['receptive_field'])} after {len(layers)} layers"
    kernel_shape = format_shape(np.shape(numbers["kernels"][0]))
    return {
        "image": f"{numbers['image_name']}, {format_shape(sizes['image'])}, {', '.join(numbers['channels'])}",
        "kernel": f"{numbers['kernel']}, {kernel_shape}, covers {format_shape(sizes['window'])} pixels",
        "output": f"{format_shape(sizes['output'])}, from {format_number(output.min())} to "
        f"{format_number(output.max())}",
        "output size": numbers["size_formula"],
        name_field(numbers): field,
        "difference": f"at most {numbers['max_difference']:.1g} from PyTorch's convolution",
    }


def list_warnings(numbers: ConvolutionNumbers) -> list[str]:
    """Return a warning if a layer of the stack has no output."""
    for number, layer in enumerate(numbers["layers"], 1):
        if layer["size"] is None:
            return [f"The stack has no output after layer {number}: the kernel is larger than its input."]
    return []
