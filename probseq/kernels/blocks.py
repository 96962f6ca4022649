"""A draw's tables as the scaled recursions want them, and a sequence cut into blocks of BLOCK steps.

A block keeps its likelihoods and messages in the processor's nearest memory, so memory does not grow with the sequence
but for one message a block. The first block of a sequence is the one that may be short.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import exponential, load, load_row, peak, spread, store

BLOCK = 256
EIGHT = (0,) * 8


@kernel
def prepare_draw(shape, log_transition, log_table, indices):
    """The tables of one draw, from log_transition (S, K, K) and log_table (R, K).

    Returns:
        matrices: (A, A'), each (S * width * width,), padded with zeros
        emissions: (log_table (R * K,), likelihoods (R * width,), tops (R,)), the last two empty without an index
        indices: passed on
        count: K
    """
    width, count = len(shape), log_table.shape[1]
    rows = log_table.shape[0] if indices[1] else 0
    flat, likelihoods, tops = log_table.ravel(), np.zeros(rows * width + 8), np.empty(rows)
    relative(shape, flat, count, 0, rows, likelihoods, tops)
    return prepare_matrices(width, log_transition), (flat, likelihoods, tops), indices, count


@kernel
def prepare_matrices(width, log_transition):
    """(A, A'), each (S * width * width,), from log_transition (S, K, K)."""
    moves, count, _ = log_transition.shape
    A, transposed = np.zeros(moves * width * width), np.zeros(moves * width * width)
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                value = math.exp(log_transition[s, i, j])
                A[(s * width + i) * width + j] = transposed[(s * width + j) * width + i] = value
    return A, transposed


@kernel
def relative(shape, flat, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of the log table from row first on, relative to the largest, whose logarithm is in tops."""
    width = len(shape)
    for s in range(n):
        row = load_row(flat, (first + s) * count, count, -np.inf, shape)
        top = peak(row)
        tops[s] = top
        store(likelihoods, s * width, row - spread(top if top > -np.inf else 0.0, shape))
    for i in range(0, n * width, 8):
        store(likelihoods, i, exponential(load(likelihoods, i, EIGHT)))


@kernel
def new_block(width, draw):
    """Room for one block: (n, source, rows, moves, stored), as `scaled.advance` takes it, and tops (BLOCK,)."""
    dense = draw[2][1] == 0
    source = np.zeros(BLOCK * width + 8) if dense else draw[1][1]
    rows, moves = np.empty(BLOCK, np.int64), np.zeros(BLOCK + 1, np.int64)
    for s in range(BLOCK):
        rows[s] = s * width
    return (0, source, rows, moves, np.empty(BLOCK * width)), np.empty(BLOCK)


@kernel
def load_block(shape, draw, first, n, block, tops):
    """Fill a block with steps first .. first + n - 1; return it and the sum of the likelihoods' largest logarithms."""
    _, source, rows, moves, stored = block
    _, (flat, _, table_tops), indices, count = draw
    if indices[1] == 0:
        relative(shape, flat, count, first, n, source, tops)
    load_indices(len(shape), indices, first, n, rows, moves, table_tops, tops)
    offset = 0.0
    for s in range(n):
        offset += tops[s]
    return (n, source, rows, moves, stored), offset


@kernel
def load_indices(width, indices, first, n, rows, moves, table_tops, tops):
    """Where the likelihoods of each step, and the matrix of the move into it, start; without an index, as they were."""
    e_raw, e_width, t_raw, t_width = indices
    if e_width == 1:
        for s in range(n):
            row = np.int64(e_raw[first + s])
            rows[s], tops[s] = row * width, table_tops[row]
    elif e_width:
        for s in range(n):
            row = row_at(e_raw, e_width, first + s)
            rows[s], tops[s] = row * width, table_tops[row]
    if t_width:
        for s in range(0 if first else 1, n + 1):
            moves[s] = row_at(t_raw, t_width, first + s - 1) * width * width


@kernel
def block_range(start, end, k):
    """First step and number of steps of block k of a sequence."""
    short = end - start - (count_blocks(start, end) - 1) * BLOCK
    return (start, short) if k == 0 else (start + short + (k - 1) * BLOCK, BLOCK)


@kernel
def count_blocks(start, end):
    """Blocks of a sequence."""
    return (end - start + BLOCK - 1) // BLOCK
