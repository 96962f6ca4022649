"""Are numbers uniform on [0, 1]? Their empirical distribution function inside bands that hold everywhere at once.

At a point z the number N(z) of values at or below it is Binomial(n, z) for uniform values. A band is made of pointwise
intervals, each leaving out `gamma` / 2 on either side; gamma is chosen so that the whole function stays inside with
the probability asked for (Säilynoja, Bürkner & Vehtari 2022, "Graphical test for discrete uniformity"). That
probability is exact, not simulated: N(z_1), N(z_2), ... is a Markov chain whose moves are binomial (their section 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln

POINTS = np.arange(1, 100) / 100.0
"""Where the distribution function is looked at."""


@dataclass(frozen=True, eq=False)
class EcdfBand:
    """Where the empirical distribution function of n uniform numbers lies, everywhere at once.

    Args:
        points: (P,) in (0, 1).
        lower, upper: (P,) shares of the numbers, both still inside.
        probability: that it is inside at all points.
    """

    points: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    probability: float


def ecdf(values: np.ndarray) -> np.ndarray:
    """(P,) the share of values at or below each of `POINTS`."""
    return np.searchsorted(np.sort(values), POINTS, side="right") / len(values)


@lru_cache(maxsize=64)
def ecdf_band(count: int, probability: float = 0.95) -> EcdfBand:
    """The simultaneous band of `count` uniform numbers.

    Args:
        count: n, how many numbers.
        probability: that the whole function is inside; at least this, as counts are integers.

    >>> band = ecdf_band(500)
    >>> float(band.lower[49]), float(band.upper[49])  # at one half
    (0.434, 0.566)
    """
    low, high = 0.0, 1.0 - probability  # between a band that is everything and the pointwise one
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _inside(count, *_limits(count, middle)) >= probability else (low, middle)
    lower, upper = _limits(count, low)
    return EcdfBand(POINTS, lower / count, upper / count, probability)


def ecdf_p_value(values: np.ndarray) -> float:
    """Chance that as many uniform numbers leave a narrower band than these do; small when they are not uniform.

    It is at most 0.05 exactly when the function leaves the 95% band.

    Args:
        values: (n,) in [0, 1].
    """
    count = len(values)
    below = np.rint(ecdf(values) * count)
    tails = np.minimum(bdtr(below, count, POINTS), _at_least(below, count))
    return float(np.clip(1.0 - _inside(count, *_limits(count, 2.0 * float(tails.min()))), 0.0, 1.0))


def _limits(count: int, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """(P,) smallest and largest counts at each point whose tails, with them, are both above gamma / 2."""
    numbers = np.arange(count + 1.0)[:, None]
    up = bdtr(numbers, count, POINTS) > 0.5 * gamma
    down = _at_least(numbers, count) > 0.5 * gamma
    return up.argmax(0), count - down[::-1].argmax(0)


def _at_least(below: np.ndarray, count: int) -> np.ndarray:
    """P(N(z) >= below) at each point."""
    return np.where(below > 0, 1.0 - bdtr(np.maximum(below - 1.0, 0.0), count, POINTS), 1.0)


def _inside(count: int, lower: np.ndarray, upper: np.ndarray) -> float:
    """Probability that lower <= N(z) <= upper at every point: the Markov chain of counts, cut to the band."""
    logs = gammaln(np.arange(count + 1.0) + 1.0)
    known, chance, before = np.zeros(1, dtype=np.int64), np.ones(1), 0.0
    for point, low, high in zip(POINTS, lower, upper, strict=True):
        share = (point - before) / (1.0 - before)  # of those above the last point
        reached = np.arange(low, high + 1)
        new, left = reached - known[:, None], count - known[:, None]
        log_pmf = logs[left] - logs[np.maximum(new, 0)] - logs[count - reached]
        log_pmf = log_pmf + new * np.log(share) + (count - reached) * np.log1p(-share)
        chance = chance @ np.where(new >= 0, np.exp(np.where(new >= 0, log_pmf, 0.0)), 0.0)
        known, before = reached, point
    return float(chance.sum())
