"""A Gibbs sampler of the parameters of a hidden Markov model, compiled end to end.

One iteration draws the paths given the parameters (`sampled_paths`), and the parameters given the paths: Dirichlet
rows of moves and of the first state, and the emission's full conditionals (`conditionals`). The evidence of each
draw, its states summed out, comes with the filter.

Everything that is drawn lies in one vector `values` (V,): initial (K,), shares (G, L) that the moves are made of,
weights (K, M) of the components of a state, and theta (J, Q), the emission's parameters of each of the J = K M columns
of the table. `free` (V,) says what is drawn. A component before `first` is no law but a given column of the table: the
structural zero of a zero-inflated law.

A first state that follows the stationary law delta(A) spoils the Dirichlet: each row of moves is then proposed from
it and accepted with probability prod_n delta'(z_n1) / delta(z_n1) (Metropolis-Hastings).
"""

from __future__ import annotations

import math

import numpy as np

from probseq.kernels.conditionals import add_scores, update
from probseq.kernels.draws import copy, draw_dirichlet
from probseq.kernels.jit import entry, kernel
from probseq.kernels.sampled_paths import filter_logs, filter_scaled, relate, sample_logs, sample_scaled

GIVEN, FREE, STATIONARY = 0, 1, 2
"""What the first state's law is."""


