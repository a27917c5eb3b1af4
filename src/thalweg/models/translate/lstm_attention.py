"""LSTM encoder and decoder with attention (Luong, Pham, Manning 2015, arXiv:1508.04025).

Differs from the paper: the encoder reads in both directions (arXiv:1409.0473); attention after the decoder's first of
two layers, over the whole sentence, without input feeding; see recurrent.py.
"""

from __future__ import annotations

from torch import nn

from ...registry import register_model
from .recurrent import RecurrentTranslator, build_recurrent_translator


@register_model(task="translate", paper="Luong, Pham, Manning 2015, arXiv:1508.04025")
def lstm_attention(
    num_tokens: int, num_targets: int, layers: int = 2, width: int = 256, embedding: int = 128, dropout: float = 0.2
) -> RecurrentTranslator:
    """LSTM that reads the source in both directions, and looks back at it for every word. Raises OptionError."""
    return build_recurrent_translator(
        nn.LSTM, num_tokens, num_targets, layers, width, embedding=embedding, dropout=dropout
    )
