"""The common part of the recurrent translators: a bidirectional encoder, and a decoder with attention.

The encoder is that of Bahdanau, Cho and Bengio (2015, arXiv:1409.0473), the attention the "general" one of Luong, Pham
and Manning (2015, arXiv:1508.04025): the state of the decoder's first layer, times a matrix, is compared with the
encoder's vectors.

Attention comes after the first layer and reads nothing of its own last result (no input feeding), so that each layer of
the decoder runs over a whole sentence in one fused call. What was attended to before reaches the layers above the
first, which read the context vectors in order; with one layer, as in the second paper without input feeding, nothing
does.

Differs from the papers: the decoder begins with a function of the mean of the encoder's vectors; dropout around every
layer; output weights tied to the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.check_arguments import check_fractions, check_positive
from ...layers.recurrent import init_recurrent_
from .base import PAD, Tensors, TiedEmbedding, TranslationModel, mask_scores

# B sentences, S source tokens, T target tokens, E embedding, D width, M width of the memory, L layers
# P states of a cell: 1 of a GRU, 2 of an LSTM

Cell = Callable[..., nn.RNNBase]


def reverse_rows(x_BSD: Tensor, length_B: Tensor) -> Tensor:
    """Return sequences from their last element to their first; padding stays behind them."""
    position_S = torch.arange(x_BSD.shape[1], device=x_BSD.device)
    reversed_BS = length_B[:, None] - 1 - position_S
    index_BS = torch.where(reversed_BS >= 0, reversed_BS, position_S)
    return x_BSD.gather(1, index_BS[..., None].expand_as(x_BSD))


class BidirectionalEncoder(nn.Module):
    """(B, S) tokens -> (B, S, 2D): a layer from left to right and one from right to left, side by side, L times.

    Two calls of torch's fused layers instead of a packed sequence: padding stays behind the sentence in both
    directions, so it changes nothing, and the CPU has quick kernels for sequences that are not packed.
    """

    def __init__(self, num_tokens: int, embedding: int, width: int, layers: int, dropout: float, cell: Cell):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.forward_layers = nn.ModuleList()
        self.backward_layers = nn.ModuleList()
        self.width = 2 * width
        size = embedding
        for _ in range(layers):
            for directions in (self.forward_layers, self.backward_layers):
                layer = cell(size, width, batch_first=True)
                init_recurrent_(layer)
                directions.append(layer)
            size = self.width

    def forward(self, source_BS: Tensor) -> Tensor:
        """Return a vector for every token."""
        length_B = (source_BS != PAD).sum(1)
        x_BSM = self.dropout(self.embedding(source_BS))
        for forward_layer, backward_layer in zip(self.forward_layers, self.backward_layers, strict=True):
            left_BSD = forward_layer(x_BSM)[0]
            right_BSD = reverse_rows(backward_layer(reverse_rows(x_BSM, length_B))[0], length_B)
            x_BSM = self.dropout(torch.cat([left_BSD, right_BSD], 2))
        return x_BSM


class RecurrentTranslator(TranslationModel):
    """Encoder, attention, and a decoder of recurrent layers of one type."""

    def __init__(self, encoder: BidirectionalEncoder, target: TiedEmbedding, width: int, layers: int, cell: Cell):
        super().__init__()
        embedding = target.weight_KE.shape[1]
        memory_width = encoder.width
        self.encoder = encoder
        self.target = target
        self.dropout = nn.Dropout(encoder.dropout.p)
        self.first = cell(embedding, width, batch_first=True)
        self.others = nn.ModuleList()
        init_recurrent_(self.first)
        for _ in range(layers - 1):
            layer = cell(width + memory_width, width, batch_first=True)
            init_recurrent_(layer)
            self.others.append(layer)
        self.num_states = 2 if isinstance(self.first, nn.LSTM) else 1
        self.bridge = nn.Linear(memory_width, layers * self.num_states * width)
        self.key = nn.Linear(memory_width, width, bias=False)
        self.output = nn.Linear(width + memory_width + embedding, embedding)

    def encode(self, source_BS: Tensor) -> Tensors:
        """Return the encoder's vectors (B, S, M), the keys (B, S, D) with which states are compared, and the source."""
        values_BSM = self.encoder(source_BS)
        return {"values": values_BSM, "keys": self.key(values_BSM), "source": source_BS}

    def start(self, memory: Tensors) -> Tensors:
        """Return the state (B, L, P, D) of every layer: a function of the mean of the encoder's vectors."""
        is_real_BS1 = (memory["source"] != PAD)[..., None]
        mean_BM = (memory["values"] * is_real_BS1).sum(1) / is_real_BS1.sum(1)
        layers = 1 + len(self.others)
        state_BX = torch.tanh(self.bridge(mean_BM))
        return {"cells": state_BX.reshape(len(mean_BM), layers, self.num_states, -1)}

    def decode(self, inputs_BT: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        """Return hidden values (B, T, E), the state after the tokens, and the attention (B, T, S)."""
        x_BTE = self.dropout(self.target(inputs_BT))
        states = []
        output_BTD, last = self._run(self.first, x_BTE, state["cells"][:, 0])
        states.append(last)
        attention_BTS = self._attend(output_BTD, memory)
        context_BTM = attention_BTS @ memory["values"]
        for index, layer in enumerate(self.others, 1):
            layer_input = torch.cat([self.dropout(output_BTD), context_BTM], 2)
            above_BTD, last = self._run(layer, layer_input, state["cells"][:, index])
            output_BTD = output_BTD + above_BTD
            states.append(last)
        hidden_BTE = torch.tanh(self.output(torch.cat([self.dropout(output_BTD), context_BTM, x_BTE], 2)))
        return self.dropout(hidden_BTE), {"cells": torch.stack(states, 1)}, attention_BTS

    def _attend(self, query_BTD: Tensor, memory: Tensors) -> Tensor:
        scores_BTS = query_BTD @ memory["keys"].transpose(1, 2) / math.sqrt(query_BTD.shape[2])
        return mask_scores(scores_BTS, memory["source"]).softmax(2)

    def _run(self, layer: Any, x_BTI: Tensor, state_BPD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of one layer and its state (B, P, D), hidden and, in an LSTM, cell."""
        state_PBD = state_BPD.transpose(0, 1).contiguous()
        if self.num_states == 1:
            output_BTD, last_1BD = layer(x_BTI, state_PBD)
            return output_BTD, last_1BD.transpose(0, 1)
        output_BTD, (hidden_1BD, cell_1BD) = layer(x_BTI, (state_PBD[:1].contiguous(), state_PBD[1:].contiguous()))
        return output_BTD, torch.cat([hidden_1BD, cell_1BD]).transpose(0, 1)


def build_recurrent_translator(
    cell: Cell, num_tokens: int, num_targets: int, layers: int, width: int, **settings: float
) -> RecurrentTranslator:
    """Build a translator with recurrent layers of one type.

    Args:
        cell: nn.GRU or nn.LSTM.
        num_tokens: Tokens of the vocabulary.
        num_targets: Those of them that translations consist of.
        layers: Layers of the encoder, and of the decoder.
        width: Neurons of a decoder's layer; the encoder's have half of them for each direction.
        **settings: `embedding`, the numbers that stand for a token, and `dropout`.

    Returns:
        The model.

    Raises:
        OptionError: For sizes below 1, an odd width, and a dropout outside 0 to 1.
    """
    embedding = int(settings["embedding"])
    dropout = settings["dropout"]
    check_fractions(dropout=dropout)
    check_positive(layers=layers, width=width, embedding=embedding, half_width=width // 2)
    encoder = BidirectionalEncoder(num_tokens, embedding, max(1, width // 2), layers, dropout, cell)
    return RecurrentTranslator(encoder, TiedEmbedding(num_targets, embedding), width, layers, cell)
