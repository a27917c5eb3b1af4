"""The simple recurrent network (Elman 1990, doi:10.1207/s15516709cog1402_1), as a character model.

Differs from the paper: tanh in place of the logistic function; any number of layers; gradients flow back through a
whole piece of text, not through one step; dropout before, between and after the layers.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...registry import register_model
from .recurrent import CharacterModel, CharacterSettings, build_character_model, take_settings


@register_model(task="write", paper="Elman 1990, doi:10.1207/s15516709cog1402_1")
@take_settings(CharacterSettings)
def rnn(num_tokens: int, **settings: Any) -> CharacterModel:
    """Elman network: one tanh layer that reads its own last output. Raises OptionError for impossible sizes."""
    return build_character_model(nn.RNN, num_tokens, CharacterSettings(**settings))
