"""Steps whose log-likelihoods are weighted sums of the rows of a table, and expected counts brought back to those rows.

    log b_t(k) = sum_r weights[t, r] table[r, k],      counts[r, k] = sum_t weights[t, r] gamma_t(k)

An exponential family is of this form: the rows are its natural parameters, the weights its sufficient statistics, and
the counts all that an M-step needs to know (Dempster, Laird & Rubin 1977). An index of rows is the case of weights that
are zero but for a single one. Each function does a block of steps, in memory that the block's other work keeps near.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.jit import kernel
from probseq.kernels.lanes import load_row, spread, store_row


@kernel
def combine_narrow(shape, weights, rows, table, count, first, n, out):
    """Write weights (T, R) times table (R * K,), for n steps from `first` on, to out (n * K,); K fits the registers."""
    for s in range(n):
        at = (first + s) * rows
        sum_ = spread(0.0, shape)
        for r in range(rows):
            sum_ = sum_ + load_row(table, r * count, count, 0.0, shape) * weights[at + r]
        store_row(out, s * count, count, sum_)


@kernel
def combine_wide(shape, weights, rows, table, count, first, n, out):
    """As `combine_narrow`, for any K."""
    for s in range(n):
        at = (first + s) * rows
        for k in range(count):
            out[s * count + k] = 0.0
        for r in range(rows):
            weight = weights[at + r]
            for k in range(count):
                out[s * count + k] += weight * table[r * count + k]


@kernel
def gather_narrow(shape, weights, rows, first, n, gammas, count, sums):
    """Add the transposed weights of n steps from `first` on times gammas (n * K,) to sums (R * K,).

    Four sums for each row, so that additions do not wait for each other.
    """
    whole = n - n % 4
    for r in range(rows):
        a, b = spread(0.0, shape), spread(0.0, shape)
        c, d = spread(0.0, shape), spread(0.0, shape)
        at = first * rows + r
        for s in range(0, whole, 4):
            a = a + load_row(gammas, s * count, count, 0.0, shape) * weights[at + s * rows]
            b = b + load_row(gammas, (s + 1) * count, count, 0.0, shape) * weights[at + (s + 1) * rows]
            c = c + load_row(gammas, (s + 2) * count, count, 0.0, shape) * weights[at + (s + 2) * rows]
            d = d + load_row(gammas, (s + 3) * count, count, 0.0, shape) * weights[at + (s + 3) * rows]
        for s in range(whole, n):
            a = a + load_row(gammas, s * count, count, 0.0, shape) * weights[at + s * rows]
        store_row(sums, r * count, count, load_row(sums, r * count, count, 0.0, shape) + ((a + b) + (c + d)))


@kernel
def gather_wide(shape, weights, rows, first, n, gammas, count, sums):
    """As `gather_narrow`, for any K."""
    for s in range(n):
        at = (first + s) * rows
        for r in range(rows):
            weight = weights[at + r]
            for k in range(count):
                sums[r * count + k] += weight * gammas[s * count + k]


def combine(width, weights, rows, table, count, first, n, out):
    """`combine_wide` for a kit of every width."""
    combine_wide((width,), weights, rows, table, count, first, n, out)
    return np.float64(0.0)


def gather(width, weights, rows, first, n, gammas, count, sums):
    """`gather_wide` for a kit of every width."""
    gather_wide((width,), weights, rows, first, n, gammas, count, sums)
    return np.float64(0.0)
