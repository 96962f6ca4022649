"""Forward filtering, backward sampling of one hidden path a time (Chib 1996; Fruehwirth-Schnatter 2006, section 11.2).

    alpha_t(k) = sum_i alpha_t-1(i) A(i, k) b_t(k),     P(z_t = i | z_t+1 = j, x) ~ alpha_t(i) A(i, j)

in plain doubles, under the rules of `scaled`: likelihoods are relative to the largest of their row and never below
1e-200 of it unless zero, messages are brought back to one when they fall below 1e-20, and where a prediction or a sum
falls below LEAST the sequence is done again in logarithms, which have no range to leave.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.jit import kernel
from probseq.kernels.lanes import exponential, load, store

LEAST, SMALL = 1e-80, 1e-20
EIGHT = (0,) * 8


@kernel
def relate(log_table, room, likelihoods, tops):
    """Likelihoods (J, R) of a log table (J, R) over the largest of each row, whose logarithm is in tops (R,).

    `room` (J * R rounded up to eights,) is for the exponentials.
    """
    columns, rows = log_table.shape
    for r in range(rows):
        tops[r] = log_table[0, r]
    for j in range(1, columns):
        for r in range(rows):
            tops[r] = max(tops[r], log_table[j, r])
    for r in range(rows):
        if tops[r] == -np.inf:
            tops[r] = 0.0
    for j in range(columns):
        for r in range(rows):
            room[j * rows + r] = log_table[j, r] - tops[r]
    for i in range(0, room.size, 8):
        store(room, i, exponential(load(room, i, EIGHT)))
    for j in range(columns):
        for r in range(rows):
            likelihoods[j, r] = room[j * rows + r]


@kernel
def filter_scaled(law, A, likelihoods, tops, index, start, end, messages):
    """Evidence of steps start .. end - 1, and their messages (T, K) up to a factor; NaN if it needs `filter_logs`.

    Args:
        law (K,): of the first state.
        A (K, K): row i the moves from i.
        likelihoods (K, R): relative to tops (R,).
        index (T,): the row of each step.
        start, end: of the sequence.
        messages (T, K): filled.
    """
    K = law.size
    evidence, scale = 0.0, 1.0
    for t in range(start, end):
        row, total = index[t], 0.0
        for k in range(K):
            p = 0.0
            if t == start:
                p = law[k]
            else:
                for i in range(K):
                    p += messages[t - 1, i] * A[i, k]
                p *= scale
            if 0.0 < p < LEAST:
                return math.nan
            a = p * likelihoods[k, row]
            messages[t, k] = a
            total += a
        evidence += tops[row]
        scale = 1.0
        if not total > LEAST:
            return math.nan
        if total < SMALL or t == end - 1:
            evidence += math.log(total)
            scale = 1.0 / total
    return evidence


@kernel
def sample_scaled(rng, A, start, end, messages, path):
    """path[start:end] drawn backwards by the messages of `filter_scaled`."""
    K, weight = A.shape[0], np.empty(A.shape[0])
    z = np.int64(0)
    for t in range(end - 1, start - 1, -1):
        total = 0.0
        for i in range(K):
            weight[i] = messages[t, i] * (A[i, z] if t < end - 1 else 1.0)
            total += weight[i]
        point, z = rng.random() * total, np.int64(-1)
        for i in range(K):
            if weight[i] > 0.0:
                z = i
                point -= weight[i]
                if point < 0.0:
                    break
        path[t] = z


@kernel
def filter_logs(law, A, log_table, index, start, end, messages):
    """As `filter_scaled`, out of log-likelihoods (K, R), with logarithms for messages: at any range."""
    K, evidence = law.size, 0.0
    for t in range(start, end):
        top = -np.inf
        for k in range(K):
            value = math.log(law[k]) if t == start else log_product(messages[t - 1], A, k)
            messages[t, k] = value + log_table[k, index[t]] if value > -np.inf else value
            top = max(top, messages[t, k])
        if top == -np.inf:
            return top
        total = 0.0
        for k in range(K):
            total += math.exp(messages[t, k] - top)
        size = top + math.log(total)
        evidence += size
        for k in range(K):
            messages[t, k] -= size
    return evidence


@kernel
def log_product(logs, A, k):
    """log sum_i exp(logs[i]) A[i, k]."""
    top, total = -np.inf, 0.0
    for i in range(logs.size):
        if A[i, k] > 0.0:
            top = max(top, logs[i] + math.log(A[i, k]))
    if top == -np.inf:
        return top
    for i in range(logs.size):
        if A[i, k] > 0.0:
            total += math.exp(logs[i] + math.log(A[i, k]) - top)
    return top + math.log(total)


@kernel
def sample_logs(rng, A, start, end, messages, path):
    """As `sample_scaled`, by the messages of `filter_logs`."""
    K, weight = A.shape[0], np.empty(A.shape[0])
    z = np.int64(0)
    for t in range(end - 1, start - 1, -1):
        top = -np.inf
        for i in range(K):
            weight[i] = messages[t, i] + (math.log(A[i, z]) if t < end - 1 else 0.0)
            top = max(top, weight[i])
        total = 0.0
        for i in range(K):
            weight[i] = math.exp(weight[i] - top)
            total += weight[i]
        point, z = rng.random() * total, np.int64(-1)
        for i in range(K):
            if weight[i] > 0.0:
                z = i
                point -= weight[i]
                if point < 0.0:
                    break
        path[t] = z
