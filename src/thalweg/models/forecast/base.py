"""The common part of the forecasters: what they read, and quantiles around the mean that a network forecasts.

A forecaster is `head(features(inputs))`: `features` forecasts the mean (trained on squared errors), and `head` the
distances of the quantiles from it (trained on the pinball loss). Quantiles cannot cross: the distances are sums of
softplus terms. They are in units of how much the window varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.check_arguments import check_positive
from ...layers.seasonal import measure_spread, seasonal_mean

# B windows, L rows that are known (lookback), H rows to forecast (horizon), C target columns, Q quantile levels
# P covariates that are known up to now, F covariates that are known in advance, K calendar features, S static ones

#: levels of the quantiles: 0.5 is the middle, the outer ones bound the intervals of 80 and 95 %
LEVELS = (0.025, *(round(0.05 * index, 2) for index in range(1, 20)), 0.975)
MEDIAN = LEVELS.index(0.5)


class Inputs(NamedTuple):
    """What a forecaster reads, in units of the training rows; a tensor may have no columns."""

    history_BLC: Tensor
    past_BLP: Tensor
    future_BTF: Tensor  # T = L + H
    calendar_BTK: Tensor
    static_BS: Tensor


class Forecast(NamedTuple):
    """Mean and quantiles."""

    mean_BHC: Tensor
    quantiles_BHCQ: Tensor


class Point(NamedTuple):
    """What the head reads: the mean, and how much the window varies."""

    mean_BHC: Tensor
    spread_BC: Tensor


@dataclass(frozen=True)
class Shape:
    """The sizes of a forecaster's inputs and outputs."""

    lookback: int
    horizon: int
    columns: int
    season: int = 1
    num_past: int = 0
    num_future: int = 0
    num_calendar: int = 0
    num_static: int = 0

    @classmethod
    def parse(cls, sizes: Mapping[str, int]) -> Shape:
        """Return the shape of a builder's argument. Raises OptionError for a size that is not possible."""
        for name in sizes:
            if name not in cls.__dataclass_fields__:
                raise OptionError(
                    f"shape: '{name}' is unknown; expected {', '.join(cls.__dataclass_fields__)}.",
                    option="shape",
                    value=name,
                    allowed=list(cls.__dataclass_fields__),
                )
        return cls(**sizes)

    def __post_init__(self) -> None:
        check_positive(lookback=self.lookback, horizon=self.horizon, columns=self.columns, season=self.season)

    @property
    def num_covariates(self) -> int:
        """Columns of all covariates, those of the calendar aside."""
        return self.num_past + self.num_future + self.num_static


class CovariateTerm(nn.Module):
    """What covariates add to a forecast that was made without them: a linear function that begins as zero.

    Covariates known in advance count by how far they will be from their seasonal mean, past ones by how far the last
    value is from their mean.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.season = shape.season
        self.lookback = shape.lookback
        self.future = nn.Parameter(torch.zeros(shape.num_future, shape.columns))
        self.past = nn.Parameter(torch.zeros(shape.num_past, shape.horizon, shape.columns))
        self.static = nn.Parameter(torch.zeros(shape.num_static, shape.columns))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return what is to be added (B, H, C)."""
        known_BLF = inputs.future_BTF[:, : self.lookback]
        ahead_BHF = inputs.future_BTF[:, self.lookback :]
        usual_BHF = seasonal_mean(known_BLF, self.season, ahead_BHF.shape[1])
        last_BP = inputs.past_BLP[:, -1] - inputs.past_BLP.mean(1)
        term_BHC = (ahead_BHF - usual_BHF) @ self.future
        term_BHC = term_BHC + torch.einsum("bp,phc->bhc", last_BP, self.past)
        return term_BHC + (inputs.static_BS @ self.static)[:, None]


