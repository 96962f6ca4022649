"""Families whose log-likelihood is linear in a few statistics of the data: exponential families.

    log p(x | k) = sum_p statistics[x, p] natural[p, k]

(Barndorff-Nielsen 1978; Bishop 2006, section 2.4). For such a family the E-step needs the statistics and P K natural
parameters in place of a table, and the M-step P K expected sums in place of the weight of every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LinearForm:
    """The statistics of some rows.

    Attributes:
        statistics (R, P): float64; what each row multiplies the natural parameters with.
        origin: was taken off the values first, so that squares keep their digits.
    """

    statistics: np.ndarray
    origin: float

    def of_steps(self, index: np.ndarray | None, missing_row: int | None) -> LinearForm:
        """The statistics of every step from those of the rows; all zero, and so log-likelihood zero, where missing."""
        if index is None:
            return self
        statistics = self.statistics[index]
        if missing_row is not None:
            statistics[index == missing_row] = 0.0
        return LinearForm(statistics, self.origin)


Natural = Tensor | np.ndarray
"""(..., P, K) natural parameters: a tensor where gradients are wanted, else whichever is at hand."""
