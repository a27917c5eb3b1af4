"""Backpropagation by hand: the forward pass through a small MLP, then the chain rule back through it.

Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0. One example at a time. The letters are those of the formulas
in text.md: s pre-activations, y activations, t targets, E the loss, δ = ∂E/∂s.
Shapes: I units below a layer, J units in it, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from ...layers.activations import build_activation

_SQRT_2 = math.sqrt(2)
_SQRT_2PI = math.sqrt(2 * math.pi)

#: f′(s) of every activation, from the pre-activation s and the activation y = f(s); at a kink PyTorch's choice
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
#: activations whose derivative jumps at zero
NON_SMOOTH = ("step", "relu", "leaky-relu")


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron in double precision: weights, biases and the activation of each layer.

    `weights` are matrices (J, I). `biases` are (J,), or (1,) for one bias shared by the whole layer. `activations`
    are names. With `softmax` the output layer uses softmax and the loss is the cross-entropy; without it the loss is
    half the sum of squared errors.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    activations: Sequence[str]
    softmax: bool = False


@dataclass(frozen=True)
class ForwardPass:
    """Pre-activations and activations of each layer (`activations[0]` is the input), and the loss of each output."""

    pre_activations: Sequence[Tensor]
    activations: Sequence[Tensor]
    losses: Tensor

    @property
    def loss(self) -> Tensor:
        """The total loss E, a scalar."""
        return self.losses.sum()


@dataclass(frozen=True)
class BackwardPass:
    """Derivatives of the loss: deltas (by pre-activation), gradients of weights and gradients of biases."""

    deltas: Sequence[Tensor]
    weight_gradients: Sequence[Tensor]
    bias_gradients: Sequence[Tensor]


def forward(mlp: MLP, inputs_I: Tensor, targets_K: Tensor) -> ForwardPass:
    """Run the forward pass: s = W y + b and y = f(s), layer by layer, then the loss E."""
    pre_activations = []
    activations = [inputs_I]
    for weights_JI, biases_J, activation in zip(mlp.weights, mlp.biases, mlp.activations, strict=True):
        s_J = weights_JI @ activations[-1] + biases_J
        pre_activations.append(s_J)
        activations.append(_activation(activation)(s_J))
    if mlp.softmax:
        activations[-1] = torch.softmax(pre_activations[-1], 0)
        losses_K = -targets_K * torch.log_softmax(pre_activations[-1], 0)
    else:
        losses_K = (targets_K - activations[-1]).square() / 2
    return ForwardPass(pre_activations, activations, losses_K)


def backward(mlp: MLP, forward_pass: ForwardPass, targets_K: Tensor) -> BackwardPass:
    """Run the backward pass: the chain rule from the output layer to the first.

    Output layer: δ = (y - t) f′(s), or δ = y - t for softmax with cross-entropy.
    Hidden layers: δ = (Wᵀ δ) f′(s), with the weights and deltas of the layer above.
    Gradients: ∂E/∂W = δ yᵀ with the activations y of the layer below, and ∂E/∂b = δ.
    """
    last = len(mlp.weights) - 1
    delta_K = forward_pass.activations[-1] - targets_K
    if not mlp.softmax:
        delta_K = delta_K * compute_derivative(mlp, forward_pass, last)
    deltas = [delta_K]
    for layer in reversed(range(last)):
        delta_J = mlp.weights[layer + 1].T @ deltas[0] * compute_derivative(mlp, forward_pass, layer)
        deltas.insert(0, delta_J)

    weight_gradients = []
    bias_gradients = []
    for delta_J, y_I, biases in zip(deltas, forward_pass.activations[:-1], mlp.biases, strict=True):
        weight_gradients.append(torch.outer(delta_J, y_I))
        # A shared bias adds to every pre-activation of its layer, so its gradient is the sum of their deltas.
        if len(biases) == 1:
            bias_gradients.append(delta_J.sum().reshape(1))
        else:
            bias_gradients.append(delta_J)
    return BackwardPass(deltas, weight_gradients, bias_gradients)


def compute_derivative(mlp: MLP, forward_pass: ForwardPass, layer: int) -> Tensor:
    """Return f′(s) (J,) of a layer, counted from 0 for the first hidden layer."""
    derivative = DERIVATIVES[mlp.activations[layer]]
    return derivative(forward_pass.pre_activations[layer], forward_pass.activations[layer + 1])


def gradient_step(mlp: MLP, gradients: BackwardPass, lr: float, train_biases: bool) -> MLP:
    """Return the model after one step of gradient descent: w ← w - lr · ∂E/∂w."""
    weights = _descend(mlp.weights, gradients.weight_gradients, lr)
    biases = mlp.biases
    if train_biases:
        biases = _descend(mlp.biases, gradients.bias_gradients, lr)
    return replace(mlp, weights=weights, biases=biases)


def _descend(params: Sequence[Tensor], gradients: Sequence[Tensor], lr: float) -> list[Tensor]:
    updated = []
    for param, gradient in zip(params, gradients, strict=True):
        updated.append(param - lr * gradient)
    return updated


def autograd_gradients(mlp: MLP, inputs_I: Tensor, targets_K: Tensor) -> list[Tensor]:
    """Compute the gradients of all weights, then of all biases, with `torch.autograd`."""
    params = [p.clone().requires_grad_() for p in (*mlp.weights, *mlp.biases)]
    loss = forward(_replace_params(mlp, params), inputs_I, targets_K).loss
    # The step function cuts the graph below it. Adding 0 · p keeps every parameter in the graph.
    for param in params:
        loss = loss + 0 * param.sum()
    return list(torch.autograd.grad(loss, params))


def numerical_gradients(mlp: MLP, inputs_I: Tensor, targets_K: Tensor, step_size: float = 1e-5) -> list[Tensor]:
    """Compute the same gradients by central differences: the loss with each parameter raised and lowered.

    `step_size` is for parameters of size 1 or less; it grows in proportion to larger ones.
    """
    params = list(map(torch.clone, (*mlp.weights, *mlp.biases)))
    shifted = _replace_params(mlp, params)
    gradients = list(map(torch.empty_like, params))
    for param, gradient in zip(params, gradients, strict=True):
        values = param.view(-1)
        slots = gradient.view(-1)
        for i, value in enumerate(values.tolist()):
            h = step_size * max(1.0, abs(value))
            losses = []
            for sign in (1, -1):
                values[i] = value + sign * h
                losses.append(float(forward(shifted, inputs_I, targets_K).loss))
            values[i] = value
            slots[i] = (losses[0] - losses[1]) / (2 * h)
    return gradients


def _replace_params(mlp: MLP, params: Sequence[Tensor]) -> MLP:
    """Return the model with `params`: all weights, then all biases."""
    count = len(mlp.weights)
    return replace(mlp, weights=params[:count], biases=params[count:])


@cache
def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """Build an activation once."""
    return build_activation(name)
