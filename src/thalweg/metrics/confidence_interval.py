"""How far a measured share can be trusted: the score interval (Wilson, 1927; doi:10.1080/01621459.1927.10502953)."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """(low, high) in [0, 1]: the shares that `successes` of `trials` do not contradict at confidence `level`.

    Unlike the textbook mean plus or minus two deviations it stays inside [0, 1] and is right for shares near 0 and 1,
    where good classifiers are. Of no trials nothing follows: (0.0, 1.0).
    """
    if trials == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share, failures = successes / trials, trials - successes
    centre = (successes + z2 / 2) / (trials + z2)
    half = math.sqrt(z2 * (share * failures + z2 / 4)) / (trials + z2)
    # the ends are exactly 0 and 1 there, which rounding would miss
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if failures == 0 else centre + half
    return low, high
