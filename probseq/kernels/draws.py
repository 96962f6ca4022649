"""Exact draws that full conditionals are made of, from a numpy Generator inside compiled code.

Dirichlet rows by gammas (in logarithms where a concentration is so small that gammas underflow), the root of a
precision by rejection, and univariate slice sampling by stepping out and shrinking (Neal 2003, figures 3 and 5), which
leaves any density on the line as it is whatever the width of its first step.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import kernel

GAMMA_SHAPE, GAMMA_SHAPE_AT_RATE, BETA_LINE, TRUNCATED_RATE = 0, 1, 2, 3
"""The densities on the line that `draw_by_slice` knows; see `log_density`."""

SMALL = 0.3
"""A concentration below which the gammas of a Dirichlet draw may all underflow."""


@kernel
def copy(source, target):
    """target[i] = source[i] for the length of the target; a slice assignment takes two seconds to compile."""
    for i in range(target.size):
        target[i] = source[i]


@kernel
def draw_dirichlet(rng, prior, counts, row):
    """Fill `row` (M,) with a draw of Dirichlet(prior + counts); an entry whose prior is zero is zero."""
    least, top, total = np.inf, -np.inf, 0.0
    for m in range(row.size):
        if prior[m] > 0.0:
            least = min(least, prior[m] + counts[m])
    for m in range(row.size):
        c = prior[m] + counts[m]
        if prior[m] == 0.0:
            row[m] = 0.0 if least >= SMALL else -np.inf
        elif least >= SMALL:
            row[m] = rng.standard_gamma(c)
        else:  # G(c) = G(c + 1) U^(1 / c)
            row[m] = math.log(rng.standard_gamma(c + 1.0)) - rng.standard_exponential() / c
            top = max(top, row[m])
    for m in range(row.size):
        if least < SMALL:
            row[m] = math.exp(row[m] - top)
        total += row[m]
    for m in range(row.size):
        row[m] /= total


@kernel
def draw_root_precision(rng, shape, linear, quadratic):
    """A draw of the density x^(shape - 1) exp(-linear x - quadratic x^2 / 2) on x > 0.

    It is what an inverse gamma prior on a standard deviation leaves for its inverse. A gamma that touches it at m
    covers it: -x^2 <= m^2 - 2 m x. With m the gamma's own mean at least 7 in 10 are accepted, whatever the numbers.
    """
    touch = 2.0 * shape / (linear + math.sqrt(linear * linear + 4.0 * shape * quadratic))
    rate = linear + quadratic * touch
    while True:
        x = rng.standard_gamma(shape) / rate
        if 0.5 * quadratic * (x - touch) * (x - touch) <= rng.standard_exponential():
            return x


@kernel
def log_density(target, numbers, u):
    """The logarithm of a density of the line at u, up to a constant.

    GAMMA_SHAPE: u = log a of a gamma law, its rate integrated out; numbers (n, sum x, sum log x, p, q, c, d) with the
    priors a ~ Gamma(p, q) and rate ~ Gamma(c, d). GAMMA_SHAPE_AT_RATE: the same at the rate in numbers[7].
    BETA_LINE: a move u along log (a, b) from (a_0, b_0) in the direction (d_1, d_0); numbers (n, sum log x,
    sum log(1 - x), p_1, q_1, p_0, q_0, a_0, b_0, d_1, d_0). TRUNCATED_RATE: u = log r of Poisson counts of at least
    one; numbers (sum x, n, c, d) with r ~ Gamma(c, d).
    """
    if target == TRUNCATED_RATE:
        r = math.exp(u)
        return (numbers[0] + numbers[2]) * u - (numbers[1] + numbers[3]) * r - numbers[1] * math.log(-math.expm1(-r))
    n, p, q = numbers[0], numbers[3], numbers[4]
    if target == BETA_LINE:
        a, b = numbers[7] * math.exp(u * numbers[9]), numbers[8] * math.exp(u * numbers[10])
        law = n * (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) + a * numbers[1] + b * numbers[2]
        return law + p * math.log(a) - q * a + numbers[5] * math.log(b) - numbers[6] * b
    a = math.exp(u)
    known = p * u - q * a - n * math.lgamma(a) + a * numbers[2]
    if target == GAMMA_SHAPE_AT_RATE:
        return known + n * a * math.log(numbers[7])
    joint = n * a + numbers[5]
    return known + math.lgamma(joint) - joint * math.log(numbers[1] + numbers[6])


@kernel
def draw_by_slice(rng, target, numbers, u, width):
    """The next point of a chain on the line that leaves exp(log_density) as it is."""
    level = log_density(target, numbers, u) - rng.standard_exponential()
    left = u - width * rng.random()
    right = left + width
    while log_density(target, numbers, left) > level:
        left -= width
    while log_density(target, numbers, right) > level:
        right += width
    while True:
        proposed = left + (right - left) * rng.random()
        if log_density(target, numbers, proposed) >= level:
            return proposed
        if proposed < u:
            left = proposed
        elif proposed > u:
            right = proposed
        else:  # shrunk to the point itself
            return u
