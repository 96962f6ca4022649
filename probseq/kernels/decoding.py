"""The Viterbi path in bounded memory: back-pointers of one block at a time, and a checkpoint for each block.

    delta_1(k) = log pi(k) + log b_1(k)
    delta_t(j) = max_i [delta_t-1(i) + log A(i, j)] + log b_t(j)

(Viterbi 1967; Rabiner 1989, equations 32-35.) A tie goes to the lowest state. delta is taken relative to its maximum at
every block, so the comparison of two paths keeps its digits however long the sequence.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.jit import entry, kernel

BLOCK = 512


@kernel
def _block(first, last, start, log_initial, log_transition, log_table, indices, delta, room, back):
    """Advance delta (K,) over steps first..last-1; back (BLOCK, K) gets the best predecessor of each state."""
    e_raw, e_width, t_raw, t_width = indices
    states = delta.size
    for step in range(first, last):
        b = log_table[row_at(e_raw, e_width, step)]
        for j in range(states):
            if not b[j] < np.inf:
                delta[:] = np.nan
                return
        if step == start:
            for j in range(states):
                room[j] = log_initial[j] + b[j]
        else:
            A = log_transition[row_at(t_raw, t_width, step - 1) if t_width else 0]
            for j in range(states):
                best, at = delta[0] + A[0, j], 0
                for i in range(1, states):
                    value = delta[i] + A[i, j]
                    if value > best:
                        best, at = value, i
                room[j] = best + b[j]
                back[step - first, j] = at
        delta[:] = room


@kernel
def viterbi_sequence(start, end, log_initial, log_transition, log_table, indices, path):
    """Fill path[start:end] with the likeliest states and return their log joint; -inf and -1s if there is none."""
    states = log_initial.size
    blocks = (end - start + BLOCK - 1) // BLOCK
    kept, offset = np.empty((blocks, states)), 0.0
    back = np.empty((min(BLOCK, end - start), states), np.int32)
    delta, room = np.zeros(states), np.empty(states)
    for block in range(blocks):
        first, last = start + block * BLOCK, min(start + (block + 1) * BLOCK, end)
        kept[block] = delta
        _block(first, last, start, log_initial, log_transition, log_table, indices, delta, room, back)
        top = delta.max()
        if not top > -np.inf:  # impossible, or NaN
            path[start:end] = -1
            return top
        offset += top
        delta -= top
    if blocks == 0:
        return 0.0
    state = np.argmax(delta)
    for block in range(blocks - 1, -1, -1):
        first, last = start + block * BLOCK, min(start + (block + 1) * BLOCK, end)
        if block < blocks - 1:
            _block(first, last, start, log_initial, log_transition, log_table, indices, kept[block], room, back)
        for step in range(last - 1, first - 1, -1):
            path[step] = state
            if step > start:
                state = back[step - first, state]
    return offset


@entry
def viterbi_range(first, last, log_initial, log_transition, log_table, offsets, indices, log_prob, paths):
    """paths (B, T) and log_prob (B, N) of items first .. last - 1; item i is sequence i % N of draw i // N."""
    N = offsets.size - 1
    for item in range(first, last):
        b, n = item // N, item % N
        law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
        start, end = offsets[n], offsets[n + 1]
        log_prob[b, n] = viterbi_sequence(start, end, law, log_transition[b], log_table[b], indices, paths[b])
