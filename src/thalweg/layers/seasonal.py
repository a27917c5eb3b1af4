"""What a window of a series says without any training: its seasonal pattern, and how much it varies around it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# B windows, L rows that are known, H rows to forecast, C columns

#: smallest spread, in units of the training rows' standard deviation
MIN_SPREAD = 0.02


def usable_season(lookback: int, season: int) -> int:
    """Return the season, or 1 where a window is shorter than it."""
    return season if 1 <= season <= lookback else 1


def repeat_season(pattern_BSC: Float[Tensor, "B S C"], horizon: int) -> Float[Tensor, "B H C"]:
    """Repeat a pattern of one season for `horizon` rows."""
    repeats = -(-horizon // pattern_BSC.shape[1])
    return pattern_BSC.repeat(1, repeats, 1)[:, :horizon]


def seasonal_naive(history_BLC: Float[Tensor, "B L C"], season: int, horizon: int) -> Float[Tensor, "B H C"]:
    """Forecast the last season again; the last value where the window is shorter than a season."""
    season = usable_season(history_BLC.shape[1], season)
    return repeat_season(history_BLC[:, -season:], horizon)


def seasonal_mean(
    history_BLC: Float[Tensor, "B L C"], season: int, horizon: int, max_seasons: int | None = None
) -> Float[Tensor, "B H C"]:
    """Forecast the mean of the last seasons, step by step.

    Args:
        history_BLC: The known rows.
        season: Rows of a season.
        horizon: Rows to forecast.
        max_seasons: Take at most this many seasons; None: all that are whole.

    Returns:
        The forecast.
    """
    season = usable_season(history_BLC.shape[1], season)
    count = history_BLC.shape[1] // season
    if max_seasons is not None:
        count = min(count, max_seasons)
    recent_BLC = history_BLC[:, -count * season :]
    pattern_BSC = recent_BLC.unflatten(1, (count, season)).mean(1)
    return repeat_season(pattern_BSC, horizon)


def measure_spread(history_BLC: Float[Tensor, "B L C"], season: int) -> Float[Tensor, "B C"]:
    """Return the standard deviation of a window around its seasonal mean, at least `MIN_SPREAD`.

    Around its mean, where the window has fewer than two whole seasons.
    """
    season = usable_season(history_BLC.shape[1] // 2, season)
    count = history_BLC.shape[1] // season
    recent_BNSC = history_BLC[:, -count * season :].unflatten(1, (count, season))
    rest_BNSC = recent_BNSC - recent_BNSC.mean(1, keepdim=True)
    return rest_BNSC.square().mean((1, 2)).sqrt().clamp_min(MIN_SPREAD)


def drift(history_BLC: Float[Tensor, "B L C"], horizon: int) -> Float[Tensor, "B H C"]:
    """Forecast the straight line from the first known value through the last."""
    lookback = history_BLC.shape[1]
    slope_BC = (history_BLC[:, -1] - history_BLC[:, 0]) / max(1, lookback - 1)
    steps_H = torch.arange(1, horizon + 1, dtype=history_BLC.dtype, device=history_BLC.device)
    return history_BLC[:, -1:] + slope_BC[:, None] * steps_H[:, None]
