"""Forward-backward in numbers of unlimited range: exact for any likelihood ratio, any K, any zeros.

Every probability is m 2**e with m in [1/2, 4), or m = 0, and a whole number e of its own (held as a double, good to
2**53). So no entry is lost however far it falls behind the others: a message may hold 1 beside exp(-100000), and both
are right to the last bits. Unlike logarithms this needs no exp and no log in the loop, and no digits go when the
log-likelihood grows large. A message is `width` numbers m and then `width` numbers e, the largest of which is zero.

The functions are those of `scaled`, for the sequences that module cannot vouch for; the equations are the same. They
work on memory, eight states at a time, so that one compilation serves every K; `kit` compiles them. A message is stored
from a pointer on, `width` a multiple of 8.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.across import peak, total
from probseq.kernels.bits import LN2, LN2_HIGH, LN2_LOW, LOG2_E, ZERO
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import choose, exponent_of, exponential, larger, load, power_of_two, spread, store

NONE = float(ZERO)
EIGHT = (0,) * 8
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it and taking it off again rounds to a whole number
_LEAST = -1e15


@kernel
def split(log_values, first, stride, count, top, message, at):
    """Write exp(x - top) of `count` log_values, from first on, as a message, not levelled, to message[at:].

    exp(x) = m 2**e with e = round(x / ln 2) and m = exp(x - e ln 2) (Cody and Waite, 1980).
    """
    width = (count + 7) // 8 * 8
    for k in range(width):
        message[at + k] = log_values[first + k * stride] - top if k < count else -np.inf
    for c in range(at, at + width, 8):
        x = load(message, c, EIGHT)
        finite = larger(spread(_LEAST, EIGHT), x)
        e = (finite * LOG2_E + spread(_ROUND, EIGHT)) - spread(_ROUND, EIGHT)
        m = exponential((finite - e * LN2_HIGH) - e * LN2_LOW)
        possible = exponential(x)  # zero only for -inf; NaN stays
        store(message, c, choose(possible, m, possible))
        store(message, c + width, choose(possible, e, spread(NONE, EIGHT)))


def tables(width, log_transition, moves, count, A, transposed):
    """Fill A and A', zeros, from log_transition (S * K * K,); a row is a message, and a matrix is width rows."""
    for s in range(moves):
        for i in range(count):
            at, row = (s * width + i) * 2 * width, (s * count + i) * count
            split(log_transition, row, 1, count, 0.0, A, at)
            split(log_transition, s * count * count + i, count, count, 0.0, transposed, at)
    return 0.0


