"""Whole sequences, or parts of them: block after block, with the message before each block kept.

One thread runs `advance_blocks` forward over all blocks, then `combine_blocks` backward over all. Two threads meet in
the middle: one advances forward over the first half while the other goes back over the second; then each goes on into
the half of the other, joining its own messages with the stored ones.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.arithmetic import advance, gather, message_size, plain, start_message, sweep, weigh, width_of
from probseq.kernels.blocks import block_range, count_blocks, load_block, summed
from probseq.kernels.jit import kernel
from probseq.kernels.tally import BY_ROW, BY_STEP, BY_WEIGHTS, drain


@kernel
def copy(source, target):
    """source (M,) to target; numba's own slice assignment takes a second to compile."""
    for i in range(target.size):
        target[i] = source[i]


@kernel
def first_message(kit, draw, direction, log_law, block, carry):
    """Write the message of a sequence's first (direction 1) or last step to carry; return what it was divided by."""
    n, source, rows = block[0], block[1], block[2]
    if direction > 0:
        return start_message(kit, log_law, rows[0], source, carry)
    return start_message(kit, draw[4], rows[n - 1], source, carry)


@kernel
def advance_blocks(kit, draw, direction, start, end, first, last, log_law, kept, carry, work):
    """Messages of one direction over blocks first .. last (in that order) of the sequence start .. end - 1.

    log_law (K,): logarithm of the initial law. kept (blocks, size): gets the message before each block, unless empty.
    carry (size,): the message before block first; ends as the one after block last. work: room for a block, which
    ends holding block last.
    Returns the block, and the logarithm of what carry was divided by: -inf if the sequence is impossible, NaN if it
    needs `exact`.
    """
    block, tops = work
    begins = 0 if direction > 0 else count_blocks(start, end) - 1
    matrices = draw[0][0 if direction > 0 else 1]
    scale = 0.0
    for k in range(first, last + direction, direction):
        at, n = block_range(start, end, k)
        block = load_block(kit, draw, at, n, block, tops)
        scale += summed(tops, n)
        if k == begins:
            scale += first_message(kit, draw, direction, log_law, block, carry)
        elif kept.shape[0]:
            copy(carry, kept[k])
        scale += advance(kit, draw[3], direction, k == begins, matrices, block, carry)
        if not scale > -np.inf:
            break
    return block, scale


@kernel
def combine_blocks(kit, draw, direction, start, end, first, last, log_law, kept, carry, work, weight, tally):
    """Expected counts of blocks first .. last (in that order), joining a running message with the stored ones.

    kept: what `advance_blocks` kept in the other direction. carry (size,): the message before block first if direction
    is -1, but `unit` at the end of the sequence; the prediction of the first step if direction is 1, and the move into
    that step is not counted. work: two rooms, the first holding block first with its stored messages.
    tally: gets the counts. Returns weight * gamma (width,) of the last step visited.
    """
    (block, tops), (other, other_tops) = work
    final = count_blocks(start, end) - 1
    ahead, against = draw[0] if direction > 0 else (draw[0][1], draw[0][0])
    xi, mode, table = tally[0]
    next_carry, gamma = np.zeros(carry.size), np.zeros(width_of(kit))
    for k in range(first, last + direction, direction):
        at, n = block_range(start, end, k)
        other = (0, other[1], other[2], other[3], other[4], other[5], other[6])
        next_begin = False
        if k != last:
            next_at, next_n = block_range(start, end, k + direction)
            other = load_block(kit, draw, next_at, next_n, other, other_tops)
            next_begin = k + direction == (0 if direction < 0 else final)
            if next_begin:
                first_message(kit, draw, -direction, log_law, other, next_carry)
            else:
                copy(kept[k + direction], next_carry)
        begin = k == first and (direction > 0 or k == final)
        place = at * draw[3] if mode == BY_STEP else 0
        sums, matrices = (xi, mode == BY_ROW, table, place, draw[3]), (ahead, against)
        sweep(kit, direction, begin, matrices, block, carry, weight, sums, gamma, next_begin, other, next_carry)
        if mode == BY_WEIGHTS:
            gather(kit, draw[2][4], at, n, table, draw[3], tally[1][3])
        drain(kit, draw[0], tally, n, False)
        block, other = other, block
    return gamma


