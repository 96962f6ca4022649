"""The vector normal law inside a Gibbs iteration: rows of a log table, and its two full conditionals.

Arguments are those of the WISHART unit of `conditionals`: sums (1, x, x x') of values less the origin o, parameters
(loc, L), prior numbers (o, m, s, df, C). Given L, loc is normal with precision n (L L')^-1 + diag(s)^-2; given loc,
L L' is inverse Wishart with n more degrees of freedom and the scatter about loc added to C C', drawn as in Bartlett
(1933). Matrices lie row by row in flat arrays.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import kernel

LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@kernel
def add_normal_rows(size, numbers, statistics, theta, column):
    """Add log Normal(x; loc, L L') of every row to column (R,); statistics (P, R)."""
    L, z = theta[size : size + size * size].reshape(size, size), np.empty(size)
    constant = 0.0
    for i in range(size):
        constant -= math.log(L[i, i]) + LOG_ROOT_TAU
    for r in range(column.size):
        if statistics[0, r] == 0.0:
            continue
        total = constant
        for i in range(size):
            z[i] = statistics[1 + i, r] - (theta[i] - numbers[i])
            for j in range(i):
                z[i] -= L[i, j] * z[j]
            z[i] /= L[i, i]
            total -= 0.5 * z[i] * z[i]
        column[r] += total


@kernel
def draw_location(rng, size, numbers, sums, theta):
    """loc given L, into theta[:D]."""
    L = theta[size : size + size * size].reshape(size, size)
    precision, target = np.zeros((size, size)), np.zeros(size)
    inverse = np.zeros((size, size))  # L^-1
    for j in range(size):
        inverse[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, size):
            for k in range(j, i):
                inverse[i, j] -= L[i, k] * inverse[k, j]
            inverse[i, j] /= L[i, i]
    for i in range(size):
        width = numbers[2 * size + i]
        precision[i, i] += 1.0 / (width * width)
        target[i] += (numbers[size + i] - numbers[i]) / (width * width)
        for j in range(size):
            entry = 0.0  # of (L L')^-1
            for k in range(max(i, j), size):
                entry += inverse[k, i] * inverse[k, j]
            precision[i, j] += sums[0] * entry
            target[i] += entry * sums[1 + j]
    draw_by_precision(rng, precision, target)
    for i in range(size):
        theta[i] = target[i] + numbers[i]


@kernel
def draw_covariance(rng, size, numbers, sums, theta):
    """L given loc, into theta[D:]."""
    n, df = sums[0], numbers[3 * size]
    C = numbers[3 * size + 1 :]
    scatter = np.zeros((size, size))
    for i in range(size):
        here = theta[i] - numbers[i]
        for j in range(i + 1):
            there = theta[j] - numbers[j]
            value = sums[1 + size + i * size + j] - here * sums[1 + j] - there * sums[1 + i] + n * here * there
            for k in range(size):
                value += C[i * size + k] * C[j * size + k]
            scatter[i, j] = value
            scatter[j, i] = value
    factor(scatter)
    upper = np.zeros((size, size))  # B, with L B' = C
    for i in range(size):
        upper[i, i] = math.sqrt(2.0 * rng.standard_gamma(0.5 * (df + n - size + i + 1)))
        for j in range(i + 1, size):
            upper[i, j] = rng.standard_normal()
    for i in range(size):
        for j in range(size - 1, -1, -1):
            value = scatter[i, j]
            for k in range(j + 1, size):
                value -= theta[size + i * size + k] * upper[j, k]
            theta[size + i * size + j] = value / upper[j, j]


@kernel
def draw_by_precision(rng, precision, target):
    """Turn target (D,) into a draw of Normal(precision^-1 target, precision^-1); precision (D, D) is spoilt."""
    size = target.size
    factor(precision)
    for i in range(size):  # C y = target, then C' x = y + standard normals
        for j in range(i):
            target[i] -= precision[i, j] * target[j]
        target[i] /= precision[i, i]
    for i in range(size):
        target[i] += rng.standard_normal()
    for i in range(size - 1, -1, -1):
        for j in range(i + 1, size):
            target[i] -= precision[j, i] * target[j]
        target[i] /= precision[i, i]


@kernel
def factor(matrix):
    """The lower Cholesky factor of a positive definite matrix (D, D), in its place; zero above the diagonal."""
    size = matrix.shape[0]
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(value) if i == j else value / matrix[j, j]
        for j in range(i + 1, size):
            matrix[i, j] = 0.0
