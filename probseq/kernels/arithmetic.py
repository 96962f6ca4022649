"""The functions of a kit by name, for the passes: see `messages`, `scaled` and `exact` for what they do."""

from __future__ import annotations

import numpy as np

from probseq.kernels.jit import kernel
from probseq.kernels.kit import invoke


@kernel
def width_of(kit):
    """Padded number of states."""
    return kit[0]


@kernel
def message_size(kit):
    """Doubles that a message takes."""
    return kit[1]


@kernel
def matrix_tables(kit, log_transition):
    """(A, A'), of S * width messages each, from log_transition (S, K, K)."""
    moves, count, _ = log_transition.shape
    A = np.zeros(moves * kit[0] * kit[1])
    transposed = np.zeros(moves * kit[0] * kit[1])
    invoke(kit[2], (kit[0], log_transition, moves, count, A, transposed))
    return A, transposed


@kernel
def relative(kit, log_table, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of log_table (R * K,) from row first on, over the largest, whose logarithm is in tops."""
    invoke(kit[3], (kit[0], log_table, count, first, n, likelihoods, tops))


@kernel
def start_message(kit, log_law, row, source, carry):
    """Write the first message to carry; return the logarithm it was divided by."""
    return invoke(kit[4], (kit[0], log_law, log_law.size, row, source, carry))


@kernel
def advance(kit, count, direction, begin, matrices, block, carry):
    """Messages of one direction over a block."""
    return invoke(kit[5], (kit[0], count, direction, begin, matrices) + block + (carry,))


@kernel
def sweep(kit, direction, begin, matrices, block, carry, weight, counts, last, next_begin, next_block, next_carry):
    """Join a running message with the stored ones of a block, and compute the stored ones of the next block."""
    own = (kit[0], direction, begin) + matrices + block + (carry, weight) + counts + (last,)
    invoke(kit[6], own + (next_begin,) + next_block + (next_carry,))


@kernel
def plain(kit, stored, at, out):
    """Write a message to out (width,), as proportions; return their sum."""
    return invoke(kit[7], (kit[0], stored, at, out))


@kernel
def weigh(kit, stored, at, transposed, column, out):
    """Write message(k) A(k, j) to out (width,); return their sum."""
    return invoke(kit[8], (kit[0], stored, at, transposed, column, out))


@kernel
def unit(kit, count, carry):
    """Write the prediction from which the backward pass sets out to carry."""
    invoke(kit[9], (kit[0], count, carry))


@kernel
def finish(kit, matrices, in_order, xi, transition):
    """Add xi, as `sweep` left it, to transition (S, K, K)."""
    moves, count, _ = transition.shape
    invoke(kit[10], (kit[0], matrices[0], moves, count, in_order, xi, transition))


@kernel
def combine(kit, weights, table, count, first, n, out):
    """Log-likelihoods (n * K,) of n steps from `first` on, the rows of table (R * K,) combined by weights (T, R)."""
    invoke(kit[11], (kit[0], weights, weights.shape[1], table, count, first, n, out))


@kernel
def gather(kit, weights, first, n, gammas, count, sums):
    """Add what n steps from `first` on, with gammas (n * K,), count for each row to sums (R * K,)."""
    invoke(kit[12], (kit[0], weights, weights.shape[1], first, n, gammas, count, sums))
