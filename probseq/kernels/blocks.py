"""A draw's tables as the recursions want them, and a sequence cut into blocks of BLOCK steps.

A block keeps its likelihoods and messages in the processor's nearest memory, so memory does not grow with the sequence
but for one message a block. The first block of a sequence is the one that may be short.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.arithmetic import combine, matrix_tables, message_size, relative, width_of
from probseq.kernels.bits import row_at
from probseq.kernels.jit import kernel

BLOCK = 256


@kernel
def prepare_draw(kit, log_transition, log_table, indices):
    """The tables of one draw, from log_transition (S, K, K) and log_table (R, K).

    Returns:
        matrices: (A, A')
        emissions: (log_table (R * K,), likelihoods (R messages), tops (R,)), the last two empty without an index
        indices: passed on
        count: K
        even: (K,) zeros, the logarithm of the law from which the backward pass sets out
    """
    count = log_table.shape[1]
    rows = log_table.shape[0] if indices[1] else 0
    flat, likelihoods, tops = log_table.ravel(), np.zeros(rows * message_size(kit) + 8), np.empty(rows)
    relative(kit, flat, count, 0, rows, likelihoods, tops)
    return matrix_tables(kit, log_transition), (flat, likelihoods, tops), indices, count, np.zeros(count)


@kernel
def new_block(size, draw):
    """Room for a block of messages of this size: as `scaled.advance` takes it, and tops."""
    source = draw[1][1] if draw[2][1] else np.zeros(BLOCK * size + 8)
    rows, moves = np.empty(BLOCK, np.int64), np.zeros(BLOCK + 1, np.int64)
    for s in range(BLOCK):
        rows[s] = s * size
    stored, room = np.empty(BLOCK * size), np.empty((2 * BLOCK + 2) * size)
    return (0, source, rows, moves, stored, np.empty(BLOCK), room), np.empty(BLOCK)


@kernel
def load_block(kit, draw, first, n, block, tops):
    """Fill a block with steps first .. first + n - 1, and tops with the largest log-likelihood of each; the block."""
    _, source, rows, moves, stored, scales, room = block
    _, (flat, _, table_tops), indices, count, _ = draw
    if indices[4].size:
        combine(kit, indices[4], flat, count, first, n, room)
        relative(kit, room, count, 0, n, source, tops)
    elif indices[1] == 0:
        relative(kit, flat, count, first, n, source, tops)
    load_indices(message_size(kit), width_of(kit), indices, first, n, rows, moves, table_tops, tops)
    return n, source, rows, moves, stored, scales, room


@kernel
def summed(values, n):
    """Sum of the first n values, four at a time: additions that do not wait for each other."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a, b, c, d = a + values[i], b + values[i + 1], c + values[i + 2], d + values[i + 3]
    for i in range(whole, n):
        a += values[i]
    return (a + b) + (c + d)


@kernel
def load_indices(size, width, indices, first, n, rows, moves, table_tops, tops):
    """Where the likelihoods of each step, and the matrix of the move into it, start; without an index, as they were."""
    e_raw, e_width, t_raw, t_width, _ = indices
    if e_width == 1:
        for s in range(n):
            row = np.int64(e_raw[first + s])
            rows[s], tops[s] = row * size, table_tops[row]
    elif e_width:
        for s in range(n):
            row = row_at(e_raw, e_width, first + s)
            rows[s], tops[s] = row * size, table_tops[row]
    if t_width:
        for s in range(0 if first else 1, n + 1):
            moves[s] = row_at(t_raw, t_width, first + s - 1) * size * width


@kernel
def block_range(start, end, k):
    """First step and number of steps of block k of a sequence."""
    short = end - start - (count_blocks(start, end) - 1) * BLOCK
    return (start, short) if k == 0 else (start + short + (k - 1) * BLOCK, BLOCK)


@kernel
def count_blocks(start, end):
    """Blocks of a sequence."""
    return (end - start + BLOCK - 1) // BLOCK
