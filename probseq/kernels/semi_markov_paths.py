"""Paths of the hidden semi-Markov chain, drawn segment by segment: from the posterior, backwards, and from the prior.

Given the data, the state and length of the last segment are drawn by their share in L, then, step u - 1 being the end
of the one before, its state i by X_{u-1}(i) A(i, k) and its length d by W_{u-d}(i) p_i(d), and so on (Chib 1996, for
segments). The uniforms of step t serve what is drawn there: length, state, and steps beyond D.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import row_at
from probseq.kernels.jit import entry, kernel
from probseq.kernels.semi_markov_compiled import draw_of, longest_of, new_work, run_again, run_forward
from probseq.kernels.semi_markov_forward import occupy
from probseq.kernels.semi_markov_numbers import log_of, two_to

ENTERED, ENDED, LASTED, CUT = 0, 1, 2, 3


@entry
def sample_range(first, last, tables, offsets, indices, uniforms, evidence, paths):
    """paths (B, T) of items first .. last - 1, drawn by uniforms (B, T, 3); -1 in impossible sequences."""
    N, K, D = offsets.size - 1, tables[2].shape[1], tables[2].shape[2]
    work, room = new_work(longest_of(offsets), True, K, D), (np.empty(max(K, D + 1)), np.empty(max(K, D + 1)))
    for b in range(first // N, (last - 1) // N + 1):
        draw, laws = draw_of(tables, b, indices)
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            start, end = offsets[n], offsets[n + 1]
            evidence[b, n] = 0.0
            if end > start:
                m, e = run_forward(draw, work, laws[n if laws.shape[0] > 1 else 0], start, end)
                evidence[b, n] = log_of(m, e)
                if m > 0.0:
                    trace_back(draw, work, start, end, uniforms[b], room, paths[b])
                else:
                    paths[b, start:end] = -1


@kernel
def trace_back(draw, work, start, end, uniforms, room, path):
    """Draw the path of a sequence that `run_forward` has gone through; room: two arrays of K and of D + 1 numbers."""
    block, size = work[0], work[0][1][0].shape[0]
    t, k, doing = end - 1, np.int64(0), CUT
    for index in range((end - start - 1) // size, -1, -1):
        low, _ = run_again(draw, work, start, end, index)
        while t >= low:
            if doing == ENTERED:
                k = draw_before(draw, block, t, low, k, uniforms[t, 1], room)
                doing = ENDED
            elif doing == LASTED:
                path[t] = k
                doing = draw_stay(draw, work, start, t, low, k, uniforms[t, 2])
                if doing == LASTED:
                    t -= 1
                else:
                    t = fill(path, start, t, draw[3][0].shape[1], k)
                    doing = ENTERED
            else:
                if doing == CUT:
                    k = draw_last(draw, work, start, t, low, uniforms[t, 1])
                d = draw_length(draw, work, start, t, low, k, doing == CUT, uniforms[t, 0], room)
                if d == draw[3][0].shape[1]:
                    doing = LASTED
                else:
                    t = fill(path, start, t, d, k)
                    doing = ENTERED


@kernel
def fill(path, start, t, d, k):
    """Give the d steps that end with t to state k; the step before them. d 0: all from the start of the sequence."""
    before = t - d if d else start - 1
    for step in range(before + 1, t + 1):
        path[step] = k
    return before


@kernel
def draw_number(mantissas, exponents, n, uniform):
    """An index below n with probability in proportion to the numbers, of which one must be positive."""
    top, whole = -np.inf, 0.0
    for i in range(n):
        if mantissas[i] > 0.0:
            top = max(top, exponents[i])
    for i in range(n):
        mantissas[i] = mantissas[i] * two_to(exponents[i] - top) if mantissas[i] > 0.0 else 0.0
        whole += mantissas[i]
    left, chosen = uniform * whole, -1
    for i in range(n):
        if mantissas[i] > 0.0:
            chosen = i
            left -= mantissas[i]
            if left < 0.0:
                break
    return chosen


@kernel
def draw_before(draw, block, t, low, k, uniform, room):
    """The state whose segment ended with step t, given that one of k began at the next."""
    (Am, Ae), (Xm, Xe), indices = draw[0], block[2], draw[9]
    K = Xm.shape[1]
    first = row_at(indices[2], indices[3], t) * K if indices[3] else 0
    for i in range(K):
        room[0][i], room[1][i] = Xm[t - low, i] * Am[first + i, k], Xe[t - low, i] + Ae[first + i, k]
    return draw_number(room[0], room[1], K, uniform)


@kernel
def draw_last(draw, work, start, t, low, uniform):
    """The state of the last step of a sequence."""
    out = np.empty((2, work[2].shape[1]))
    occupy(draw, work[0], work[3], start, t - low, low, out)
    return draw_number(out[0], out[1], out.shape[1], uniform)


@kernel
def draw_length(draw, work, start, t, low, k, cut, uniform, room):
    """Steps up to t of a segment of k that ends with t, or is cut off there; 0 for a first one, D for D or more."""
    _, p, _, f, tail, beyond, beyond_first, _, _, _ = draw
    (Wm, We), (Sm, _), _, (tm, te), bads = work[0]
    opening, m, e, bad = work[3], room[0], room[1], np.int64(bads[t - low, k])
    D, at, age = f[0].shape[1], Sm.shape[0] - 1 - (t - low), t - start + 1
    law, law_first = (beyond, beyond_first) if cut else (p, f)
    n = min(t - max(bad, start), D - 1)
    for d in range(n):
        m[d + 1], e[d + 1] = Wm[k, at + d] * law[0][k, d], We[k, at + d] + law[1][k, d]
    m[0], e[0] = 0.0, 0.0
    if bad < start and age < D:
        m[0], e[0] = opening[0, k] * law_first[0][k, age - 1], opening[1, k] + law_first[1][k, age - 1]
    m[n + 1], e[n + 1] = tm[t - low, k], te[t - low, k]
    if not cut:
        m[n + 1], e[n + 1] = m[n + 1] * tail[0][1, k], e[n + 1] + tail[1][1, k]
    chosen = draw_number(m, e, n + 2, uniform)
    return D if chosen == n + 1 else chosen


@kernel
def draw_stay(draw, work, start, t, low, k, uniform):
    """Of a segment that has lasted D steps or more at step t: LASTED if it had at step t - 1, else ENDED."""
    last, f = draw[2], draw[3]
    (Wm, We), (Sm, _), _, (tm, te), bads = work[0]
    D, at, age = f[0].shape[1], Sm.shape[0] - 1 - (t - low), t - start + 1
    m, e, reached = tm[t - low, k], te[t - low, k], 0.0
    if t - max(np.int64(bads[t - low, k]), start) >= D:
        reached = Wm[k, at + D - 1] * last[0][k, 0] / m * two_to(We[k, at + D - 1] + last[1][k, 0] - e)
    elif age == D:
        reached = 1.0
    return ENDED if uniform < reached or age <= D else LASTED


@entry
def simulate_range(first, last, tables, offsets, indices, uniforms, paths):
    """paths (B, T) of items first .. last - 1, drawn from the chain by uniforms (B, T, 3)."""
    N = offsets.size - 1
    for b in range(first // N, (last - 1) // N + 1):
        laws, A = np.exp(tables[0][b]), np.exp(tables[1][b])
        p, f = np.exp(tables[2][b]), np.exp(tables[3][b])
        for n in range(max(first - b * N, 0), min(last - b * N, N)):
            t, end, k = offsets[n], offsets[n + 1], np.int64(0)
            while t < end:
                if t == offsets[n]:
                    k = draw_index(laws[n if laws.shape[0] > 1 else 0], uniforms[b, t, 1])
                    d = draw_index(f[k], uniforms[b, t, 0]) + 1
                else:
                    k = draw_index(A[row_at(indices[2], indices[3], t - 1) if indices[3] else 0, k], uniforms[b, t, 1])
                    d = draw_index(p[k], uniforms[b, t, 0]) + 1
                log_stay = tables[4][b, k]
                if d == p.shape[1] and log_stay > -np.inf:
                    beyond = math.log1p(-uniforms[b, t, 2]) / log_stay if log_stay < 0.0 else np.inf
                    d += np.int64(min(beyond, end - t))
                until = min(t + d, end)
                for step in range(t, until):
                    paths[b, step] = k
                t = until


@kernel
def draw_index(chances, uniform):
    """An index with the probabilities `chances`."""
    left, chosen = uniform * chances.sum(), 0
    for i in range(chances.size):
        if chances[i] > 0.0:
            chosen = i
            left -= chances[i]
            if left < 0.0:
                break
    return chosen
