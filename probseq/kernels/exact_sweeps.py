"""Whole sequences through the exact recursion: one forward sweep that leaves checkpoints, then blocks from the last.

A sweep takes `problem`, the tuple (A, A_exp, log_table, emission raw, width, transition raw, width) of one draw, with
A 2**A_exp (S, K, K) the transition matrices.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import LN2, ZERO, row_at
from probseq.kernels.exact import BLOCK, backward_block, forward_block, split
from probseq.kernels.jit import kernel
from probseq.kernels.passes import draw_state


@kernel
def exact_problem(log_transition, log_table, e_raw, e_width, t_raw, t_width):
    """The problem of one draw, from log_transition (S, K, K) and log_table (R, K)."""
    A, A_exp = np.empty(log_transition.shape), np.empty(log_transition.shape, np.int64)
    split(log_transition.ravel(), A.ravel(), A_exp.ravel())
    return A, A_exp, log_table, e_raw, e_width, t_raw, t_width


@kernel
def exact_work(start, end, states):
    """Room for one sequence: a block of messages and likelihoods, and a checkpoint for each block."""
    rows, blocks = min(BLOCK, end - start), (end - start + BLOCK - 1) // BLOCK
    a, a_exp = np.empty((rows, states)), np.empty((rows, states), np.int64)
    b, b_exp = np.empty((rows, states)), np.empty((rows, states), np.int64)
    kept, kept_exp = np.empty((blocks, states)), np.empty((blocks, states), np.int64)
    return a, a_exp, b, b_exp, np.empty(rows), np.empty(rows, np.int64), kept, kept_exp


@kernel
def exact_forward(start, end, log_initial, problem, work, filtered, predictive):
    """log p(x) of steps start..end-1; fills the checkpoints, and filtered (T, K), predictive (T,) unless empty."""
    a, a_exp, b, b_exp, tops, scales, kept, kept_exp = work
    states = log_initial.size
    carry, carry_exp = np.empty(states), np.empty(states, np.int64)
    split(log_initial, carry, carry_exp)
    before, evidence = 1.0, 0.0
    for block in range(kept.shape[0]):
        first, last = start + block * BLOCK, min(start + (block + 1) * BLOCK, end)
        kept[block], kept_exp[block] = carry, carry_exp
        possible = forward_block(first, last, start, problem, carry, carry_exp, a, a_exp, b, b_exp, tops, scales)
        twos, offset = np.int64(0), 0.0
        for s in range(last - first):
            if scales[s] == ZERO:
                break
            twos += scales[s]
            offset += tops[s]
            if predictive.size:
                after = _write(a[s], a_exp[s], filtered[first + s])
                predictive[first + s] = math.log(after / before) + scales[s] * LN2 + tops[s]
                before = after
        evidence += twos * LN2 + offset
        if not possible:
            broken = np.isnan(tops[: last - first]).any()
            if predictive.size:
                seen = first + np.argmax(scales[: last - first] == ZERO)
                filtered[seen:end], predictive[seen:end] = 0.0, -np.inf
            return np.nan if broken else -np.inf
    if end > start:
        last_sum = 0.0
        for k in range(states):
            last_sum += carry[k] * 2.0 ** max(carry_exp[k], -1000)
        evidence += math.log(last_sum)
    return evidence


@kernel
def _write(a, a_exp, out):
    """Normalise one message into out (K,); return its sum."""
    total = 0.0
    for k in range(a.size):
        out[k] = a[k] * 2.0 ** max(a_exp[k], -1000)
        total += out[k]
    for k in range(a.size):
        out[k] /= total
    return total


@kernel
def exact_counts(start, end, log_initial, problem, work, weight, by_step, first_counts, xi, counts):
    """Add the weighted expected counts of one possible sequence, after exact_forward filled the checkpoints.

    first_counts (K,), xi (S, K, K); counts (R, K) by emission row, or (T, K) by step when by_step.
    """
    a, a_exp, b, b_exp, tops, scales, kept, kept_exp = work
    e_raw, e_width = problem[3], problem[4]
    states = log_initial.size
    w, w_exp = np.empty(states), np.empty(states, np.int64)
    gamma = np.empty((min(BLOCK, end - start), states))
    blocks = kept.shape[0]
    for block in range(blocks - 1, -1, -1):
        first, last = start + block * BLOCK, min(start + (block + 1) * BLOCK, end)
        if block < blocks - 1:
            forward_block(first, last, start, problem, kept[block], kept_exp[block], a, a_exp, b, b_exp, tops, scales)
        backward_block(first, last, end, problem, w, w_exp, a, a_exp, b, b_exp, weight, gamma, xi)
        for s in range(last - first):
            row = first + s if by_step else row_at(e_raw, e_width, first + s)
            for k in range(states):
                counts[row, k] += gamma[s, k] * weight
    for k in range(states):
        first_counts[k] += gamma[0, k] * weight


@kernel
def exact_path(start, end, problem, work, uniforms, path):
    """Draw z_start..z_end-1 given the data, from the last step back, after exact_forward filled the checkpoints."""
    a, a_exp, b, b_exp, tops, scales, kept, kept_exp = work
    A, A_exp, _, _, _, t_raw, t_width = problem
    states = A.shape[1]
    chance, chance_exp = np.empty(states), np.empty(states, np.int64)
    blocks = kept.shape[0]
    state = np.int64(0)
    for block in range(blocks - 1, -1, -1):
        first, last = start + block * BLOCK, min(start + (block + 1) * BLOCK, end)
        if block < blocks - 1:
            forward_block(first, last, start, problem, kept[block], kept_exp[block], a, a_exp, b, b_exp, tops, scales)
        for step in range(last - 1, first - 1, -1):
            chance[:], chance_exp[:] = a[step - first], a_exp[step - first]
            if step < end - 1:
                move = row_at(t_raw, t_width, step) if t_width else 0
                for k in range(states):
                    chance[k] *= A[move, k, state]
                    chance_exp[k] = chance_exp[k] + A_exp[move, k, state] if chance[k] > 0.0 else ZERO
            top = chance_exp.max()
            for k in range(states):
                chance[k] *= 2.0 ** max(chance_exp[k] - top, -1000)
            state = draw_state(chance, uniforms[step])
            path[step] = state
