"""Encoder and decoder of Elman network layers, for series.

The layers: Elman 1990, doi:10.1207/s15516709cog1402_1; see sequence.py for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...registry import register_model
from .base import Forecaster, Shape
from .sequence import build_sequence_model


@register_model(task="forecast", paper="Elman 1990, doi:10.1207/s15516709cog1402_1")
def rnn_forecaster(shape: Mapping[str, int], layers: int = 1, width: int = 64, dropout: float = 0.1) -> Forecaster:
    """Elman network, sequence to sequence: one reads the window, one writes the forecast. Raises OptionError."""
    return build_sequence_model(nn.RNN, Shape.parse(shape), layers, width, dropout)
