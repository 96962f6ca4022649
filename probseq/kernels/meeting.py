"""One long sequence on two threads that meet in the middle.

The first advances over the earlier half while the second goes back over the later half. At the meeting point each goes
on into the half of the other, whose messages are stored, and joins them with its own.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.arithmetic import message_size, width_of
from probseq.kernels.blocks import BLOCK, count_blocks, new_block, prepare_draw
from probseq.kernels.jit import entry, kernel
from probseq.kernels.passes import advance_blocks, combine_blocks
from probseq.kernels.tally import drain, mode_of, new_tally


@entry
def advance_half(kit, direction, log_initial, log_transition, log_table, start, end, indices):
    """Messages of one draw from the first step to the middle (direction 1) or from the last step to it (-1).

    Args:
        log_initial (K,), log_transition (S, K, K), log_table (R, K): the tables of the draw.

    Returns:
        (value, carry, kept, block): the logarithm of what the last message, carry (width,), was divided by, NaN if the
        sequence needs `exact`; and the messages that `combine_half` wants of the other direction.
    """
    draw = prepare_draw(kit, log_transition, log_table, indices)
    blocks, size = count_blocks(start, end), message_size(kit)
    first, last = (0, blocks // 2 - 1) if direction > 0 else (blocks - 1, blocks // 2)
    carry, kept, work = np.zeros(size), np.empty((blocks, size)), new_block(size, draw)
    block, value = advance_blocks(kit, draw, direction, start, end, first, last, log_initial, kept, carry, work)
    return value, carry, kept, block


@entry
def combine_half(
    kit,
    direction,
    log_initial,
    log_transition,
    log_table,
    start,
    end,
    indices,
    carry,
    kept,
    block,
    weight,
    by_step,
    transition,
    emission,
):
    """Add the counts of the half beyond the middle to transition (S, K, K) and emission (R, K), or (T, K) by step.

    carry: the message that `advance_half` brought to the middle in this direction; kept, block: from the other one.
    Returns weight * gamma (width,) of the last step visited.
    """
    draw = prepare_draw(kit, log_transition, log_table, indices)
    blocks = count_blocks(start, end)
    if direction > 0:  # the other thread counts the move across the middle
        first, last = blocks // 2, blocks - 1
        predict(width_of(kit), carry, draw[0][0], block[3][0])
    else:
        first, last = blocks // 2 - 1, 0
    mode = mode_of(indices, by_step)
    tally = new_tally(kit, direction > 0, mode, transition, emission)
    spare = new_block(message_size(kit), draw)
    rooms, law = ((block, np.empty(BLOCK)), spare), log_initial
    gamma = combine_blocks(kit, draw, direction, start, end, first, last, law, kept, carry, rooms, weight, tally)
    drain(kit, draw[0], tally, 0, True)
    return gamma


@kernel
def predict(width, carry, matrices, start):
    """Replace the scaled message in carry by its product with the matrix that begins at start."""
    before = carry.copy()
    for j in range(width):
        carry[j] = 0.0
    for i in range(width):
        for j in range(width):
            carry[j] += before[i] * matrices[start + i * width + j]
