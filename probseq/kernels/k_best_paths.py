"""The L likeliest paths of each sequence: Viterbi with a list of the L best ways into every state.

    delta_1(k) = [log pi(k) + log b_1(k)]
    delta_t(j) = the L largest of {delta_t-1(i)[r] + log A(i, j)} over states i and ranks r, each plus log b_t(j)

(The parallel list Viterbi algorithm of Seshadri and Sundberg 1994.) The lists are sorted, so that the next largest is
the largest of K heads, O(T K^2 L) in all. Two ways of the same value keep the order of the states they come from, then
of their ranks there. Memory is bounded as in `decoding`: back-pointers of one segment at a time, the lists before each
segment kept.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from probseq.kernels import decoding
from probseq.kernels.bits import row_at
from probseq.kernels.combinations import combine_wide
from probseq.kernels.inputs import Floats, Inputs
from probseq.kernels.jit import entry, kernel
from probseq.kernels.schedule import chunks
from probseq.kernels.threads import run

LEVEL = decoding.LEVEL


def fill_k_best(inputs: Inputs, log_prob: Floats, paths: np.ndarray) -> None:
    """The likeliest paths (B, L, T), the best first, and their log joint (B, L, N)."""
    room = decoding.ROOM // 4  # in back-pointers of four bytes
    arguments = *inputs.arrays, room, log_prob, paths
    run([partial(k_best_range, *chunk, *arguments) for chunk in chunks(inputs)])


@entry
def k_best_range(first, last, log_initial, log_transition, log_table, offsets, indices, room, log_prob, paths):
    """paths (B, L, T) and log_prob (B, L, N) of items first .. last - 1; item i is sequence i % N of draw i // N.

    room: back-pointers that may be held. Ranks beyond the number of possible paths have -1s and -inf; NaN means a NaN
    or +inf in the table.
    """
    N, ranks, count, longest = offsets.size - 1, paths.shape[1], log_initial.shape[2], 0
    for n in range(N):
        longest = max(longest, offsets[n + 1] - offsets[n])
    segment = max(LEVEL, room // (count * ranks) // LEVEL * LEVEL)
    back = np.empty((min(segment, longest), count, ranks), np.int32)
    kept = np.empty((longest // segment + 1, count, ranks))
    for b in range(first // N, (last - 1) // N + 1):
        tables = log_transition[b], log_table[b].ravel(), indices
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            bounds = offsets[n], offsets[n + 1], segment
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            lists, top = climb_lists(bounds, law, tables, kept, back)
            ends = last_codes(bounds, lists, top, log_prob[b, :, n])
            trace_lists(bounds, tables, kept, lists, back, ends, log_prob[b, :, n], paths[b])


@kernel
def climb_lists(bounds, law, tables, kept, back):
    """The lists (K, L) after the last step, relative to the logarithm that is returned beside them.

    kept (segments, K, L) gets the lists before each segment; back ends as that of the last one.
    """
    start, end, segment = bounds
    lists, top = np.full(kept.shape[1:], -np.inf), 0.0
    for k in range(law.size):
        lists[k, 0] = law[k]
    for low in range(start, end, segment):
        copy_lists(lists, kept[(low - start) // segment])
        top += climb_segment(low, min(low + segment, end), start, tables, lists, back)
        if not top > -np.inf:
            break
    return lists, top


@kernel
def climb_segment(first, last, start, tables, lists, back):
    """Advance the lists (K, L) over steps first .. last - 1; back gets state * L + rank of what each came from.

    Returns what was subtracted from the lists; -inf if nothing is possible, NaN for a NaN or +inf in the table.
    """
    A, flat, (e_raw, e_width, t_raw, t_width, weights) = tables
    count, ranks = lists.shape
    entered, heads, values = np.empty(lists.shape), np.empty(count, np.int64), np.empty(count)
    likelihoods, rows, offset = np.empty(count), weights.shape[1], 0.0
    for step in range(first, last):
        if step > start:
            move = row_at(t_raw, t_width, step - 1) if t_width else 0
            for j in range(count):
                merge(lists, A[move], j, heads, values, entered[j], back[step - first, j])
            copy_lists(entered, lists)
        if rows:
            combine_wide((count,), weights.ravel(), rows, flat, count, step, 1, likelihoods)
        else:
            row = row_at(e_raw, e_width, step) * count
            for j in range(count):
                likelihoods[j] = flat[row + j]
        top = -np.inf
        for j in range(count):
            if not likelihoods[j] < np.inf:
                return np.nan
            for r in range(ranks):
                lists[j, r] += likelihoods[j]
            top = max(top, lists[j, 0])
        if (step - first) % LEVEL == LEVEL - 1 or step == last - 1:
            if not top > -np.inf:
                return top
            offset += top
            for j in range(count):
                for r in range(ranks):
                    lists[j, r] -= top
    return offset


@kernel
def merge(lists, A, j, heads, values, entered, back):
    """The L largest of lists (K, L) plus column j of A, in order, to entered (L,), and where each stood to back (L,).

    heads (K,) and values (K,) are room: the rank of each list that comes next, and its value.
    """
    count, ranks = lists.shape
    for i in range(count):
        heads[i], values[i] = 0, lists[i, 0] + A[i, j]
    for r in range(ranks):
        best, place = values[0], 0
        for i in range(1, count):
            place = i if values[i] > best else place
            best = values[i] if values[i] > best else best
        entered[r], back[r] = best, place * ranks + heads[place]
        if best > -np.inf and heads[place] < ranks - 1:
            heads[place] += 1
            values[place] = lists[place, heads[place]] + A[place, j]
        else:
            values[place] = -np.inf


@kernel
def last_codes(bounds, lists, top, log_prob):
    """state * L + rank of the ends (L,) of the best paths; log_prob (L,) gets their values.

    A sequence without a step has one path, of probability one.
    """
    count, ranks = lists.shape
    ends, nothing = np.zeros(ranks, np.int64), np.zeros((count, 1))
    merge(lists, nothing, 0, np.empty(count, np.int64), np.empty(count), log_prob, ends)
    for r in range(ranks):
        log_prob[r] = top + log_prob[r] if top > -np.inf else top
    if bounds[0] == bounds[1]:
        log_prob[:] = -np.inf
        log_prob[0] = 0.0
    return ends


@kernel
def trace_lists(bounds, tables, kept, lists, back, ends, log_prob, paths):
    """Follow the back-pointers from the ends (L,) to the first step, into paths (L, T)."""
    start, end, segment = bounds
    ranks, possible = ends.size, log_prob[0] > -np.inf
    final = (end - start - 1) // segment
    for k in range(final, -1, -1):
        low, high = start + k * segment, min(start + (k + 1) * segment, end)
        if possible and k < final:
            copy_lists(kept[k], lists)
            climb_segment(low, high, start, tables, lists, back)
        for r in range(ranks):
            code = ends[r]
            for step in range(high - 1, low - 1, -1):
                if not log_prob[r] > -np.inf:
                    paths[r, step] = -1
                    continue
                paths[r, step] = code // ranks
                if step > start:
                    code = back[step - low, code // ranks, code % ranks]
            ends[r] = code


@kernel
def copy_lists(source, target):
    """source (K, L) to target."""
    for k in range(source.shape[0]):
        for r in range(source.shape[1]):
            target[k, r] = source[k, r]
