"""Recurrent layers on torch's fused kernels, with the initialization and the regularization that torch leaves out.

cuDNN computes them on GPUs, oneDNN the LSTM on CPUs. State is an argument and a result, never an attribute.

Variational dropout: Gal and Ghahramani 2016, arXiv:1512.05287. Weight drop: Merity, Keskar and Socher 2018,
arXiv:1708.02182, section 2. Orthogonal recurrence: Saxe, McClelland and Ganguli 2014, arXiv:1312.6120. Forget bias:
Jozefowicz, Zaremba and Sutskever 2015, proceedings.mlr.press/v37/jozefowicz15. Chrono initialization: Tallec and
Ollivier 2018, arXiv:1804.11188, section 3. Layer normalization: Ba, Kiros and Hinton 2016, arXiv:1607.06450; here it
stands between the layers, not inside the cells, which leaves the kernels fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import OptionError
from .check_arguments import check_fractions, check_whole_number

# B rows, T steps, E width of the input, D width of a layer, L layers

#: h, or (h, c) of an LSTM; each (L, B, D)
State: TypeAlias = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RecurrentSettings:
    """Sizes, initialization and regularization of recurrent layers.

    Attributes:
        layers: Recurrent layers on top of each other.
        width: Neurons of each layer.
        dropout: Fraction of values that is set to zero before, between and after the layers in training.
        variational: Use one dropout mask for all steps of a row.
        weight_drop: Fraction of the recurrent weights that is set to zero in each training step.
        layer_norm: Normalize the output of each layer.
        memory: Number of steps that gates begin to remember for, up to (chrono initialization); 0 for a forget bias of
            1 in an LSTM.
    """

    layers: int = 1
    width: int = 256
    dropout: float = 0.1
    variational: bool = False
    weight_drop: float = 0.0
    layer_norm: bool = False
    memory: int = 0

    def __post_init__(self) -> None:
        for name, smallest in (("layers", 1), ("width", 1), ("memory", 0)):
            check_whole_number(name, getattr(self, name), smallest)
        if self.memory == 1:
            raise OptionError("memory=1: expected 0 or at least 2 steps.", option="memory", value=1, allowed=[0, 2])
        check_fractions(dropout=self.dropout, weight_drop=self.weight_drop)


class VariationalDropout(nn.Module):
    """Dropout of (B, T, D) with one mask for all steps of a row."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the input unchanged in evaluation."""
        if not self.training or not self.p:
            return x_BTD
        mask_B1D = torch.empty_like(x_BTD[:, :1]).bernoulli_(1 - self.p)
        return x_BTD * mask_B1D.div_(1 - self.p)


class RecurrentLayers(nn.Module):
    """(B, T, E) -> (B, T, D): recurrent layers of one type, each with dropout and normalization behind it.

    Args:
        cell: nn.RNN, nn.LSTM or nn.GRU.
        input_size: Width of the input.
        settings: Sizes and regularization.
    """

    def __init__(self, cell: Callable[..., nn.RNNBase], input_size: int, settings: RecurrentSettings):
        super().__init__()
        self.is_lstm = cell is nn.LSTM
        self.width = settings.width
        self.weight_drop = settings.weight_drop
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        size = input_size
        for _ in range(settings.layers):
            layer = cell(size, settings.width, batch_first=True)
            init_recurrent_(layer, settings.memory)
            self.layers.append(layer)
            self.norms.append(nn.LayerNorm(settings.width) if settings.layer_norm else nn.Identity())
            size = settings.width
        self.dropout = VariationalDropout(settings.dropout) if settings.variational else nn.Dropout(settings.dropout)

    def forward(self, x_BTE: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the last layer's output (B, T, D) and the state after the last step; without a state, from zeros."""
        x_BTD = self.dropout(x_BTE)
        states = []
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            output_BTD, last_state = self._run_layer(layer, x_BTD, _layer_state(state, index))
            x_BTD = self.dropout(norm(output_BTD))
            states.append(last_state)
        if self.is_lstm:
            return x_BTD, (torch.cat([h for h, _ in states]), torch.cat([c for _, c in states]))
        return x_BTD, torch.cat(states)

    def _run_layer(self, layer: nn.Module, x_BTD: Tensor, state: State | None) -> tuple[Tensor, State]:
        if not self.training or not self.weight_drop:
            return layer(x_BTD, state)
        weight = layer.get_parameter("weight_hh_l0")
        dropped = nn.functional.dropout(weight, self.weight_drop)
        return functional_call(layer, {"weight_hh_l0": dropped}, (x_BTD, state))

    def initial_state(self, batch_size: int) -> State:
        """Return the state of `batch_size` rows before anything was read: zeros."""
        weight = next(self.parameters())
        zeros = weight.new_zeros(len(self.layers), batch_size, self.width)
        return (zeros, zeros.clone()) if self.is_lstm else zeros


def _layer_state(state: State | None, index: int) -> State | None:
    """Return the part (1, B, D) of one layer."""
    if state is None:
        return None
    if isinstance(state, tuple):
        return state[0][index : index + 1].contiguous(), state[1][index : index + 1].contiguous()
    return state[index : index + 1].contiguous()


@torch.no_grad()
def init_recurrent_(rnn: nn.RNNBase, memory: int = 0) -> None:
    """Initialize recurrent layers in place.

    Recurrent matrices are orthogonal, each gate's by itself. Biases are zero, but 1 for the forget gates of an LSTM, so
    that it remembers from the first step on. With `memory`, gates begin open for times that are spread evenly up to it
    (chrono initialization): forget gates of an LSTM get ln U(1, memory - 1) and its input gates the negative, update
    gates of a GRU, which keep the old state where they are open, the former. Input matrices stay as torch initializes
    them.
    """
    for name, weight in rnn.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.split(rnn.hidden_size):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(weight)
        if name.startswith("bias_ih"):
            _init_gate_bias_(rnn, weight, memory)


def _init_gate_bias_(rnn: nn.RNNBase, bias: Tensor, memory: int) -> None:
    """Open the gates that remember; torch orders gates as input, forget, cell, output and as reset, update, new."""
    second = slice(rnn.hidden_size, 2 * rnn.hidden_size)
    if memory and isinstance(rnn, nn.LSTM | nn.GRU):
        times = torch.empty(rnn.hidden_size).uniform_(1, max(2, memory - 1))
        bias[second] = times.log()
        if isinstance(rnn, nn.LSTM):
            bias[: rnn.hidden_size] = -times.log()
    elif isinstance(rnn, nn.LSTM):
        bias[second] = 1.0
