"""Many independent Bernoulli columns at once: the table and the counts as products of matrices.

    log p(x) = sum_d x_d log p_d + (s_d - x_d) log(1 - p_d),   s_d = 1 where column d was seen

With X (R, D) and P (K, D) that is X log P' + (S - X) log(1 - P)'. Infinite logs are left out of the products and
counted beside them, so that chances of zero and one stay exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probseq.families.family import empty, real


def table(values: Tensor, probability: Tensor) -> Tensor:
    """(..., R, K): log p of rows (R, D), NaN where missing, for chances (..., K, D)."""
    ones, zeros, outside = _indicators(values)
    surely, never = probability.detach() >= 1, probability.detach() <= 0
    exact = bool((surely | never).any())
    inner = torch.where(surely | never, 0.5, probability) if exact else probability
    log_one, log_zero = inner.log(), torch.log1p(-inner)
    if exact:
        log_one, log_zero = log_one.masked_fill(surely | never, 0.0), log_zero.masked_fill(surely | never, 0.0)
    result = ones @ log_one.mT + zeros @ log_zero.mT
    if exact:
        clashes = ones @ never.to(ones.dtype).mT + zeros @ surely.to(ones.dtype).mT
        result = result.masked_fill(clashes > 0.5, -math.inf)
    return result if outside is None else result.masked_fill(outside.unsqueeze(-1), -math.inf)


def counts(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """(K, D): expected number of ones, and of ones and zeros, from each state."""
    ones, zeros, _ = _indicators(values)
    first = weights.mT @ ones
    return first, first + weights.mT @ zeros


def share(ones: Tensor, total: Tensor, current: Tensor) -> Tensor:
    """(K, D): ones / total; where nothing was seen, the current chance."""
    without = empty(total)
    return torch.where(without, current, (ones / torch.where(without, 1.0, total)).clamp(0, 1))


def _indicators(values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """(R, D) where there is a one, and a zero, as numbers; and rows that hold anything else (None: no row)."""
    values = real(values)
    ones, zeros = (values == 1).to(values.dtype), (values == 0).to(values.dtype)
    whole = ones.sum() + zeros.sum()
    if float(whole) == values.numel():
        return ones, zeros, None
    outside = ((ones + zeros == 0) & ~values.isnan()).any(-1)
    return ones, zeros, outside if bool(outside.any()) else None
