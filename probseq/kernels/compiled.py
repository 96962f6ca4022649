"""The compiled loops over draws and sequences behind `recursions`; importing this module imports numba.

Item i of the B * N sequences is sequence i % N of draw i // N. Each loop takes a range of items and returns how
many of them left the range of the scaled recursions: their evidence is NaN, and nothing else of theirs was written.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.blocks import count_blocks, new_block, prepare_draw
from probseq.kernels.jit import entry, kernel
from probseq.kernels.passes import advance_blocks, combine_blocks, draw_state, filter_blocks, sample_blocks


@entry
def evidence_range(shape, first, last, log_initial, log_transition, log_table, offsets, indices, evidence):
    """evidence (B, N) of items first .. last - 1."""
    N, width, lost = offsets.size - 1, len(shape), 0
    carry, none = np.zeros(width), np.zeros((0, width))
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(shape, log_transition[b], log_table[b], indices)
        laws = np.exp(log_initial[b])
        work = new_block(len(shape), draw)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            law = laws[n if laws.shape[0] > 1 else 0]
            evidence[b, n] = 0.0
            if end > start:
                final = count_blocks(start, end) - 1
                _, value = advance_blocks(shape, draw, 1, start, end, 0, final, law, none, carry, work)
                evidence[b, n] = value + math.log(summed(carry))
                lost += math.isnan(evidence[b, n])
    return lost


@entry
def count_range(
    shape,
    first,
    last,
    log_initial,
    log_transition,
    log_table,
    offsets,
    indices,
    weights,
    by_step,
    evidence,
    initial,
    transition,
    emission,
):
    """Evidence (B, N) and expected counts of items first .. last - 1, added to those of the other items.

    initial (B, I, K), transition (B, S, K, K); emission (B, R, K), or (B, T, K) by step.
    """
    N, lost = offsets.size - 1, 0
    by_row = indices[1] != 0 and not by_step
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(shape, log_transition[b], log_table[b], indices)
        laws = np.exp(log_initial[b])
        work, spare = new_block(len(shape), draw), new_block(len(shape), draw)
        xi = np.zeros(draw[0][0].size)
        table = np.zeros(draw[1][1].size) if by_row else emission[b].reshape(-1)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            at = n if laws.shape[0] > 1 else 0
            evidence[b, n] = 0.0
            if end > start:
                value, gamma = count_sequence(
                    shape, draw, start, end, laws[at], work, spare, weights[b, n], (xi, by_row, table)
                )
                evidence[b, n] = value
                if math.isnan(value):
                    lost += 1
                else:
                    for k in range(draw[3]):
                        initial[b, at, k] += gamma[k]
        flush(len(shape), draw, False, xi, by_row, table, transition[b], emission[b])
    return lost


@kernel
def count_sequence(shape, draw, start, end, law, work, spare, weight, counts):
    """Evidence of one sequence, and weight * gamma of its first step; adds to counts unless the evidence is NaN."""
    width, blocks = len(shape), count_blocks(start, end)
    carry, kept = np.zeros(width), np.empty((blocks, width))
    block, value = advance_blocks(shape, draw, 1, start, end, 0, blocks - 1, law, kept, carry, work)
    value += math.log(summed(carry))
    if math.isnan(value):
        return value, carry
    for k in range(draw[3]):
        carry[k] = 1.0
    rooms = (block, work[1]), spare
    gamma = combine_blocks(shape, draw, -1, start, end, blocks - 1, 0, law, kept, carry, rooms, weight, counts)
    return value, gamma


@kernel
def summed(values):
    """Sum of (M,) values."""
    result = 0.0
    for value in values:
        result += value
    return result


@kernel
def flush(width, draw, in_order, xi, by_row, table, transition, emission):
    """Add the sums of one draw to its results; xi lacks the factor A, and is transposed unless in_order."""
    A, count = draw[0][0], draw[3]
    for s in range(transition.shape[0]):
        for i in range(count):
            for j in range(count):
                at, across = (s * width + i) * width + j, (s * width + j) * width + i
                transition[s, i, j] += A[at] * (xi[at] if in_order else xi[across])
    if by_row:
        for row in range(emission.shape[0]):
            for k in range(count):
                emission[row, k] += table[row * width + k]


@entry
def filter_range(
    shape, first, last, log_initial, log_transition, log_table, offsets, indices, evidence, filtered, predictive
):
    """Filtered states (B, T, K) and predictive log densities (B, T) of items first .. last - 1."""
    N, lost = offsets.size - 1, 0
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(shape, log_transition[b], log_table[b], indices)
        laws = np.exp(log_initial[b])
        flat = filtered[b].reshape(-1)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            law = laws[n if laws.shape[0] > 1 else 0]
            done = filter_blocks(shape, draw, offsets[n], offsets[n + 1], law, flat, predictive[b])
            evidence[b, n] = 0.0 if done else np.nan
            lost += not done
    return lost


@entry
def sample_range(
    shape, first, last, log_initial, log_transition, log_table, offsets, indices, uniforms, evidence, paths
):
    """paths (B, T) of items first .. last - 1, drawn from the posterior by uniforms (B, T)."""
    N, width, lost = offsets.size - 1, len(shape), 0
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(shape, log_transition[b], log_table[b], indices)
        laws = np.exp(log_initial[b])
        work = new_block(len(shape), draw)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            evidence[b, n] = 0.0
            if end > start:
                blocks = count_blocks(start, end)
                carry, kept = np.zeros(width), np.empty((blocks, width))
                law = laws[n if laws.shape[0] > 1 else 0]
                block, value = advance_blocks(shape, draw, 1, start, end, 0, blocks - 1, law, kept, carry, work)
                evidence[b, n] = value
                lost += math.isnan(value)
                if not math.isnan(value):
                    sample_blocks(shape, draw, start, end, law, kept, (block, work[1]), uniforms[b], paths[b])
    return lost


@entry
def simulate_range(first, last, log_initial, log_transition, offsets, indices, uniforms, paths):
    """paths (B, T) of items first .. last - 1, drawn from the chain by uniforms (B, T)."""
    N = offsets.size - 1
    raw, size = indices
    for b in range(first // N, (last - 1) // N + 1):
        laws, A = np.exp(log_initial[b]), np.exp(log_transition[b])
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            state = np.int64(0)
            for step in range(offsets[n], offsets[n + 1]):
                if step == offsets[n]:
                    chance = laws[n if laws.shape[0] > 1 else 0]
                else:
                    chance = A[row_at(raw, size, step - 1) if size else 0, state]
                state = draw_state(chance, uniforms[b, step])
                paths[b, step] = state
