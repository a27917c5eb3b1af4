"""SegRNN (Lin, Lin, Wu, Zhao, Mo, Zhang 2023, arXiv:2308.11200), section 3 and Figure 2.

The window is cut into segments of a day instead of hours, so that a GRU takes a twentieth of the steps; all segments of
the future are decoded at once, from the last state and an embedding of their position and their column. The last
value is taken off the window and put back onto the forecast. All columns share the weights.

Differs from the paper: the window is also divided by its standard deviation (`revin`; Kim et al. 2022), and what is
left over at the beginning of a window that is no multiple of the segment is not read.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...layers.check_arguments import check_fractions, check_positive
from ...layers.revin import RevIN, WindowStatistics
from ...registry import register_model
from .base import Forecaster, Shape, build_forecaster

# N windows times columns, S segments of the window, M segments of the forecast, D width


class SegRNN(nn.Module):
    """(B, L, C) -> (B, H, C)."""

    def __init__(self, shape: Shape, segment: int, width: int, dropout: float, revin: bool):
        super().__init__()
        self.segment = segment
        self.horizon = shape.horizon
        self.past_segments = shape.lookback // segment
        self.coming_segments = -(-shape.horizon // segment)
        self.revin = RevIN(shape.columns) if revin else None
        self.embed = nn.Sequential(nn.Linear(segment, width), nn.ReLU())
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.position = nn.Parameter(torch.randn(self.coming_segments, width // 2))
        self.column = nn.Parameter(torch.randn(shape.columns, width - width // 2))
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, segment))

    def forward(self, history_BLC: Tensor) -> Tensor:
        """Return the forecast."""
        x_BLC = history_BLC
        statistics: WindowStatistics | None = None
        if self.revin is not None:
            x_BLC, statistics = self.revin.normalize(x_BLC)
        last_B1C = x_BLC[:, -1:].detach()
        recent_BLC = (x_BLC - last_B1C)[:, -self.past_segments * self.segment :]
        batch, _, columns = recent_BLC.shape
        segments_NSW = recent_BLC.transpose(1, 2).reshape(batch * columns, self.past_segments, self.segment)
        _, state_1ND = self.rnn(self.embed(segments_NSW))
        coming_1ND = state_1ND.repeat_interleave(self.coming_segments, 1)
        queries_NMD = self._queries(batch)
        _, decoded_1ND = self.rnn(queries_NMD.reshape(-1, 1, queries_NMD.shape[-1]), coming_1ND)
        change_BCH = self.output(decoded_1ND[0]).reshape(batch, columns, -1)[..., : self.horizon]
        y_BHC = change_BCH.transpose(1, 2) + last_B1C
        if self.revin is not None and statistics is not None:
            y_BHC = self.revin.denormalize(y_BHC, statistics)
        return y_BHC

    def _queries(self, batch: int) -> Tensor:
        """Return what is decoded: position and column of each coming segment (B * C, M, D)."""
        columns = len(self.column)
        position_CMD = self.position.expand(columns, -1, -1)
        column_CMD = self.column[:, None].expand(-1, self.coming_segments, -1)
        return torch.cat([position_CMD, column_CMD], -1).repeat(batch, 1, 1)


@register_model(task="forecast", paper="arXiv:2308.11200")
def segrnn(
    shape: Mapping[str, int], segment: int | None = None, width: int = 128, dropout: float = 0.1, revin: bool = True
) -> Forecaster:
    """A GRU over segments of the window, all of the future decoded at once.

    Args:
        shape: sizes of inputs and outputs.
        segment: rows of a segment; by default a season, where the window has two.
        width: width of the GRU; the paper has 512.
        dropout: fraction of values that is set to zero before the last layer in training.
        revin: divide the window by its standard deviation.

    Returns:
        The forecaster.

    Raises:
        OptionError: a size or dropout that is not possible.
    """
    sizes = Shape.parse(shape)
    if segment is None:
        segment = sizes.season if 1 < sizes.season <= sizes.lookback // 2 else max(1, sizes.lookback // 8)
    check_positive(segment=segment, width=width)
    check_fractions(dropout=dropout)
    segment = min(segment, sizes.lookback)
    return build_forecaster(SegRNN(sizes, segment, max(2, width), dropout, revin), sizes)
