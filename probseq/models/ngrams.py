"""The counts of n-grams, and the laws of the next symbol that they give: maximum likelihood and interpolated ones.

Every law here is an interpolation of orders, from the shortest context up,

    p_j(x | c) = own_j(c, x) + left_j(c) p_{j-1}(x | c without its oldest symbol),    p_{-1}(x) = 1 / M,

with own = 0 and left = 1 for a context that was never seen. With n(c, x) the counts, n(c) their sum and t(c) how many
different symbols followed c,

    posterior mean     own = n / (n(c) + a M),  left = a M / (n(c) + a M), at the full order alone (Dirichlet(a) rows)
    maximum likelihood own = n / n(c),          left = 0
    Witten-Bell        own = n / (n(c) + t(c)), left = t(c) / (n(c) + t(c))   (Witten & Bell 1991, method C)
    Kneser-Ney         own = (n - D)+ / n(c),   left = D t(c) / n(c)          (Kneser & Ney 1995; interpolated form of
                       Chen & Goodman 1999), where below the full order n counts the different symbols that came
                       before, and D = n_1 / (n_1 + 2 n_2) from how many grams were met once and twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from probseq.errors import ModelError

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NGrams:
    """How often each symbol followed each context; only what occurs is held.

    Args:
        symbols: M.
        order: k, symbols of a context.
        codes: (G,) ascending, context times M plus symbol (`probseq.kernels.ngrams`).
        counts: (G,) positive; whole numbers unless sequences are weighted.
    """

    symbols: int
    order: int
    codes: Codes
    counts: Floats

    @cached_property
    def contexts(self) -> Codes:
        """(C,) ascending: the contexts that occur."""
        return np.unique(self.codes // self.symbols)

    @cached_property
    def row(self) -> Codes:
        """(G,) the number within `contexts` of each gram's context."""
        return np.searchsorted(self.contexts, self.codes // self.symbols)

    @cached_property
    def totals(self) -> Floats:
        """(C,) n(c)."""
        return _sums(self.row, self.counts, len(self.contexts))

    @cached_property
    def followers(self) -> Floats:
        """(C,) t(c): how many different symbols followed each context."""
        return np.bincount(self.row, minlength=len(self.contexts)).astype(np.float64)

    def shorter(self, order: int) -> NGrams:
        """The same steps counted with shorter contexts."""
        codes, place = np.unique(self.codes % self.symbols ** (order + 1), return_inverse=True)
        return NGrams(self.symbols, order, codes, _sums(place, self.counts, len(codes)))

    def continuations(self) -> NGrams:
        """Grams of the next shorter order, each counted by how many different symbols came before it."""
        codes, counts = np.unique(self.codes % self.symbols**self.order, return_counts=True)
        return NGrams(self.symbols, self.order - 1, codes, counts.astype(np.float64))

    @property
    def log_likelihood(self) -> float:
        """Nats: sum n log(n / n(c)), the maximum over all transition matrices."""
        return float((self.counts * np.log(self.counts / self.totals[self.row])).sum())

    def log_evidence(self, concentration: float) -> float:
        """Nats: log p(data), the rows integrated out over independent symmetric Dirichlet priors."""
        total = concentration * self.symbols
        rows = gammaln(total) - gammaln(total + self.totals)
        cells = gammaln(concentration + self.counts) - gammaln(concentration)
        return float(rows.sum() + cells.sum())


@dataclass(frozen=True, eq=False)
class Level:
    """One order of an interpolated law.

    Args:
        grams: that occur at this order.
        own: (G,) what the order itself gives each gram.
        left: (C,) the share that each context leaves to the next shorter order.
    """

    grams: NGrams
    own: Floats
    left: Floats


class Smoothing(ABC):
    """How the law of the next symbol is estimated from counts."""

    @abstractmethod
    def levels(self, grams: NGrams, concentration: float) -> list[Level]:
        """The orders to interpolate, ascending; the last is the full order.

        Args:
            grams: at the full order.
            concentration: a, of the model's Dirichlet prior.
        """


@dataclass(frozen=True)
class PosteriorMean(Smoothing):
    """The mean of the Dirichlet posterior: a added to each count (Laplace's rule at a = 1, Krichevsky & Trofimov's
    at 1/2)."""

    def levels(self, grams: NGrams, concentration: float) -> list[Level]:
        pseudo = concentration * grams.symbols
        total = grams.totals + pseudo
        return [Level(grams, grams.counts / total[grams.row], pseudo / total)]


@dataclass(frozen=True)
class MaximumLikelihood(Smoothing):
    """Shares of the counts; a context never seen takes the law of its longest end that was."""

    def levels(self, grams: NGrams, concentration: float) -> list[Level]:
        return [
            Level(one, one.counts / one.totals[one.row], np.zeros(len(one.contexts)))
            for one in (grams.shorter(order) for order in range(grams.order + 1))
        ]


@dataclass(frozen=True)
class WittenBell(Smoothing):
    """Interpolation by how often something new followed a context (Witten & Bell 1991)."""

    def levels(self, grams: NGrams, concentration: float) -> list[Level]:
        levels = []
        for order in range(grams.order + 1):
            one = grams.shorter(order)
            total = one.totals + one.followers
            levels.append(Level(one, one.counts / total[one.row], one.followers / total))
        return levels


@dataclass(frozen=True)
class KneserNey(Smoothing):
    """Absolute discounting, with shorter orders that count the different symbols before (Kneser & Ney 1995).

    Args:
        discount: D of every order, in (0, 1); None estimates it for each, and takes 1/2 where no gram was met once.
    """

    discount: float | None = None

    def __post_init__(self) -> None:
        if self.discount is not None and not 0 < self.discount < 1:
            raise ModelError(f"discount must lie between 0 and 1, got {self.discount}; None estimates it.")

    def levels(self, grams: NGrams, concentration: float) -> list[Level]:
        levels = [self._level(grams)]
        while grams.order > 0:
            levels.append(self._level(grams.continuations()))
            grams = grams.shorter(grams.order - 1)
        return levels[::-1]

    def _level(self, grams: NGrams) -> Level:
        once, twice = float((grams.counts == 1).sum()), float((grams.counts == 2).sum())
        estimate = once / (once + 2.0 * twice) if once else 0.5
        discount = estimate if self.discount is None else self.discount
        taken = np.minimum(grams.counts, discount)  # a weighted gram may count less than the discount
        left = _sums(grams.row, taken, len(grams.contexts)) / grams.totals
        return Level(grams, (grams.counts - taken) / grams.totals[grams.row], left)


def probability(levels: list[Level], contexts: Codes, chosen: Codes) -> Floats:
    """p(chosen | context), elementwise under broadcasting.

    Args:
        levels: of one smoothing, ascending.
        contexts: (...) codes at the full order.
        chosen: (...) symbols.
    """
    symbols = levels[0].grams.symbols
    contexts, chosen = np.broadcast_arrays(contexts, chosen)
    result = np.full(contexts.shape, 1.0 / symbols)
    for level in levels:
        ends = contexts % symbols**level.grams.order
        left = _found(level.grams.contexts, level.left, ends, missing=1.0)
        result = _found(level.grams.codes, level.own, ends * symbols + chosen, missing=0.0) + left * result
    return result


def _sums(place: np.ndarray, weights: Floats, size: int) -> Floats:
    """(size,) the weights added up by place."""
    return np.bincount(place, weights=weights, minlength=size).astype(np.float64)


def _found(keys: Codes, values: Floats, wanted: Codes, missing: float) -> Floats:
    """values of the wanted keys, `missing` where there is no such key."""
    if len(keys) == 0:
        return np.full(wanted.shape, missing)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)
