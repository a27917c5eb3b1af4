"""Activations: each by itself, and what it does to a signal and to its gradient through many layers.

Vanishing and exploding: Hochreiter 1991; Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181. Measuring it layer by
layer: Glorot and Bengio 2010. The sources of the functions themselves are those of `layers.activations`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...config.options import Range
from ...errors import NotFoundError
from ...layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS, build_activation
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

TEXT = load_text(__package__)

#: PyTorch begins the weights of a linear layer evenly spread within one divided by the root of its inputs
DEFAULT_GAIN = 1 / math.sqrt(3)
#: inputs that go through the layers
NUM_EXAMPLES = 64
#: share of an answer below which differences are lost in the rounding of double precision
ROUNDING_LEVEL = 1e-15
#: sums on either side of zero for which the functions are drawn, and points for each 1 of them
PLOT_RANGE, POINTS_PER_UNIT = 4, 20


class ActivationFormula(NamedTuple):
    """A function and its derivative as TeX, and its range in words."""

    formula: str
    slope: str
    range: str


FORMULAS = {
    "identity": ActivationFormula(r"x", r"1", "all numbers"),
    "step": ActivationFormula(r"0 \; (x < 0), \; 1 \; (x \geq 0)", r"0", "0 or 1"),
    "logistic": ActivationFormula(r"\sigma(x) = 1 / (1 + e^{-x})", r"\sigma(x) \, (1 - \sigma(x))", "(0, 1)"),
    "tanh": ActivationFormula(r"\tanh x", r"1 - \tanh^2 x", "(−1, 1)"),
    "arctan": ActivationFormula(r"\arctan x", r"1 / (1 + x^2)", "(−π/2, π/2)"),
    "softsign": ActivationFormula(r"x / (1 + |x|)", r"1 / (1 + |x|)^2", "(−1, 1)"),
    "relu": ActivationFormula(r"\max(0, x)", r"0 \; (x < 0), \; 1 \; (x > 0)", "[0, ∞)"),
    "leaky-relu": ActivationFormula(r"\max(0.01 \, x, \, x)", r"0.01 \; (x < 0), \; 1 \; (x > 0)", "all numbers"),
    "elu": ActivationFormula(r"e^x - 1 \; (x < 0), \; x \; (x \geq 0)", r"e^x \; (x < 0), \; 1 \; (x > 0)", "(−1, ∞)"),
    "gelu": ActivationFormula(r"x \, \Phi(x)", r"\Phi(x) + x \, \varphi(x)", "[−0.170, ∞)"),
    "silu": ActivationFormula(r"x \, \sigma(x)", r"\sigma(x) \, (1 + x \, (1 - \sigma(x)))", "[−0.278, ∞)"),
    "softplus": ActivationFormula(r"\ln(1 + e^x)", r"\sigma(x)", "(0, ∞)"),
}
ALL_ACTIVATIONS = (*ACTIVATIONS, *MODERN_ACTIVATIONS)


@dataclass(frozen=True)
class ActivationSettings:
    """What can be set."""

    functions: Annotated[list[str], "names with commas between, or all"] = ("all",)
    depth: Annotated[int, "layers that the signal goes through", Range(1, 100)] = 20
    width: Annotated[int, "neurons of each layer", Range(2, 256)] = 128
    gain: Annotated[
        float | Literal["usual"], "deviation of the weights times the root of the width", Range(0.01, 10)
    ] = "usual"
    seed: Annotated[int, "seed of the weights, the inputs and the gradient", Range(0, 2**31)] = 0


@register_concept(TEXT, ActivationSettings)
def activations(settings: ActivationSettings) -> ConceptResult:
    """Each function with its derivative; how much of a signal and of a gradient is left behind each layer.

    All functions get the same weights, inputs and gradient. Raises NotFound for an activation that there is not.
    """
    names = _parse_names(settings.functions)
    gain = DEFAULT_GAIN if settings.gain == "usual" else settings.gain
    draw = torch.Generator().manual_seed(settings.seed)
    layers = random_mlp(settings.depth, settings.width, gain, draw)
    x_BN = torch.randn(NUM_EXAMPLES, settings.width, generator=draw, dtype=torch.float64)
    gradient_BN = torch.randn(NUM_EXAMPLES, settings.width, generator=draw, dtype=torch.float64)
    numbers = {
        "depth": settings.depth,
        "width": settings.width,
        "gain": gain,
        "functions": [
            {"name": name, **_sample_curve(name), **propagate(build_activation(name), layers, x_BN, gradient_BN)}
            for name in names
        ],
    }
    from .plot import plot_activations as drawing

    return ConceptResult(
        numbers,
        [
            Frame(caption, drawing, (numbers, slopes, forward, back))
            for caption, slopes, forward, back in _frame_steps(numbers)
        ],
        key_numbers={one["name"]: _format_number(one, settings.depth) for one in numbers["functions"]},
        notes=_collect_notes(numbers),
    )


def _parse_names(settings: Sequence[str]) -> list[str]:
    """The activations by name, each once. Raises NotFound."""
    for name in settings:
        if name not in (*ALL_ACTIVATIONS, "all"):
            raise NotFoundError.for_unknown("activation", name, [*ALL_ACTIVATIONS, "all"])
    return list(ALL_ACTIVATIONS if "all" in settings else dict.fromkeys(settings))


# --- one function ----------------------------------------------------------------------------------------------------


def derivative(bend: nn.Module, x: Tensor) -> Tensor:
    """The derivative of an activation at every element of x, by automatic differentiation; 0 where it has no slope."""
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        answer = bend(at)
    return torch.autograd.grad(answer.sum(), at)[0] if answer.requires_grad else torch.zeros_like(x)


def _sample_curve(name: str) -> dict[str, Any]:
    """The function as it is written, and its values and slopes around zero."""
    bend = build_activation(name)
    x_P = (
        torch.arange(-PLOT_RANGE * POINTS_PER_UNIT, PLOT_RANGE * POINTS_PER_UNIT + 1, dtype=torch.float64)
        / POINTS_PER_UNIT
    )
    return {
        **FORMULAS[name]._asdict(),
        "x": x_P.tolist(),
        "values": bend(x_P).tolist(),
        "slopes": derivative(bend, x_P).tolist(),
    }


# --- many layers -----------------------------------------------------------------------------------------------------


def random_mlp(depth: int, width: int, gain: float, draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """(weights (N, N), biases (N)) of each layer, as `nn.Linear` begins, but for the gain of the weights."""
    layers = []
    for _ in range(depth):
        weight_NN, bias_N = torch.empty(width, width), torch.empty(width)
        nn.init.kaiming_uniform_(weight_NN, a=math.sqrt(5), generator=draw)
        nn.init.uniform_(bias_N, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=draw)
        layers.append((weight_NN.double() * (gain / DEFAULT_GAIN), bias_N.double()))
    return layers


def propagate(
    bend: nn.Module, layers: Sequence[tuple[Tensor, Tensor]], x_BN: Tensor, gradient_BN: Tensor
) -> dict[str, Any]:
    """What is left behind each layer, from the input (first) to the last layer.

    `signal` is the standard deviation over the examples, as root mean square over the neurons, or 0 where rounding
    hides it; `gradient` is the norm of the gradient there as a share of that at the last layer, which is `gradient_BN`.
    """
    with torch.enable_grad():
        answers = [x_BN.detach().clone().requires_grad_()]
        for weight_NN, bias_N in layers:
            answers.append(bend(answers[-1] @ weight_NN.T + bias_N))
    signal = [_std_over_batch(answer_BN.detach()) for answer_BN in answers]
    gradients = [torch.zeros_like(x_BN)] * len(layers)
    if answers[-1].requires_grad:
        # by a sum: for a gradient that is given, PyTorch loads its symbolic shapes first, 0.4 s
        gradients = torch.autograd.grad((answers[-1] * gradient_BN).sum(), answers[:-1], allow_unused=True)
    whole = _stable_norm(gradient_BN)
    back = [0.0 if one is None else _stable_norm(one) / whole for one in gradients]
    return {"signal": signal, "gradient": [*back, 1.0]}


def _stable_norm(gradient_BN: Tensor) -> float:
    """The root of the sum of squares, also where the squares are too small to be written."""
    largest = float(gradient_BN.abs().max())
    return largest * float((gradient_BN / largest).norm()) if largest else 0.0


def _std_over_batch(answer_BN: Tensor) -> float:
    """The standard deviation over the examples; 0 where it is no more than what rounding of the answers makes."""
    spread, size = answer_BN.var(0).mean().sqrt(), answer_BN.square().mean().sqrt()
    return float(spread) if spread > ROUNDING_LEVEL * size else 0.0


# --- what is told ----------------------------------------------------------------------------------------------------


def _frame_steps(numbers: dict[str, Any]) -> list[tuple[str, bool, int, int]]:
    """(caption, whether slopes are shown, layers that the signal has passed, and the gradient) of every frame."""
    depth = numbers["depth"]
    stops = sorted({max(1, round(depth * share)) for share in (0.05, 0.5, 1)})
    steps = [
        ("The functions: what becomes of a sum x; each is written above its curve, its range inside.", False, 0, 0),
        ("Grey: their derivatives. A slope near zero lets no gradient through.", True, 0, 0),
    ]
    for layer in stops:
        told = _format_extremes(numbers, lambda one, layer=layer: one["signal"][layer])
        steps.append(
            (f"After {_format_layers(layer)}, of the deviation of 1 between inputs is left: {told}.", True, layer, 0)
        )
    for passed in stops:
        told = _format_extremes(numbers, lambda one, passed=passed: one["gradient"][depth - passed])
        steps.append((f"Back through {_format_layers(passed)}, of the gradient is left: {told}.", True, depth, passed))
    return steps


def _format_layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"


def _format_extremes(numbers: dict[str, Any], of: Any) -> str:
    """The most and the least, with names."""
    ranked = sorted(numbers["functions"], key=of)
    least, most = ranked[0], ranked[-1]
    if least is most:
        return f"{of(least):.2g} ({least['name']})"
    return f"most {of(most):.2g} ({most['name']}), least {of(least):.2g} ({least['name']})"


def _format_number(one: dict[str, Any], depth: int) -> str:
    return f"after {_format_layers(depth)}: signal {one['signal'][-1]:.2g}, gradient {one['gradient'][0]:.2g}"


def _collect_notes(numbers: dict[str, Any]) -> list[str]:
    lost = [one["name"] for one in numbers["functions"] if not one["signal"][-1]]
    told = "all" if len(lost) == len(ALL_ACTIVATIONS) else ", ".join(lost)
    hidden = (
        f"Of the signal through {told} less than 1e-15 of the answers is left, which rounding hides; it counts as 0."
    )
    return [
        *([hidden] if lost else []),
        "Weights, inputs and gradient are random: with another seed the lines move a little. Training changes weights, "
        "and batch normalisation or shortcuts, which are left out here, keep signals alive in deep networks.",
    ]
