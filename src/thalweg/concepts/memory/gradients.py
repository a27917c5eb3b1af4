"""How much the last state of a recurrent layer depends on an input many steps back, at initialization.

B sequences, T steps, C numbers in a step, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...layers.recurrent import init_recurrent_


@dataclass(frozen=True)
class CellVariant:
    """A cell and its initialization: `initialize(layer, memory)` works in place on a layer of torch's own."""

    name: str
    cell: Callable[..., nn.RNNBase]
    initialize: Callable[[nn.RNNBase, int], None]


def keep_default(layer: nn.RNNBase, memory: int) -> None:
    """Leave everything as torch initializes it: uniform, at most 1 / sqrt(D)."""


@torch.no_grad()
def orthogonalize(layer: nn.RNNBase, memory: int) -> None:
    """Make the recurrent matrix orthogonal, so that it neither shrinks nor stretches the state."""
    nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"))


@torch.no_grad()
def open_forget_gate(layer: nn.RNNBase, memory: int) -> None:
    """Set the bias of an LSTM's forget gates to 1; torch orders gates as input, forget, cell, output."""
    forget = slice(layer.hidden_size, 2 * layer.hidden_size)
    layer.get_parameter("bias_ih_l0")[forget] = 1.0
    layer.get_parameter("bias_hh_l0")[forget] = 0.0


def spread_times(layer: nn.RNNBase, memory: int) -> None:
    """Open gates for times up to `memory` steps (chrono initialization), and change nothing but the biases."""
    weight = layer.get_parameter("weight_hh_l0")
    saved = weight.detach().clone()
    init_recurrent_(layer, memory)
    with torch.no_grad():
        weight.copy_(saved)


#: what is compared, in the order of the frames
VARIANTS = (
    CellVariant("RNN, torch default", nn.RNN, keep_default),
    CellVariant("RNN, orthogonal", nn.RNN, orthogonalize),
    CellVariant("GRU, torch default", nn.GRU, keep_default),
    CellVariant("LSTM, torch default", nn.LSTM, keep_default),
    CellVariant("LSTM, forget bias 1", nn.LSTM, open_forget_gate),
    CellVariant("LSTM, chrono", nn.LSTM, spread_times),
)


def build_layer(variant: CellVariant, num_inputs: int, width: int, memory: int) -> nn.RNNBase:
    """Build a layer with random weights from torch's generator.

    Args:
        variant: Cell and initialization.
        num_inputs: Numbers C in a step.
        width: Neurons D.
        memory: Steps that chrono initialization opens gates for.

    Returns:
        The layer.
    """
    layer = variant.cell(num_inputs, width, batch_first=True)
    variant.initialize(layer, memory)
    return layer


def measure_gradients(layer: nn.RNNBase, x_BTC: Tensor, direction_BD: Tensor) -> Tensor:
    """Compute the gradient of the last state with respect to every input, by one backward pass.

    Args:
        layer: A recurrent layer.
        x_BTC: Inputs.
        direction_BD: The number that is differentiated is the last state times this.

    Returns:
        Norm of the gradient (T,), the mean over the sequences; its index is the lag: 0 is the last input.
    """
    x_BTC = x_BTC.detach().requires_grad_()
    output_BTD, _ = layer(x_BTC)
    (gradient_BTC,) = torch.autograd.grad((output_BTD[:, -1] * direction_BD).sum(), x_BTC)
    return gradient_BTC.norm(dim=2).mean(0).flip(0)
