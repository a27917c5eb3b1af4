"""Long short-term memory (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735), as a character model.

With the forget gate of Gers, Schmidhuber and Cummins (2000, doi:10.1162/089976600300015015), without peepholes. The
stack of layers over characters is that of Karpathy, Johnson and Fei-Fei (2015, arXiv:1506.02078).

Differs from the papers: two biases per gate (torch's), of which one would do; the forget gate's begins at 1; dropout
also before the first and after the last layer.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...registry import register_model
from .recurrent import CharacterModel, CharacterSettings, build_character_model, take_settings


@register_model(task="write", paper="Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735")
@take_settings(CharacterSettings)
def lstm(num_tokens: int, **settings: Any) -> CharacterModel:
    """LSTM: gates keep what was read for hundreds of characters. Raises OptionError for impossible sizes."""
    return build_character_model(nn.LSTM, num_tokens, CharacterSettings(**settings))
