"""One token at a time, as a sample needs it, without the cost of calling fused layers for a single step.

The first layer's product of embedding and input weights is a table with a row per token. Same weights and, but for
rounding, the same logits as the model's own forward pass.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .recurrent import CharacterModel

# V tokens, D width of a layer; G gates of width D: 1 of an RNN, 3 of a GRU, 4 of an LSTM


class Stepper:
    """Computes the logits after each further token of one text. `model` is a CharacterModel in evaluation mode."""

    def __init__(self, model: CharacterModel):
        self.model = model
        self.norms = list(model.features.rnn.norms)
        self.layers: list[_Layer] = []
        with torch.inference_mode():
            for index, module in enumerate(model.features.rnn.layers):
                layer = cast(nn.RNNBase, module)
                self.layers.append(_Layer(layer, model.features.embedding.weight if index == 0 else None))
        self.states = [layer.initial_state() for layer in self.layers]

    @torch.inference_mode()
    def step(self, token: int) -> Tensor:
        """Read one token; return the logits (V,) of the next."""
        x_D: Tensor | None = None
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            self.states[index] = layer.step(token if x_D is None else x_D, self.states[index])
            x_D = norm(self.states[index][0])
        return self.model.head(x_D)


class _Layer:
    """One recurrent layer for single steps; with `embedding_VE` its input is a token, else the layer below."""

    def __init__(self, layer: nn.RNNBase, embedding_VE: Tensor | None):
        weight_ih, self.weight_hh, bias_ih, self.bias_hh = list(layer.parameters())[:4]
        self.width = layer.hidden_size
        self.is_lstm = isinstance(layer, nn.LSTM)
        self.is_gru = isinstance(layer, nn.GRU)
        # the candidate of a GRU multiplies its recurrent part, bias included, by a gate
        bias = bias_ih if self.is_gru else bias_ih + self.bias_hh
        self.table_VG: Tensor | None = None
        if embedding_VE is not None:
            self.table_VG = torch.addmm(bias, embedding_VE, weight_ih.T)
        self.weight_ih = weight_ih
        self.bias = bias

    def initial_state(self) -> tuple[Tensor, ...]:
        """Return zeros."""
        zeros = self.weight_hh.new_zeros(self.width)
        return (zeros, zeros) if self.is_lstm else (zeros,)

    def step(self, x: int | Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the state after a token, or after an input (D,)."""
        if self.table_VG is not None:
            input_G = self.table_VG[x]
        else:
            input_G = torch.addmv(self.bias, self.weight_ih, cast(Tensor, x))
        if self.is_gru:
            return (self._step_gru(input_G, state[0]),)
        sum_G = torch.addmv(input_G, self.weight_hh, state[0])
        if not self.is_lstm:
            return (torch.tanh(sum_G),)
        gates_G = torch.sigmoid(sum_G)
        input_D, forget_D, _, output_D = gates_G.split(self.width)
        candidate_D = torch.tanh(sum_G[2 * self.width : 3 * self.width])
        c_D = forget_D * state[1] + input_D * candidate_D
        return output_D * torch.tanh(c_D), c_D

    def _step_gru(self, input_G: Tensor, h_D: Tensor) -> Tensor:
        recurrent_G = torch.addmv(self.bias_hh, self.weight_hh, h_D)
        both = 2 * self.width
        reset_D, update_D = torch.sigmoid(input_G[:both] + recurrent_G[:both]).split(self.width)
        candidate_D = torch.tanh(input_G[both:] + reset_D * recurrent_G[both:])
        return candidate_D + update_D * (h_D - candidate_D)
