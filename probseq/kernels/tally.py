"""Expected counts in two stages, so that rounding does not grow with the sequence.

A million numbers added to one sum lose up to six digits. Counts are therefore added up over some ten thousand steps, in
the padded layout of the loops, and then drained into the results.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.arithmetic import finish, width_of
from probseq.kernels.jit import kernel

STEPS = 1 << 14


@kernel
def new_tally(kit, in_order, by_row, transition, emission):
    """Empty counts for transition (S, K, K) and emission (R, K), or emission (T, K) written as it is unless by_row.

    Returns (xi, by_row, table) as `scaled.sweep` takes them, and (in_order, transition, emission, steps since the last
    drain (1,)); in_order is as for `messages.finish`.
    """
    width = width_of(kit)
    table = np.zeros(emission.shape[0] * width) if by_row else emission.reshape(-1)
    xi = np.zeros(transition.shape[0] * width * width)
    return (xi, by_row, table), (in_order, transition, emission, np.zeros(1, np.int64))


@kernel
def drain(kit, matrices, tally, steps, last):
    """After so many more steps, move the counts to the results if it is time, or if these are the last."""
    (xi, by_row, table), (in_order, transition, emission, since) = tally
    since[0] += steps
    if last or since[0] >= max(STEPS, xi.size, table.size if by_row else 0):
        since[0] = 0
        finish(kit, matrices, in_order, xi, transition)
        for i in range(xi.size):
            xi[i] = 0.0
        if by_row:
            for row in range(emission.shape[0]):
                for k in range(emission.shape[1]):
                    emission[row, k] += table[row * width_of(kit) + k]
            for i in range(table.size):
                table[i] = 0.0
