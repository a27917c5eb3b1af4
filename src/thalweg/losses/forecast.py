"""Losses of a forecaster: squared error of the mean, and the pinball loss of quantiles.

B windows, H steps, C columns, Q quantile levels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def squared_error(mean_BHC: Float[Tensor, "B H C"], target_BHC: Float[Tensor, "B H C"]) -> Float[Tensor, ""]:
    """Return the mean squared error; its minimum is the mean."""
    return (mean_BHC - target_BHC).square().mean()


def pinball(
    quantiles_BHCQ: Float[Tensor, "B H C Q"], target_BHC: Float[Tensor, "B H C"], levels_Q: Float[Tensor, " Q"]
) -> Float[Tensor, ""]:
    """Return the pinball loss (Koenker, Bassett 1978; doi:10.2307/1913643), the mean over all levels.

    An error y - q costs its level where it is positive, and one minus the level where it is negative, so that the
    minimum of level 0.9 is a value that nine of ten targets stay below.
    """
    error_BHCQ = target_BHC[..., None] - quantiles_BHCQ
    return (levels_Q * error_BHCQ).maximum((levels_Q - 1) * error_BHCQ).mean()
