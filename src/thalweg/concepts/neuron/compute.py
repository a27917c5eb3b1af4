"""A neuron: weighted sum, bias, activation function (McCulloch and Pitts 1943; Rosenblatt 1958)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import torch
from torch import nn

from ...config.parsing import Range
from ...errors import OptionError
from ...layers.activations import build_activation
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

Activation = Literal[
    "identity",
    "step",
    "logistic",
    "tanh",
    "arctan",
    "softsign",
    "relu",
    "leaky-relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
]

#: more inputs do not fit into the diagram
MAX_INPUTS = 12
#: points along one side of the surface, and along the curve
SURFACE_POINTS = 81
CURVE_POINTS = 201

TEXT = load_text(__package__)


@dataclass(frozen=True)
class NeuronSettings:
    """Settings: inputs, one weight per input, bias and activation function."""

    inputs: Annotated[list[float], "input values", Range(-100, 100)] = field(default_factory=lambda: [0.8, -0.5])
    weights: Annotated[list[float], "weights, one per input", Range(-100, 100)] = field(
        default_factory=lambda: [1.5, 1.0]
    )
    bias: Annotated[float, "constant added to the weighted sum", Range(-100, 100)] = 0.3
    activation: Annotated[Activation, "activation function"] = "logistic"


@dataclass(frozen=True)
class DecisionBoundary:
    """The line of inputs with pre-activation 0: its point nearest to the origin, and its direction (unit length)."""

    point: tuple[float, float]
    direction: tuple[float, float]


@dataclass(frozen=True)
class ActivationSurface:
    """Activations over a square grid of two inputs; `axis` is that of both inputs, row i has input 2 = axis[i]."""

    axis: list[float]
    activation: list[list[float]]
    boundary: DecisionBoundary | None


@dataclass(frozen=True)
class ActivationCurve:
    """The activation function around 0."""

    pre_activation: list[float]
    activation: list[float]


@dataclass(frozen=True)
class NeuronNumbers:
    """One forward pass of a neuron.

    `partial_sums` has the sum after each product, then after the bias. `surface` exists for two inputs, `curve` for any
    other number of inputs.
    """

    inputs: list[float]
    weights: list[float]
    bias: float
    products: list[float]
    partial_sums: list[float]
    pre_activation: float
    activation_function: str
    activation: float
    surface: ActivationSurface | None
    curve: ActivationCurve | None


@register_concept(TEXT, NeuronSettings)
def neuron(settings: NeuronSettings) -> ConceptResult:
    """Compute products, partial sums, pre-activation and activation; for two inputs also the activation surface.

    Raises OptionError if the numbers of inputs and weights differ or exceed MAX_INPUTS.
    """
    numbers = compute_neuron(settings)
    from .plot import plot_neuron

    frames = []
    for step, caption in enumerate(_build_captions(numbers)):
        frames.append(Frame(caption, plot_neuron, (numbers, step)))
    return ConceptResult(
        asdict(numbers),
        frames,
        key_numbers={
            "pre-activation": format_number(numbers.pre_activation, 4),
            "activation": format_number(numbers.activation, 4),
        },
    )


def compute_neuron(settings: NeuronSettings) -> NeuronNumbers:
    """Run the forward pass in double precision, so that the displayed numbers add up by hand.

    Raises OptionError if the numbers of inputs and weights differ or exceed MAX_INPUTS.
    """
    inputs = list(settings.inputs)
    weights = list(settings.weights)
    _check_sizes(inputs, weights)
    function = build_activation(settings.activation).double()
    products_N = torch.tensor(inputs, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)
    sums = torch.cumsum(products_N, 0).tolist()
    pre_activation = sums[-1] + settings.bias
    surface = None
    curve = None
    if len(inputs) == 2:
        surface = _sample_surface(function, weights, settings.bias, inputs)
    else:
        curve = _sample_curve(function, pre_activation)
    return NeuronNumbers(
        inputs=inputs,
        weights=weights,
        bias=settings.bias,
        products=products_N.tolist(),
        partial_sums=[*sums, pre_activation],
        pre_activation=pre_activation,
        activation_function=settings.activation,
        activation=float(function(torch.tensor(pre_activation, dtype=torch.float64))),
        surface=surface,
        curve=curve,
    )


def _check_sizes(inputs: Sequence[float], weights: Sequence[float]) -> None:
    if len(inputs) != len(weights):
        raise OptionError(
            f"There are {len(inputs)} inputs and {len(weights)} weights; expected one weight per input.",
            cure=f"Set weights to {len(inputs)} values.",
            option="weights",
            value=weights,
        )
    if len(inputs) > MAX_INPUTS:
        raise OptionError(
            f"inputs: got {len(inputs)} values; expected 1 to {MAX_INPUTS}.",
            cure=f"Set inputs and weights to at most {MAX_INPUTS} values each.",
            option="inputs",
            value=inputs,
        )


def _sample_surface(
    function: nn.Module, weights: Sequence[float], bias: float, inputs: Sequence[float]
) -> ActivationSurface:
    """Evaluate the neuron over a square around the origin that contains `inputs`."""
    limit = max(2.0, 1.25 * max(map(abs, inputs)))
    axis_P = torch.linspace(-limit, limit, SURFACE_POINTS, dtype=torch.float64)
    activation_PP = function(axis_P[None, :] * weights[0] + axis_P[:, None] * weights[1] + bias)
    return ActivationSurface(axis_P.tolist(), activation_PP.tolist(), _find_boundary(weights, bias))


def _find_boundary(weights: Sequence[float], bias: float) -> DecisionBoundary | None:
    """Solve w1 x1 + w2 x2 + b = 0; None without a finite solution."""
    w1, w2 = weights
    norm = math.hypot(w1, w2)
    if not norm or not math.isfinite(bias / norm):
        return None
    normal_x = w1 / norm
    normal_y = w2 / norm
    distance = -bias / norm
    return DecisionBoundary((distance * normal_x, distance * normal_y), (-normal_y, normal_x))


def _sample_curve(function: nn.Module, pre_activation: float) -> ActivationCurve:
    """Evaluate the activation function over an interval around 0 that contains `pre_activation`."""
    limit = max(4.0, 1.25 * abs(pre_activation))
    s_P = torch.linspace(-limit, limit, CURVE_POINTS, dtype=torch.float64)
    return ActivationCurve(s_P.tolist(), function(s_P).tolist())


def _build_captions(numbers: NeuronNumbers) -> list[str]:
    """Return one caption per product, one for the bias, one for the activation function."""
    captions = []
    terms = zip(numbers.inputs, numbers.weights, numbers.products, strict=True)
    for i, (x, w, product) in enumerate(terms):
        equation = f"{format_number(x)} · {format_number(w)} = {format_number(product, 4)}"
        partial_sum = format_number(numbers.partial_sums[i], 4)
        captions.append(f"Multiply input {i + 1} by its weight: {equation}. The partial sum is {partial_sum}.")
    pre_activation = format_number(numbers.pre_activation, 4)
    captions.append(f"Add the bias {format_number(numbers.bias)}: the pre-activation is {pre_activation}.")
    activation = format_number(numbers.activation, 4)
    captions.append(
        f"Apply the activation function ({numbers.activation_function}): "
        f"the activation is f({pre_activation}) = {activation}."
    )
    return captions
