"""The functions of `scaled` for more states than registers hold: the same arithmetic in memory, sixteen at a time.

shape is (width,), whole, a multiple of 16. xi is summed a block at a time, as a product of two matrices of messages.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import kernel
from probseq.kernels.lanes import any_between, choose, exponential, load, spread, store, total
from probseq.kernels.scaled import FLOOR, LARGE, SMALL, TINY, factor_of

WIDE = (0,) * 16


@kernel
def width_of(shape):
    """Padded number of states."""
    return shape[0]


@kernel
def message_size(shape):
    """Doubles that a message takes."""
    return shape[0]


@kernel
def matrix_tables(shape, log_transition):
    """(A, A'), each (S * width * width,), padded with zeros, from log_transition (S, K, K)."""
    width, moves, count = shape[0], log_transition.shape[0], log_transition.shape[1]
    A, transposed = np.zeros(moves * width * width), np.zeros(moves * width * width)
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                value = math.exp(log_transition[s, i, j])
                A[(s * width + i) * width + j] = transposed[(s * width + j) * width + i] = value
    return A, transposed


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
        store(likelihoods, i, exponential(load(likelihoods, i, WIDE)))


@kernel
def start_message(shape, log_law, row, source, carry):
    """As `scaled.start_message`."""
    size = 0.0
    for k in range(log_law.size):
        chance = math.exp(log_law[k])
        value = chance * source[row + k]
        if chance > 0.0 and source[row + k] > 0.0:
            value = max(value, FLOOR)
        carry[k] = value
        size += value
    if not TINY < size < np.inf:
        return math.nan
    for k in range(log_law.size):
        carry[k] /= size
    return math.log(size)


@kernel
def step(width, count, message, at, matrices, start, source, row, out, to):
    """Write (message A) b to out[to:]; return its sum, and whether rule (i) of `scaled` fails.

    The message is at message[at:], the matrix at matrices[start:], b at source[row:].
    """
    size, lost = 0.0, 0
    for c in range(0, width, 16):
        even, odd = spread(0.0, WIDE), spread(0.0, WIDE)
        for i in range(0, count - 1, 2):
            even = even + load(matrices, start + i * width + c, WIDE) * message[at + i]
            odd = odd + load(matrices, start + (i + 1) * width + c, WIDE) * message[at + i + 1]
        if count % 2:
            even = even + load(matrices, start + (count - 1) * width + c, WIDE) * message[at + count - 1]
        p = even + odd
        lost |= any_between(p, 0.0, TINY)
        p = p * load(source, row + c, WIDE)
        size += total(p)
        store(out, to + c, p)
    return size, lost


@kernel
def advance(shape, count, direction, begin, matrices, block, carry):
    """As `scaled.advance`."""
    n, source, rows, moves, stored, scales = block
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
            before, place = (carry, 0) if visited == 0 else (stored, at - direction * width)
            size, tiny = step(width, count, before, place, matrices, moves[s + enter], source, rows[s], stored, at)
            lost |= tiny
            if not SMALL < size < LARGE:
                factor = factor_of(size)
                for k in range(width):
                    stored[at + k] *= factor
                scale -= math.log(factor)
        scales[s] = scale
        s += direction
    for k in range(width):
        carry[k] = stored[(s - direction) * width + k]
    return math.nan if lost else scale


@kernel
def sweep(
    shape, direction, begin, matrices, block, carry, weight, counts, gamma_at_end, next_begin, next_block, next_carry
):
    """As `scaled.sweep`."""
    n, source, rows, moves, stored, _ = block
    ahead, against = matrices
    xi, by_row, table, start, count = counts
    width = shape[0]
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    ones, p = np.ones(width), np.empty(width)
    left, right, runs = np.empty(n * width), np.empty(n * width), 0
    for visited in range(n):
        o = s * width
        first = begin and visited == 0
        if first:
            for k in range(width):
                p[k] = carry[k]
        else:
            step(width, count, carry, 0, ahead, moves[s + enter], ones, 0, p, 0)
        norm = 0.0
        for c in range(0, width, 16):
            other = load(stored, o + c, WIDE)
            q = choose(other, load(p, c, WIDE), spread(0.0, WIDE))
            store(p, c, q)
            norm += total(q * other)
        scale = weight / norm
        at = rows[s] if by_row else start + s * count
        for k in range(count):
            gamma_at_end[k] = p[k] * stored[o + k] * scale
            table[at + k] = gamma_at_end[k] + (table[at + k] if by_row else 0.0)
        if not first:
            for k in range(width):
                left[runs * width + k], right[runs * width + k] = carry[k], stored[o + k] * scale
            runs += 1
            last = visited == n - 1
            if last or moves[s + enter] != moves[s + enter + direction]:
                add_outer(width, count, runs, left, right, xi, moves[s + enter])
                runs = 0
        size = 0.0
        for c in range(0, width, 16):
            m = load(p, c, WIDE) * load(source, rows[s] + c, WIDE)
            store(carry, c, m)
            size += total(m)
        if not SMALL < size < LARGE:
            for k in range(width):
                carry[k] /= size
        s += direction
    if next_block[0]:
        advance(shape, count, -direction, next_begin, against, next_block, next_carry)


@kernel
def add_outer(width, count, n, left, right, xi, start):
    """xi(i, j) += sum_s left(s, i) right(s, j), in the matrix at start; left and right hold n rows of width doubles."""
    for i in range(0, count, 4):
        for c in range(0, width, 16):
            at = start + i * width + c
            x0, x1 = load(xi, at, WIDE), load(xi, at + width, WIDE)
            x2, x3 = load(xi, at + 2 * width, WIDE), load(xi, at + 3 * width, WIDE)
            for s in range(n):
                row, column = load(right, s * width + c, WIDE), s * width + i
                x0, x1 = x0 + row * left[column], x1 + row * left[column + 1]
                x2, x3 = x2 + row * left[column + 2], x3 + row * left[column + 3]
            store(xi, at, x0)
            store(xi, at + width, x1)
            store(xi, at + 2 * width, x2)
            store(xi, at + 3 * width, x3)


@kernel
def predict(shape, count, carry, matrices, start):
    """As `scaled.predict`."""
    before = carry.copy()
    step(shape[0], count, before, 0, matrices, start, np.ones(shape[0]), 0, carry, 0)


@kernel
def plain(shape, stored, at, out):
    """As `scaled.plain`."""
    size = 0.0
    for k in range(shape[0]):
        out[k] = stored[at + k]
        size += out[k]
    return size


@kernel
def weigh(shape, stored, at, transposed, column, out):
    """As `scaled.weigh`."""
    for k in range(shape[0]):
        out[k] = stored[at + k] * transposed[column + k]


@kernel
def unit(shape, count, carry):
    """As `scaled.unit`."""
    for k in range(shape[0]):
        carry[k] = 1.0 if k < count else 0.0


@kernel
def finish(shape, matrices, in_order, xi, transition):
    """As `scaled.finish`."""
    width, count, A = shape[0], transition.shape[1], matrices[0]
    for s in range(transition.shape[0]):
        for i in range(count):
            for j in range(count):
                at, across = (s * width + i) * width + j, (s * width + j) * width + i
                transition[s, i, j] += A[at] * (xi[at] if in_order else xi[across])
