"""The backward pass of the hidden semi-Markov chain, which joins the forward one to expected counts.

With W, X, tau and S of `semi_markov_forward`, V_t(k) the likelihood of x_t..x_T given that a segment of k begins at t,
and values "in the unit of W", that is, times S:

    U_t(k) = S_t(k) sum_j A(k, j) V_{t+1}(j)                a segment of k ends with t < T
    H_t(k) = (1 - q_k) U_t(k) + q_k H_{t+1}(k)              it has lasted D steps or more at t
    Q_t(u) = Q_{t+1}(u) + p_k(t - u + 1) U_t(k)             it began at u and has lasted fewer; V_u = Q_u(u) / S_{u-1}

A segment that the end of the data cuts off may last on: U_t = S_T for all t >= T. The probabilities given the data are
then products such as W_u p(d) U_{u+d-1} / L, and p(z_t = k | x) = [sum_u W_u Q_t(u) + tau_t H_t] / L: sums of positive
terms, so that nothing cancels. Q is kept where W is: the recursion moves nothing and is one multiply-add a duration.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.across import peak, total
from probseq.kernels.bits import row_at
from probseq.kernels.jit import kernel
from probseq.kernels.lanes import larger, load, power_of_two, spread, store
from probseq.kernels.semi_markov_forward import ROOM, pairs
from probseq.kernels.semi_markov_numbers import EIGHT, NONE, join, leaf, normal, plus, quotient, two_to


@kernel
def new_back(size, K, D):
    """Q (K, size + D + ROOM), V (2, K) padded to eights, and H, the Q of the first segment and U (2, K)."""
    V = np.zeros((2, (K + 7) // 8 * 8))
    V[1] = NONE
    return pairs(K, size + D + ROOM), V, np.empty((2, K)), np.empty((2, K)), np.empty((2, K))


@kernel
def new_sums(log_transition, D, rows):
    """Room to add up counts: durations below D, D, those of the first segment, stays and leaves, moves, emissions."""
    S, K, _ = log_transition.shape
    small = np.zeros((2, K))
    moves = np.zeros((S * K, (K + 7) // 8 * 8))
    return np.zeros((K, D - 1 + ROOM)), np.zeros(K), np.zeros((K, D)), small, moves, np.zeros((rows, K))


@leaf
def combine(draw, block, before, opening, back, bounds, low, n, evidence, weight, sums, by_step, gamma):
    """Add the counts of steps low .. low + n - 1, last step first; gamma (K,) is weight * p(z_low = k | x) at the end.

    before (7, K): carry before the block. back: from `new_back`, as the later block left it. bounds: first step of the
    sequence and the one after its last. by_step (T, K) is overwritten with gamma, unless it is empty.
    """
    indices, V, Sm = draw[9], back[1], block[1]
    K, size = gamma.size, Sm[0].shape[0]
    moves, emission = sums[4], sums[5]
    for s in range(n - 1, -1, -1):
        t = low + s
        if t < bounds[1] - 1:
            matrix = row_at(indices[2], indices[3], t) * K if indices[3] else 0
            leave(draw[0], matrix, block, s, back, evidence, weight, moves)
        for k in range(K):
            if block[4][s, k] == t:
                clear(back, k, size - 1 - s, draw[3][0].shape[1])
                gamma[k] = 0.0
            else:
                gamma[k] = combine_state(draw, block, opening, back, bounds, t, s, k, evidence, weight, sums)
        for k in range(K):
            m, e = back[0][0][k, size - 1 - s], back[0][1][k, size - 1 - s]
            if s > 0:
                V[0, k], V[1, k] = quotient(m, e, Sm[0][s - 1, k], Sm[1][s - 1, k])
            else:
                V[0, k], V[1, k] = quotient(m, e, before[0, k], before[1, k])
        if by_step.size:
            for k in range(K):
                by_step[t, k] = gamma[k]
        else:
            row = row_at(indices[0], indices[1], t)
            for k in range(K):
                emission[row, k] += gamma[k]


@leaf
def leave(A, first, block, s, back, evidence, weight, moves):
    """U of a step from V of the next one, and the moves between them; eight states at a time."""
    (Am, Ae), (Sm, Se), (Xm, Xe) = A, block[1], block[2]
    _, V, _, _, U = back
    width = V.shape[1]
    for i in range(U.shape[1]):
        row, tops, sums = (first + i) * width, spread(2.0 * NONE, EIGHT), spread(0.0, EIGHT)
        for c in range(0, width, 8):
            tops = larger(tops, load(Ae, row + c, EIGHT) + load(V, width + c, EIGHT))
        top = peak(tops)
        share = weight * (Xm[s, i] / evidence[0]) * two_to(min(Xe[s, i] + top - evidence[1], 1000.0))
        for c in range(0, width, 8):
            scale = power_of_two((load(Ae, row + c, EIGHT) + load(V, width + c, EIGHT)) - spread(top, EIGHT))
            term = (load(Am, row + c, EIGHT) * load(V, c, EIGHT)) * scale
            store(moves, row + c, load(moves, row + c, EIGHT) + term * share)
            sums = sums + term
        m, e = normal(total(sums), top)
        U[0, i], U[1, i] = normal(m * Sm[s, i], e + Se[s, i])


@leaf
def clear(back, k, at, D):
    """A step that k cannot emit: every segment of k that covers it has value zero."""
    (Qm, Qe), _, H, Q1, _ = back
    for d in range(D):
        Qm[k, at + d], Qe[k, at + d] = 0.0, NONE
    H[0, k], H[1, k], Q1[0, k], Q1[1, k] = 0.0, NONE, 0.0, NONE


@leaf
def combine_state(draw, block, opening, back, bounds, t, s, k, evidence, weight, sums):
    """Take Q, H and that of the first segment to step t = low + s, add the counts; weight * p(z_t = k | x)."""
    _, (pm, pe), last, f, tail, _, _, _, _, _ = draw
    (Wm, We), S, _, (tm, te), bads = block
    (Qm, Qe), _, H, Q1, U = back
    durations, longest, firsts, tails, _, _ = sums
    D, at, age, bad = f[0].shape[1], S[0].shape[0] - 1 - s, t - bounds[0] + 1, np.int64(bads[s, k])
    span, w = t - max(bad, bounds[0]), weight / evidence[0]
    early, cm, ce = bad < bounds[0] and age <= D, 0.0, NONE
    um, ue = 0.0, NONE
    if t == bounds[1] - 1:
        censor(draw, block, opening, back, bounds, t, s, k, early, evidence, w, sums)
    else:
        um, ue = U[0, k], U[1, k]
        cm, ce = w * um, ue - evidence[1]
        lm, le = normal(tail[0][1, k] * um, tail[1][1, k] + ue)
        tails[1, k] += w * tm[s, k] * lm * two_to(te[s, k] + le - evidence[1])
        if tail[0][0, k] != 0.0:
            hm, he = tail[0][0, k] * H[0, k], tail[1][0, k] + H[1, k]
            tails[0, k] += w * tm[s, k] * hm * two_to(te[s, k] + he - evidence[1])
            lm, le = plus(hm, he, lm, le)
        H[0, k], H[1, k] = lm, le
        hm, he = H[0, k], H[1, k] - evidence[1]
        if span >= D:
            e = We[k, at + D - 1] + last[1][k, 0] + he
            longest[k] += w * Wm[k, at + D - 1] * last[0][k, 0] * hm * two_to(e)
        if early and age < D:
            factor = f[0][k, age - 1], f[1][k, age - 1]
            firsts[k, age - 1] += opening[0, k] * factor[0] * cm * two_to(opening[1, k] + factor[1] + ce)
            Q1[0, k], Q1[1, k] = plus(Q1[0, k], Q1[1, k], factor[0] * um, factor[1] + ue)
        elif early:
            firsts[k, D - 1] += w * opening[0, k] * f[0][k, D - 1] * hm * two_to(opening[1, k] + f[1][k, D - 1] + he)
    if age == D:
        Q1[0, k], Q1[1, k] = normal(f[0][k, D - 1] * H[0, k], f[1][k, D - 1] + H[1, k])
    Qm[k, at + D - 1], Qe[k, at + D - 1] = normal(last[0][k, 0] * H[0, k], last[1][k, 0] + H[1, k])
    q, p = (Qm[k], Qe[k]), (pm[k], pe[k])
    n = min(span, D - 1)
    gamma = w * join(q, (Wm[k], We[k]), p, at, n, um, ue, cm, ce, -evidence[1], durations[k])
    gamma += w * tm[s, k] * H[0, k] * two_to(te[s, k] + H[1, k] - evidence[1])
    if early and age < D:
        gamma += w * opening[0, k] * Q1[0, k] * two_to(opening[1, k] + Q1[1, k] - evidence[1])
    return gamma


@leaf
def censor(draw, block, opening, back, bounds, t, s, k, early, evidence, w, sums):
    """Q, H and that of the first segment at the last step, and the counts of the segments it cuts off."""
    _, (pm, pe), last, f, _, beyond, beyond_first, _, _, _ = draw
    (Wm, We), (Sm, Se), _, _, bads = block
    (Qm, Qe), _, H, Q1, _ = back
    durations, longest, firsts, _, _, _ = sums
    D, at, age, m, e = f[0].shape[1], Sm.shape[0] - 1 - s, t - bounds[0] + 1, Sm[s, k], Se[s, k]
    span, level = t - max(np.int64(bads[s, k]), bounds[0]), e - evidence[1]
    H[0, k], H[1, k], Q1[0, k], Q1[1, k] = m, e, 0.0, NONE
    rm, re = 0.0, NONE  # all that began at most d steps ago
    for d in range(D):
        if d < span:
            rm, re = plus(rm, re, Wm[k, at + d], We[k, at + d])
        if d < D - 1:
            Qm[k, at + d], Qe[k, at + d] = normal(m * beyond[0][k, d], e + beyond[1][k, d])
            durations[k, d] += w * m * rm * pm[k, d] * two_to(re + pe[k, d] + level)
    longest[k] += w * m * rm * last[0][k, 0] * two_to(re + last[1][k, 0] + level)
    if early:
        Q1[0, k], Q1[1, k] = normal(m * beyond_first[0][k, age - 1], e + beyond_first[1][k, age - 1])
        for d in range(age - 1, D):
            firsts[k, d] += w * m * opening[0, k] * f[0][k, d] * two_to(opening[1, k] + f[1][k, d] + level)


@leaf
def move_values(back, D):
    """Take the values of what began before a block to where the earlier block has them."""
    (Qm, Qe), size = back[0], back[0][0].shape[1] - D - ROOM
    for k in range(Qm.shape[0]):
        for d in range(D):
            Qm[k, d], Qe[k, d] = Qm[k, size + d], Qe[k, size + d]


@leaf
def drain(sums, transition, duration, first, stay, leaves, emission):
    """Add what was added up to the results, so that rounding does not grow with the number of steps, and empty it."""
    durations, longest, firsts, tails, moves, rows = sums
    S, K, D = transition.shape[0], duration.shape[0], duration.shape[1]
    for k in range(K):
        for d in range(D):
            duration[k, d] += durations[k, d] if d < D - 1 else longest[k]
            first[k, d] += firsts[k, d]
        stay[k] += tails[0, k]
        leaves[k] += tails[1, k]
    for r in range(S * K):
        for j in range(K):  # the rest of a row is padding
            transition[r // K, r % K, j] += moves[r, j]
    for r in range(rows.shape[0]):
        for k in range(K):
            emission[r, k] += rows[r, k]
    for table in (durations, firsts, tails, moves, rows):
        table[:] = 0.0
    longest[:] = 0.0
