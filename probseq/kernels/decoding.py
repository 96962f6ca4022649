"""The Viterbi path, with back-pointers of a byte a state in bounded memory.

    delta_1(k) = log pi(k) + log b_1(k)
    delta_t(j) = max_i [delta_t-1(i) + log A(i, j)] + log b_t(j)

(Viterbi 1967; Rabiner 1989, equations 32-35.) A tie goes to the lowest state. delta is taken relative to its maximum
every so often, so the comparison of two paths keeps its digits however long the sequence. A sequence whose
back-pointers would take more than ROOM bytes is cut into segments: the first pass keeps delta at the start of each, and
the segments are done again from the last, one at a time.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import types

from probseq.kernels.across import best_move, peak
from probseq.kernels.bits import row_at
from probseq.kernels.combinations import combine_wide
from probseq.kernels.jit import by_shape, entry, kernel
from probseq.kernels.kit import address_of, invoke, width_for
from probseq.kernels.lanes import all_below, load, load_row, spread, store

ROOM = 1 << 28
LEVEL = 256  # steps between two subtractions of the maximum


@entry
def viterbi_range(
    climber, first, last, log_initial, log_transition, log_table, offsets, indices, room, log_prob, paths
):
    """paths (B, T) and log_prob (B, N) of items first .. last - 1; item i is sequence i % N of draw i // N.

    climber: from `climber_for`. room: bytes that the back-pointers may take. An impossible sequence has -1s and -inf;
    NaN means a NaN or +inf in its table.
    """
    N, width, longest = offsets.size - 1, climber[0], 0
    for n in range(N):
        longest = max(longest, offsets[n + 1] - offsets[n])
    segment = max(LEVEL, min(longest, room // (width * climber[1])))
    back, delta = np.empty(segment * width * climber[1], np.uint8), np.empty(width)
    kept = np.empty(((longest + segment - 1) // segment, width))
    for b in range(first // N, (last - 1) // N + 1):
        A, flat = padded(width, log_transition[b]), log_table[b].ravel()
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            tables = (law.size, A, flat) + indices[:4] + (indices[4], indices[4].shape[1])
            bounds = offsets[n], offsets[n + 1], segment
            value = climb_segments(climber, bounds, law, tables, kept, delta, back)
            log_prob[b, n] = value
            trace(climber, bounds, value > -np.inf, tables, kept, delta, back, paths[b])


@kernel
def padded(width, log_transition):
    """(S * width * width,) from log_transition (S, K, K), padded with -inf."""
    moves, count, _ = log_transition.shape
    A = np.full(moves * width * width, -np.inf)
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                A[(s * width + i) * width + j] = log_transition[s, i, j]
    return A


@kernel
def climb_segments(climber, bounds, law, tables, kept, delta, back):
    """Log joint of the best path of one sequence: -inf if there is none, NaN for a NaN or +inf in the table.

    kept (segments, width) gets delta before each segment; delta (width,) and back end as those of the last one.
    """
    start, end, segment = bounds
    for k in range(delta.size):
        delta[k] = law[k] if k < law.size else -np.inf
    value = 0.0
    for low in range(start, end, segment):
        for k in range(delta.size):
            kept[(low - start) // segment, k] = delta[k]
        value += invoke(climber[2], (low, min(low + segment, end), start) + tables + (delta, back))
        if not value > -np.inf:
            break
    return value


@kernel
def trace(climber, bounds, possible, tables, kept, delta, back, path):
    """Follow the back-pointers from the last step to the first; -1s if no path is possible."""
    start, end, segment = bounds
    state = np.int64(0)
    for k in range(1, delta.size):
        state = k if delta[k] > delta[state] else state
    final = (end - start - 1) // segment
    for k in range(final, -1, -1):
        low, high = start + k * segment, min(start + (k + 1) * segment, end)
        if possible and k < final:
            for i in range(delta.size):
                delta[i] = kept[k, i]
            invoke(climber[2], (low, high, start) + tables + (delta, back))
        for step in range(high - 1, low - 1, -1):
            path[step] = state if possible else -1
            if possible and step > start:
                state = row_at(back, climber[1], (step - low) * delta.size + state)


@cache
def climber_for(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(width, bytes of a back-pointer, address of the loop over steps)."""

    def climb(first, last, start, count, A, flat, e_raw, e_width, t_raw, t_width, weights, rows, delta, back):
        indices = e_raw, e_width, t_raw, t_width, (weights, rows)
        return _climb(shape, first, last, start, count, A, flat, indices, delta, back)

    size, back = (2, types.uint16) if len(shape) == 1 else (1, types.uint8)
    number, floats, raw = types.int64, types.CPointer(types.float64), types.CPointer(types.uint8)
    signature = types.float64(
        *(number,) * 4, *(floats,) * 2, *(raw, number) * 2, floats, number, floats, types.CPointer(back)
    )
    return width_for(shape), size, address_of(signature, climb)


