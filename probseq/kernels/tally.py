"""Expected counts in two stages, so that rounding does not grow with the sequence.

A million numbers added to one sum lose up to six digits. Counts are therefore added up over some ten thousand steps, in
the padded layout of the loops, and then drained into the results.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.arithmetic import finish, width_of
from probseq.kernels.blocks import BLOCK
from probseq.kernels.jit import kernel

STEPS = 1 << 14

BY_STEP, BY_ROW, BY_WEIGHTS = 0, 1, 2
"""Emission counts: gamma of every step as it is, added to the row of the step, or to all rows by their weights."""


@kernel
def new_tally(kit, in_order, mode, transition, emission):
    """Empty counts for transition (S, K, K) and emission (R, K), or emission (T, K) written as it is BY_STEP.

    Returns (xi, mode, table), the first and the last as `scaled.sweep` takes them, and (in_order, transition, emission,
    sums (R * K,) of BY_WEIGHTS, steps since the last drain (1,)); in_order is as for `messages.finish`.
    """
    width = width_of(kit)
    rows, count = emission.shape
    own = np.zeros(rows * width if mode == BY_ROW else BLOCK * count)
    table = emission.reshape(-1) if mode == BY_STEP else own
    sums = np.zeros(rows * count if mode == BY_WEIGHTS else 0)
    xi = np.zeros(transition.shape[0] * width * width)
    return (xi, mode, table), (in_order, transition, emission, sums, np.zeros(1, np.int64))


@kernel
def drain(kit, matrices, tally, steps, last):
    """After so many more steps, move the counts to the results if it is time, or if these are the last."""
    (xi, mode, table), (in_order, transition, emission, sums, since) = tally
    since[0] += steps
    if last or since[0] >= max(STEPS, xi.size, table.size if mode == BY_ROW else sums.size):
        since[0] = 0
        finish(kit, matrices, in_order, xi, transition)
        for i in range(xi.size):
            xi[i] = 0.0
        if mode == BY_ROW:
            for row in range(emission.shape[0]):
                for k in range(emission.shape[1]):
                    emission[row, k] += table[row * width_of(kit) + k]
            for i in range(table.size):
                table[i] = 0.0
        if mode == BY_WEIGHTS:
            for row in range(emission.shape[0]):
                for k in range(emission.shape[1]):
                    emission[row, k] += sums[row * emission.shape[1] + k]
            for i in range(sums.size):
                sums[i] = 0.0


@kernel
def mode_of(indices, by_step):
    """How the emission counts of steps with these indices are to be added up."""
    if by_step:
        return BY_STEP
    if indices[4].size:
        return BY_WEIGHTS
    return BY_ROW if indices[1] else BY_STEP
