"""What the passes do with scaled messages besides the hot loops, for every K in one compilation.

These are compiled by `kit`, which also documents them by their types. A message is `width` doubles, a matrix `width` of
those, in arrays that begin at a pointer.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.scaled import TINY

FLOOR = 1e-260
"""Least positive entry of a first message, whose law may hold entries of any size: see rule (i) of `scaled`."""


def tables(width, log_transition, moves, count, A, transposed):
    """Fill A and A', (S * width * width,) of zeros, from log_transition (S * K * K,)."""
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                value = math.exp(log_transition[(s * count + i) * count + j])
                A[(s * width + i) * width + j] = transposed[(s * width + j) * width + i] = value
    return 0.0


def start(width, log_law, count, row, source, carry):
    """Write the first message, exp(log_law) b, to carry; return the logarithm it was divided by, NaN for `exact`.

    log_law (K,); b is source[row:].
    """
    size = 0.0
    for k in range(count):
        chance = math.exp(log_law[k])
        value = chance * source[row + k]
        if chance > 0.0 and source[row + k] > 0.0:
            value = max(value, FLOOR)
        carry[k] = value
        size += value
    if not TINY < size < np.inf:
        return math.nan
    for k in range(count):
        carry[k] /= size
    return math.log(size)


def plain(width, stored, at, out):
    """Write the message at stored[at:] to out (width,), as proportions; return their sum."""
    size = 0.0
    for k in range(width):
        out[k] = stored[at + k]
        size += out[k]
    return size


def weigh(width, stored, at, transposed, column, out):
    """Write message(k) A(k, j) to out (width,), where row j of A' starts at column; return their sum."""
    size = 0.0
    for k in range(width):
        out[k] = stored[at + k] * transposed[column + k]
        size += out[k]
    return size


def unit(width, count, carry):
    """Write the prediction from which the backward pass sets out, one for each of K states, to carry."""
    for k in range(width):
        carry[k] = 1.0 if k < count else 0.0
    return 0.0


def finish(width, A, moves, count, in_order, xi, transition):
    """Add xi, which lacks the factor A and is transposed unless in_order, to transition (S * K * K,)."""
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                at, across = (s * width + i) * width + j, (s * width + j) * width + i
                transition[(s * count + i) * count + j] += A[at] * (xi[at] if in_order else xi[across])
    return 0.0
