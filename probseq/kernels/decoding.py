"""The Viterbi path, with back-pointers of a byte a state in bounded memory.

    delta_1(k) = log pi(k) + log b_1(k)
    delta_t(j) = max_i [delta_t-1(i) + log A(i, j)] + log b_t(j)

(Viterbi 1967; Rabiner 1989, equations 32-35.) A tie goes to the lowest state. delta is taken relative to its maximum
every so often, so the comparison of two paths keeps its digits however long the sequence. A sequence whose
back-pointers would take more than ROOM bytes is cut into segments: the first pass keeps delta at the start of each, and
the segments are done again from the last, one at a time.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.arithmetic import by_shape, width_of
from probseq.kernels.bits import row_at
from probseq.kernels.jit import entry, kernel
from probseq.kernels.lanes import all_below, best_move, load, load_row, peak, spread, store

ROOM = 1 << 28
LEVEL = 256  # steps between two subtractions of the maximum


@entry
def viterbi_range(shape, first, last, log_initial, log_transition, log_table, offsets, indices, room, log_prob, paths):
    """paths (B, T) and log_prob (B, N) of items first .. last - 1; item i is sequence i % N of draw i // N.

    room: bytes that the back-pointers may take. An impossible sequence has -1s and -inf; NaN means a NaN or +inf.
    """
    N, width = offsets.size - 1, width_of(shape)
    longest = 0
    for n in range(N):
        longest = max(longest, offsets[n + 1] - offsets[n])
    segment = max(LEVEL, min(longest, room // width))
    back = new_back(shape, segment * width)
    for b in range(first // N, (last - 1) // N + 1):
        A, flat = padded(width, log_transition[b]), log_table[b].ravel()
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            log_prob[b, n] = viterbi_sequence(shape, start, end, law, A, flat, indices, segment, back, paths[b])


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
def viterbi_sequence(shape, start, end, law, A, flat, indices, segment, back, path):
    """Fill path[start:end] with the likeliest states and return their log joint; -1s and -inf, or NaN, without."""
    width, count = width_of(shape), law.size
    segments = (end - start + segment - 1) // segment
    kept, delta, offset = np.empty(segments * width), np.full(width, -np.inf), 0.0
    for k in range(count):
        delta[k] = law[k]
    for k in range(segments):
        for i in range(width):
            kept[k * width + i] = delta[i]
        low = start + k * segment
        offset += climb(shape, low, min(low + segment, end), start, count, A, flat, indices, delta, back)
        if not offset > -np.inf:
            break
    if segments and not offset > -np.inf:
        for step in range(start, end):
            path[step] = -1
        return offset
    state = 0
    for k in range(1, width):
        state = k if delta[k] > delta[state] else state
    for k in range(segments - 1, -1, -1):
        low, high = start + k * segment, min(start + (k + 1) * segment, end)
        if k < segments - 1:
            for i in range(width):
                delta[i] = kept[k * width + i]
            climb(shape, low, high, start, count, A, flat, indices, delta, back)
        for step in range(high - 1, low - 1, -1):
            path[step] = state
            state = np.int64(back[(step - low) * width + state])
    return offset


@kernel
def climb_narrow(shape, first, last, start, count, A, flat, indices, delta, back):
    """Advance delta (width,) over steps first .. last - 1; back gets the best predecessor of each state and step.

    Returns what was subtracted from delta; -inf if nothing is possible, NaN for a NaN or +inf in the table.
    """
    e_raw, e_width, t_raw, t_width = indices
    width = len(shape)
    d = load(delta, 0, shape)
    offset, sound = 0.0, 1
    for step in range(first, last):
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
def climb_wide(shape, first, last, start, count, A, flat, indices, delta, back):
    """As `climb_narrow`, in memory."""
    e_raw, e_width, t_raw, t_width = indices
    width = shape[0]
    best, offset = np.empty(width), 0.0
    for step in range(first, last):
        row, at = row_at(e_raw, e_width, step) * count, (step - first) * width
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
            if not flat[row + j] < np.inf:
                return np.nan
            delta[j] += flat[row + j]
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


@kernel
def bytes_of(shape, size):
    """Room for back-pointers to fewer than 256 states."""
    return np.empty(size, np.uint8)


@kernel
def pairs_of(shape, size):
    """Room for back-pointers to fewer than 65,536 states."""
    return np.empty(size, np.uint16)


climb = by_shape(climb_narrow, climb_wide)
new_back = by_shape(bytes_of, pairs_of)