def relative(width, log_table, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of log_table (R * K,) from row first on, over the largest, whose logarithm is in tops."""
    for s in range(n):
        top, row = -np.inf, (first + s) * count
        for k in range(count):
            top = max(top, log_table[row + k])
        tops[s] = top
        split(log_table, row, 1, count, top if top > -np.inf else 0.0, likelihoods, 2 * s * width)
    return 0.0


@kernel
def level(message, at, width):
    """Shift the exponents so that the largest is zero, and mark the zeros; -inf if there is nothing else, or NaN."""
    size, top = 0.0, NONE
    for c in range(at, at + width, 8):
        m = load(message, c, EIGHT)
        e = choose(m, load(message, c + width, EIGHT), spread(NONE, EIGHT))
        store(message, c + width, e)
        size, top = size + total(m), max(top, peak(e))
    if not size > 0.0:
        return math.nan if math.isnan(size) else -math.inf
    for c in range(at + width, at + 2 * width, 8):
        store(message, c, load(message, c, EIGHT) - spread(top, EIGHT))
    return top


@kernel
def times(message, at, other, start, width):
    """message *= other, both messages, then level; the shift."""
    for c in range(0, width, 8):
        store(message, at + c, load(message, at + c, EIGHT) * load(other, start + c, EIGHT))
        c += width
        store(message, at + c, load(message, at + c, EIGHT) + load(other, start + c, EIGHT))
    return level(message, at, width)


@kernel
def product(message, at, count, matrices, start, width, out, to):
    """Write sum_i message(i) * row i of a matrix, over `count` rows, to out[to:], with m in [1, 2) or zero."""
    zero, none = spread(0.0, EIGHT), spread(NONE, EIGHT)
    for c in range(0, width, 8):
        top, m = none, zero
        for i in range(count):
            e = load(matrices, start + (2 * i + 1) * width + c, EIGHT) + spread(message[at + width + i], EIGHT)
            top = larger(top, e)
        for i in range(count):
            e = load(matrices, start + (2 * i + 1) * width + c, EIGHT) + spread(message[at + width + i], EIGHT)
            row = load(matrices, start + 2 * i * width + c, EIGHT)
            m = m + row * message[at + i] * power_of_two(e - top)
        e = exponent_of(choose(m, m, spread(1.0, EIGHT)))
        store(out, to + c, m * power_of_two(zero - e))
        store(out, to + width + c, choose(m, top + e, none))


def start(width, log_law, count, row, source, carry):
    """Write the first message, exp(log_law) b, to carry; return the logarithm it was divided by; b is source[row:]."""
    split(log_law, 0, 1, count, 0.0, carry, 0)
    return times(carry, 0, source, row, width) * LN2


def advance(width, count, direction, begin, matrices, n, source, rows, moves, stored, scales, room, carry):
    """As `scaled.advance`, of messages of this module; -inf from a step on that no state explains."""
    return move_on(width, count, direction, begin, matrices, (n, source, rows, moves, stored, scales), carry)


@kernel
def move_on(width, count, direction, begin, matrices, block, carry):
    """`advance`, with its block in one argument."""
    n, source, rows, moves, stored, scales = block
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    twos = 0.0
    for visited in range(n):
        at = 2 * s * width
        if visited == 0 and begin:
            copy(carry, 0, stored, at, 2 * width)
        else:
            product(carry, 0, count, matrices, moves[s + enter], width, stored, at)
            twos += times(stored, at, source, rows[s], width)
            copy(stored, at, carry, 0, 2 * width)
        scales[s] = twos * LN2
        s += direction
    return twos * LN2


# fmt: off
def sweep(
    width, direction, begin, ahead, against,
    n, source, rows, moves, stored, scales, room, carry,
    weight, xi, by_row, table, start, count, last,
    next_begin, next_n, next_source, next_rows, next_moves, next_stored, next_scales, next_room, next_carry,
):
    # fmt: on
    """As `scaled.sweep`, of messages of this module; xi has the factor A."""
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    p, g = 0, 2 * width  # places in room
    for visited in range(n):
        o = 2 * s * width
        first = begin and visited == 0
        if first:
            copy(carry, 0, room, p, 2 * width)
        else:
            product(carry, 0, count, ahead, moves[s + enter], width, room, p)
        copy(room, p, room, g, 2 * width)
        top = times(room, g, stored, o, width)
        scale = weight / flatten(width, room, g, last)
        at = rows[s] // 2 if by_row else start + s * count
        for k in range(count):
            last[k] *= scale
            table[at + k] = last[k] + (table[at + k] if by_row else 0.0)
        if not first:
            add_outer(xi, carry, stored, o, scale, top, ahead, moves[s + enter], count, width)
        for k in range(width):
            if stored[o + k] == 0.0:  # no path leads here: keep it from dwarfing the others
                room[p + k] = 0.0
        times(room, p, source, rows[s], width)
        copy(room, p, carry, 0, 2 * width)
        s += direction
    if next_n:
        following = next_n, next_source, next_rows, next_moves, next_stored, next_scales
        move_on(width, count, -direction, next_begin, against, following, next_carry)
    return 0.0


@kernel
def copy(source, start, target, to, size):
    """Copy size doubles."""
    for k in range(size):
        target[to + k] = source[start + k]


@kernel
def add_outer(xi, message, stored, o, scale, top, matrices, start, count, width):
    """xi(i, j) += message(i) A(i, j) stored(j) scale 2**-top; xi has rows of width doubles."""
    for i in range(count):
        for c in range(0, width, 8):
            row = start + 2 * i * width + c
            e = load(matrices, row + width, EIGHT) + load(stored, o + width + c, EIGHT)
            m = load(matrices, row, EIGHT) * load(stored, o + c, EIGHT) * (message[i] * scale)
            at = start // 2 + i * width + c
            two = power_of_two(e + spread(message[width + i] - top, EIGHT))
            store(xi, at, load(xi, at, EIGHT) + m * two)


def plain(width, stored, at, out):
    """Write the message at stored[at:] to out (width,), as proportions; return their sum."""
    return flatten(width, stored, at, out)


@kernel
def flatten(width, stored, at, out):
    """`plain`, for callers in this module."""
    result = 0.0
    for c in range(0, width, 8):
        u = load(stored, at + c, EIGHT) * power_of_two(load(stored, at + width + c, EIGHT))
        store(out, c, u)
        result += total(u)
    return result


def weigh(width, stored, at, transposed, column, out):
    """Write message(k) A(k, j) to out (width,), to a common factor; row j of A' starts at column; return their sum."""
    none, top, size = spread(NONE, EIGHT), NONE, 0.0
    for c in range(0, width, 8):
        m = load(stored, at + c, EIGHT) * load(transposed, column + c, EIGHT)
        e = load(stored, at + width + c, EIGHT) + load(transposed, column + width + c, EIGHT)
        top = max(top, peak(choose(m, e, none)))
    for c in range(0, width, 8):
        m = load(stored, at + c, EIGHT) * load(transposed, column + c, EIGHT)
        e = load(stored, at + width + c, EIGHT) + load(transposed, column + width + c, EIGHT)
        u = m * power_of_two(e - spread(top, EIGHT))
        store(out, c, u)
        size += total(u)
    return size


def unit(width, count, carry):
    """Write the prediction from which the backward pass sets out, one for each of K states, to carry."""
    for k in range(width):
        carry[k] = 1.0 if k < count else 0.0
        carry[width + k] = 0.0 if k < count else NONE
    return 0.0


def finish(width, A, moves, count, in_order, xi, transition):
    """Add xi, transposed unless in_order, to transition (S * K * K,)."""
    for s in range(moves):
        for i in range(count):
            for j in range(count):
                at, across = (s * width + i) * width + j, (s * width + j) * width + i
                transition[(s * count + i) * count + j] += xi[at] if in_order else xi[across]
    return 0.0
