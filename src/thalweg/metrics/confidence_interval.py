"""Confidence interval of a proportion: the score interval (Wilson, 1927; doi:10.1080/01621459.1927.10502953)."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Compute the proportions that `successes` of `trials` do not contradict at confidence `level`.

    Unlike the textbook mean plus or minus two standard deviations, it stays inside [0, 1] and is right near 0 and 1,
    where good classifiers are.

    Args:
        successes: how many trials succeeded.
        trials: how many trials there were.
        level: probability that such intervals contain the true proportion.

    Returns:
        (low, high) in [0, 1]; (0.0, 1.0) without trials.
    """
    if trials == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    fraction = successes / trials
    failures = trials - successes
    center = (successes + z2 / 2) / (trials + z2)
    half_width = math.sqrt(z2 * (fraction * failures + z2 / 4)) / (trials + z2)
    # there the ends are exactly 0 and 1, which rounding would miss
    low = 0.0 if successes == 0 else center - half_width
    high = 1.0 if failures == 0 else center + half_width
    return low, high