@kernel
def climb_narrow(shape, first, last, start, count, A, flat, indices, delta, back):
    """Advance delta (width,) over steps first .. last - 1; back gets the best predecessor of each state and step.

    Returns what was subtracted from delta; -inf if nothing is possible, NaN for a NaN or +inf in the table.
    """
    e_raw, e_width, t_raw, t_width, (weights, rows) = indices
    width = len(shape)
    d = load(delta, 0, shape)
    beyond = padding(count, shape)
    offset, sound = 0.0, 1
    for step in range(first, last):
        if rows:
            row = beyond
            for r in range(rows):
                row = row + load_row(flat, r * count, count, 0.0, shape) * weights[step * rows + r]
        else:
            row = load_row(flat, row_at(e_raw, e_width, step) * count, count, -np.inf, shape)
        sound &= all_below(row, np.inf)
        if step > start:
            move = row_at(t_raw, t_width, step - 1) * width * width if t_width else 0
            d = best_move(d, A, move, back, (step - first) * width)
        d = d + row
        if (step - first) % LEVEL == LEVEL - 1 or step == last - 1:
            top = peak(d)
            if not top > -np.inf:
                offset = top
                break
            d, offset = d - spread(top, shape), offset + top
    store(delta, 0, d)
    return offset if sound else np.nan


@kernel
def padding(count, shape):
    """Zeros in the first `count` lanes, -inf in the others."""
    return load_row(np.zeros(count), 0, count, -np.inf, shape)


@kernel
def climb_wide(shape, first, last, start, count, A, flat, indices, delta, back):
    """As `climb_narrow`, in memory."""
    e_raw, e_width, t_raw, t_width, (weights, rows) = indices
    width = shape[0]
    best, likelihoods, offset = np.empty(width), np.empty(count), 0.0
    for step in range(first, last):
        at = (step - first) * width
        if rows:
            combine_wide(shape, weights, rows, flat, count, step, 1, likelihoods)
        else:
            row = row_at(e_raw, e_width, step) * count
            for j in range(count):
                likelihoods[j] = flat[row + j]
        if step > start:
            move = row_at(t_raw, t_width, step - 1) * width * width if t_width else 0
            for j in range(width):
                best[j], back[at + j] = delta[0] + A[move + j], 0
            for i in range(1, count):
                here, line = delta[i], move + i * width
                for j in range(width):
                    value = here + A[line + j]
                    back[at + j] = i if value > best[j] else back[at + j]
                    best[j] = value if value > best[j] else best[j]
            for j in range(width):
                delta[j] = best[j]
        for j in range(count):
            if not likelihoods[j] < np.inf:
                return np.nan
            delta[j] += likelihoods[j]
        if (step - first) % LEVEL == LEVEL - 1 or step == last - 1:
            top = -np.inf
            for j in range(count):
                top = max(top, delta[j])
            if not top > -np.inf:
                return top
            offset += top
            for j in range(count):
                delta[j] -= top
    return offset


_climb = by_shape(climb_narrow, climb_wide)
