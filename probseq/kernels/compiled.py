"""The compiled loops over draws and sequences behind `recursions`; importing this module imports numba.

Item i of the B * N sequences is sequence i % N of draw i // N. Each loop takes a range of items and returns how
many of them left the range of scaled arithmetic: their evidence is NaN, and nothing else of theirs counts.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.arithmetic import message_size, plain, unit, width_of
from probseq.kernels.bits import row_at
from probseq.kernels.blocks import count_blocks, new_block, prepare_draw
from probseq.kernels.jit import entry, kernel
from probseq.kernels.passes import advance_blocks, combine_blocks, draw_state, filter_blocks, sample_blocks
from probseq.kernels.tally import BY_STEP, drain, mode_of, new_tally


@entry
def evidence_range(kit, first, last, log_initial, log_transition, log_table, offsets, indices, evidence):
    """evidence (B, N) of items first .. last - 1."""
    N, size, lost = offsets.size - 1, message_size(kit), 0
    carry, none = np.zeros(size), np.zeros((0, size))
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(kit, log_transition[b], log_table[b], indices)
        work = new_block(size, draw)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            evidence[b, n] = 0.0
            if end > start:
                final = count_blocks(start, end) - 1
                _, scale = advance_blocks(kit, draw, 1, start, end, 0, final, law, none, carry, work)
                evidence[b, n] = log_sum(kit, scale, carry)
                lost += math.isnan(evidence[b, n])
    return lost


@entry
def count_range(
    kit,
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

    initial (B, I, K), transition (B, S, K, K), emission (B, R, K); without an index, or by_step, emission is (B, T, K)
    and overwritten. weights (B, N), of sequences; none means ones.
    """
    N, size, lost = offsets.size - 1, message_size(kit), 0
    mode = mode_of(indices, by_step)
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(kit, log_transition[b], log_table[b], indices)
        work, spare = new_block(size, draw), new_block(size, draw)
        tally = new_tally(kit, False, mode, transition[b], emission[b])
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            at = n if log_initial.shape[1] > 1 else 0
            evidence[b, n] = 0.0
            if end > start:
                weight = weights[b, n] if weights.size else 1.0
                law = log_initial[b, at]
                value, gamma = count_sequence(kit, draw, start, end, law, work, spare, weight, tally)
                evidence[b, n] = value
                lost += math.isnan(value)
                if value == -np.inf and mode == BY_STEP:
                    for i in range(start * draw[3], end * draw[3]):
                        tally[0][2][i] = 0.0
                for k in range(draw[3]):
                    initial[b, at, k] += gamma[k]
        drain(kit, draw[0], tally, 0, True)
    return lost


@kernel
def count_sequence(kit, draw, start, end, log_law, work, spare, weight, tally):
    """Evidence of one sequence, and weight * gamma of its first step; adds to the tally if the evidence is finite."""
    blocks = count_blocks(start, end)
    carry, kept = np.zeros(message_size(kit)), np.empty((blocks, message_size(kit)))
    block, scale = advance_blocks(kit, draw, 1, start, end, 0, blocks - 1, log_law, kept, carry, work)
    value = log_sum(kit, scale, carry)
    if not value > -np.inf:
        return value, np.zeros(width_of(kit))
    unit(kit, draw[3], carry)
    rooms = (block, work[1]), spare
    gamma = combine_blocks(kit, draw, -1, start, end, blocks - 1, 0, log_law, kept, carry, rooms, weight, tally)
    return value, gamma


@kernel
def log_sum(kit, scale, carry):
    """Logarithm of the sum of a message that was divided by exp(scale)."""
    if not scale > -np.inf:
        return scale
    return scale + math.log(plain(kit, carry, 0, np.empty(width_of(kit))))


@entry
def filter_range(
    kit, first, last, log_initial, log_transition, log_table, offsets, indices, evidence, filtered, predictive
):
    """Filtered states (B, T, K) and predictive log densities (B, T) of items first .. last - 1."""
    N, lost = offsets.size - 1, 0
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(kit, log_transition[b], log_table[b], indices)
        work = new_block(message_size(kit), draw)
        flat = filtered[b].reshape(-1)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            value = filter_blocks(kit, draw, offsets[n], offsets[n + 1], law, work, flat, predictive[b])
            evidence[b, n] = value
            lost += math.isnan(value)
    return lost


@entry
def sample_range(kit, first, last, log_initial, log_transition, log_table, offsets, indices, uniforms, evidence, paths):
    """paths (B, M, T) of items first .. last - 1, drawn from the posterior by uniforms (B, M, T); -1 if impossible."""
    N, size, lost = offsets.size - 1, message_size(kit), 0
    for b in range(first // N, (last - 1) // N + 1):
        draw = prepare_draw(kit, log_transition[b], log_table[b], indices)
        work = new_block(size, draw)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            blocks = count_blocks(start, end)
            carry, kept = np.zeros(size), np.empty((blocks, size))
            law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
            block, value = advance_blocks(kit, draw, 1, start, end, 0, blocks - 1, law, kept, carry, work)
            evidence[b, n] = value
            lost += math.isnan(value)
            if value > -np.inf:
                sample_blocks(kit, draw, start, end, law, kept, (block, work[1]), uniforms[b], paths[b])
            else:
                for m in range(paths.shape[1]):
                    for step in range(start, end):
                        paths[b, m, step] = -1
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