@kernel
def filter_blocks(kit, draw, start, end, log_law, work, filtered, predictive):
    """Filtered states (T * K,) and predictive log densities (T,) of one sequence; its evidence, NaN if lost."""
    block, tops = work
    size, count = message_size(kit), draw[3]
    carry, chance = np.zeros(size), np.empty(width_of(kit))
    before, ahead = 0.0, 0.0
    for k in range(count_blocks(start, end)):
        at, n = block_range(start, end, k)
        block = load_block(kit, draw, at, n, block, tops)
        ahead = first_message(kit, draw, 1, log_law, block, carry) if k == 0 else 0.0
        value = ahead + advance(kit, draw[3], 1, k == 0, draw[0][0], block, carry)
        if math.isnan(value):
            return value
        stored, scales = block[4], block[5]
        for s in range(n):
            whole = plain(kit, stored, s * size, chance)
            if ahead + scales[s] == -np.inf or whole == 0.0:
                forget(count, at + s, end, filtered, predictive)
                return -np.inf
            for j in range(count):
                filtered[(at + s) * count + j] = chance[j] / whole
            now = ahead + scales[s] + math.log(whole)
            predictive[at + s] = now - before + tops[s]
            before = now
        before -= value
    return before


@kernel
def forget(count, first, end, filtered, predictive):
    """Mark steps from the first impossible one on: no filtered state, no density."""
    for step in range(first, end):
        predictive[step] = -np.inf
        for k in range(count):
            filtered[step * count + k] = 0.0


@kernel
def sample_blocks(kit, draw, start, end, log_law, kept, work, uniforms, paths):
    """Draw M paths given the data, from the last step back, after `advance_blocks` went forward.

    kept, work: from `advance_blocks`; uniforms, paths (M, T).
    """
    block, tops = work
    size, final = message_size(kit), count_blocks(start, end) - 1
    carry = np.zeros(size)
    laws = np.empty((draw[3], width_of(kit))), np.empty(draw[3], np.int64), np.full(draw[3], -1)
    for k in range(final, -1, -1):
        at, n = block_range(start, end, k)
        if k < final:
            block = load_block(kit, draw, at, n, block, tops)
            if k == 0:
                first_message(kit, draw, 1, log_law, block, carry)
            else:
                copy(kept[k], carry)
            advance(kit, draw[3], 1, k == 0, draw[0][0], block, carry)
        for s in range(n - 1, -1, -1):
            sample_step(kit, draw, block, s, at + s, at + s == end - 1, laws, uniforms, paths)


@kernel
def sample_step(kit, draw, block, s, step, last, laws, uniforms, paths):
    """Draw the state of a step, the s-th of its block, in each of M paths from that of the next step.

    laws: room for p(z_t | z_t+1 = j, x_1:t) of each j that some path is in, which all such paths share: shares
    (K, width), the largest state with one (K,), and the step (K,) that they belong to.
    """
    moves, stored, transposed = block[3], block[4], draw[0][1]
    size, (shares, most, made) = message_size(kit), laws
    for m in range(paths.shape[0]):
        j = np.int64(0) if last else np.int64(paths[m, step + 1])
        if made[j] != step:
            if last:
                plain(kit, stored, s * size, shares[j])
            else:
                weigh(kit, stored, s * size, transposed, moves[s + 1] + j * size, shares[j])
            most[j], made[j] = accumulate(shares[j]), step
        total, state = shares[j, most[j]] * uniforms[m, step], 0
        for k in range(most[j]):
            state += shares[j, k] <= total
        paths[m, step] = state


@kernel
def accumulate(chance):
    """Replace unnormalised chances (M,) by their cumulative sums; the last of them that is positive."""
    most = np.int64(0)
    for k in range(chance.size):
        most = k if chance[k] > 0.0 else most
        chance[k] += chance[k - 1] if k else 0.0
    return most


@kernel
def draw_state(chance, uniform):
    """The state whose share of the unnormalised chance (M,) holds the point uniform in [0, 1); -1 if all are zero."""
    point = 0.0
    for k in range(chance.size):
        point += chance[k]
    point *= uniform
    state = np.int64(-1)
    for k in range(chance.size):
        if chance[k] > 0.0:
            state = k
            if point < chance[k]:
                break
            point -= chance[k]
    return state
