"""The simple recurrent network (Elman 1990, doi:10.1207/s15516709cog1402_1), as a character model.

Differs from the paper: tanh in place of the logistic function; any number of layers; gradients flow back through a
whole piece of text, not through one step; dropout before, between and after the layers.
"""

from __future__ import annotations

from torch import nn

from ...registry import register_model
from .recurrent import CharacterModel, build_character_model


@register_model(task="write", paper="Elman 1990, doi:10.1207/s15516709cog1402_1")
def rnn(
    num_tokens: int, layers: int = 1, width: int = 256, embedding: int = 64, dropout: float = 0.1
) -> CharacterModel:
    """Elman network: one tanh layer that reads its own last output. Raises OptionError for impossible sizes."""
    return build_character_model(nn.RNN, num_tokens, layers, width, embedding, dropout)
