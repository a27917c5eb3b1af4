"""Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), as a character model.

Differs from the paper: the reset gate is applied after the recurrent matrix, as in cuDNN and torch, not before it; two
biases per gate; dropout before, between and after the layers.
"""

from __future__ import annotations

from torch import nn

from ...registry import register_model
from .recurrent import CharacterModel, build_character_model


@register_model(task="write", paper="Cho et al. 2014, arXiv:1406.1078")
def gru(
    num_tokens: int, layers: int = 1, width: int = 256, embedding: int = 64, dropout: float = 0.1
) -> CharacterModel:
    """GRU: two gates and one state, three quarters of an LSTM's weights. Raises OptionError for impossible sizes."""
    return build_character_model(nn.GRU, num_tokens, layers, width, embedding, dropout)
