"""Intervals that respect the range of a parameter: made on the log odds, the logarithm or the number itself.

With g the scale and s the standard error, the interval is g^-1(g(x) -+ z s g'(x)): log((x - low) / (high - x)) where
both ends are bounded, log(x - low) or -log(high - x) where one is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from probseq.families.coordinates import is_simplex


@dataclass(frozen=True, eq=False)
class Range:
    """The open range of each of E numbers.

    Args:
        low: (E,), -inf where unbounded.
        high: (E,), inf where unbounded.
    """

    low: Tensor
    high: Tensor

    def scaled(self, x: Tensor) -> Tensor:
        """(E,) g(x), from -inf to inf; differentiable inside the range."""
        below, above = torch.isfinite(self.low), torch.isfinite(self.high)
        up = torch.where(below, (x - self.low.nan_to_num(neginf=0.0)), 1.0).log()
        down = torch.where(above, (self.high.nan_to_num(posinf=0.0) - x), 1.0).log()
        return torch.where(below | above, up - down, x)

    def natural(self, g: Tensor) -> Tensor:
        """(E,) the number whose scaled value is g."""
        below, above = torch.isfinite(self.low), torch.isfinite(self.high)
        low, high = self.low.nan_to_num(neginf=0.0), self.high.nan_to_num(posinf=0.0)
        both = low + (high - low) * g.sigmoid()
        one = torch.where(below, low + g.exp(), high - (-g).exp())
        return torch.where(below & above, both, torch.where(below | above, one, g))

    def slope(self, x: Tensor) -> Tensor:
        """(E,) g'(x)."""
        below, above = torch.isfinite(self.low), torch.isfinite(self.high)
        up = torch.where(below, 1.0 / (x - self.low), 0.0)
        down = torch.where(above, 1.0 / (self.high - x), 0.0)
        return torch.where(below | above, up + down, 1.0)

    def interval(self, x: Tensor, error: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """(E,) lower and upper end of the Wald interval on the scale g, back on the range; NaN where x is NaN."""
        reach = normal_quantile(level) * error * self.slope(x)
        middle = self.scaled(x)
        return self.natural(middle - reach), self.natural(middle + reach)

    def at(self, number: int) -> Range:
        """The range of one of them, (1,)."""
        return Range(self.low[number : number + 1], self.high[number : number + 1])

    @staticmethod
    def of(constraint: Constraint | None, shape: tuple[int, ...]) -> Range:
        """The range of each entry of a parameter of this shape, (E,), under its constraint; None is the whole line.

        >>> two, one = torch.tensor([2.0]).double(), torch.tensor([1.0]).double()
        >>> [end.item() for end in Range.of(constraints.positive, (1,)).interval(two, one, 0.95)]
        [0.750..., 5.328...]
        """
        low, high = torch.full(shape, -math.inf, dtype=torch.float64), torch.full(shape, math.inf, dtype=torch.float64)
        inner: Any = constraint
        while hasattr(inner, "base_constraint"):
            inner = inner.base_constraint
        if inner is not None and is_simplex(inner):
            low, high = torch.zeros_like(low), torch.ones_like(high)
        elif inner is constraints.lower_cholesky:
            diagonal = torch.eye(shape[-1], dtype=torch.bool)
            low = torch.where(diagonal, 0.0, low)
        else:
            low = torch.zeros_like(low) + getattr(inner, "lower_bound", -math.inf)
            high = torch.zeros_like(high) + getattr(inner, "upper_bound", math.inf)
        return Range(low.reshape(-1), high.reshape(-1))

    @staticmethod
    def joined(parts: list[Range]) -> Range:
        """The ranges of several parameters, one after the other."""
        none = torch.zeros(0, dtype=torch.float64)
        return Range(torch.cat([none, *(part.low for part in parts)]), torch.cat([none, *(p.high for p in parts)]))


def normal_quantile(level: float) -> float:
    """z of a central interval of a normal law: 1.96 for 0.95."""
    return float(torch.special.ndtri(torch.tensor(0.5 + 0.5 * level, dtype=torch.float64)))
