"""Activation functions: formulas and derivatives, and how a signal and its gradient pass through many layers.

Vanishing and exploding gradients: Hochreiter 1991; Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181. Statistics
layer by layer: Glorot and Bengio 2010. `layers.activations` cites the sources of the functions.

B examples, N units of a layer, P points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...config.parsing import Range
from ...errors import NotFoundError, pluralize
from ...layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS, build_activation
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

TEXT = load_text(__package__)

#: gain of PyTorch's default: nn.Linear draws weights uniformly from ±1/sqrt(inputs), with std 1/sqrt(3 inputs)
DEFAULT_GAIN = 1 / math.sqrt(3)
#: examples that pass through the layers
NUM_EXAMPLES = 64
#: relative differences between activations below this level are rounding errors of double precision
ROUNDING_LEVEL = 1e-15
#: the curves run from -PLOT_LIMIT to PLOT_LIMIT
PLOT_LIMIT = 4
POINTS_PER_UNIT = 20


class ActivationFormula(NamedTuple):
    """A function and its derivative as TeX, and its range in words."""

    formula: str
    derivative: str
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
    """Settings: which functions, and the random network that they are tried in."""

    functions: Annotated[list[str], "activation functions, comma-separated, or all"] = field(
        default_factory=lambda: ["all"]
    )
    depth: Annotated[int, "number of layers", Range(1, 100)] = 20
    width: Annotated[int, "units per layer", Range(2, 256)] = 128
    gain: Annotated[
        float | Literal["default"], "std of the weights times sqrt(width); default is PyTorch's", Range(0.01, 10)
    ] = "default"
    seed: Annotated[int, "seed of the random weights, inputs and gradient", Range(0, 2**31)] = 0


@dataclass(frozen=True)
class Propagation:
    """Statistics of each layer, from the input (index 0) to the last layer.

    `signal_std` is the standard deviation over the examples (root mean square over the units), or 0 if rounding hides
    it. `gradient_norm` is the norm of the gradient divided by its norm at the last layer.
    """

    signal_std: list[float]
    gradient_norm: list[float]


@dataclass(frozen=True)
class FunctionNumbers:
    """One activation function: formulas (TeX), curves over x, and statistics of each layer (see Propagation)."""

    name: str
    formula: str
    derivative_formula: str
    range: str
    x: list[float]
    activation: list[float]
    derivative: list[float]
    signal_std: list[float]
    gradient_norm: list[float]


@dataclass(frozen=True)
class ActivationNumbers:
    """All activation functions, and the size and gain of the random network."""

    depth: int
    width: int
    gain: float
    functions: list[FunctionNumbers]


@register_concept(TEXT, ActivationSettings)
def activations(settings: ActivationSettings) -> ConceptResult:
    """Compute each function, its derivative, and the signal and gradient that it leaves after each layer.

    All functions get the same weights, inputs and gradient. Raises NotFoundError for an unknown activation function.
    """
    names = _parse_names(settings.functions)
    gain = DEFAULT_GAIN
    if settings.gain != "default":
        gain = settings.gain
    generator = torch.Generator().manual_seed(settings.seed)
    layers = random_mlp(settings.depth, settings.width, gain, generator)
    x_BN = torch.randn(NUM_EXAMPLES, settings.width, generator=generator, dtype=torch.float64)
    gradient_BN = torch.randn(NUM_EXAMPLES, settings.width, generator=generator, dtype=torch.float64)
    functions = []
    for name in names:
        propagation = propagate(build_activation(name), layers, x_BN, gradient_BN)
        functions.append(_describe_function(name, propagation))
    numbers = ActivationNumbers(settings.depth, settings.width, gain, functions)
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers),
        key_numbers={function.name: _format_statistics(function, settings.depth) for function in functions},
        notes=_collect_notes(functions),
    )


def _parse_names(names: Sequence[str]) -> list[str]:
    """Return the activation functions, each once. Raises NotFoundError for an unknown name."""
    allowed = [*ALL_ACTIVATIONS, "all"]
    for name in names:
        if name not in allowed:
            raise NotFoundError.for_unknown("activation", name, allowed)
    if "all" in names:
        return list(ALL_ACTIVATIONS)
    return list(dict.fromkeys(names))


# --- one function ----------------------------------------------------------------------------------------------------


def derivative(function: nn.Module, x: Tensor) -> Tensor:
    """Return the derivative at every element of x by autograd; 0 if the function is piecewise constant."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        y = function(x)
    if not y.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(y.sum(), x)[0]


def _describe_function(name: str, propagation: Propagation) -> FunctionNumbers:
    """Sample the function and its derivative around zero."""
    function = build_activation(name)
    limit = PLOT_LIMIT * POINTS_PER_UNIT
    x_P = torch.arange(-limit, limit + 1, dtype=torch.float64) / POINTS_PER_UNIT
    formula = FORMULAS[name]
    return FunctionNumbers(
        name=name,
        formula=formula.formula,
        derivative_formula=formula.derivative,
        range=formula.range,
        x=x_P.tolist(),
        activation=function(x_P).tolist(),
        derivative=derivative(function, x_P).tolist(),
        signal_std=propagation.signal_std,
        gradient_norm=propagation.gradient_norm,
    )


# --- many layers -----------------------------------------------------------------------------------------------------


