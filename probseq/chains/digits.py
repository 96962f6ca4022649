"""One state within a code of several: of a chain within a tuple of chains, or the latest within a memory of states.

A code c = z_1 + K_1 (z_2 + K_2 (...)) holds the first state as its least significant digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Digit:
    """The place of a state within a code.

    Args:
        stride: product of the numbers of values of the less significant digits.
        size: K, the number of values of this one.

    >>> Digit(2, 3).of(torch.arange(6)).tolist()
    [0, 0, 1, 1, 2, 2]
    """

    stride: int
    size: int

    def of(self, codes: Tensor) -> Tensor:
        """The states, in the shape of the codes; a code of -1 gives -1."""
        states = torch.div(codes, self.stride, rounding_mode="floor") % self.size
        return torch.where(codes < 0, -1, states)

    def law(self, laws: Tensor) -> Tensor:
        """(..., K) the law of this digit out of laws (..., C) of the code."""
        return laws.unflatten(-1, (-1, self.size, self.stride)).sum((-3, -1))

    def moves(self, moves: Tensor) -> Tensor:
        """(..., K, K) counts of moves of this digit out of those (..., C, C) of the code."""
        parts = (-1, self.size, self.stride)
        return moves.unflatten(-1, parts).unflatten(-4, parts).sum((-6, -4, -3, -1))