class PointForecaster(nn.Module):
    """Forecast the mean: a network on the history, and what covariates add to it."""

    def __init__(self, body: nn.Module, shape: Shape, reads_covariates: bool = False):
        super().__init__()
        self.body = body
        self.season = shape.season
        self.reads_covariates = reads_covariates
        self.term = None
        if shape.num_covariates and not reads_covariates:
            self.term = CovariateTerm(shape)

    def forward(self, inputs: Inputs) -> Point:
        """Return the mean (B, H, C) and the spread of the window (B, C)."""
        mean_BHC = self.body(inputs) if self.reads_covariates else self.body(inputs.history_BLC)
        if self.term is not None:
            mean_BHC = mean_BHC + self.term(inputs)
        return Point(mean_BHC, measure_spread(inputs.history_BLC, self.season))


class QuantileHead(nn.Module):
    """Quantiles around the mean; per step and column, and wider in windows that vary more.

    `calibration` moves every quantile to where the errors of a held-out split were (conformal prediction: Romano,
    Patterson, Candès 2019, arXiv:1905.03222; scaled by the window as in Lei et al. 2018, arXiv:1604.04173), and `power`
    says how strongly the spread of a window widens its intervals. Both are buffers, so they are saved with the weights;
    a validation measures them.
    """

    def __init__(self, horizon: int, columns: int):
        super().__init__()
        count = len(LEVELS)
        normal_Q = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        raw_Q = torch.log(torch.expm1(normal_Q.diff()))  # softplus gives the gaps of a normal distribution
        self.center = nn.Parameter(torch.zeros(horizon, columns))
        self.gaps = nn.Parameter(raw_Q.repeat(horizon, columns, 1))
        self.register_buffer("calibration", torch.zeros(horizon, columns, count))
        self.register_buffer("power", torch.ones(()))

    def unit(self, spread_BC: Tensor) -> Tensor:
        """Return the unit of the distances (B, 1, C)."""
        return (spread_BC ** self.get_buffer("power"))[:, None]

    def offsets(self) -> Tensor:
        """Return the learned distances of the quantiles from the mean (H, C, Q), in units, in rising order."""
        gaps_HCQ = F.softplus(self.gaps)
        below_HCQ = gaps_HCQ[..., :MEDIAN].flip(-1).cumsum(-1).flip(-1)
        above_HCQ = gaps_HCQ[..., MEDIAN:].cumsum(-1)
        middle_HC1 = torch.zeros_like(self.center)[..., None]
        return self.center[..., None] + torch.cat([-below_HCQ, middle_HC1, above_HCQ], -1)

    def forward(self, point: Point) -> Forecast:
        """Return mean and quantiles; no gradient flows from the quantiles into the mean."""
        offsets_HCQ = self.offsets() + self.get_buffer("calibration")
        offsets_HCQ = offsets_HCQ.cummax(-1).values  # the calibration of other weights could let them cross
        unit_BHC = self.unit(point.spread_BC)
        return Forecast(point.mean_BHC, point.mean_BHC.detach()[..., None] + unit_BHC[..., None] * offsets_HCQ)


class Forecaster(nn.Module):
    """Inputs -> mean and quantiles."""

    def __init__(self, features: PointForecaster, head: QuantileHead):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, inputs: Inputs) -> Forecast:
        """Return mean (B, H, C) and quantiles (B, H, C, Q)."""
        return self.head(self.features(inputs))


def build_forecaster(body: nn.Module, shape: Shape, reads_covariates: bool = False) -> Forecaster:
    """Build a forecaster around a network that forecasts the mean.

    Args:
        body: From (B, L, C) to (B, H, C); from Inputs where it `reads_covariates`.
        shape: The sizes.
        reads_covariates: Whether the network reads covariates itself; else a linear term is added for them.

    Returns:
        The forecaster.
    """
    return Forecaster(PointForecaster(body, shape, reads_covariates), QuantileHead(shape.horizon, shape.columns))


def make_inputs(batch: Mapping[str, Tensor]) -> Inputs:
    """Return the inputs in a batch."""
    return Inputs(batch["history"], batch["past"], batch["future"], batch["calendar"], batch["static"])
