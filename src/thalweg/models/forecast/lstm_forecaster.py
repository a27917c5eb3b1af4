"""Encoder and decoder of LSTM layers, for series.

The layers: Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; see sequence.py for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...registry import register_model
from .base import Forecaster, Shape
from .sequence import build_sequence_model


@register_model(task="forecast", paper="Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735")
def lstm_forecaster(shape: Mapping[str, int], layers: int = 1, width: int = 64, dropout: float = 0.1) -> Forecaster:
    """LSTM, sequence to sequence: one reads the window, one writes the forecast. Raises OptionError."""
    return build_sequence_model(nn.LSTM, Shape.parse(shape), layers, width, dropout)
