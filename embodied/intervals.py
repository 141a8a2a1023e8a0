"""How sure one may be of a success rate, and of a mean of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054  # the standard normal's 97.5 % quantile


def wilson_interval(successes: int, episodes: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate, 95 % unless z says otherwise.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209–212. Unlike the normal approximation it holds near 0 and 1, where
    success rates live. Raise ValueError unless 0 <= successes <= episodes and episodes >= 1.
    """
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"need 0 <= successes <= episodes and episodes >= 1, got {successes} of {episodes}")
    rate = successes / episodes
    scale = 1 + z**2 / episodes
    centre = (rate + z**2 / (2 * episodes)) / scale
    half = z * math.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2)) / scale
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == episodes else centre + half
    return low, high


def mean_interval(results: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
    """Return the mean of independent success rates, each (successes, episodes), and its 95 % interval: mean, low, high.

    The distances from each rate to the ends of its Wilson interval are added as squares. Source: R. G. Newcombe,
    "Interval estimation for the difference between independent proportions", Statistics in Medicine 17 (1998),
    873–890, method 10, and its extension to sums by G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008),
    1693–1702. It errs on the wide side where each rate is of few episodes. Raise ValueError for no results.
    """
    if not results:
        raise ValueError("a mean of no results")
    rates = [successes / episodes for successes, episodes in results]
    ends = [wilson_interval(*result) for result in results]
    below = math.hypot(*(rate - low for rate, (low, _) in zip(rates, ends, strict=True)))
    above = math.hypot(*(high - rate for rate, (_, high) in zip(rates, ends, strict=True)))
    mean = sum(rates) / len(rates)
    return mean, mean - below / len(rates), mean + above / len(rates)
