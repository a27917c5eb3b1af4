"""A neuron: inputs times weights, a bias, an activation (McCulloch and Pitts 1943; Rosenblatt 1958)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from ...config.options import Range
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

TEXT = load_text(__package__)


@dataclass(frozen=True)
class NeuronSettings:
    """What can be set: as many inputs as weights."""

    inputs: Annotated[list[float], "the numbers that come in", Range(-100, 100)] = (0.8, -0.5)
    weights: Annotated[list[float], "a weight for each of them", Range(-100, 100)] = (1.5, 1.0)
    bias: Annotated[float, "what is added to the sum", Range(-100, 100)] = 0.3
    activation: Annotated[Activation, "what bends the sum"] = "logistic"


@register_concept(TEXT, NeuronSettings)
def neuron(settings: NeuronSettings) -> ConceptResult:
    """Every product, the running sum, the answer; for two inputs the answers over the plane and the line in it.

    Raises OptionError where there are not as many weights as inputs, or more than 12.
    """
    inputs, weights = list(settings.inputs), list(settings.weights)
    if len(inputs) != len(weights):
        raise OptionError(
            f"There are {len(inputs)} inputs and {len(weights)} weights.", cure="Give as many of one as of the other."
        )
    if len(inputs) > 12:
        raise OptionError(f"{len(inputs)} inputs are more than can be shown.", cure="Give at most 12.")
    bend = build_activation(settings.activation).double()
    # the products and sums in double precision, so that what is shown adds up as it does by hand
    x, w = torch.tensor(inputs, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
    products = (x * w).tolist()
    sums = torch.cumsum(x * w, 0).tolist()
    total = sums[-1] + settings.bias
    output = float(bend(torch.tensor(total, dtype=torch.float64)))
    numbers = {
        "inputs": inputs,
        "weights": weights,
        "bias": settings.bias,
        "products": products,
        "running_sums": [*sums, total],
        "sum": total,
        "activation": settings.activation,
        "output": output,
    }
    if len(inputs) == 2:
        numbers |= _output_surface(bend, weights, settings.bias, inputs)
    else:
        reach = max(4.0, 1.25 * abs(total))
        sums_N = torch.linspace(-reach, reach, 201, dtype=torch.float64)
        numbers["curve"] = {"sum": sums_N.tolist(), "output": bend(sums_N).tolist()}
    from .plot import plot_neuron as drawing

    return ConceptResult(
        numbers,
        [Frame(caption, drawing, (numbers, step)) for step, caption in enumerate(_build_captions(numbers))],
        key_numbers={"sum": format_number(total, 4), "output": format_number(output, 4)},
    )


def _output_surface(bend: torch.nn.Module, weights: list[float], bias: float, inputs: list[float]) -> dict:
    """The output over a square of inputs, row by row from below, and the line where the sum is zero (None: nowhere)."""
    reach = max(2.0, 1.25 * max(map(abs, inputs)))
    axis = torch.linspace(-reach, reach, 81, dtype=torch.float64)
    surface = bend(axis[None, :] * weights[0] + axis[:, None] * weights[1] + bias)
    (a, b), line = weights, None
    length = math.hypot(a, b)
    if length and math.isfinite(bias / length):
        # the point of the line nearest to the origin, and its direction
        a, b, away = a / length, b / length, -bias / length
        line = {"point": [away * a, away * b], "direction": [-b, a]}
    return {"axis": axis.tolist(), "surface": surface.tolist(), "line": line}


def _build_captions(numbers: dict) -> list[str]:
    told, sums = [], numbers["running_sums"]
    for place, (x, w, product) in enumerate(
        zip(numbers["inputs"], numbers["weights"], numbers["products"], strict=True), 1
    ):
        written = f"{format_number(x)} · {format_number(w)} = {format_number(product, 4)}"
        told.append(f"Input {place} times its weight: {written}; the sum is now {format_number(sums[place - 1], 4)}.")
    total = format_number(numbers["sum"], 4)
    told.append(f"The bias {format_number(numbers['bias'])} is added: the sum is {total}.")
    told.append(f"The activation {numbers['activation']} makes {format_number(numbers['output'], 4)} of {total}.")
    return told