def random_mlp(depth: int, width: int, gain: float, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Initialize weights (N, N) and biases (N) of each layer like `nn.Linear`, with the weights scaled to `gain`.

    Args:
        depth: Number of layers.
        width: Units per layer.
        gain: Standard deviation of the weights times sqrt(width).
        generator: Source of the random numbers.

    Returns:
        Pairs (weights, biases) in float64, first layer first.
    """
    layers = []
    for _ in range(depth):
        weight_NN = torch.empty(width, width)
        bias_N = torch.empty(width)
        nn.init.kaiming_uniform_(weight_NN, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(bias_N, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
        layers.append((weight_NN.double() * (gain / DEFAULT_GAIN), bias_N.double()))
    return layers


def propagate(
    function: nn.Module, layers: Sequence[tuple[Tensor, Tensor]], x_BN: Tensor, gradient_BN: Tensor
) -> Propagation:
    """Run one forward and one backward pass, and measure the signal and the gradient of each layer.

    Args:
        function: Activation function of every layer.
        layers: Pairs (weights, biases), first layer first.
        x_BN: Inputs.
        gradient_BN: Gradient at the last layer.

    Returns:
        Statistics of the input and of each layer.
    """
    with torch.enable_grad():
        activations = [x_BN.detach().clone().requires_grad_()]
        for weight_NN, bias_N in layers:
            activations.append(function(activations[-1] @ weight_NN.T + bias_N))
    output_BN = activations[-1]
    gradients: Sequence[Tensor | None] = [None] * len(layers)
    if output_BN.requires_grad:
        # through a sum: with grad_outputs, PyTorch first loads its symbolic shapes, which takes 0.4 s
        gradients = torch.autograd.grad((output_BN * gradient_BN).sum(), activations[:-1], allow_unused=True)
    output_norm = _compute_norm(gradient_BN)
    norms = []
    for gradient in gradients:
        norm = 0.0
        if gradient is not None:
            norm = _compute_norm(gradient) / output_norm
        norms.append(norm)
    return Propagation([_measure_std(h_BN.detach()) for h_BN in activations], [*norms, 1.0])


def _compute_norm(gradient_BN: Tensor) -> float:
    """Return the Euclidean norm, scaled first so that tiny squares do not underflow."""
    largest = float(gradient_BN.abs().max())
    if not largest:
        return 0.0
    return largest * float((gradient_BN / largest).norm())


def _measure_std(h_BN: Tensor) -> float:
    """Return the standard deviation over the examples; 0 below the rounding error of the activations."""
    std = h_BN.var(0).mean().sqrt()
    root_mean_square = h_BN.square().mean().sqrt()
    if std <= ROUNDING_LEVEL * root_mean_square:
        return 0.0
    return float(std)


# --- frames ----------------------------------------------------------------------------------------------------------


def _build_frames(numbers: ActivationNumbers) -> list[Frame]:
    """Return the functions, their derivatives, then the signal forward and the gradient backward, layer by layer."""
    from .plot import plot_activations

    depth = numbers.depth
    frames = [
        Frame(
            "Activation functions, with the formula above each curve and the range inside.",
            plot_activations,
            (numbers, False, 0, 0),
        ),
        Frame(
            "Gray: the derivatives. Where a derivative is near zero, the gradient vanishes.",
            plot_activations,
            (numbers, True, 0, 0),
        ),
    ]
    stops = set()
    for fraction in (0.05, 0.5, 1):
        stops.add(max(1, round(depth * fraction)))
    stops = sorted(stops)
    for layers in stops:
        values = _format_extremes(numbers.functions, lambda function, i=layers: function.signal_std[i])
        passed = pluralize(layers, "layer")
        caption = f"Forward pass, after {passed}: the std of the signal, 1 at the input, is {values}."
        frames.append(Frame(caption, plot_activations, (numbers, True, layers, 0)))
    for layers in stops:
        values = _format_extremes(numbers.functions, lambda function, i=depth - layers: function.gradient_norm[i])
        passed = pluralize(layers, "layer")
        caption = f"Backward pass, through {passed}: the gradient norm, 1 at the last layer, is {values}."
        frames.append(Frame(caption, plot_activations, (numbers, True, depth, layers)))
    return frames


def _format_extremes(functions: Sequence[FunctionNumbers], key: Callable[[FunctionNumbers], float]) -> str:
    """Format the largest and the smallest value, with the names of their functions."""
    ordered = sorted(functions, key=key)
    smallest = ordered[0]
    largest = ordered[-1]
    if smallest is largest:
        return f"{key(smallest):.2g} ({smallest.name})"
    return f"at most {key(largest):.2g} ({largest.name}) and at least {key(smallest):.2g} ({smallest.name})"


def _format_statistics(function: FunctionNumbers, depth: int) -> str:
    std = function.signal_std[-1]
    norm = function.gradient_norm[0]
    return f"after {pluralize(depth, 'layer')}: signal std {std:.2g}, gradient norm {norm:.2g}"


def _collect_notes(functions: Sequence[FunctionNumbers]) -> list[str]:
    notes = []
    vanished = []
    for function in functions:
        if not function.signal_std[-1]:
            vanished.append(function.name)
    if vanished:
        names = ", ".join(vanished)
        if len(vanished) == len(ALL_ACTIVATIONS):
            names = "all functions"
        notes.append(f"The signal through {names} falls below the rounding error (1e-15, relative) and counts as 0.")
    notes.append(
        "Weights, inputs and gradient are random: another seed moves the lines a little. Training changes the weights. "
        "Batch normalization and skip connections, absent here, preserve signals in deep networks."
    )
    return notes
