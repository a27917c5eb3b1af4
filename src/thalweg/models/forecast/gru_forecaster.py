"""Encoder and decoder of GRU layers, for series.

The layers: Cho et al. 2014, arXiv:1406.1078; see sequence.py for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...registry import register_model
from .base import Forecaster, Shape
from .sequence import build_sequence_model


@register_model(task="forecast", paper="Cho et al. 2014, arXiv:1406.1078")
def gru_forecaster(shape: Mapping[str, int], layers: int = 1, width: int = 64, dropout: float = 0.1) -> Forecaster:
    """GRU, sequence to sequence: one reads the window, one writes the forecast. Raises OptionError."""
    return build_sequence_model(nn.GRU, Shape.parse(shape), layers, width, dropout)
