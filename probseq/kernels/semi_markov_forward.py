"""The forward pass of the hidden semi-Markov chain, in numbers of unlimited range; see `semi_markov` for the model.

With S_t(k) = prod_{s<=t} b_s(k), the likelihood of staying in k since the start, a segment that began at step u with
E_u(k), the joint probability of that and the data before, weighs W_u(k) = E_u(k) / S_{u-1}(k) at every later step. So

    tau_t(k) = W_{t-D+1}(k) p_k(D) + q_k tau_{t-1}(k)                      it has lasted D steps or more
    X_t(k) = S_t(k) [sum_{d<D} W_{t-d+1}(k) p_k(d) + (1 - q_k) tau_t(k)]   a segment of k ends with step t
    E_{t+1}(j) = sum_i X_t(i) A(i, j)

(the explicit-duration recursion of Ferguson 1980 with the products taken out; one multiply-add a state and duration).
A step that k cannot emit ends all of its segments: S steps over it, and `bad` remembers the last such step, behind
which no W is read. The first segment has a duration law of its own, f, and is kept apart.

A sequence is cut into blocks of L steps. W is stored backwards in time, step low + s of a block at L - 1 - s, so that
it is read in the order of the durations, and the D steps before the block stand behind it.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import larger, load, power_of_two, spread, store_row
from probseq.kernels.semi_markov_numbers import (
    EIGHT,
    NONE,
    add,
    dot,
    exp_of,
    exp_table,
    leaf,
    normal,
    normals,
    plus,
    quotient,
)

ROOM = 8  # numbers that may be read beyond the end of a row


@kernel
def pairs(rows, columns):
    """Mantissas and exponents of a table of numbers, not filled."""
    return np.empty((rows, columns)), np.empty((rows, columns))


@kernel
def prepare_draw(log_transition, log_duration, log_first, log_stay, log_leave, log_table, indices):
    """The laws of one draw as pairs of tables of numbers.

    Returns:
        A: (S * K, K), padded to eights; p: (K, D - 1); last: (K, 1), p_k(D); f: (K, D); tail: q and 1 - q, (2, K);
        p's survivor function, sum_{d'>=d} p(d'), (K, D - 1); f's, (K, D); emission: (R, K), or (1, K) room without an
        index; and
        log_table and indices.
    """
    K, D = log_duration.shape
    A, p, last, f = (
        pairs(log_transition.shape[0] * K, (K + 7) // 8 * 8),
        pairs(K, D - 1 + ROOM),
        pairs(K, 1),
        pairs(K, D),
    )
    exp_table(log_transition.reshape(-1, K), A[0], A[1])
    exp_table(log_duration[:, : D - 1], p[0], p[1])
    exp_table(log_duration[:, D - 1 :], last[0], last[1])
    exp_table(log_first, f[0], f[1])
    tail, emission = pairs(2, K), pairs(log_table.shape[0] if indices[1] else 1, K)
    for k in range(K):
        tail[0][0, k], tail[1][0, k] = exp_of(log_stay[k])
        tail[0][1, k], tail[1][1, k] = exp_of(log_leave[k])
    if indices[1]:
        exp_table(log_table, emission[0], emission[1])
    beyond, beyond_first = pairs(K, D - 1 + ROOM), pairs(K, D)
    exp_table(np.full((K, D - 1 + ROOM), -np.inf), beyond[0], beyond[1])
    for k in range(K):
        m, e = last[0][k, 0], last[1][k, 0]
        for d in range(D - 2, -1, -1):
            m, e = plus(m, e, p[0][k, d], p[1][k, d])
            beyond[0][k, d], beyond[1][k, d] = m, e
        m, e = 0.0, NONE
        for d in range(D - 1, -1, -1):
            m, e = plus(m, e, f[0][k, d], f[1][k, d])
            beyond_first[0][k, d], beyond_first[1][k, d] = m, e
    return A, p, last, f, tail, beyond, beyond_first, emission, log_table, indices


@kernel
def new_block(size, K, D):
    """Room for a block: W (K, size + D + ROOM), and S, X and tau (size, K), each a pair, and bad (size, K).

    What belongs to one step is one stretch of memory.
    """
    steps = np.empty((size, 7, K))
    S, X, tau = (steps[:, 0], steps[:, 1]), (steps[:, 2], steps[:, 3]), (steps[:, 4], steps[:, 5])
    return pairs(K, size + D + ROOM), S, X, tau, steps[:, 6]


@leaf
def set_out(log_law, start, carry, opening):
    """Before the first step: carry (7, K) and opening (2, K), the law of the first state.

    carry: S, tau and E, mantissa and exponent each, and bad, all of the step before.
    """
    for k in range(log_law.size):
        opening[0, k], opening[1, k] = exp_of(log_law[k])
        carry[0, k], carry[1, k] = 1.0, 0.0
        carry[2, k], carry[3, k] = 0.0, NONE
        carry[4, k], carry[5, k] = 0.0, NONE
        carry[6, k] = start - 1.0


@leaf
def advance(draw, block, carry, opening, start, low, n):
    """Fill a block with steps low .. low + n - 1 of a sequence that begins at `start`, and take carry along."""
    indices = draw[9]
    _, S, X, tau, bad = block
    K = carry.shape[1]
    size = S[0].shape[0]
    for s in range(n):
        t, row = low + s, 0
        if indices[1]:
            row = row_at(indices[0], indices[1], t)
        else:
            emission, log_table = draw[7], draw[8]
            for k in range(K):
                emission[0][0, k], emission[1][0, k] = exp_of(log_table[t, k])
        for k in range(K):
            X[0][s, k], X[1][s, k] = advance_state(draw, block, carry, opening, start, t, k, row, size - 1 - s)
            S[0][s, k], S[1][s, k], tau[0][s, k], tau[1][s, k] = carry[0, k], carry[1, k], carry[2, k], carry[3, k]
            bad[s, k] = carry[6, k]
        enter(draw[0], row_at(indices[2], indices[3], t) * K if indices[3] else 0, X, s, carry)


@leaf
def advance_state(draw, block, carry, opening, start, t, k, row, at):
    """X_t(k), with W_t(k) written to place `at`, and S, tau and bad taken to step t."""
    _, p, last, f, tail, _, _, emission, _, _ = draw
    (Wm, We), D = block[0], f[0].shape[1]
    b, y = emission[0][row, k], emission[1][row, k]
    if b == 0.0:
        Wm[k, at], We[k, at] = 0.0, NONE
        carry[2, k], carry[3, k], carry[6, k] = 0.0, NONE, t
        return 0.0, NONE
    Sm, Se = carry[0, k], carry[1, k]
    Wm[k, at], We[k, at] = quotient(carry[4, k], carry[5, k], Sm, Se)
    Sm, Se = normal(Sm * b, Se + y)
    carry[0, k], carry[1, k] = Sm, Se
    bad, age = np.int64(carry[6, k]), t - start + 1
    span = t - max(bad, start)  # segments other than the first that may go on
    m, e = dot(Wm[k], We[k], at, p[0][k], p[1][k], min(span, D - 1))
    tm, te = 0.0, NONE
    if span >= D:
        tm, te = normal(Wm[k, at + D - 1] * last[0][k, 0], We[k, at + D - 1] + last[1][k, 0])
    if tail[0][0, k] != 0.0:
        tm, te = plus(tm, te, carry[2, k] * tail[0][0, k], carry[3, k] + tail[1][0, k])
    if bad < start and age <= D:
        im, ie = normal(opening[0, k] * f[0][k, age - 1], opening[1, k] + f[1][k, age - 1])
        if age < D:
            m, e = add(m, e, im, ie)
        else:
            tm, te = plus(tm, te, im, ie)
    carry[2, k], carry[3, k] = tm, te
    m, e = add(m, e, tm * tail[0][1, k], te + tail[1][1, k])
    return normal(m * Sm, e + Se)


@leaf
def enter(A, first, X, s, carry):
    """E of the next step, from X of this one and the matrix whose rows begin at `first`; eight states at a time."""
    (Am, Ae), (Xm, Xe) = A, X
    K = Am.shape[1]
    for c in range(0, carry.shape[1], 8):
        at = first * K + c
        tops, sums = spread(2.0 * NONE, EIGHT), spread(0.0, EIGHT)
        for i in range(carry.shape[1]):
            tops = larger(tops, load(Ae, at + i * K, EIGHT) + spread(Xe[s, i], EIGHT))
        for i in range(carry.shape[1]):
            scale = power_of_two((load(Ae, at + i * K, EIGHT) + spread(Xe[s, i], EIGHT)) - tops)
            sums = sums + (load(Am, at + i * K, EIGHT) * Xm[s, i]) * scale
        m, e = normals(sums, tops)
        n = min(8, carry.shape[1] - c)
        store_row(carry, 4 * carry.shape[1] + c, n, m)
        store_row(carry, 5 * carry.shape[1] + c, n, e)


@leaf
def occupy(draw, block, opening, start, s, low, out):
    """Write p(x_1..x_t, z_t = k) of step t = low + s to out (2, K), as numbers."""
    _, _, _, f, _, beyond, beyond_first, _, _, _ = draw
    (Wm, We), (Sm, Se), _, (tm, te), bads = block
    D, t, at = f[0].shape[1], low + s, Sm.shape[0] - 1 - s
    age = t - start + 1
    for k in range(out.shape[1]):
        bad = np.int64(bads[s, k])
        span = t - max(bad, start)
        if bad == t:
            out[0, k], out[1, k] = 0.0, NONE
            continue
        m, e = dot(Wm[k], We[k], at, beyond[0][k], beyond[1][k], min(span, D - 1))
        m, e = add(m, e, tm[s, k], te[s, k])
        if bad < start and age < D:
            factor = beyond_first[0][k, age - 1], beyond_first[1][k, age - 1]
            m, e = add(m, e, opening[0, k] * factor[0], opening[1, k] + factor[1])
        out[0, k], out[1, k] = normal(m * Sm[s, k], e + Se[s, k])


@leaf
def summed(numbers):
    """Sum of the numbers (2, K), as a number."""
    m, e = 0.0, NONE
    for k in range(numbers.shape[1]):
        m, e = plus(m, e, numbers[0, k], numbers[1, k])
    return m, e


@leaf
def keep_window(block, D):
    """Copy the last D steps of a whole block behind its end, where the next block looks for them."""
    (Wm, We), size = block[0], block[1][0].shape[0]
    for k in range(Wm.shape[0]):
        for d in range(D):
            Wm[k, size + d], We[k, size + d] = Wm[k, d], We[k, d]


@leaf
def block_range(start, end, size, index):
    """First step and number of steps of a block: all are whole but the last."""
    low = start + index * size
    return low, min(size, end - low)
