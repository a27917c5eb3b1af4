"""The cells of recurrent layers, gate by gate, as the papers write them, with every gate open to view.

torch's fused layers return neither gates nor cell states. Here one step of each cell is written out on the same
weights; `trace_layer` unrolls a layer and records everything. Slow, and equal to the fused layers to 1e-5 (a test).

Elman 1990, doi:10.1207/s15516709cog1402_1; LSTM: Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735, with
the forget gate of Gers, Schmidhuber and Cummins 2000, doi:10.1162/089976600300015015; GRU: Cho et al. 2014,
arXiv:1406.1078, with the reset gate after the recurrent matrix, as in cuDNN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# B rows, T steps, E width of the input, D width of the layer


@dataclass(frozen=True)
class GateTrace:
    """What a recurrent layer computed at every step.

    Attributes:
        hidden_BTD: Hidden state h.
        cell_BTD: Cell state c of an LSTM; None for others.
        gates: Gates by name, each (B, T, D): "input", "forget", "output" of an LSTM, "reset", "update" of a GRU; and
            the "candidate" that they let in.
    """

    hidden_BTD: Tensor
    cell_BTD: Tensor | None
    gates: dict[str, Tensor]


def step_rnn(layer: nn.RNNBase, x_BE: Tensor, h_BD: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute h = tanh(W x + U h + b). Return it, and it as the candidate."""
    (input_BD,), (recurrent_BD,) = _project(layer, x_BE, h_BD)
    candidate_BD = torch.tanh(input_BD + recurrent_BD)
    return candidate_BD, {"candidate": candidate_BD}


def step_gru(layer: nn.RNNBase, x_BE: Tensor, h_BD: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute h = (1 - update) * candidate + update * h. Return it, and the gates."""
    inputs, recurrents = _project(layer, x_BE, h_BD)
    reset_BD = torch.sigmoid(inputs[0] + recurrents[0])
    update_BD = torch.sigmoid(inputs[1] + recurrents[1])
    candidate_BD = torch.tanh(inputs[2] + reset_BD * recurrents[2])
    h_BD = (1 - update_BD) * candidate_BD + update_BD * h_BD
    return h_BD, {"reset": reset_BD, "update": update_BD, "candidate": candidate_BD}


def step_lstm(layer: nn.RNNBase, x_BE: Tensor, h_BD: Tensor, c_BD: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Compute c = forget * c + input * candidate and h = output * tanh(c).

    Args:
        layer: A layer of nn.LSTM, whose weights are used.
        x_BE: Input of this step.
        h_BD: Hidden state before it.
        c_BD: Cell state before it.

    Returns:
        Hidden state, cell state, and the gates by name.
    """
    inputs, recurrents = _project(layer, x_BE, h_BD)
    input_BD = torch.sigmoid(inputs[0] + recurrents[0])
    forget_BD = torch.sigmoid(inputs[1] + recurrents[1])
    candidate_BD = torch.tanh(inputs[2] + recurrents[2])
    output_BD = torch.sigmoid(inputs[3] + recurrents[3])
    c_BD = forget_BD * c_BD + input_BD * candidate_BD
    h_BD = output_BD * torch.tanh(c_BD)
    gates = {"input": input_BD, "forget": forget_BD, "candidate": candidate_BD, "output": output_BD}
    return h_BD, c_BD, gates


def trace_layer(layer: nn.RNNBase, x_BTE: Tensor, state: tuple[Tensor, ...] | None = None) -> GateTrace:
    """Unroll one recurrent layer step by step and record hidden states, cell states and gates.

    Args:
        layer: A single layer of nn.RNN, nn.GRU or nn.LSTM.
        x_BTE: Inputs.
        state: Hidden state (B, D), and of an LSTM the cell state (B, D); None begins with zeros.

    Returns:
        All that was computed.
    """
    h_BD = x_BTE.new_zeros(len(x_BTE), layer.hidden_size)
    c_BD = torch.zeros_like(h_BD)
    if state is not None:
        h_BD = state[0]
        c_BD = state[-1]
    hidden: list[Tensor] = []
    cells: list[Tensor] = []
    gates: dict[str, list[Tensor]] = {}
    for x_BE in x_BTE.unbind(1):
        if isinstance(layer, nn.LSTM):
            h_BD, c_BD, step_gates = step_lstm(layer, x_BE, h_BD, c_BD)
        elif isinstance(layer, nn.GRU):
            h_BD, step_gates = step_gru(layer, x_BE, h_BD)
        else:
            h_BD, step_gates = step_rnn(layer, x_BE, h_BD)
        hidden.append(h_BD)
        cells.append(c_BD)
        for name, gate_BD in step_gates.items():
            gates.setdefault(name, []).append(gate_BD)
    return GateTrace(
        torch.stack(hidden, 1),
        torch.stack(cells, 1) if isinstance(layer, nn.LSTM) else None,
        {name: torch.stack(steps, 1) for name, steps in gates.items()},
    )


def _project(layer: nn.RNNBase, x_BE: Tensor, h_BD: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what the input and the hidden state contribute to each gate, (B, D) each."""
    weight_ih, weight_hh, bias_ih, bias_hh = list(layer.parameters())[:4]
    inputs = nn.functional.linear(x_BE, weight_ih, bias_ih)
    recurrents = nn.functional.linear(h_BD, weight_hh, bias_hh)
    return inputs.split(layer.hidden_size, 1), recurrents.split(layer.hidden_size, 1)
