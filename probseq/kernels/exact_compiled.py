"""The compiled loops of the exact recursions, over a list of items: those that `compiled` could not vouch for.

Item i is sequence i % N of draw i // N. These are compiled only when a first item needs them.
"""

from __future__ import annotations

import numpy as np

from probseq.kernels.exact_sweeps import exact_counts, exact_forward, exact_path, exact_problem, exact_work
from probseq.kernels.jit import entry


@entry
def exact_forward_items(
    items, log_initial, log_transition, log_table, offsets, indices, evidence, filtered, predictive
):
    """evidence (B, N); filtered (B, T, K) and predictive (B, T), unless they have no steps."""
    N, b = offsets.size - 1, -1
    for item in items:
        if item // N != b:
            b = item // N
            problem = exact_problem(log_transition[b], log_table[b], *indices)
        n = item - b * N
        start, end = offsets[n], offsets[n + 1]
        law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
        work = exact_work(start, end, law.size)
        evidence[b, n] = exact_forward(start, end, law, problem, work, filtered[b], predictive[b])


@entry
def exact_count_items(
    items,
    log_initial,
    log_transition,
    log_table,
    offsets,
    indices,
    weights,
    by_step,
    evidence,
    initial,
    transition,
    emission,
):
    """Add weighted counts of possible sequences to initial (B, I, K), transition (B, S, K, K), emission (B, R, K)."""
    N, b = offsets.size - 1, -1
    no_rows, no_steps = np.zeros((0, 0)), np.zeros(0)
    for item in items:
        if item // N != b:
            b = item // N
            problem = exact_problem(log_transition[b], log_table[b], *indices)
        n = item - b * N
        start, end = offsets[n], offsets[n + 1]
        at = n if log_initial.shape[1] > 1 else 0
        law = log_initial[b, at]
        work = exact_work(start, end, law.size)
        evidence[b, n] = exact_forward(start, end, law, problem, work, no_rows, no_steps)
        if evidence[b, n] > -np.inf and end > start:
            exact_counts(
                start,
                end,
                law,
                problem,
                work,
                weights[b, n],
                by_step,
                initial[b, at],
                transition[b],
                emission[b],
            )


@entry
def exact_sample_items(items, log_initial, log_transition, log_table, offsets, indices, uniforms, evidence, paths):
    """paths (B, T) drawn from the posterior; -1 where a sequence is impossible."""
    N, b = offsets.size - 1, -1
    no_rows, no_steps = np.zeros((0, 0)), np.zeros(0)
    for item in items:
        if item // N != b:
            b = item // N
            problem = exact_problem(log_transition[b], log_table[b], *indices)
        n = item - b * N
        start, end = offsets[n], offsets[n + 1]
        law = log_initial[b, n if log_initial.shape[1] > 1 else 0]
        work = exact_work(start, end, law.size)
        evidence[b, n] = exact_forward(start, end, law, problem, work, no_rows, no_steps)
        if evidence[b, n] > -np.inf:
            exact_path(start, end, problem, work, uniforms[b], paths[b])
        else:
            paths[b, start:end] = -1
