"""The functions of `scaled` for more states than registers hold: the same arithmetic in memory, sixteen at a time.

shape is (width,), whole, a multiple of 16. xi is summed a block at a time, as a product of two matrices of messages.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.across import total
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import any_between, exponential, load, spread, store
from probseq.kernels.scaled import LARGE, SIXTEEN, SMALL, TINY, add_outers, factor_of


@kernel
def relative(shape, log_table, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of log_table (R * K,) from row first on, over the largest, whose logarithm is in tops."""
    width = shape[0]
    for s in range(n):
        top = -np.inf
        for k in range(count):
            top = max(top, log_table[(first + s) * count + k])
        tops[s] = top
        base = top if top > -np.inf else 0.0
        for k in range(width):
            likelihoods[s * width + k] = log_table[(first + s) * count + k] - base if k < count else -np.inf
    for i in range(0, n * width, 16):
        store(likelihoods, i, exponential(load(likelihoods, i, SIXTEEN)))


@kernel
def step(width, count, message, at, matrices, start, out, to):
    """Write message A to out[to:]; return whether rule (i) of `scaled` fails.

    The message is at message[at:], the matrix at matrices[start:].
    """
    lost = 0
    for c in range(0, width, 16):
        even, odd = spread(0.0, SIXTEEN), spread(0.0, SIXTEEN)
        for i in range(0, count - 1, 2):
            even = even + load(matrices, start + i * width + c, SIXTEEN) * message[at + i]
            odd = odd + load(matrices, start + (i + 1) * width + c, SIXTEEN) * message[at + i + 1]
        if count % 2:
            even = even + load(matrices, start + (count - 1) * width + c, SIXTEEN) * message[at + count - 1]
        p = even + odd
        lost |= any_between(p, 0.0, TINY)
        store(out, to + c, p)
    return lost


@kernel
def times(width, message, at, other, row, out, to):
    """Write message * other to out[to:]; return its sum."""
    size = 0.0
    for c in range(0, width, 16):
        product = load(message, at + c, SIXTEEN) * load(other, row + c, SIXTEEN)
        size += total(product)
        store(out, to + c, product)
    return size


@kernel
def divide(width, message, at, size):
    """Divide a message by a number."""
    for k in range(at, at + width):
        message[k] /= size


@kernel
def advance(shape, count, direction, begin, matrices, block, carry):
    """As `scaled.advance`."""
    n, source, rows, moves, stored, scales, _ = block
    width = shape[0]
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    scale, lost = 0.0, 0
    for visited in range(n):
        at = s * width
        if visited == 0 and begin:
            for k in range(width):
                stored[at + k] = carry[k]
        else:
            lost |= step(width, count, carry, 0, matrices, moves[s + enter], stored, at)
            size = times(width, stored, at, source, rows[s], stored, at)
            if not SMALL < size < LARGE:
                divide(width, stored, at, 1.0 / factor_of(size))
                scale -= math.log(factor_of(size))
            for k in range(width):
                carry[k] = stored[at + k]
        scales[s] = scale
        s += direction
    return math.nan if lost else scale


@kernel
def sweep(shape, direction, begin, matrices, block, carry, weight, counts, last, next_begin, next_block, next_carry):
    """As `scaled.sweep`."""
    n, source, rows, moves, stored, _, room = block
    ahead, against = matrices
    xi, by_row, table, start, count = counts
    width = shape[0]
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    p, left, right, runs = 0, width, (1 + n) * width, 0  # places in room
    for visited in range(n):
        o = s * width
        first = begin and visited == 0
        if first:
            for k in range(width):
                room[p + k] = carry[k]
        else:
            step(width, count, carry, 0, ahead, moves[s + enter], room, p)
        for k in range(width):
            room[p + k] = room[p + k] if stored[o + k] > 0.0 else 0.0
        scale = weight / times(width, room, p, stored, o, room, right + runs * width)
        at = rows[s] if by_row else start + s * count
        for k in range(count):
            last[k] = room[right + runs * width + k] * scale
            table[at + k] = last[k] + (table[at + k] if by_row else 0.0)
        if not first:
            for k in range(width):
                room[left + runs * width + k] = carry[k]
                room[right + runs * width + k] = stored[o + k] * scale
            runs += 1
            if visited == n - 1 or moves[s + enter] != moves[s + enter + direction]:
                add_outers(width, count, runs, room, left, right, xi, moves[s + enter])
                runs = 0
        size = times(width, room, p, source, rows[s], carry, 0)
        if not SMALL < size < LARGE:
            divide(width, carry, 0, size)
        s += direction
    if next_block[0]:
        advance(shape, count, -direction, next_begin, against, next_block, next_carry)
