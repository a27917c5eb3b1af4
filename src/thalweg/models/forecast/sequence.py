"""Encoder and decoder (Sutskever, Vinyals, Le 2014, arXiv:1409.3215) for series: one reads the window, one writes on.

The encoder reads the window step by step, with all covariates; the decoder starts from its last state and is given what
is known in advance of each step: the calendar, and future covariates.

Differs from the paper: the decoder is not fed its own forecasts, so that errors do not add up over the horizon; what
the layers see are distances from the mean of the window, and what they forecast is the distance from the same step of
the last season.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...layers.check_arguments import check_fractions, check_positive
from ...layers.revin import RevIN
from ...layers.seasonal import seasonal_naive
from .base import Forecaster, Inputs, Shape, build_forecaster


class SequenceToSequence(nn.Module):
    """Inputs -> (B, H, C)."""

    def __init__(self, cell: Callable[..., nn.RNNBase], shape: Shape, layers: int, width: int, dropout: float):
        super().__init__()
        between = dropout if layers > 1 else 0.0
        ahead = shape.num_future + shape.num_calendar + shape.num_static + shape.columns
        self.season = shape.season
        self.lookback = shape.lookback
        self.horizon = shape.horizon
        self.revin = RevIN(shape.columns)
        self.encoder = cell(ahead + shape.num_past, width, layers, batch_first=True, dropout=between)
        self.decoder = cell(ahead, width, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, shape.columns)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the forecast."""
        x_BLC, statistics = self.revin.normalize(inputs.history_BLC)
        start_BHC = seasonal_naive(x_BLC, self.season, self.horizon)
        static_BTS = inputs.static_BS[:, None].expand(-1, inputs.future_BTF.shape[1], -1)
        known_BTA = torch.cat([inputs.future_BTF, inputs.calendar_BTK, static_BTS], -1)
        read_BLA = torch.cat([x_BLC, inputs.past_BLP, known_BTA[:, : self.lookback]], -1)
        _, state = self.encoder(read_BLA)
        features_BHD, _ = self.decoder(torch.cat([start_BHC, known_BTA[:, self.lookback :]], -1), state)
        y_BHC = start_BHC + self.output(self.dropout(features_BHD))
        return self.revin.denormalize(y_BHC, statistics)


def build_sequence_model(
    cell: Callable[..., nn.RNNBase], shape: Shape, layers: int, width: int, dropout: float
) -> Forecaster:
    """Build an encoder and a decoder with recurrent layers of one type.

    Args:
        cell: nn.RNN, nn.LSTM or nn.GRU.
        shape: The sizes.
        layers: Recurrent layers on top of each other.
        width: Neurons of each layer.
        dropout: Fraction of values that is set to zero between the layers and before the last one in training.

    Returns:
        The forecaster.

    Raises:
        OptionError: For sizes below 1 and a dropout outside 0 to 1.
    """
    check_positive(layers=layers, width=width)
    check_fractions(dropout=dropout)
    return build_forecaster(SequenceToSequence(cell, shape, layers, width, dropout), shape, reads_covariates=True)
