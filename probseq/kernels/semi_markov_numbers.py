"""Numbers of unlimited range for the semi-Markov recursions: m 2**e, with m in [1, 2) or zero, and a whole number e.

A segment that is hopeless now may be the only one that the data allow a hundred steps later, so no entry may be lost
however far it falls behind: a message may hold 1 beside exp(-100000). e is held as a double, exact to 2**53; the number
zero is (0, NONE). A product needs no exp and no log. Arrays keep m and e apart and are worked on eight at a time, with
room for eight more numbers at their end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from probseq.kernels.across import peak, total
from probseq.kernels.bits import LN2, LN2_HIGH, LN2_LOW, LOG2_E, ZERO, bits_of, float_of
from probseq.kernels.jit import _SHARED, _njit
from probseq.kernels.lanes import choose, exponent_of, larger, load, load_row, power_of_two, spread, store, store_row

NONE = float(ZERO)
EIGHT = (0,) * 8


def leaf(function: Callable) -> Any:
    """Compile a part of a recursion, as `jit.kernel`, without the counting of references to arrays.

    A tuple of twenty arrays is handed to a function for every step and state, and counting each takes longer than the
    function. Such a function may not make an array.
    """
    return _njit(**_SHARED, no_cpython_wrapper=True, _nrt=False, forceinline=True)(function)


@leaf
def normal(m, e):
    """m 2**e as a number, for a sum or product m of a few thousand of them."""
    bits = bits_of(m)
    n = (bits >> 52) - 1023
    if n < -1000 or n > 1000:
        return (0.0, NONE) if m == 0.0 else (math.nan, 0.0)
    return float_of(bits - (n << 52)), e + n


@leaf
def two_to(n):
    """2**n of a whole number up to 1023; zero under -1022."""
    return float_of((np.int64(n) + 1023) << 52) if n > -1023.0 else 0.0


@leaf
def exp_of(x):
    """exp(x) as a number; exp(-inf) is zero, and NaN or +inf give NaN."""
    if x == -np.inf:
        return 0.0, NONE
    n = math.floor(x * LOG2_E)
    return normal(math.exp((x - n * LN2_HIGH) - n * LN2_LOW), n)


@leaf
def log_of(m, e):
    """Logarithm of a number."""
    return math.log(m) + e * LN2 if m != 0.0 else -np.inf


@leaf
def quotient(a, x, b, y):
    """a 2**x / b 2**y, as a number."""
    return normal(a / b, x - y)


@leaf
def add(a, x, b, y):
    """a 2**x + b 2**y, with any mantissa."""
    top = max(x, y)
    return a * two_to(x - top) + b * two_to(y - top), top


@leaf
def plus(a, x, b, y):
    """a 2**x + b 2**y, as a number."""
    m, e = add(a, x, b, y)
    return normal(m, e)


@leaf
def normals(values, exponents):
    """Lanes of numbers from positive mantissas, or zero, of any size."""
    e = exponent_of(values)
    zero, none = spread(0.0, EIGHT), spread(NONE, EIGHT)
    e = choose(values, e, zero)
    return values * power_of_two(zero - e), choose(values, exponents + e, none)


@leaf
def exp_table(log_values, mantissas, exponents):
    """Write exp of the leading entries of each row of log_values (R, C) to rows of (R, C + room), zeros after them."""
    for r in range(log_values.shape[0]):
        for c in range(mantissas.shape[1]):
            if c < log_values.shape[1]:
                mantissas[r, c], exponents[r, c] = exp_of(log_values[r, c])
            else:
                mantissas[r, c], exponents[r, c] = 0.0, NONE


@leaf
def dot(a, x, at, b, y, n):
    """sum_d a[at + d] 2**x[at + d] b[d] 2**y[d] over d < n, with any mantissa; b and y are zero beyond their end."""
    tops, whole = spread(NONE, EIGHT), n - n % 8
    for d in range(0, whole, 8):
        tops = larger(tops, load(x, at + d, EIGHT) + load(y, d, EIGHT))
    if whole < n:
        tops = larger(tops, load_row(x, at + whole, n - whole, NONE, EIGHT) + load(y, whole, EIGHT))
    top = peak(tops)
    if not top > 0.5 * NONE:
        return 0.0, NONE
    tops, sums = spread(top, EIGHT), spread(0.0, EIGHT)
    for d in range(0, whole, 8):
        scale = power_of_two((load(x, at + d, EIGHT) + load(y, d, EIGHT)) - tops)
        sums = sums + (load(a, at + d, EIGHT) * load(b, d, EIGHT)) * scale
    if whole < n:
        scale = power_of_two((load_row(x, at + whole, n - whole, NONE, EIGHT) + load(y, whole, EIGHT)) - tops)
        sums = sums + (load_row(a, at + whole, n - whole, 0.0, EIGHT) * load(b, whole, EIGHT)) * scale
    return total(sums), top


@leaf
def _grow(values, exponents, b, y, u, v):
    """values 2**exponents + b 2**y u 2**v, lane by lane: m and e, the larger of both exponents."""
    added = y + v
    top = larger(exponents, added)
    return values * power_of_two(exponents - top) + (b * u) * power_of_two(added - top), top


@leaf
def join(q, w, p, at, n, u, v, c, z, shift, counts):
    """Add p(d) U to Q(d), and W(d) p(d) C to counts[d], for d < n; sum_d W(d) Q(d) 2**shift with the grown Q.

    q, w, p: pairs of arrays; q and w are read from `at` on, p from 0 on. U = u 2**v, C = c 2**z. Neither sum exceeds a
    few, so that what is lost beneath 2**-1022 is nothing.
    """
    (qm, qe), (wm, we), (pm, pe) = q, w, p
    um, ue, cm, ce = spread(u, EIGHT), spread(v, EIGHT), spread(c, EIGHT), spread(z, EIGHT)
    sums, level, whole = spread(0.0, EIGHT), spread(shift, EIGHT), n - n % 8
    for d in range(0, whole, 8):
        b, y = load(pm, d, EIGHT), load(pe, d, EIGHT)
        m, e = _grow(load(qm, at + d, EIGHT), load(qe, at + d, EIGHT), b, y, um, ue)
        store(qm, at + d, m)
        store(qe, at + d, e)
        a, x = load(wm, at + d, EIGHT), load(we, at + d, EIGHT)
        sums = sums + (a * m) * power_of_two((x + e) + level)
        store(counts, d, load(counts, d, EIGHT) + ((a * b) * cm) * power_of_two((x + y) + ce))
    if whole < n:
        at, rest = at + whole, n - whole
        b, y = load(pm, whole, EIGHT), load(pe, whole, EIGHT)
        m, e = load_row(qm, at, rest, 0.0, EIGHT), load_row(qe, at, rest, NONE, EIGHT)
        m, e = _grow(m, e, b, y, um, ue)
        store_row(qm, at, rest, m)
        store_row(qe, at, rest, e)
        a, x = load_row(wm, at, rest, 0.0, EIGHT), load_row(we, at, rest, NONE, EIGHT)
        sums = sums + (a * m) * power_of_two((x + e) + level)
        store(counts, whole, load(counts, whole, EIGHT) + ((a * b) * cm) * power_of_two((x + y) + ce))
    return total(sums)
