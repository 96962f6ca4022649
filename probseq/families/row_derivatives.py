"""Value, gradient and exact Hessian of a sum over rows in which each row has a few linear predictors of its own.

    l(u) = sum_r w_r log f(y_r; eta_r),   eta_rc = x_rc . u_c for each channel c

so that dl/du_c = X_c' g_c and d2l/du_c du_d = X_c' diag(h_cd) X_d, with g and h the derivatives of each row's term in
its own predictors: automatic differentiation gives them for all rows at once, in one pass for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probseq.families.numerical import Derivatives


@dataclass(frozen=True, eq=False)
class Block:
    """The predictors of one parameter of the law of a row.

    Attributes:
        name: of the parameter.
        link: from predictors to values.
        shape: of the predictors of one row: () for one number.
        design: (R, P) what the coefficients are multiplied with; a column of ones for a constant.
    """

    name: str
    link: Any
    shape: tuple[int, ...]
    design: Tensor

    @property
    def channels(self) -> int:
        """How many predictors a row has for it."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """How many coefficients there are: (*shape, P), flat."""
        return self.channels * self.design.shape[1]

    def values(self, channels: Sequence[Tensor]) -> Tensor:
        """(R, K, *shape of the parameter) from its predictors, each (R, K)."""
        return self.link(torch.stack(list(channels), -1).reshape(*channels[0].shape, *self.shape))


def row_derivatives(
    table: Callable[[Mapping[str, Tensor]], Tensor], blocks: Sequence[Block], weights: Tensor
) -> Derivatives:
    """The derivatives of sum_r weights[r, k] table[r, k] in the coefficients u (K, W), the blocks' one after another.

    Args:
        table: (R, K) log-likelihoods from parameters by name, (R, K, *shape); row r, k depends on entry r, k alone.
        blocks: the parameters in the order of u.
        weights: (R, K) >= 0; what has none may be -inf.
    """
    designs = [block.design for block in blocks for _ in range(block.channels)]
    counts = [block.channels for block in blocks]
    products = {
        (id(first), id(second)): (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1)
        for first in designs
        for second in designs
    }

    def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = u.detach().split([design.shape[1] for design in designs], -1)
        with torch.enable_grad():
            eta = [(design @ part.T).requires_grad_() for design, part in zip(designs, parts, strict=True)]
            pieces = _grouped(eta, counts)
            scored = table({block.name: block.values(piece) for block, piece in zip(blocks, pieces, strict=True)})
            scored = torch.where(weights > 0, weights * scored, 0.0)
            first = torch.autograd.grad(scored.sum(), eta, create_graph=True)
            second = [_second(slope, eta[:place]) for place, slope in enumerate(first, start=1)]
        gradient = torch.cat([(design.T @ slope).T for design, slope in zip(designs, first, strict=True)], -1)
        hessian: list[list[Tensor]] = [[] for _ in designs]
        for place, (design, slopes) in enumerate(zip(designs, second, strict=True)):
            for before, slope in enumerate(slopes):  # symmetric: what lies beyond the diagonal follows
                other = designs[before]
                block = (slope.T @ products[id(design), id(other)]).reshape(-1, design.shape[1], other.shape[1])
                hessian[place].append(block)
                if before < place:
                    hessian[before].append(block.mT)
        return scored.sum(0).detach(), gradient.detach(), torch.cat([torch.cat(row, -1) for row in hessian], -2)

    return derivatives


def by_one_pass(objective: Callable[[Tensor], Tensor]) -> Derivatives:
    """The derivatives of (K,) sums of functions of one coordinate of u (K, W) each: the Hessian is diagonal."""

    def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            value = objective(u)
            (gradient,) = torch.autograd.grad(value.sum(), u, create_graph=True)
            (curvature,) = torch.autograd.grad(gradient.sum(), u)
        return value.detach(), gradient.detach(), torch.diag_embed(curvature)

    return derivatives


def _grouped(items: Sequence[Tensor], counts: Sequence[int]) -> list[Sequence[Tensor]]:
    """The items in consecutive groups of the sizes given."""
    result, at = [], 0
    for count in counts:
        result.append(items[at : at + count])
        at += count
    return result


def _second(slope: Tensor, eta: Sequence[Tensor]) -> list[Tensor]:
    """(R, K) derivatives of one channel's slopes in each of these channels of the same row."""
    if not slope.requires_grad:  # linear in it
        return [torch.zeros_like(one) for one in eta]
    found = torch.autograd.grad(slope.sum(), list(eta), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(one) if each is None else each for one, each in zip(eta, found, strict=True)]
