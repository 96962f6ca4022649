"""Whole sequences, or parts of them, by the scaled recursions: block after block, with a message kept for each.

One thread runs `advance_blocks` forward over all blocks, then `combine_blocks` backward over all. Two threads meet in
the middle: one advances forward over the first half while the other goes back over the second; then each goes on into
the half of the other, joining its own messages with the stored ones.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.blocks import block_range, count_blocks, load_block, new_block
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import load, product, store, store_row, total
from probseq.kernels.scaled import TINY, advance, sweep

FLOOR = 1e-260
"""Least positive entry of a first message: see rule (i) of `scaled`."""


@kernel
def copy(source, target):
    """source (M,) to target; numba's own slice assignment takes a second to compile."""
    for i in range(target.size):
        target[i] = source[i]


@kernel
def start_message(direction, law, n, block, carry):
    """Write the message of a sequence's first (last) step to carry; return the logarithm it was scaled by, or NaN.

    law (K,): the initial law, for direction 1.
    """
    _, source, rows, _, _ = block
    row = rows[0 if direction > 0 else n - 1]
    size = 0.0
    for k in range(law.size):
        chance = law[k] if direction > 0 else 1.0
        value = chance * source[row + k]
        if chance > 0.0 and source[row + k] > 0.0:
            value = max(value, FLOOR)
        carry[k] = value
        size += value
    if not TINY < size < np.inf:
        return math.nan
    for k in range(law.size):
        carry[k] /= size
    return math.log(size)


@kernel
def advance_blocks(shape, draw, direction, start, end, first, last, law, kept, carry, work):
    """Messages of one direction over blocks first .. last (in that order) of the sequence start .. end - 1.

    kept (blocks, width): gets the message before each block, unless it is empty. carry (width,): the message before
    block first; ends as the one after block last. work: room for a block, which ends holding block last.
    Returns the block, and the logarithm of what carry was divided by; NaN if the sequence needs `exact`.
    """
    block, tops = work
    blocks = count_blocks(start, end)
    matrices = draw[0][0 if direction > 0 else 1]
    evidence = 0.0
    for k in range(first, last + direction, direction):
        at, n = block_range(start, end, k)
        block, offset = load_block(shape, draw, at, n, block, tops)
        evidence += offset
        begin = k == (0 if direction > 0 else blocks - 1)
        if begin:
            evidence += start_message(direction, law, n, block, carry)
        elif kept.shape[0]:
            copy(carry, kept[k])
        evidence += advance(shape, direction, begin, matrices, block, carry)
        if math.isnan(evidence):
            break
    return block, evidence


@kernel
def combine_blocks(shape, draw, direction, start, end, first, last, law, kept, carry, work, weight, counts):
    """Expected counts of blocks first .. last (in that order), joining a running message with the stored ones.

    kept: what `advance_blocks` kept in the other direction. carry (width,): the message before block first if direction
    is -1, but ones at the end of the sequence; the prediction of the first step if direction is 1, and the move into
    that step is not counted. work: two rooms, the first holding block first with its stored messages.
    counts: as for `sweep`, but for its start. Returns weight * gamma (width,) of the last step visited.
    """
    (block, tops), (other, other_tops) = work
    blocks = count_blocks(start, end)
    ahead, against = draw[0] if direction > 0 else (draw[0][1], draw[0][0])
    xi, by_row, table = counts
    next_carry = np.zeros(carry.size)
    gamma = np.zeros(carry.size)
    for k in range(first, last + direction, direction):
        at, n = block_range(start, end, k)
        other = (0, other[1], other[2], other[3], other[4])
        next_begin = False
        if k != last:
            next_at, next_n = block_range(start, end, k + direction)
            other, _ = load_block(shape, draw, next_at, next_n, other, other_tops)
            next_begin = k + direction == (0 if direction < 0 else blocks - 1)
            if next_begin:
                start_message(-direction, law, next_n, other, next_carry)
            else:
                copy(kept[k + direction], next_carry)
        begin = k == first and (direction > 0 or k == blocks - 1)
        places = xi, by_row, table, at * draw[3], draw[3]
        lanes = sweep(
            shape, direction, begin, (ahead, against), block, carry, weight, places, next_begin, other, next_carry
        )
        block, other = other, block
        store(gamma, 0, lanes)
    return gamma


@kernel
def filter_blocks(shape, draw, start, end, law, filtered, predictive):
    """Filtered states (T * K,) and predictive log densities (T,) of one sequence; False if it needs `exact`."""
    width, count = len(shape), draw[3]
    block, tops = new_block(width, draw)
    carry, before = np.zeros(width), np.zeros(width)
    for k in range(count_blocks(start, end)):
        at, n = block_range(start, end, k)
        block, _ = load_block(shape, draw, at, n, block, tops)
        _, source, rows, moves, stored = block
        first = start_message(1, law, n, block, carry) if k == 0 else 0.0
        copy(carry, before)
        if math.isnan(first + advance(shape, 1, k == 0, draw[0][0], block, carry)):
            return False
        last = load(before, 0, shape)
        for s in range(n):
            u = load(stored, s * width, shape)
            store_row(filtered, (at + s) * count, count, u * (1.0 / total(u)))
            if s == 0 and k == 0:
                predictive[at] = first + tops[0]
            else:
                likelihood = total(product(last, draw[0][0], moves[s]) * load(source, rows[s], shape))
                predictive[at + s] = math.log(likelihood / total(last)) + tops[s]
            last = u
    return True


@kernel
def sample_blocks(shape, draw, start, end, law, kept, work, uniforms, path):
    """Draw a path given the data, from the last step back, after `advance_blocks` went forward.

    kept, work: from `advance_blocks`; uniforms, path (T,).
    """
    block, tops = work
    width, blocks = len(shape), count_blocks(start, end)
    A, transposed = draw[0]
    state, carry = np.int64(0), np.zeros(width)
    for k in range(blocks - 1, -1, -1):
        at, n = block_range(start, end, k)
        if k < blocks - 1:
            block, _ = load_block(shape, draw, at, n, block, tops)
            if k == 0:
                start_message(1, law, n, block, carry)
            else:
                copy(kept[k], carry)
            advance(shape, 1, k == 0, A, block, carry)
        moves, stored = block[3], block[4]
        for s in range(n - 1, -1, -1):
            chance = load(stored, s * width, shape)
            if at + s < end - 1:
                chance = chance * load(transposed, moves[s + 1] + state * width, shape)
            store(carry, 0, chance)
            state = draw_state(carry, uniforms[at + s])
            path[at + s] = state


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
