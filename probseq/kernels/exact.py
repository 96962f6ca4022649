"""Forward-backward in numbers of unlimited range: exact for any likelihood ratio, any K, any zeros.

Every probability is m 2**e with m in [1/2, 4), or m = 0, and a whole number e of its own (held as a double, good to
2**53). So no entry is lost however far it falls behind the others: a message may hold 1 beside exp(-100000), and both
are right to the last bits. Unlike logarithms this needs no exp and no log in the loop, and no digits go when the
log-likelihood grows large. A message is `width` numbers m and then `width` numbers e, the largest of which is zero.

The functions are those of `scaled`, for the sequences that module cannot vouch for; the equations are the same. They
work on memory, eight states at a time, so that one compilation serves every K: shape is (width,), a multiple of 8.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import LN2, LN2_HIGH, LN2_LOW, LOG2_E, ZERO
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import (
    choose,
    exponent_of,
    exponential,
    larger,
    load,
    peak,
    power_of_two,
    spread,
    store,
    total,
)

NONE = float(ZERO)
EIGHT = (0,) * 8
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it and taking it off again rounds to a whole number
_LEAST = -1e15


@kernel
def width_of(shape):
    """Padded number of states."""
    return int(shape[0])


@kernel
def message_size(shape):
    """Doubles that a message takes."""
    return 2 * int(shape[0])


@kernel
def split(log_values, first, count, top, message, at):
    """Write exp(log_values[first : first + count] - top) as a message, not levelled, to message[at:].

    exp(x) = m 2**e with e = round(x / ln 2) and m = exp(x - e ln 2) (Cody and Waite, 1980).
    """
    width = (count + 7) // 8 * 8
    for k in range(width):
        message[at + k] = log_values[first + k] - top if k < count else -np.inf
    for c in range(at, at + width, 8):
        x = load(message, c, EIGHT)
        finite = larger(spread(_LEAST, EIGHT), x)
        e = (finite * LOG2_E + spread(_ROUND, EIGHT)) - spread(_ROUND, EIGHT)
        m = exponential((finite - e * LN2_HIGH) - e * LN2_LOW)
        possible = exponential(x)  # zero only for -inf; NaN stays
        store(message, c, choose(possible, m, possible))
        store(message, c + width, choose(possible, e, spread(NONE, EIGHT)))


@kernel
def matrix_tables(shape, log_transition):
    """(A, A') from log_transition (S, K, K): row i of matrix s is a message, at (s * width + i) * 2 * width."""
    width, moves, count = int(shape[0]), log_transition.shape[0], log_transition.shape[1]
    A, transposed = np.zeros(moves * width * 2 * width), np.zeros(moves * width * 2 * width)
    flat, column = log_transition.ravel(), np.empty(count)
    for s in range(moves):
        for i in range(count):
            at = (s * width + i) * 2 * width
            for j in range(count):
                column[j] = flat[(s * count + j) * count + i]
            split(flat, (s * count + i) * count, count, 0.0, A, at)
            split(column, 0, count, 0.0, transposed, at)
    return A, transposed


@kernel
def relative(shape, log_table, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of log_table (R * K,) from row first on, over the largest, whose logarithm is in tops."""
    for s in range(n):
        top = -np.inf
        for k in range(count):
            top = max(top, log_table[(first + s) * count + k])
        tops[s] = top
        split(log_table, (first + s) * count, count, top if top > -np.inf else 0.0, likelihoods, 2 * s * int(shape[0]))


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


@kernel
def start_message(shape, log_law, row, source, carry):
    """Write the first message, exp(log_law) b, to carry; return the logarithm it was divided by; b is source[row:]."""
    split(log_law, 0, log_law.size, 0.0, carry, 0)
    return times(carry, 0, source, row, int(shape[0])) * LN2


@kernel
def advance(shape, count, direction, begin, matrices, block, carry):
    """As `scaled.advance`, of messages of this module; -inf from a step on that no state explains."""
    n, source, rows, moves, stored, scales = block
    width = int(shape[0])
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    twos = 0.0
    for visited in range(n):
        at = 2 * s * width
        if visited == 0 and begin:
            for k in range(2 * width):
                stored[at + k] = carry[k]
        else:
            product(carry, 0, count, matrices, moves[s + enter], width, stored, at)
            twos += times(stored, at, source, rows[s], width)
        for k in range(2 * width):
            carry[k] = stored[at + k]
        scales[s] = twos * LN2
        s += direction
    return twos * LN2


@kernel
def sweep(
    shape, direction, begin, matrices, block, carry, weight, counts, gamma_at_end, next_begin, next_block, next_carry
):
    """As `scaled.sweep`, of messages of this module; xi has the factor A."""
    n, source, rows, moves, stored, _ = block
    ahead, against = matrices
    xi, by_row, table, start, count = counts
    width = int(shape[0])
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    p, g, gamma = np.empty(2 * width), np.empty(2 * width), np.empty(width)
    for visited in range(n):
        o = 2 * s * width
        first = begin and visited == 0
        if first:
            for k in range(2 * width):
                p[k] = carry[k]
        else:
            product(carry, 0, count, ahead, moves[s + enter], width, p, 0)
        for k in range(2 * width):
            g[k] = p[k]
        top = times(g, 0, stored, o, width)
        scale = weight / plain(shape, g, 0, gamma)
        at = rows[s] // 2 if by_row else start + s * count
        for k in range(count):
            gamma[k] *= scale
            table[at + k] = gamma[k] + (table[at + k] if by_row else 0.0)
        if not first:
            add_outer(xi, carry, stored, o, scale, top, ahead, moves[s + enter], count, width)
        for k in range(width):
            if stored[o + k] == 0.0:  # no path leads here: keep it from dwarfing the others
                p[k], p[width + k] = 0.0, NONE
        times(p, 0, source, rows[s], width)
        for k in range(2 * width):
            carry[k] = p[k]
        s += direction
    for k in range(width):
        gamma_at_end[k] = gamma[k]
    if next_block[0]:
        advance(shape, count, -direction, next_begin, against, next_block, next_carry)


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


@kernel
def plain(shape, stored, at, out):
    """Write the message at stored[at:] to out (width,), as proportions; return their sum."""
    width, result = int(shape[0]), 0.0
    for c in range(0, width, 8):
        u = load(stored, at + c, EIGHT) * power_of_two(load(stored, at + width + c, EIGHT))
        store(out, c, u)
        result += total(u)
    return result


@kernel
def weigh(shape, stored, at, transposed, column, out):
    """Write message(k) A(k, j) to out (width,), to a common factor; column is where row j of A' starts."""
    chance = stored[at : at + 2 * int(shape[0])].copy()
    times(chance, 0, transposed, column, int(shape[0]))
    plain(shape, chance, 0, out)


@kernel
def unit(shape, count, carry):
    """Write the prediction from which the backward pass sets out, one for each of K states, to carry."""
    for k in range(int(shape[0])):
        carry[k] = 1.0 if k < count else 0.0
        carry[int(shape[0]) + k] = 0.0 if k < count else NONE


@kernel
def finish(shape, matrices, in_order, xi, transition):
    """Add xi, transposed unless in_order, to transition (S, K, K)."""
    width, count = int(shape[0]), transition.shape[1]
    for s in range(transition.shape[0]):
        for i in range(count):
            for j in range(count):
                at, across = (s * width + i) * width + j, (s * width + j) * width + i
                transition[s, i, j] += xi[at] if in_order else xi[across]
