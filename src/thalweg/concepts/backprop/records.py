"""The numbers of the concept backprop, as JSON-ready dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRecord:
    """All numbers of one layer. The input layer has only a name, units and activations.

    `weights[j][i]` connects unit i below to unit j. `derivatives` is None for softmax. The fields `updated_…` belong to
    the forward pass after one gradient step.
    """

    name: str
    units: list[str]
    activations: list[float]
    activation: str = ""
    weight_names: Sequence[list[str]] = ()
    weights: Sequence[list[float]] = ()
    bias_names: Sequence[str] = ()
    biases: Sequence[float] = ()
    pre_activations: Sequence[float] = ()
    derivatives: Sequence[float] | None = None
    deltas: Sequence[float] = ()
    weight_gradients: Sequence[list[float]] = ()
    bias_gradients: Sequence[float] = ()
    updated_weights: Sequence[list[float]] = ()
    updated_biases: Sequence[float] = ()
    updated_pre_activations: Sequence[float] = ()
    updated_activations: Sequence[float] = ()


@dataclass(frozen=True)
class LossCurve:
    """The loss after some of the gradient steps. `diverged`: the curve ends before the loss becomes too large."""

    step: list[int]
    loss: list[float]
    diverged: bool


@dataclass(frozen=True)
class FinalState:
    """Weights, biases, outputs and loss after the last gradient step."""

    weights: list[list[list[float]]]
    biases: list[list[float]]
    outputs: list[float]
    loss: float


@dataclass(frozen=True)
class GradientCheck:
    """The largest gradient, and the largest absolute differences from two other ways to compute gradients."""

    max_gradient: float
    autograd: float
    central_differences: float


@dataclass(frozen=True)
class Step:
    """One step of the explanation.

    `kind` is inputs, forward, loss, deltas, gradients, update, updated-loss or curve. `layer` is an index (0: the
    inputs) or None. `rule` is the formula in letters. Each of `lines` is the formula with numbers, in several lengths,
    longest first.
    """

    kind: str
    layer: int | None
    title: str
    rule: str
    lines: list[list[str]]
    caption: str


@dataclass(frozen=True)
class BackpropRecord:
    """All numbers of the concept. `losses` has one value per output; `loss` is their sum."""

    layers: list[LayerRecord]
    targets: list[float]
    loss_function: str
    lr: float
    train_biases: bool
    losses: list[float]
    loss: float
    updated_losses: list[float]
    updated_loss: float
    curve: LossCurve
    final: FinalState
    gradient_check: GradientCheck
    steps: Sequence[Step] = ()
