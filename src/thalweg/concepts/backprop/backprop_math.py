"""Backpropagation by hand: a small fully connected network forward, then the chain rule through it, layer by layer.

Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0. One example at a time; I units below a layer, J in it, K
outputs. What comes out by hand is compared with `torch.autograd` and with central differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ...layers.activations import build_activation

_SQRT_2, _SQRT_2PI = math.sqrt(2), math.sqrt(2 * math.pi)

#: the derivative of every activation from a sum s and the output y; at a kink the one that PyTorch takes
DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda s, y: torch.ones_like(s),
    "step": lambda s, y: torch.zeros_like(s),
    "logistic": lambda s, y: y * (1 - y),
    "tanh": lambda s, y: 1 - y * y,
    "arctan": lambda s, y: 1 / (1 + s * s),
    "softsign": lambda s, y: 1 / (1 + s.abs()).square(),
    "relu": lambda s, y: (s > 0).to(s.dtype),
    "leaky-relu": lambda s, y: torch.where(s > 0, torch.ones_like(s), 0.01),
    "elu": lambda s, y: torch.where(s > 0, torch.ones_like(s), s.exp()),
    "gelu": lambda s, y: (1 + torch.erf(s / _SQRT_2)) / 2 + s * torch.exp(-s * s / 2) / _SQRT_2PI,
    "silu": lambda s, y: torch.sigmoid(s) + y * (1 - torch.sigmoid(s)),
    # PyTorch's softplus is the straight line s above 20
    "softplus": lambda s, y: torch.where(s > 20, torch.ones_like(s), torch.sigmoid(s)),
}
#: where the derivative jumps at zero, so that there is none there
NON_SMOOTH = ("step", "relu", "leaky-relu")


@dataclass(frozen=True)
class MLP:
    """Weights and biases of every layer but the inputs, in double precision.

    `weights` are matrices (J, I); `biases` are (J,), or (1,) where the units of a layer share one; `bends` names the
    activation of each layer. With `softmax` the last layer has that instead, and the error is the cross-entropy;
    without it the error is half the sum of the squared differences.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    bends: Sequence[str]
    softmax: bool = False


@dataclass(frozen=True)
class ForwardPass:
    """What is known after the way forward: the `sums` of every layer, and its `outputs`, of which the inputs are first.

    `errors` has a part of the error for each output; they add up to it.
    """

    sums: Sequence[Tensor]
    outputs: Sequence[Tensor]
    errors: Tensor

    @property
    def error(self) -> Tensor:
        """The error as a whole, a scalar."""
        return self.errors.sum()


@dataclass(frozen=True)
class BackwardPass:
    """What is known after the way back: the derivative of the error by every sum (delta), weight and bias."""

    deltas: Sequence[Tensor]
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


def forward(net: MLP, inputs_I: Tensor, targets_K: Tensor) -> ForwardPass:
    """Sums, outputs and errors, layer by layer from the inputs."""
    sums, outputs = [], [inputs_I]
    for weights_JI, biases_J, bend in zip(net.weights, net.biases, net.bends, strict=True):
        sums.append(weights_JI @ outputs[-1] + biases_J)
        outputs.append(_activation(bend)(sums[-1]))
    if net.softmax:
        outputs[-1] = torch.softmax(sums[-1], 0)
        return ForwardPass(sums, outputs, -targets_K * torch.log_softmax(sums[-1], 0))
    return ForwardPass(sums, outputs, (targets_K - outputs[-1]).square() / 2)


def backward(net: MLP, values: ForwardPass, targets_K: Tensor) -> BackwardPass:
    """The chain rule from the last layer to the first.

    The delta of an output is (output - target) times the slope of its activation, and with the softmax and the
    cross-entropy output - target alone. That of a unit below gathers the deltas above it through the same weights.
    """
    slopes = [DERIVATIVES[bend](s, y) for bend, s, y in zip(net.bends, values.sums, values.outputs[1:], strict=True)]
    missed_K = values.outputs[-1] - targets_K
    deltas = [missed_K if net.softmax else missed_K * slopes[-1]]
    for weights_KJ, slope_J in zip(net.weights[:0:-1], slopes[-2::-1], strict=True):
        deltas.insert(0, weights_KJ.T @ deltas[0] * slope_J)
    return BackwardPass(
        deltas,
        [torch.outer(delta_J, below_I) for delta_J, below_I in zip(deltas, values.outputs[:-1], strict=True)],
        # one bias for all units of a layer: every one of them passes its delta on to it
        [d.sum().reshape(1) if len(b) == 1 else d for d, b in zip(deltas, net.biases, strict=True)],
    )


def gradient_step(net: MLP, gradients: BackwardPass, rate: float, biases_too: bool) -> MLP:
    """The network after one step of gradient descent: every weight less `rate` times its gradient."""
    weights = [w - rate * g for w, g in zip(net.weights, gradients.weights, strict=True)]
    biases = [b - rate * g for b, g in zip(net.biases, gradients.biases, strict=True)] if biases_too else net.biases
    return MLP(weights, biases, net.bends, net.softmax)


def autograd_gradients(net: MLP, inputs_I: Tensor, targets_K: Tensor) -> list[Tensor]:
    """The gradients of all weights and then of all biases, by `torch.autograd`."""
    parameters = [p.clone().requires_grad_() for p in (*net.weights, *net.biases)]
    layers = len(net.weights)
    error = forward(MLP(parameters[:layers], parameters[layers:], net.bends, net.softmax), inputs_I, targets_K).error
    # the step cuts off what is below it; adding nothing ties every parameter to the error all the same
    tied = error + sum(0 * p.sum() for p in parameters)
    return list(torch.autograd.grad(tied, parameters))


def numerical_gradients(net: MLP, inputs_I: Tensor, targets_K: Tensor, width: float = 1e-5) -> list[Tensor]:
    """The same by central differences: the error with each parameter a little larger and a little smaller.

    `width` is how much, for a parameter of size 1 or less; for larger ones it grows with them.
    """
    parameters = [p.clone() for p in (*net.weights, *net.biases)]
    layers = len(net.weights)
    moved = MLP(parameters[:layers], parameters[layers:], net.bends, net.softmax)
    found = [torch.empty_like(p) for p in parameters]
    for parameter, result in zip(parameters, found, strict=True):
        flat, slots = parameter.view(-1), result.view(-1)
        for place, value in enumerate(flat.tolist()):
            step = width * max(1.0, abs(value))
            errors = []
            for sign in (1, -1):
                flat[place] = value + sign * step
                errors.append(float(forward(moved, inputs_I, targets_K).error))
            flat[place] = value
            slots[place] = (errors[0] - errors[1]) / (2 * step)
    return found


@cache
def _activation(bend: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name, built once."""
    return build_activation(bend)
