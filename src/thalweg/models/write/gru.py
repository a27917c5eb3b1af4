"""Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), as a character model.

Differs from the paper: the reset gate is applied after the recurrent matrix, as in cuDNN and torch, not before it; two
biases per gate; dropout before, between and after the layers.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...registry import register_model
from .recurrent import CharacterModel, CharacterSettings, build_character_model, take_settings


@register_model(task="write", paper="Cho et al. 2014, arXiv:1406.1078")
@take_settings(CharacterSettings)
def gru(num_tokens: int, **settings: Any) -> CharacterModel:
    """GRU: two gates and one state, three quarters of an LSTM's weights. Raises OptionError for impossible sizes."""
    return build_character_model(nn.GRU, num_tokens, CharacterSettings(**settings))
