"""The likeliest path of the hidden semi-Markov chain, segment by segment.

The forward pass of `semi_markov_forward` with maxima for sums, on logarithms (Guédon 2003). They are taken relative to
the start of a block, so that they keep their digits however long the sequence. Nothing points back: a segment's length
and the state before it are found again where the path passes, from what the block holds.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.across import peak
from probseq.kernels.bits import row_at
from probseq.kernels.jit import entry, kernel
from probseq.kernels.lanes import larger, load, load_row, spread
from probseq.kernels.semi_markov_forward import ROOM, block_range
from probseq.kernels.semi_markov_numbers import EIGHT, leaf
from probseq.kernels.semi_markov_paths import CUT, ENDED, ENTERED, LASTED, fill

BLOCK = 4096


@entry
def viterbi_range(first, last, tables, offsets, indices, log_prob, paths):
    """paths (B, T) and log_prob (B, N) of items first .. last - 1: -1 and -inf if impossible, NaN for a NaN table."""
    N, K, D = offsets.size - 1, tables[2].shape[1], tables[2].shape[2]
    longest = 1
    for n in range(N):
        longest = max(longest, offsets[n + 1] - offsets[n])
    size = min(longest, max(BLOCK, 4 * D))
    blocks = (longest + size - 1) // size
    W, X, tau, bad = (
        np.empty((K, size + D + ROOM)),
        np.empty((size, K)),
        np.empty((size, K)),
        np.empty((size, K), np.int64),
    )
    kept, opening = (np.empty((blocks, 4, K)), np.empty((blocks, K, D)), np.empty((blocks, K))), np.empty(K)
    work = (W, X, tau, bad), kept, np.empty((4, K)), opening
    for b in range(first // N, (last - 1) // N + 1):
        laws = draw_of(tables[1][b], tables[2][b], tables[3][b], tables[4][b], tables[5][b], tables[6][b], indices)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end, law = offsets[n], offsets[n + 1], tables[0][b, n if tables[0].shape[1] > 1 else 0]
            log_prob[b, n] = 0.0
            if end > start:
                value, k = climb(laws, work, law, start, end)
                log_prob[b, n] = value
                if value > -np.inf:
                    trace_back(laws, work, start, end, k, paths[b])
                else:
                    paths[b, start:end] = -1


@kernel
def draw_of(A, duration, first, stay, leave, table, indices):
    """The laws of a draw: with rows of durations below D padded, and survivor functions."""
    K, D = duration.shape
    p, beyond = np.full((K, D - 1 + ROOM), -np.inf), np.full((K, D - 1 + ROOM), -np.inf)
    beyond_first = np.empty((K, D))
    for k in range(K):
        above, above_first = duration[k, D - 1], -np.inf
        for d in range(D - 1, -1, -1):
            above_first = np.logaddexp(above_first, first[k, d])
            beyond_first[k, d] = above_first
            if d < D - 1:
                above = np.logaddexp(above, duration[k, d])
                p[k, d], beyond[k, d] = duration[k, d], above
    return A, p, duration, first, stay, leave, beyond, beyond_first, table, indices


@kernel
def climb(laws, work, law, start, end):
    """The best log joint of a sequence, NaN where the table has no numbers, and its last state."""
    (W, _, tau, bad), kept, carry, opening = work
    K, size, D = carry.shape[1], tau.shape[0], laws[3].shape[1]
    value, sound, low, n = 0.0, True, start, 0
    for k in range(K):
        opening[k] = law[k]
        carry[0, k], carry[1, k], carry[2, k], carry[3, k] = 0.0, -np.inf, -np.inf, start - 1.0
    for index in range((end - start + size - 1) // size):
        if index:
            value += rebase(W, carry, opening, size, D)
        for k in range(K):
            kept[2][index, k] = opening[k]
            for i in range(4):
                kept[0][index, i, k] = carry[i, k]
            for d in range(D):
                kept[1][index, k, d] = W[k, size + d]
        low, n = block_range(start, end, size, index)
        sound &= climb_block(laws, work, start, low, n)
    best, last = -np.inf, np.int64(0)
    for k in range(K):
        found = occupied(laws, work, start, low, n - 1, k) + carry[0, k]
        if found > best:
            best, last = found, k
    return value + best if sound else np.nan, last


@leaf
def rebase(W, carry, opening, size, D):
    """Take logarithms relative to the end of a block, copy its last steps behind it; what was taken off of all."""
    top = -np.inf
    for k in range(W.shape[0]):
        top = max(top, carry[0, k] + max(opening[k], carry[1, k] - carry[0, k], carry[2, k]))
        for d in range(D):
            W[k, size + d] = W[k, d]
            top = max(top, carry[0, k] + W[k, d])
    if not top > -np.inf:
        top = 0.0
    for k in range(W.shape[0]):
        shift = carry[0, k] - top
        for d in range(D):
            W[k, size + d] += shift
        opening[k] += shift
        carry[1, k] -= top
        carry[2, k] += shift
        carry[0, k] = 0.0
    return top


@leaf
def climb_block(laws, work, start, low, n):
    """Fill a block with steps low .. low + n - 1 and take carry (S, E, tau and bad) along; whether all is a number."""
    A, p, duration, f, stay, leave, _, _, table, indices = laws
    (W, X, tau, bads), _, carry, opening = work
    K, size, D, sound = carry.shape[1], tau.shape[0], f.shape[1], True
    for s in range(n):
        t, at = low + s, size - 1 - s
        row = row_at(indices[0], indices[1], t)
        for k in range(K):
            b = table[row, k]
            sound &= b < np.inf
            if b == -np.inf:
                W[k, at], X[s, k], tau[s, k] = -np.inf, -np.inf, -np.inf
                carry[2, k], carry[3, k], bads[s, k] = -np.inf, t, t
                continue
            W[k, at] = carry[1, k] - carry[0, k]
            carry[0, k] += b
            bad, age = np.int64(carry[3, k]), t - start + 1
            span = t - max(bad, start)
            best, lasted = longest_sum(W[k], at, p[k], min(span, D - 1)), carry[2, k] + stay[k]
            if span >= D:
                lasted = max(lasted, W[k, at + D - 1] + duration[k, D - 1])
            if bad < start and age < D:
                best = max(best, opening[k] + f[k, age - 1])
            elif bad < start and age == D:
                lasted = max(lasted, opening[k] + f[k, age - 1])
            carry[2, k], tau[s, k], bads[s, k] = lasted, lasted, bad
            X[s, k] = carry[0, k] + max(best, lasted + leave[k])
        matrix = row_at(indices[2], indices[3], t) if indices[3] else 0
        for j in range(K):
            best = -np.inf
            for i in range(K):
                best = max(best, X[s, i] + A[matrix, i, j])
            carry[1, j] = best
    return sound


@leaf
def longest_sum(W, at, p, n):
    """max_d W[at + d] + p[d] over d < n."""
    tops, whole = spread(-np.inf, EIGHT), n - n % 8
    for d in range(0, whole, 8):
        tops = larger(tops, load(W, at + d, EIGHT) + load(p, d, EIGHT))
    if whole < n:
        tops = larger(tops, load_row(W, at + whole, n - whole, -np.inf, EIGHT) + load(p, whole, EIGHT))
    return peak(tops)


@leaf
def occupied(laws, work, start, low, s, k):
    """log of the best joint of a path that is in k at step low + s, whatever follows, less S."""
    _, _, _, f, _, _, beyond, beyond_first, _, _ = laws
    (W, _, tau, bads), _, _, opening = work
    D, t, bad = f.shape[1], low + s, np.int64(bads[s, k])
    if bad == t:
        return -np.inf
    best = longest_sum(W[k], tau.shape[0] - 1 - s, beyond[k], min(t - max(bad, start), D - 1))
    if bad < start and t - start + 1 < D:
        best = max(best, opening[k] + beyond_first[k, t - start])
    return max(best, tau[s, k])


@kernel
def trace_back(laws, work, start, end, last, path):
    """Write the best path of a sequence that `climb` has gone through and that ends in state `last`."""
    (W, X, tau, _), kept, carry, opening = work
    size, D, A, indices = tau.shape[0], laws[3].shape[1], laws[0], laws[9]
    t, k, doing = end - 1, last, CUT
    for index in range((end - start - 1) // size, -1, -1):
        low, n = block_range(start, end, size, index)
        if low + n < end:  # the last block is still there
            for i in range(carry.shape[1]):
                opening[i] = kept[2][index, i]
                for c in range(4):
                    carry[c, i] = kept[0][index, c, i]
                for d in range(D):
                    W[i, size + d] = kept[1][index, i, d]
            climb_block(laws, work, start, low, n)
        while t >= low:
            if doing == ENTERED:
                matrix, best = row_at(indices[2], indices[3], t) if indices[3] else 0, -np.inf
                after = k
                for i in range(X.shape[1]):
                    if X[t - low, i] + A[matrix, i, after] > best:
                        best, k = X[t - low, i] + A[matrix, i, after], i
                doing = ENDED
            elif doing == LASTED:
                path[t] = k
                if stays(laws, work, start, t, low, k):
                    t -= 1
                else:
                    t, doing = fill(path, start, t, D, k), ENTERED
            else:
                d = best_length(laws, work, start, t, low, k, doing == CUT)
                if d == D:
                    doing = LASTED
                else:
                    t, doing = fill(path, start, t, d, k), ENTERED


@leaf
def best_length(laws, work, start, t, low, k, cut):
    """Steps up to t of a segment of k that ends with t, or is cut off there; 0 for a first one, D for D or more."""
    _, p, _, f, _, leave, beyond, beyond_first, _, _ = laws
    (W, _, tau, bads), _, _, opening = work
    D, at, bad, age = f.shape[1], tau.shape[0] - 1 - (t - low), np.int64(bads[t - low, k]), t - start + 1
    law, law_first = (beyond, beyond_first) if cut else (p, f)
    best, found = -np.inf, np.int64(0)
    for d in range(min(t - max(bad, start), D - 1)):
        if W[k, at + d] + law[k, d] > best:
            best, found = W[k, at + d] + law[k, d], d + 1
    if bad < start and age < D and opening[k] + law_first[k, age - 1] > best:
        best, found = opening[k] + law_first[k, age - 1], 0
    if tau[t - low, k] + (0.0 if cut else leave[k]) > best:
        found = D
    return found


@leaf
def stays(laws, work, start, t, low, k):
    """Whether a segment that has lasted D steps or more at step t had at step t - 1."""
    duration, f = laws[2], laws[3]
    (W, _, tau, bads), _, _, _ = work
    D, at, age = f.shape[1], tau.shape[0] - 1 - (t - low), t - start + 1
    if age <= D:
        return False
    reached = -np.inf
    if t - max(np.int64(bads[t - low, k]), start) >= D:
        reached = W[k, at + D - 1] + duration[k, D - 1]
    return tau[t - low, k] > reached
