"""Forward-backward in plain doubles, a register for each message: the recursions that nearly every call runs.

    forward:   alpha_t = (alpha_t-1 A) b_t      backward:   w_t = (w_t+1 A') b_t,   w_T = b_T

so with the transposed matrix and time reversed the backward recursion IS the forward one, and `advance` does both.
`sweep` joins the two: beside a running message m it reads the stored messages o of the other direction,
    prediction p = m A (or m A'),   Z = p . o,   gamma_t = p o / Z,   xi(i, j) = A(i, j) sum_t m(i) o(j) / Z
(Rabiner 1989, equations 27 and 37). Z is taken at each step, so gamma_t sums to one whatever the scale of the messages,
which is brought back to one whenever it leaves 1e-20 .. 1e20: so seldom that it costs nothing. While it joins one
block, `sweep` computes the messages that it will want for the next: two chains of dependent operations keep the
processor busy where one would leave it waiting.

Why no number is silently wrong. b_t is relative to its largest entry, and `exponential` keeps a positive entry at
1e-200 or more: an error of at most 1e-200 where the true value is smaller still. Say that at every step (i) each entry
of the prediction p is zero or at least TINY = 1e-60, and (ii) the sum of p b is at least TINY. Messages sum to at most
1e20, so relative to their sum both hold with 1e-80. Then
- a positive entry of alpha is at least 1e-260 and never becomes zero: alpha_t(k) = 0 only where no path leads;
- the floor under b moves alpha_t by at most 1e-200 / 1e-80 = 1e-120 of its sum, by (ii), and so the next prediction,
  whose positive entries are at least 1e-80 of its sum by (i), by a factor of 1 + K 1e-40 at most;
- beta_t(k) <= 2 K 1e80 Z_t wherever alpha_t(k) > 0, because beta_t(k) is made of entries w_t+1(j) that count in Z_t
  with a weight p_t+1(j) of 1e-80 or more: the error of 1e-120 in alpha is one of 2 K 1e-40 in gamma. Where
  alpha_t(k) = 0, beta_t(k) is set to zero, lest it drive the others out of range.
If every entry of A is at least TINY, (i) and (ii) hold by themselves, but for a step that no state explains. In a
chain with structural zeros a state may fall behind without end: left-right chains, separate regimes. Then (i) or (ii)
fails, `advance` returns NaN, and the sequence is done again by `exact`, which has no range to leave.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.across import add_outer, peak, product, total
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import any_between, choose, exponential, load, load_row, spread, store, store_row

TINY, SMALL, LARGE, HUGE = 1e-60, 1e-20, 1e20, 1e60
EIGHT, SIXTEEN = (0,) * 8, (0,) * 16


@kernel
def relative(shape, log_table, count, first, n, likelihoods, tops):
    """Likelihoods of n rows of log_table (R * K,) from row first on, over the largest, whose logarithm is in tops."""
    width = len(shape)
    for s in range(n):
        row = load_row(log_table, (first + s) * count, count, -np.inf, shape)
        top = peak(row)
        tops[s] = top
        store(likelihoods, s * width, row - spread(top if top > -np.inf else 0.0, shape))
    for i in range(0, n * width, 8):
        store(likelihoods, i, exponential(load(likelihoods, i, EIGHT)))


@kernel
def factor_of(size):
    """What brings a message of this sum back to one; NaN when rule (ii) cannot be vouched for."""
    return 1.0 / size if TINY < size < HUGE else math.nan


@kernel
def advance(shape, count, direction, begin, matrices, block, carry):
    """Messages of one direction over a block of n steps; that of step s goes to stored[s * width:].

    Args:
        count: K, which only `wide` and `exact` want to know.
        direction: 1 forward, -1 backward.
        begin: carry holds the message of the first step visited, not of the step before it.
        matrices (S * width * width,): A for direction 1, A' for -1.
        block: (n, source, rows (n,), moves (n + 1,), stored, scales (n,), room): the likelihoods of step s are
            source[rows[s]:], the matrix of the move into it starts at moves[s]; room is for `wide` and `exact`.
        carry (width,): the last message before the block; ends as that of the last step visited.

    Returns:
        The logarithm of what the messages were divided by, as it stands after each step in scales; NaN if the
        sequence needs `exact`.
    """
    n, source, rows, moves, stored, scales, _ = block
    width = len(shape)
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    u = load(carry, 0, shape)
    if begin:
        store(stored, s * width, u)
        scales[s] = 0.0
        s += direction
    scale, lost = 0.0, 0
    for _ in range(1 if begin else 0, n):
        p = product(u, matrices, moves[s + enter])
        lost |= any_between(p, 0.0, TINY)
        u = p * load(source, rows[s], shape)
        size = total(u)
        if not SMALL < size < LARGE:
            factor = factor_of(size)
            u = u * factor
            scale -= math.log(factor)
        store(stored, s * width, u)
        scales[s] = scale
        s += direction
    store(carry, 0, u)
    return math.nan if lost else scale


@kernel
def sweep(
    shape, direction, begin, matrices, block, carry, weight, counts, gamma_at_end, next_begin, next_block, next_carry
):
    """Join a running message with the stored ones of a block, and compute the stored ones of the next block.

    Args:
        begin: carry predicts the first step visited; matrices: (A, A') along direction and against; weight: of counts.
        block, carry: as in `advance`; stored holds messages of the other direction.
        counts: (xi (S * width * width,) in the order (m, o), by_row, table, start, K): gamma of step s is added to
            table[rows[s]:] if by_row, else written to table[start + s * K:].
        gamma_at_end (width,), next_*: gets weight * gamma of the last step; as in `advance`, against direction.
    """
    n, source, rows, moves, stored, _, room = block
    next_n, next_source, next_rows, next_moves, next_stored, _, _ = next_block
    ahead, against = matrices
    xi, by_row, table, start, count = counts
    width = len(shape)
    enter = 0 if direction > 0 else 1
    s = 0 if direction > 0 else n - 1
    next_s = next_n - 1 if direction > 0 else 0
    m, u = load(carry, 0, shape), load(next_carry, 0, shape)
    zero, runs = spread(0.0, shape), 0
    gamma = zero
    for i in range(n):
        other = load(stored, s * width, shape)
        first = begin and i == 0
        p = m if first else product(m, ahead, moves[s + enter])
        p = choose(other, p, zero)
        gamma = p * other
        scale = weight / total(gamma)
        gamma = gamma * scale
        if not first and width <= 8:
            add_outer(xi, moves[s + enter], m, other * scale)
        elif not first:  # too much to add up in memory at every step
            store(room, runs * width, m)
            store(room, (n + runs) * width, other * scale)
            runs += 1
            if i == n - 1 or moves[s + enter] != moves[s + enter + direction]:
                add_outers(width, count, runs, room, 0, n * width, xi, moves[s + enter])
                runs = 0
        if by_row:
            store(table, rows[s], load(table, rows[s], shape) + gamma)
        else:
            store_row(table, start + s * count, count, gamma)
        m = p * load(source, rows[s], shape)
        size = total(m)
        if not SMALL < size < LARGE:
            m = m * (1.0 / size)
        s += direction
        if i < next_n:
            if not (next_begin and i == 0):
                q = product(u, against, next_moves[next_s + 1 - enter])
                u = q * load(next_source, next_rows[next_s], shape)
                size = total(u)
                if not SMALL < size < LARGE:
                    u = u * factor_of(size)
            store(next_stored, next_s * width, u)
            next_s -= direction
    store(carry, 0, m)
    store(gamma_at_end, 0, gamma)


@kernel
def add_outers(width, count, n, room, left, right, xi, start):
    """xi(i, j) += sum_s left(s, i) right(s, j), in the matrix at start; left and right: places of n rows in room."""
    for i in range(0, count, 4):
        for c in range(0, width, 16):
            at = start + i * width + c
            x0, x1 = load(xi, at, SIXTEEN), load(xi, at + width, SIXTEEN)
            x2, x3 = load(xi, at + 2 * width, SIXTEEN), load(xi, at + 3 * width, SIXTEEN)
            for s in range(n):
                row, column = load(room, right + s * width + c, SIXTEEN), left + s * width + i
                x0, x1 = x0 + row * room[column], x1 + row * room[column + 1]
                x2, x3 = x2 + row * room[column + 2], x3 + row * room[column + 3]
            store(xi, at, x0)
            store(xi, at + width, x1)
            store(xi, at + 2 * width, x2)
            store(xi, at + 3 * width, x3)
