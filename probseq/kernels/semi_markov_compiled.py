"""The compiled loops over draws and sequences of the hidden semi-Markov chain: evidence, counts, filter.

Item i of the B * N sequences is sequence i % N of draw i // N. `tables` are log_initial (B, I, K), log_transition
(B, S, K, K), log_duration and log_first (B, K, D), log_stay and log_leave (B, K) and log_table (B, R, K). A sequence
that does not fit into one block is done twice: once to keep what stands before each block, then from the last on.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import entry, kernel
from probseq.kernels.semi_markov_backward import combine, drain, move_values, new_back, new_sums
from probseq.kernels.semi_markov_forward import (
    advance,
    block_range,
    keep_window,
    new_block,
    occupy,
    prepare_draw,
    set_out,
    summed,
)
from probseq.kernels.semi_markov_numbers import NONE, log_of, quotient, two_to

BLOCK = 1024  # steps of a block that is not kept
KEPT = 1 << 19  # numbers of each kind that a block may keep
STEPS = 1 << 14  # steps between two drains


@kernel
def draw_of(tables, b, indices):
    """The laws of a draw, and its law of the first state (I, K)."""
    log_initial, log_transition, log_duration, log_first, log_stay, log_leave, log_table = tables
    laws = log_transition[b], log_duration[b], log_first[b], log_stay[b], log_leave[b], log_table[b]
    return prepare_draw(*laws, indices), log_initial[b]


@kernel
def longest_of(offsets):
    """Steps of the longest sequence."""
    longest = 1
    for n in range(offsets.size - 1):
        longest = max(longest, offsets[n + 1] - offsets[n])
    return longest


@kernel
def new_work(longest, keep, K, D):
    """A block, what precedes each block of the longest sequence (as far as it is kept), and carry and opening."""
    size = max(BLOCK, 4 * D)
    if keep:
        size = max(max(KEPT // K, 4 * D), np.int64(math.sqrt(longest * D)))
    size = min(longest, size)
    count = (longest + size - 1) // size if keep else 0
    kept = np.empty((count, 7, K)), np.empty((count, 2, K, D))
    return new_block(size, K, D), kept, np.empty((7, K)), np.empty((2, K))


@kernel
def run_forward(draw, work, law, start, end):
    """Go through a sequence, keeping what precedes each block; its evidence, as a number."""
    block, kept, carry, opening = work
    size, D, out = block[1][0].shape[0], draw[3][0].shape[1], np.empty((2, carry.shape[1]))
    blocks, low, n = (end - start + size - 1) // size, start, 0
    set_out(law, start, carry, opening)
    for index in range(blocks):
        if index:
            keep_window(block, D)
        if kept[0].shape[0]:
            keep(work, index, D)
        low, n = block_range(start, end, size, index)
        advance(draw, block, carry, opening, start, low, n)
    occupy(draw, block, opening, start, n - 1, low, out)
    return summed(out)


@kernel
def keep(work, index, D):
    """Keep what stands before a block."""
    ((Wm, We), (Sm, _), _, _, _), (carries, windows), carry, _ = work
    size = Sm.shape[0]
    for k in range(carry.shape[1]):
        for i in range(7):
            carries[index, i, k] = carry[i, k]
        for d in range(D):
            windows[index, 0, k, d], windows[index, 1, k, d] = Wm[k, size + d], We[k, size + d]


@kernel
def run_again(draw, work, start, end, index):
    """Fill the block with one of the blocks of a sequence that `run_forward` has gone through; its range."""
    ((Wm, We), (Sm, _), _, _, _), (carries, windows), carry, opening = work
    size, D = Sm.shape[0], windows.shape[3]
    low, n = block_range(start, end, size, index)
    if low + n < end:  # the last block is still there
        for k in range(carry.shape[1]):
            for i in range(7):
                carry[i, k] = carries[index, i, k]
            for d in range(D):
                Wm[k, size + d], We[k, size + d] = windows[index, 0, k, d], windows[index, 1, k, d]
        advance(draw, work[0], carry, opening, start, low, n)
    return low, n


@entry
def evidence_range(first, last, tables, offsets, indices, evidence):
    """evidence (B, N) of items first .. last - 1."""
    N, K, D = offsets.size - 1, tables[2].shape[1], tables[2].shape[2]
    work = new_work(longest_of(offsets), False, K, D)
    for b in range(first // N, (last - 1) // N + 1):
        draw, laws = draw_of(tables, b, indices)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            evidence[b, n] = 0.0
            if offsets[n + 1] > offsets[n]:
                law = laws[n if laws.shape[0] > 1 else 0]
                m, e = run_forward(draw, work, law, offsets[n], offsets[n + 1])
                evidence[b, n] = log_of(m, e)


@entry
def count_range(first, last, tables, offsets, indices, weights, by_step, evidence, initial, counts):
    """Evidence (B, N) of items first .. last - 1, and their expected counts added to those of the others.

    weights (B, N); none means ones. by_step (B, T, K) is overwritten with p(z_t = k | x) times the weight; it may have
    no steps where there is an index. counts: of log_transition, log_duration, log_first, log_stay, log_leave and
    log_table, shaped like them, but for the last, (B, 0, K) where by_step is wanted.
    """
    N, K, D = offsets.size - 1, tables[2].shape[1], tables[2].shape[2]
    work = new_work(longest_of(offsets), True, K, D)
    back, gamma = new_back(work[0][1][0].shape[0], K, D), np.empty(K)
    transition, duration, firsts, stay, leaves, emission = counts
    for b in range(first // N, (last - 1) // N + 1):
        draw, laws = draw_of(tables, b, indices)
        sums, since = new_sums(transition[b], D, emission.shape[1]), 0
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end, at = offsets[n], offsets[n + 1], n if laws.shape[0] > 1 else 0
            evidence[b, n] = 0.0
            if end > start:
                m, e = run_forward(draw, work, laws[at], start, end)
                evidence[b, n] = log_of(m, e)
                if m > 0.0:
                    weight = weights[b, n] if weights.size else 1.0
                    count_sequence(draw, work, back, (start, end), (m, e), weight, sums, by_step[b], gamma)
                    for k in range(K):
                        initial[b, at, k] += gamma[k]
                elif by_step.shape[1]:
                    by_step[b, start:end] = 0.0
                since += end - start
                if since >= max(STEPS, emission.shape[1]):
                    drain(sums, transition[b], duration[b], firsts[b], stay[b], leaves[b], emission[b])
                    since = 0
        drain(sums, transition[b], duration[b], firsts[b], stay[b], leaves[b], emission[b])


@kernel
def count_sequence(draw, work, back, bounds, evidence, weight, sums, by_step, gamma):
    """Add the counts of a sequence that `run_forward` has gone through, and write its first gamma."""
    start, end = bounds
    size = work[0][1][0].shape[0]
    for index in range((end - start - 1) // size, -1, -1):
        low, n = run_again(draw, work, start, end, index)
        before = work[1][0][index]
        combine(draw, work[0], before, work[3], back, bounds, low, n, evidence, weight, sums, by_step, gamma)
        if index:
            move_values(back, work[1][1].shape[3])


@entry
def filter_range(first, last, tables, offsets, indices, evidence, filtered, predictive):
    """Evidence (B, N), filtered states (B, T, K) and predictive log densities (B, T) of items first .. last - 1."""
    N, K, D = offsets.size - 1, tables[2].shape[1], tables[2].shape[2]
    work, out = new_work(longest_of(offsets), False, K, D), np.empty((2, K))
    block, _, carry, opening = work
    size = block[1][0].shape[0]
    for b in range(first // N, (last - 1) // N + 1):
        draw, laws = draw_of(tables, b, indices)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end, was = offsets[n], offsets[n + 1], (1.0, 0.0)
            set_out(laws[n if laws.shape[0] > 1 else 0], start, carry, opening)
            for index in range((end - start + size - 1) // size):
                if index:
                    keep_window(block, D)
                low, steps = block_range(start, end, size, index)
                advance(draw, block, carry, opening, start, low, steps)
                for s in range(steps):
                    occupy(draw, block, opening, start, s, low, out)
                    was = write_filtered(out, was, filtered[b, low + s], predictive[b], low + s)
            evidence[b, n] = predictive[b, start:end].sum()


@kernel
def write_filtered(out, was, filtered, predictive, t):
    """Filtered states (K,) and the predictive density of step t, from the joint probabilities; their sum."""
    m, e = summed(out)
    ratio = quotient(m, e, was[0], was[1]) if was[0] != 0.0 else (0.0, NONE)
    predictive[t] = log_of(ratio[0], ratio[1])
    for k in range(filtered.size):
        share = quotient(out[0, k], out[1, k], m, e) if m != 0.0 else (0.0, NONE)
        filtered[k] = share[0] * two_to(share[1])
    return m, e
