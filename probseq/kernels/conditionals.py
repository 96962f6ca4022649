"""The emission's part of a Gibbs iteration: log-likelihoods of the rows, and full conditionals given sums over a path.

An emission is a list of units, each an exponential family for one column: statistics of the rows, a stretch of the
parameters of every column of the table, and the numbers of its prior. A row of `units` holds its kind, its first
statistic, its first parameter, its size and its first prior number. A unit's log-likelihood is zero where all its
statistics are zero: that is how missing entries, and rows that are another unit's business, look.

    kind         statistics              parameters        prior numbers
    RATE         s, e                    r                 c, d                           s log r - e r
    PROBABILITY  a, b                    p                 c_1, c_0                       a log p + b log(1 - p)
    SIMPLEX      x_1 .. x_M              p_1 .. p_M        c_1 .. c_M                     sum x_m log p_m
    NORMAL       1, x_1 .. x_D, |x|^2    loc_1 .. , scale  o_1 .. , m_1 .. , s_1 .. , c, d
    GAMMA        1, x, log x             shape, rate       p, q, c, d
    BETA         1, log x, log(1 - x)    a, b              p_1, q_1, p_0, q_0
    TRUNCATED    x, 1                    r                 c, d                           Poisson, given that x >= 1
    WISHART      1, x (D), x x' (D D)    loc (D), L (D D)  o (D), m (D), s (D), df, C (D D)
    LINEAR       v, v v' of v = (x, y)   b_1 .. b_D, scale m (D), s (D), c, d        y ~ Normal(x b, scale), x_1 = 1

The values x of NORMAL and WISHART have had the origin o taken off. Priors: Gamma(c, d) of a rate; Beta and Dirichlet of
probabilities; Normal(m, s) of each loc, InverseGamma(c, d) of a scale; Gammas of both parameters of GAMMA and BETA;
L L' ~ InverseWishart(df, C C').
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels import draws
from probseq.kernels.draws import copy, draw_by_slice, draw_dirichlet, draw_root_precision
from probseq.kernels.jit import kernel
from probseq.kernels.wishart import add_normal_rows, draw_by_precision, draw_covariance, draw_location

RATE, PROBABILITY, SIMPLEX, NORMAL, GAMMA, BETA, TRUNCATED, WISHART, LINEAR = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""Kinds of units."""

LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@kernel
def add_scores(unit, numbers, statistics, theta, column):
    """Add the log-likelihood of every row under the parameters theta (Q,) to a column (R,) of the log table."""
    kind, s, q, size = unit[0], unit[1], unit[2], unit[3]
    if kind in (RATE, TRUNCATED):
        r = theta[q]
        add_linear(statistics[s], math.log(r), column)
        add_linear(statistics[s + 1], -r - (math.log(-math.expm1(-r)) if kind == TRUNCATED else 0.0), column)
    elif kind == PROBABILITY:
        add_linear(statistics[s], math.log(theta[q]), column)
        add_linear(statistics[s + 1], math.log1p(-theta[q]), column)
    elif kind == SIMPLEX:
        for m in range(size):
            add_linear(statistics[s + m], math.log(theta[q + m]), column)
    elif kind == NORMAL:
        constant, half = -size * (math.log(theta[q + size]) + LOG_ROOT_TAU), math.sqrt(0.5) / theta[q + size]
        add_linear(statistics[s], constant, column)
        for d in range(size):
            loc = theta[q + d] - numbers[unit[4] + d]
            here, x = statistics[s], statistics[s + 1 + d]
            for r in range(column.size):
                deviation = (x[r] - loc) * half
                column[r] -= here[r] * deviation * deviation
    elif kind == GAMMA:
        a, b = theta[q], theta[q + 1]
        add_linear(statistics[s], a * math.log(b) - math.lgamma(a), column)
        add_linear(statistics[s + 1], -b, column)
        add_linear(statistics[s + 2], a - 1.0, column)
    elif kind == BETA:
        a, b = theta[q], theta[q + 1]
        add_linear(statistics[s], math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b), column)
        add_linear(statistics[s + 1], a - 1.0, column)
        add_linear(statistics[s + 2], b - 1.0, column)
    elif kind == LINEAR:
        add_regression(size, statistics[s:], theta[q:], column)
    else:
        add_normal_rows(size, numbers[unit[4] :], statistics[s:], theta[q:], column)


@kernel
def add_linear(statistic, natural, column):
    """column += statistic * natural, where zero times minus infinity is zero."""
    if natural > -np.inf:
        for r in range(column.size):
            column[r] += statistic[r] * natural
    else:
        for r in range(column.size):
            if statistic[r] != 0.0:
                column[r] = -np.inf


