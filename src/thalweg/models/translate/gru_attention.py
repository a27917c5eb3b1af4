"""GRU encoder and decoder with attention (Bahdanau, Cho, Bengio 2015, arXiv:1409.0473).

Differs from the paper: attention by a product, after the decoder's first layer (arXiv:1508.04025); two layers instead
of one; see recurrent.py.
"""

from __future__ import annotations

from torch import nn

from ...registry import register_model
from .recurrent import RecurrentTranslator, build_recurrent_translator


@register_model(task="translate", paper="Bahdanau, Cho, Bengio 2015, arXiv:1409.0473")
def gru_attention(
    num_tokens: int, num_targets: int, layers: int = 2, width: int = 256, embedding: int = 128, dropout: float = 0.2
) -> RecurrentTranslator:
    """GRU that reads the source in both directions, and looks back at it for every word. Raises OptionError."""
    return build_recurrent_translator(
        nn.GRU, num_tokens, num_targets, layers, width, embedding=embedding, dropout=dropout
    )
