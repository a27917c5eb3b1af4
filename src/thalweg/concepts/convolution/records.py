"""What the concept convolution computes, as typed values."""

from __future__ import annotations

from typing import Literal, TypedDict

from ..convolution_steps import ConvCrop

OutputKind = Literal["image", "signed", "magnitude"]


class Sizes(TypedDict):
    """Height and width of the image, of the dilated kernel, and of the output."""

    image: list[int]
    window: list[int]
    output: list[int]


class StackLayer(TypedDict):
    """Output size and receptive field (height, width) of one layer of a stack; size None if nothing is left."""

    size: list[int] | None
    receptive_field: list[int]


class ConvolutionNumbers(TypedDict):
    """All numbers of the concept, as JSON values.

    `color_limit` is the absolute value with the strongest color in plots of the output.
    """

    image_name: str
    image: list[list[list[float]]]
    channels: list[str]
    groups: int
    kernel: str
    kernels: list[list[list[float]]]
    divisor: int
    stride: int
    padding: int
    dilation: int
    transposed: bool
    sizes: Sizes
    params: int
    output: list[list[list[float]]]
    output_kind: OutputKind
    color_limit: float
    crop: ConvCrop
    layers: list[StackLayer]
    max_difference: float
    size_formula: str