@kernel
def update(rng, unit, numbers, sums, theta, free):
    """Draw the free parameters of a unit from their full conditionals; theta (Q,) changes.

    Args:
        rng: a numpy Generator.
        unit: a row of `units`.
        numbers: of all priors.
        sums: (P,) of all statistics over the steps of this column.
        theta: (Q,) parameters of this column.
        free: (Q,) whether each is to be drawn.
    """
    kind, q, size = unit[0], unit[2], unit[3]
    sums, numbers = sums[unit[1] :], numbers[unit[4] :]
    if kind == RATE:
        if free[q]:
            theta[q] = rng.standard_gamma(numbers[0] + sums[0]) / (numbers[1] + sums[1])
    elif kind == PROBABILITY:
        if free[q]:
            pair = np.empty(2)
            draw_dirichlet(rng, numbers, sums, pair)
            theta[q] = pair[0]
    elif kind == SIMPLEX:
        if free[q]:
            draw_dirichlet(rng, numbers, sums, theta[q : q + size])
    elif kind == NORMAL:
        update_normal(rng, size, numbers, sums, theta[q:], free[q:])
    elif kind == GAMMA:
        update_gamma(rng, numbers, sums, theta[q:], free[q:])
    elif kind == BETA:
        update_beta(rng, numbers, sums, theta[q:], free[q:])
    elif kind == TRUNCATED:
        if free[q]:
            four = np.array([sums[0], sums[1], numbers[0], numbers[1]])
            width = 3.0 / math.sqrt(1.0 + sums[0])
            theta[q] = math.exp(draw_by_slice(rng, draws.TRUNCATED_RATE, four, math.log(theta[q]), width))
    elif kind == LINEAR:
        update_regression(rng, size, numbers, sums, theta[q:], free[q:])
    else:
        if free[q]:
            draw_location(rng, size, numbers, sums, theta[q:])
        if free[q + size]:
            draw_covariance(rng, size, numbers, sums, theta[q:])


@kernel
def update_normal(rng, size, numbers, sums, theta, free):
    """Each loc given the scale is normal; the inverse of the scale given them is `draw_root_precision`'s."""
    n, scale = sums[0], theta[size]
    squares = sums[1 + size]
    for d in range(size):
        origin, centre, width = numbers[d], numbers[size + d], numbers[2 * size + d]
        if free[d]:
            precision = n / (scale * scale) + 1.0 / (width * width)
            mean = (sums[1 + d] / (scale * scale) + (centre - origin) / (width * width)) / precision
            theta[d] = origin + mean + rng.standard_normal() / math.sqrt(precision)
        loc = theta[d] - origin
        squares += loc * (n * loc - 2.0 * sums[1 + d])
    if free[size]:
        shape, rate = numbers[3 * size], numbers[3 * size + 1]
        theta[size] = 1.0 / draw_root_precision(rng, n * size + shape, rate, max(squares, 0.0))


@kernel
def add_regression(size, statistics, theta, column):
    """Add log Normal(y; x b, scale) of every row to column (R,)."""
    constant, half = -math.log(theta[size]) - LOG_ROOT_TAU, math.sqrt(0.5) / theta[size]
    for r in range(column.size):
        residual = statistics[size, r]
        for d in range(size):
            residual -= theta[d] * statistics[d, r]
        column[r] += statistics[0, r] * constant - (residual * half) * (residual * half)


@kernel
def update_regression(rng, size, numbers, sums, theta, free):
    """All coefficients given the scale, unless they are given; then the scale as in `update_normal`."""
    wide, scale = size + 1, theta[size]
    if free[0]:
        precision, target = np.empty((size, size)), np.empty(size)
        for i in range(size):
            width = numbers[size + i]
            target[i] = sums[wide + i * wide + size] / (scale * scale) + numbers[i] / (width * width)
            for j in range(size):
                precision[i, j] = sums[wide + i * wide + j] / (scale * scale)
            precision[i, i] += 1.0 / (width * width)
        draw_by_precision(rng, precision, target)
        copy(target, theta[:size])
    if free[size]:
        squares = 0.0
        for i in range(wide):
            for j in range(wide):
                left, right = (theta[i] if i < size else -1.0), (theta[j] if j < size else -1.0)
                squares += left * right * sums[wide + i * wide + j]
        shape, rate = numbers[2 * size], numbers[2 * size + 1]
        theta[size] = 1.0 / draw_root_precision(rng, sums[0] + shape, rate, max(squares, 0.0))


@kernel
def update_gamma(rng, numbers, sums, theta, free):
    """The shape with the rate integrated out, by slice; then the rate, a gamma, given the shape."""
    eight = np.array([sums[0], sums[1], sums[2], numbers[0], numbers[1], numbers[2], numbers[3], theta[1]])
    if free[0]:
        target = draws.GAMMA_SHAPE if free[1] else draws.GAMMA_SHAPE_AT_RATE
        width = 3.0 / math.sqrt(1.0 + 0.5 * sums[0])
        theta[0] = math.exp(draw_by_slice(rng, target, eight, math.log(theta[0]), width))
    if free[1]:
        theta[1] = rng.standard_gamma(sums[0] * theta[0] + numbers[2]) / (sums[1] + numbers[3])


@kernel
def update_beta(rng, numbers, sums, theta, free):
    """Slices along both logarithms together, where the conditional is long, and along each of them."""
    eleven = np.empty(11)
    copy(sums, eleven[:3])
    copy(numbers, eleven[3:7])
    width = 3.0 / math.sqrt(1.0 + 0.5 * sums[0])
    for first, second in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
        if (free[0] or first == 0.0) and (free[1] or second == 0.0):
            eleven[7], eleven[8], eleven[9], eleven[10] = theta[0], theta[1], first, second
            move = draw_by_slice(rng, draws.BETA_LINE, eleven, 0.0, width)
            theta[0] *= math.exp(move * first)
            theta[1] *= math.exp(move * second)