@entry
def gibbs_steps(rng, values, free, chain, emission, data, thin, kept, evidence):
    """Run kept.shape[0] * thin iterations from `values`, which ends as the next state of the chain.

    Args:
        rng: a numpy Generator; advanced.
        values (V,), free (V,): see the module.
        chain: (first_law, initial_prior (K,), share_prior (G, L), share_of (K, K), part (K, K)): A[i, j] is part[i, j]
            of the share with the flat number share_of[i, j], which is -1 where a move is forbidden.
        emission: (first, weight_prior (M,), units (U, 5), numbers, Q); see `conditionals`.
        data: (offsets (N + 1,), index (T,), statistics (P, R), given (J, R), measured (R,)): `given` is what each row's
            log-likelihood has besides the units; rows that are not measured have no component.
        thin: keep the first of every so many.
        kept (n, V), evidence (n,): filled with states and their evidence; before the draws of their iteration.

    Returns:
        How many were kept: fewer where the evidence was not finite.
    """
    (first_law, _, share_prior, share_of, _), (first, weight_prior, _, _, Q) = chain, emission
    K, M, total_steps = share_of.shape[0], weight_prior.size, data[1].size
    columns, rows = data[3].shape
    at_weights = K + share_prior.size
    initial, weights = values[:K], values[at_weights : at_weights + K * M].reshape(K, M)
    theta = values[at_weights + K * M :].reshape(columns, Q)
    free_theta = free[at_weights + K * M :].reshape(columns, Q)
    free_weights = free[at_weights : at_weights + K * M].reshape(K, M)
    tables = (
        np.empty((columns, rows)),
        np.empty(-(-columns * rows // 8) * 8),
        np.empty((columns, rows)),
        np.empty(rows),
        np.empty((K, rows if M > 1 else 0)),
        np.empty((K, rows if M > 1 else 0)),
    )
    work = (np.empty((total_steps, K)), np.empty(total_steps, dtype=np.int64), np.empty((K, K)))
    tables[1][:] = 0.0
    moves, begun, sums = np.empty((K, K)), np.empty(K), np.empty((columns, data[2].shape[0]))
    counts, chosen = np.empty((columns, rows if rows * columns < total_steps else 0)), np.empty((K, M))
    for n in range(kept.shape[0] * thin):
        fill_moves(chain, values[K:at_weights], work[2])
        if first_law == STATIONARY:
            settle(work[2], initial)
        score(emission, data, weights, theta, tables)
        found = draw_paths(rng, initial, data, tables, work, M)
        if not abs(found) < np.inf:
            return (n + thin - 1) // thin
        if n % thin == 0:
            copy(values, kept[n // thin])
            evidence[n // thin] = found
        count_moves(data[0], work[1], moves, begun)
        draw_components(rng, data, tables[2], M, work[1], chosen)
        add_up(data, work[1], counts, sums)
        draw_chain(rng, chain, free, moves, begun, values, work[2])
        for k in range(K):
            if M > 1 and free_weights[k, 0]:
                draw_dirichlet(rng, weight_prior, chosen[k], weights[k])
        for j in range(columns):
            if j % M >= first:
                for u in range(emission[2].shape[0]):
                    update(rng, emission[2][u], emission[3], sums[j], theta[j], free_theta[j])
    return kept.shape[0]


@kernel
def fill_moves(chain, shares, A):
    """The matrix (K, K) that the shares make."""
    share_of, part = chain[3], chain[4]
    for i in range(A.shape[0]):
        for j in range(A.shape[0]):
            A[i, j] = shares[share_of[i, j]] * part[i, j] if share_of[i, j] >= 0 else 0.0


@kernel
def score(emission, data, weights, theta, tables):
    """Fill the log table (J, R), likelihoods over the largest of each row, and the same of states (K, R) for M > 1."""
    first, weight_prior, units, numbers, _ = emission
    log_table, room, likelihoods, tops, state_likelihoods, state_logs = tables
    M = weight_prior.size
    for j in range(log_table.shape[0]):
        log_weight = math.log(weights[j // M, j % M]) if M > 1 else 0.0
        for r in range(log_table.shape[1]):
            log_table[j, r] = data[3][j, r] + log_weight
        if j % M >= first:
            for u in range(units.shape[0]):
                add_scores(units[u], numbers, data[2], theta[j], log_table[j])
    relate(log_table, room, likelihoods, tops)
    if M > 1:
        for k in range(state_logs.shape[0]):
            for r in range(state_logs.shape[1]):
                top, total, logs = -np.inf, 0.0, 0.0
                for m in range(M):
                    top = max(top, log_table[k * M + m, r])
                    total += likelihoods[k * M + m, r]
                for m in range(M):
                    logs += math.exp(log_table[k * M + m, r] - top) if top > -np.inf else 0.0
                state_likelihoods[k, r] = total
                state_logs[k, r] = top + math.log(logs) if top > -np.inf else top


@kernel
def draw_paths(rng, initial, data, tables, work, M):
    """Draw the path of every sequence; the evidence of them all, -inf or NaN where there is none."""
    messages, path, A = work
    offsets, index = data[:2]
    likelihoods, logs = (tables[4], tables[5]) if M > 1 else (tables[2], tables[0])
    evidence = 0.0
    for n in range(offsets.size - 1):
        start, end = offsets[n], offsets[n + 1]
        found = filter_scaled(initial, A, likelihoods, tables[3], index, start, end, messages)
        if math.isnan(found):
            found = filter_logs(initial, A, logs, index, start, end, messages)
            if not found > -np.inf:
                return found
            sample_logs(rng, A, start, end, messages, path)
        else:
            sample_scaled(rng, A, start, end, messages, path)
        evidence += found
    return evidence


@kernel
def count_moves(offsets, path, moves, begun):
    """How often each move was made (K, K), and each state came first (K,)."""
    moves[:], begun[:] = 0.0, 0.0
    for n in range(offsets.size - 1):
        if offsets[n + 1] > offsets[n]:
            begun[path[offsets[n]]] += 1.0
        for t in range(offsets[n] + 1, offsets[n + 1]):
            moves[path[t - 1], path[t]] += 1.0


@kernel
def draw_components(rng, data, likelihoods, M, path, chosen):
    """Turn the states of a path into columns k M + m, and count them (K, M); nothing to do for M = 1."""
    if M == 1:
        return
    chosen[:] = 0.0
    for t in range(path.size):
        k, row, total = path[t], data[1][t], 0.0
        for m in range(M):
            total += likelihoods[k * M + m, row]
        point, found = rng.random() * total, 0
        for m in range(M):
            if likelihoods[k * M + m, row] > 0.0:
                found = m
                point -= likelihoods[k * M + m, row]
                if point < 0.0:
                    break
        chosen[k, found] += 1.0 if data[4][row] else 0.0
        path[t] = k * M + found


@kernel
def add_up(data, path, counts, sums):
    """Sums (J, P) of the statistics over the steps of each column; by way of counts (J, R) where rows repeat."""
    index, statistics = data[1], data[2]
    sums[:] = 0.0
    if counts.shape[1] == 0:
        for p in range(statistics.shape[0]):
            for t in range(path.size):
                sums[path[t], p] += statistics[p, index[t]]
        return
    counts[:] = 0.0
    for t in range(path.size):
        counts[path[t], index[t]] += 1.0
    for j in range(sums.shape[0]):
        for p in range(sums.shape[1]):
            total = 0.0
            for r in range(counts.shape[1]):
                total += counts[j, r] * statistics[p, r]
            sums[j, p] = total


@kernel
def draw_chain(rng, chain, free, moves, begun, values, A):
    """Draw the law of the first state and the shares of the moves."""
    first_law, initial_prior, share_prior, share_of, _ = chain
    K, (groups, labels) = A.shape[0], share_prior.shape
    if first_law == FREE and free[0]:
        draw_dirichlet(rng, initial_prior, begun, values[:K])
    shares = values[K : K + groups * labels]
    counted = np.zeros(groups * labels)
    for i in range(K):
        for j in range(K):
            if share_of[i, j] >= 0:
                counted[share_of[i, j]] += moves[i, j]
    before, law = np.empty(labels), np.empty(K)
    for g in range(groups):
        row = shares[g * labels : (g + 1) * labels]
        if not free[K + g * labels]:
            continue
        copy(row, before)
        draw_dirichlet(rng, share_prior[g], counted[g * labels : (g + 1) * labels], row)
        if first_law == STATIONARY:
            fill_moves(chain, shares, A)
            if settle(A, law) and rng.standard_exponential() >= log_ratio(begun, values[:K], law):
                copy(law, values[:K])
            else:
                copy(before, row)


@kernel
def log_ratio(begun, old, new):
    """sum_k begun[k] log(old[k] / new[k]); infinite where the new law cannot have begun so."""
    total = 0.0
    for k in range(begun.size):
        if begun[k] > 0.0:
            if not new[k] > 0.0:
                return np.inf
            total += begun[k] * math.log(old[k] / new[k])
    return total


@kernel
def settle(A, law):
    """Fill `law` (K,) with the stationary law, from law (I - A + 1) = 1; False where there is none, or not just one."""
    K = law.size
    system = np.empty((K, K + 1))
    for i in range(K):
        for j in range(K):
            system[j, i] = (1.0 if i == j else 0.0) - A[i, j] + 1.0
        system[i, K] = 1.0
    for c in range(K):
        pivot = c
        for i in range(c + 1, K):
            if abs(system[i, c]) > abs(system[pivot, c]):
                pivot = i
        if system[pivot, c] == 0.0:
            return False
        for j in range(c, K + 1):
            system[c, j], system[pivot, j] = system[pivot, j], system[c, j]
        for i in range(K):
            if i != c:
                factor = system[i, c] / system[c, c]
                for j in range(c, K + 1):
                    system[i, j] -= factor * system[c, j]
    total = 0.0
    for k in range(K):
        law[k] = max(system[k, K] / system[k, k], 0.0) if system[k, K] / system[k, k] > -1e-8 else math.nan
        total += law[k]
    for k in range(K):
        law[k] /= total
    return math.isfinite(total)
