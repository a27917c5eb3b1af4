"""The common part of the character networks: embedding, recurrent layers, dropout, and a linear layer to the logits.

The recurrent layers are torch's fused ones (cuDNN on GPUs, oneDNN for the LSTM on CPUs). State is an argument and a
result, never an attribute: `logits, state = model(tokens, state)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ...errors import OptionError

# B rows of text, T characters, V tokens, E width of the embedding, D width of a layer, L layers

#: h, or (h, c) of an LSTM; each (L, B, D)
State: TypeAlias = Tensor | tuple[Tensor, Tensor]


class RecurrentFeatures(nn.Module):
    """(B, T) tokens -> (B, T, D) features: embedding, recurrent layers, dropout before, between and after them."""

    def __init__(self, num_tokens: int, embedding: int, rnn: nn.RNNBase, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, embedding)
        self.rnn = rnn
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BT: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the features (B, T, D) and the state after the last token."""
        x_BTE = self.dropout(self.embedding(tokens_BT))
        features_BTD, last_state = self.rnn(x_BTE, state)
        return self.dropout(features_BTD), last_state


class CharacterModel(nn.Module):
    """(B, T) tokens -> (B, T, V) logits of the next token: `head(features(x))`."""

    def __init__(self, features: RecurrentFeatures, head: nn.Linear):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, tokens_BT: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return logits (B, T, V) and the state after the last token; without a state, begin from zeros."""
        features_BTD, last_state = self.features(tokens_BT, state)
        return self.head(features_BTD), last_state

    def initial_state(self, batch_size: int) -> State:
        """Return the state of `batch_size` rows before anything was read: zeros."""
        rnn = self.features.rnn
        weight = self.head.weight
        zeros = torch.zeros(rnn.num_layers, batch_size, rnn.hidden_size, dtype=weight.dtype, device=weight.device)
        if isinstance(rnn, nn.LSTM):
            return zeros, zeros.clone()
        return zeros


def build_character_model(
    cell: Callable[..., nn.RNNBase], num_tokens: int, layers: int, width: int, embedding: int, dropout: float
) -> CharacterModel:
    """Build a character model with recurrent layers of one type.

    Args:
        cell: nn.RNN, nn.LSTM or nn.GRU.
        num_tokens: Size of the alphabet, the unknown symbol included.
        layers: Recurrent layers on top of each other.
        width: Neurons of each layer.
        embedding: Numbers that stand for a character.
        dropout: Fraction of values that is set to zero before, between and after the layers in training.

    Returns:
        The model, with orthogonal recurrent matrices and, in an LSTM, forget gates that begin open.

    Raises:
        OptionError: For sizes below 1 and a dropout outside 0 to 1.
    """
    sizes = {"num_tokens": num_tokens, "layers": layers, "width": width, "embedding": embedding}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise OptionError(
                f"{name}={value}: expected a whole number of at least 1.", option=name, value=value, allowed=[1]
            )
    if not 0 <= dropout < 1:
        raise OptionError(
            f"dropout={dropout}: expected at least 0 and less than 1.",
            option="dropout",
            value=dropout,
            allowed=[0, 1],
        )
    between = dropout if layers > 1 else 0.0  # torch warns of a dropout between the layers of one layer
    rnn = cell(embedding, width, layers, batch_first=True, dropout=between)
    init_recurrent_(rnn)
    return CharacterModel(RecurrentFeatures(num_tokens, embedding, rnn, dropout), nn.Linear(width, num_tokens))


@torch.no_grad()
def init_recurrent_(rnn: nn.RNNBase) -> None:
    """Initialize recurrent layers in place.

    Recurrent matrices are orthogonal, each gate's by itself (Saxe, McClelland, Ganguli 2014, arXiv:1312.6120). Biases
    are zero, but 1 for the forget gates of an LSTM, so that it remembers from the first step on (Jozefowicz, Zaremba,
    Sutskever 2015, proceedings.mlr.press/v37/jozefowicz15). Input matrices stay as torch initializes them.
    """
    for name, weight in rnn.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.split(rnn.hidden_size):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(weight)
        if name.startswith("bias_ih") and isinstance(rnn, nn.LSTM):
            weight[rnn.hidden_size : 2 * rnn.hidden_size] = 1.0
