"""Whether the draws of a fit agree: R-hat, effective sample sizes and the modes of every parameter.

R-hat is the rank-normalised split R-hat, and the effective sample sizes are those of the bulk and the tails (Vehtari,
Gelman, Simpson, Carpenter and Buerkner 2021), by `arviz_stats`. R-hat cannot see chains that all jump between the same
modes, so modes are looked for too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from probseq.inference.fit import Fit
from probseq.inference.sampling import two_or_more

FEWEST = 4
"""Draws of half a chain below which neither R-hat nor an effective sample size is known."""

BINS = 256  # of the density in which modes are looked for
VALLEY = 0.5  # a valley is lower than this share of the lower peak
SMALLEST = 0.05  # of the draws, the smallest mode
CERTAIN = 3.0  # standard errors by which a valley must be lower than a peak


def convergence(fit: Fit) -> pd.DataFrame:
    """How well the draws of each number agree within and between chains.

    Args:
        fit: with draws; one chain where no sampler made them.

    Returns:
        One row for each number that is not the same in all draws, named as in `transition[0, 1]`, with columns
        `rhat` (of one chain alone, between its halves), `ess_bulk` and `ess_tail` (in draws), and `split`, whether the
        density of its draws has several modes.
    """
    chains = 1 if fit.sampling is None else fit.sampling.chains
    return convergence_of(fit.draws, chains)


def convergence_of(draws: Mapping[str, Tensor], chains: int) -> pd.DataFrame:
    """The same of draws (S, ...), one chain after the other."""
    from arviz_stats.base.array import array_stats

    names, numbers = numbers_by_name(draws)
    moving = np.flatnonzero(np.ptp(numbers, axis=0) > 0)
    numbers = numbers[:, moving]
    by_chain = numbers.reshape(chains, len(numbers) // chains, len(moving))
    known = by_chain.shape[1] >= 2 * FEWEST and len(moving) > 0
    unknown = np.full(len(moving), np.nan)
    axes: Any = {"chain_axis": 0, "draw_axis": 1}
    return pd.DataFrame(
        {
            "rhat": array_stats.rhat(two_or_more(by_chain), **axes) if known else unknown,
            "ess_bulk": array_stats.ess(by_chain, method="bulk", **axes) if known else unknown,
            "ess_tail": array_stats.ess(by_chain, method="tail", prob=(0.05, 0.95), **axes) if known else unknown,
            "split": np.array([is_split(column) for column in numbers.T], dtype=bool),
        },
        index=pd.Index([names[number] for number in moving], name="parameter"),
    )


def numbers_by_name(draws: Mapping[str, Tensor]) -> tuple[list[str], np.ndarray]:
    """The name of each number of all parameters, and their draws (S, numbers)."""
    names = [name for site, value in draws.items() for name in number_names(site, tuple(value.shape[1:]))]
    columns = [value.reshape(len(value), -1).numpy() for value in draws.values()]
    return names, np.concatenate(columns, 1) if columns else np.zeros((1, 0))


def number_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """The name of each number of a parameter, as ArviZ writes them.

    >>> number_names("transition", (2, 2))
    ['transition[0, 0]', 'transition[0, 1]', 'transition[1, 0]', 'transition[1, 1]']
    """
    return [name if not shape else f"{name}[{', '.join(map(str, place))}]" for place in np.ndindex(*shape)]


def is_split(values: np.ndarray) -> bool:
    """Whether the density of some draws has two modes or more, the small ones not counted.

    The density is that of a Gaussian kernel of Silverman's (1986) width, reflected at the ends. It is split by a valley
    lower than half the lower of the peaks beside it, by three standard errors, with 5% of the draws on each side.

    Args:
        values: (S,).

    >>> rng = np.random.default_rng(0)
    >>> is_split(rng.normal(size=1000)), is_split(np.r_[rng.normal(size=500), rng.normal(6.0, size=500)])
    (False, True)
    """
    from scipy.ndimage import gaussian_filter1d

    low, high = np.quantile(values, [0.005, 0.995])
    if not high > low:
        return False
    spread = min(values.std(), np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.34) or values.std()
    width = 0.9 * spread * len(values) ** -0.2
    counts, _ = np.histogram(values.clip(low, high), bins=BINS, range=(low, high))
    bins = max(1.0, width * BINS / (high - low))
    density = gaussian_filter1d(counts.astype(np.float64), bins, mode="reflect")
    below = density.cumsum() / density.sum()
    peaks = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
    window = 2.0 * np.sqrt(np.pi) * bins  # as many draws as are in it are what a height is known from
    sure = (peaks - density) * window > CERTAIN * np.sqrt((peaks + density) * window)
    valley = (density < VALLEY * peaks) & (below > SMALLEST) & (below < 1.0 - SMALLEST) & sure
    return bool(valley.any())
