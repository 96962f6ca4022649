"""The compiled loops over draws and sequences behind `recursions`; importing this module imports numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from probseq.kernels.decoding import viterbi_sequence
from probseq.kernels.exact_sweeps import exact_counts, exact_forward, exact_path, exact_problem, exact_work
from probseq.kernels.simulation import simulate_sequence


@njit(cache=True, nogil=True)
def forward_all(log_initial, log_transition, log_table, offsets, indices, evidence, filtered, predictive):
    """evidence (B, N); filtered (B, T, K) and predictive (B, T), unless they have no steps."""
    draws, shared = log_table.shape[0], log_initial.shape[1] == 1
    for b in range(draws):
        problem = exact_problem(log_transition[b], log_table[b], *indices)
        for n in range(offsets.size - 1):
            start, end = offsets[n], offsets[n + 1]
            work = exact_work(start, end, log_initial.shape[2])
            law = log_initial[b, 0 if shared else n]
            evidence[b, n] = exact_forward(start, end, law, problem, work, filtered[b], predictive[b])


@njit(cache=True, nogil=True)
def count_all(
    log_initial, log_transition, log_table, offsets, indices, weights, by_step, evidence, initial, xi, counts
):
    """Add weighted counts of the possible sequences to initial (B, I, K), xi (B, S, K, K), counts (B, R or T, K)."""
    draws, shared = log_table.shape[0], log_initial.shape[1] == 1
    no_rows, no_steps = np.zeros((0, 0)), np.zeros(0)
    for b in range(draws):
        problem = exact_problem(log_transition[b], log_table[b], *indices)
        for n in range(offsets.size - 1):
            start, end = offsets[n], offsets[n + 1]
            at = 0 if shared else n
            law = log_initial[b, at]
            work = exact_work(start, end, law.size)
            evidence[b, n] = exact_forward(start, end, law, problem, work, no_rows, no_steps)
            if evidence[b, n] > -np.inf and end > start:
                weight = weights[b, n]
                exact_counts(start, end, law, problem, work, weight, by_step, initial[b, at], xi[b], counts[b])


@njit(cache=True, nogil=True)
def sample_all(log_initial, log_transition, log_table, offsets, indices, uniforms, evidence, paths):
    """paths (B, T) drawn from the posterior; -1 where a sequence is impossible."""
    draws, shared = log_table.shape[0], log_initial.shape[1] == 1
    no_rows, no_steps = np.zeros((0, 0)), np.zeros(0)
    for b in range(draws):
        problem = exact_problem(log_transition[b], log_table[b], *indices)
        for n in range(offsets.size - 1):
            start, end = offsets[n], offsets[n + 1]
            law = log_initial[b, 0 if shared else n]
            work = exact_work(start, end, law.size)
            evidence[b, n] = exact_forward(start, end, law, problem, work, no_rows, no_steps)
            if evidence[b, n] > -np.inf:
                exact_path(start, end, problem, work, uniforms[b], paths[b])
            else:
                paths[b, start:end] = -1


@njit(cache=True, nogil=True)
def viterbi_all(log_initial, log_transition, log_table, offsets, indices, log_prob, paths):
    """paths (B, T) and log_prob (B, N)."""
    shared = log_initial.shape[1] == 1
    for b in range(log_table.shape[0]):
        for n in range(offsets.size - 1):
            law = log_initial[b, 0 if shared else n]
            start, end = offsets[n], offsets[n + 1]
            log_prob[b, n] = viterbi_sequence(start, end, law, log_transition[b], log_table[b], indices, paths[b])


@njit(cache=True, nogil=True)
def simulate_all(log_initial, log_transition, offsets, t_raw, t_width, uniforms, paths):
    """paths (B, T) drawn from the chain."""
    shared = log_initial.shape[1] == 1
    initial, transition = np.exp(log_initial), np.exp(log_transition)
    for b in range(uniforms.shape[0]):
        for n in range(offsets.size - 1):
            law = initial[b, 0 if shared else n]
            start, end = offsets[n], offsets[n + 1]
            simulate_sequence(start, end, law, transition[b], t_raw, t_width, uniforms[b], paths[b])
