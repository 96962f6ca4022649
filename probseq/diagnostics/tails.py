"""How much of a law lies below an observation, at it, and above it, in logarithms that rounding does not make infinite.

A residual five hundred standard deviations out is as finite as any other: where a cumulative probability leaves the
range of a double, the leading terms of the tail take its place,

    P(Y > y) = f(y) / h / (1 + h' / h^2) (1 + ...),   h = -d log f / dy,

(f integrated by parts; Mills' ratio for the normal law, exact for an exponential or a power), and for counts the sum of
a geometric tail, p(y + 1) / (1 - p(y + 2) / p(y + 1)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from probseq.families import ContextCategorical, Family

LOST = 1e-280
"""A cumulative probability below this is taken from the law's tail instead."""

BEFORE_ZERO = -1e-300
"""Just below zero, where a law with an extra zero has not reached it yet."""

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tails:
    """log P(Y < y), log P(Y = y) and log P(Y > y), in nats, all of one shape; P(Y = y) = 0 where Y is continuous."""

    less: Tensor
    equal: Tensor
    more: Tensor

    def mixed(self, log_weights: Tensor) -> Tails:
        """(...) of the mixture of laws (..., K) with these weights."""
        return Tails(*((log_weights + part).logsumexp(-1) for part in (self.less, self.equal, self.more)))

    def at(self, index: Tensor) -> Tails:
        """Rows (T, K) out of those (R, K) of a table."""
        return Tails(self.less[index], self.equal[index], self.more[index])

    def scaled(self, share: float) -> Tails:
        """All probabilities times a share."""
        return Tails(*(part + math.log(share) for part in (self.less, self.equal, self.more)))

    def plus(self, other: Tails) -> Tails:
        """The sums of the probabilities of two, so that a mixture of many laws need not hold them all."""
        pairs = ((self.less, other.less), (self.equal, other.equal), (self.more, other.more))
        return Tails(*(torch.logaddexp(one, two) for one, two in pairs))


def family_tails(family: Family, rows: Tensor, parameters: Mapping[str, Tensor]) -> Tails:
    """(R, K^f) under each state, of a univariate family.

    Args:
        family: with a cumulative distribution; symbols are in the order of their codes, angles in that from the point
            where the family cuts the circle open.
        rows: (R,) observations or (R, W) with their context, finite.
        parameters: of the family, state first.
    """
    if isinstance(family, ContextCategorical):
        return _symbol_tails(family, rows, parameters)
    rows = rows.double()
    y = rows if rows.dim() == 1 else rows[:, 0]

    def beside(values: Tensor) -> Tensor:
        return values if rows.dim() == 1 else torch.cat([values.unsqueeze(1), rows[:, 1:]], 1)

    more = family.survival(rows, parameters).clamp(0.0, 1.0).log()
    if family.discrete:
        below = family.cdf(beside(y - 1), parameters).clamp(0.0, 1.0).log()
        equal = family.log_prob(rows, parameters)
    else:
        below = family.cdf(beside(torch.where(y == 0, BEFORE_ZERO, y)), parameters).clamp(0.0, 1.0).log()
        upto = family.cdf(rows, parameters).clamp(0.0, 1.0)
        equal = torch.where((y == 0).unsqueeze(-1), (upto - below.exp()).clamp_min(0.0).log(), -math.inf)

    def density(cell: Tensor) -> LogDensity:
        """The log density of single values under the state of each cell (M, 2)."""

        def at(values: Tensor) -> Tensor:
            own = values if rows.dim() == 1 else torch.cat([values.unsqueeze(1), rows[cell[:, 0], 1:]], 1)
            return family.log_prob(own, parameters)[torch.arange(len(cell)), cell[:, 1]]

        return at

    for part, sign in ((below, -1), (more, 1)):
        cell = (part < math.log(LOST)).nonzero()
        if len(cell):
            found = tail(density(cell), y[cell[:, 0]], sign, family.discrete)
            part[cell[:, 0], cell[:, 1]] = torch.where(found > -math.inf, found, part[cell[:, 0], cell[:, 1]])
    return Tails(below, equal, more)


def tail(log_density: LogDensity, y: Tensor, sign: int, discrete: bool) -> Tensor:
    """(M,) nats: log P(Y > y) where sign is 1, log P(Y < y) where it is -1, from the law's outermost terms.

    Args:
        log_density: of values (M,), each under its own law.
        y: (M,) far out.
        sign: which of the two.
        discrete: whether the laws are of whole numbers.
    """
    if discrete:
        first, second = log_density(y + sign), log_density(y + 2 * sign)
        ratio = torch.where(first > -math.inf, second - first, -math.inf)
        return torch.where(ratio < 0, first - torch.log1p(-ratio.clamp_max(-1e-12).exp()), first)
    here, step = log_density(y), torch.where(y == 0, 1e-12, 1e-4 * y.abs())
    for _ in range(5):  # until the density changes by a twentieth of a nat over a step
        ahead, behind = log_density(y + sign * step), log_density(y - sign * step)
        fall = (behind - ahead) / 2  # the hazard times a step
        step = torch.where(fall.isfinite(), step * (0.05 / fall.abs().clamp_min(1e-300)).clamp_max(1.0), step / 1e3)
    ahead, behind = log_density(y + sign * step), log_density(y - sign * step)
    fall, bend = (behind - ahead) / 2, 2 * here - ahead - behind
    good = (fall > 0) & fall.isfinite() & (bend > -fall.square() / 2)
    fall, bend = torch.where(good, fall, 1.0), torch.where(good, bend, 0.0)
    return torch.where(good, here + step.log() - fall.log() - torch.log1p(bend / fall.square()), -math.inf)


def _symbol_tails(family: ContextCategorical, rows: Tensor, parameters: Mapping[str, Tensor]) -> Tails:
    """By adding up the symbols, each in the context of its row."""
    rows, symbols = rows.double(), parameters["probabilities"].shape[-1]
    each = torch.stack([family.log_prob(_with(rows, code), parameters) for code in range(symbols)])
    codes = torch.arange(symbols).reshape(-1, 1, 1)
    at = rows[:, 0].reshape(1, -1, 1)
    masked = (torch.where(chosen, each, -math.inf) for chosen in (codes < at, codes == at, codes > at))
    return Tails(*(part.logsumexp(0) for part in masked))


def _with(rows: Tensor, code: int) -> Tensor:
    return torch.cat([torch.full_like(rows[:, :1], float(code)), rows[:, 1:]], 1)
