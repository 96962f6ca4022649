"""Log-likelihoods so low that sums of them lose digits, as of a state that has collapsed onto one value.

The exponents of `semi_markov_numbers` are exact up to 2**53. S_t(k), the likelihood of staying in state k since the
start, goes beyond where a state falls 10**15 nats behind at a step, and with it go the digits of what began in k later,
for which S is divided out again. No path that another one beats by so much counts for anything: such entries may as
well be raised to where all sums keep their digits, and a sequence that cannot do without them is told by its evidence.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.inputs import Floats, read_only

DIGITS = 2.0**51 * math.log(2.0)
"""Nats that a state may fall behind in a sequence: its exponents, and what is added to them, then are exact."""


def least_step(steps: int) -> float:
    """Nats that a state may fall behind at each of so many steps."""
    return DIGITS / max(steps, 1)


def within_digits(table: Floats, steps: int) -> Floats:
    """The table (B, R, K) with what lies further than `least_step` below the best of its row raised to there.

    Args:
        table: nats; -inf stays.
        steps: of the longest sequence.

    Returns:
        the table itself where no sum can lose digits.
    """
    lowest = table.min(initial=0.0)
    if lowest == -np.inf:
        lowest = table.min(initial=0.0, where=table > -np.inf)
    if lowest > -least_step(steps):
        return table
    best = table.max(-1, keepdims=True)
    floor = np.where(np.isneginf(best), 0.0, best) - least_step(steps)
    return read_only(np.where(np.isneginf(table), -np.inf, np.maximum(table, floor)))
