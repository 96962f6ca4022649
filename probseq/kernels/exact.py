"""Forward-backward in numbers of unlimited range: exact for any likelihood ratio, any K, any zeros.

Every probability is m 2**e with 1 <= m < 2 (or m = 0) and its own integer e, so no entry is ever lost
however far it falls behind the others: a message may hold 1 beside exp(-100000), and both are good to the last
bit. Unlike logarithms this costs no exp in the loop, and no digits when the log-likelihood grows large. The
scaled recursions hand over to this one where a double could underflow (their module says when).

    alpha_1(k) = pi(k) b_1(k)        alpha_t(j) = sum_i alpha_t-1(i) A(i, j) b_t(j)
    beta_T(k)  = 1                   beta_t(i)  = sum_j A(i, j) w_t+1(j),    w_t = b_t beta_t
    gamma_t    = alpha_t beta_t / Z_t,    xi_t(i, j) = alpha_t(i) A(i, j) w_t+1(j) / Z_t,    Z_t = alpha_t . beta_t

(Rabiner 1989, equations 18-27, 37.) Each message is shifted by a power of two of its own; Z_t is taken at each step,
so gamma_t sums to one whatever the scale. Memory: forward messages of one block of BLOCK steps and one
message per block; the others are computed twice.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.bits import LN2_HIGH, LN2_LOW, ZERO, bits_of, float_of, row_at
from probseq.kernels.jit import kernel

BLOCK = 256

_FRACTION = (1 << 52) - 1
_ONE = 1023 << 52


@kernel
def split(log_values, mantissa, exponent):
    """Write exp(log_values) as mantissa * 2**exponent, all three (M,) flat; False if one is NaN or +inf."""
    for i in range(log_values.size):
        value = log_values[i]
        if value == -np.inf:
            mantissa[i], exponent[i] = 0.0, ZERO
        elif not value < np.inf:
            return False
        else:
            twos = math.floor(value * 1.4426950408889634 + 0.5)
            m, e = _normal(math.exp((value - twos * LN2_HIGH) - twos * LN2_LOW))
            mantissa[i], exponent[i] = m, e + np.int64(twos)
    return True


@kernel
def _normal(x):
    """(mantissa, exponent) of a positive normal double, or of zero."""
    bits = bits_of(x)
    if bits == 0:
        return 0.0, np.int64(ZERO)
    return float_of((bits & _FRACTION) | _ONE), (bits >> 52) - 1023


@kernel
def _shift(x, exponent):
    """x * 2**exponent, for exponents up to a few tens; zero when it falls under 2**-1000 of x."""
    if exponent < -1000:
        return 0.0
    return x * float_of((exponent + 1023) << 52)


@kernel
def _level(exponent):
    """Shift the exponents (K,) so that the largest is zero; return the shift, or ZERO if every entry is zero."""
    top = exponent.max()
    if top <= ZERO // 2:
        return np.int64(ZERO)
    for k in range(exponent.size):
        exponent[k] -= top
    return top


@kernel
def _load(first, last, log_table, raw, width, b, b_exp, tops):
    """Likelihoods of steps first..last-1 relative to the likeliest state, whose logarithm goes to tops (BLOCK,)."""
    for s in range(last - first):
        row = log_table[row_at(raw, width, first + s)]
        top = -np.inf
        for k in range(row.size):
            if not row[k] < np.inf:
                top = np.nan
                break
            top = max(top, row[k])
        tops[s] = top
        if top > -np.inf:
            split(row - top, b[s], b_exp[s])
        else:
            b[s], b_exp[s] = 0.0, ZERO


@kernel
def _product(a, a_exp, A, A_exp, out, out_exp):
    """out(j) = sum_i a(i) A(i, j)."""
    states = a.size
    for j in range(states):
        top = np.int64(ZERO)
        for i in range(states):
            top = max(top, a_exp[i] + A_exp[i, j])
        total = 0.0
        if top > ZERO // 2:
            for i in range(states):
                total += _shift(a[i] * A[i, j], a_exp[i] + A_exp[i, j] - top)
        m, e = _normal(total)
        out[j] = m
        out_exp[j] = e + top if m > 0.0 else np.int64(ZERO)


@kernel
def _times(a, a_exp, b, b_exp, out, out_exp):
    """out = a * b, element by element."""
    for k in range(a.size):
        m, e = _normal(a[k] * b[k])
        out[k] = m
        out_exp[k] = a_exp[k] + b_exp[k] + e if m > 0.0 else np.int64(ZERO)


@kernel
def _sum(a, a_exp):
    """Sum of a message whose largest exponent is zero."""
    total = 0.0
    for k in range(a.size):
        total += _shift(a[k], a_exp[k])
    return total


@kernel
def forward_block(first, last, start, problem, carry, carry_exp, a, a_exp, b, b_exp, tops, scales):
    """Messages alpha of steps first..last-1 into a, a_exp (BLOCK, K); the shift of each step into scales (BLOCK,).

    carry, carry_exp (K,) hold alpha of step first - 1, or the initial law when first == start; they end as alpha of
    step last - 1. Returns False at a step that no state can explain, where scales holds ZERO.
    """
    A, A_exp, log_table, e_raw, e_width, t_raw, t_width = problem
    _load(first, last, log_table, e_raw, e_width, b, b_exp, tops)
    for s in range(last - first):
        if first + s > start:
            move = row_at(t_raw, t_width, first + s - 1) if t_width else 0
            _product(carry, carry_exp, A[move], A_exp[move], a[s], a_exp[s])
            _times(a[s], a_exp[s], b[s], b_exp[s], a[s], a_exp[s])
        else:
            _times(carry, carry_exp, b[s], b_exp[s], a[s], a_exp[s])
        scales[s] = _level(a_exp[s])
        if scales[s] == ZERO:
            return False
        carry[:], carry_exp[:] = a[s], a_exp[s]
    return True


@kernel
def backward_block(first, last, end, problem, w, w_exp, a, a_exp, b, b_exp, weight, gamma, xi):
    """gamma (BLOCK, K) of steps first..last-1, and weight * xi of the moves that leave them, added to xi (S, K, K).

    w, w_exp (K,) hold w of step last (unused when last == end), and end as w of step first.
    """
    A, A_exp, _, _, _, t_raw, t_width = problem
    states = w.size
    beta, beta_exp = np.ones(states), np.zeros(states, np.int64)
    g, g_exp = np.empty(states), np.empty(states, np.int64)
    for s in range(last - first - 1, -1, -1):
        inside = first + s < end - 1
        move = row_at(t_raw, t_width, first + s) if t_width and inside else 0
        if inside:
            _product(w, w_exp, A[move].T, A_exp[move].T, beta, beta_exp)
        _times(a[s], a_exp[s], beta, beta_exp, g, g_exp)
        top = _level(g_exp)
        scale = 1.0 / _sum(g, g_exp)
        for i in range(states):
            gamma[s, i] = _shift(g[i], g_exp[i]) * scale
        if inside:
            for i in range(states):
                for j in range(states):
                    e = a_exp[s, i] + A_exp[move, i, j] + w_exp[j] - top
                    xi[move, i, j] += _shift(a[s, i] * A[move, i, j] * w[j], e) * scale * weight
        _times(beta, beta_exp, b[s], b_exp[s], w, w_exp)
        _level(w_exp)
