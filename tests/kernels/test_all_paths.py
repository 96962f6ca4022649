"""Every recursion against the sum over all K^T paths, by their definition and nothing cleverer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from probseq import kernels

# All quantities are sums of at most 3^6 positive terms of order one: a few hundred roundings of 1e-16.
EXACT = {"rtol": 1e-12, "atol": 1e-13}

CASES = {
    "dense": {},
    "table": {"rows": 4},
    "seasonal": {"matrices": 3},
    "table and seasonal": {"rows": 5, "matrices": 2},
    "zeros": {"zeros": 0.25},
    "zeros, seasonal": {"zeros": 0.25, "matrices": 2, "rows": 3},
    "own initial": {"own_initial": True, "zeros": 0.1},
    "draws": {"draws": 3, "rows": 4, "matrices": 2, "own_initial": True},
    "wide range": {"spread": 300.0},
    "wide range, zeros": {"spread": 300.0, "zeros": 0.2, "matrices": 2},
}


@dataclass(frozen=True)
class Sums:
    """What the definition gives for one sequence (steps within it): see `ExpectedCounts` for the meaning."""

    evidence: float
    smoothed: np.ndarray
    moves: np.ndarray  # (T - 1, K, K) p(z_t = i, z_t+1 = j | x)
    prefix: np.ndarray  # (T,) log p(x_1:t)
    filtered: np.ndarray
    best: float
    paths: np.ndarray
    joint: np.ndarray


def log_sum(values: np.ndarray) -> float:
    return float(np.logaddexp.reduce(values)) if np.isfinite(values).any() else -np.inf


def sum_over_paths(problem, draw: int, sequence: int) -> Sums:
    start, end = problem.offsets[sequence : sequence + 2]
    states, steps = problem.log_table.shape[2], end - start
    initial = problem.log_initial[draw, sequence if problem.log_initial.shape[1] > 1 else 0]
    emission = problem.log_table[draw, problem.emission_rows[start:end]]
    transition = problem.log_transition[draw, problem.moves[start : end - 1]]
    paths = np.array(list(itertools.product(range(states), repeat=steps)))
    prefix, filtered = np.empty(steps), np.zeros((steps, states))
    joint = np.zeros(len(paths))
    for t in range(steps):
        joint = joint + (initial[paths[:, 0]] if t == 0 else transition[t - 1, paths[:, t - 1], paths[:, t]])
        joint = joint + emission[t, paths[:, t]]
        prefix[t] = log_sum(joint) - (steps - 1 - t) * np.log(states)  # each prefix is repeated K^(T-1-t) times
        for k in range(states):
            share = log_sum(joint[paths[:, t] == k]) - log_sum(joint) if np.isfinite(prefix[t]) else -np.inf
            filtered[t, k] = np.exp(share)
    evidence = log_sum(joint)
    chance = np.exp(joint - evidence) if np.isfinite(evidence) else np.zeros(len(paths))
    smoothed = np.array([[chance[paths[:, t] == k].sum() for k in range(states)] for t in range(steps)])
    moves = np.zeros((steps - 1, states, states))
    for t, i, j in np.ndindex(moves.shape):
        moves[t, i, j] = chance[(paths[:, t] == i) & (paths[:, t + 1] == j)].sum()
    return Sums(evidence, smoothed, moves, prefix, filtered, joint.max(), paths, joint)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("states", [1, 2, 3])
def test_equals_the_sum_over_all_paths(make_problem, name, states):
    for seed in range(3):
        problem = make_problem(seed, states, [3, 1, 6, 2], **CASES[name])
        check(problem, seed)


def check(problem, seed: int) -> None:
    draws, _, states = problem.log_table.shape
    count, steps = len(problem.offsets) - 1, problem.offsets[-1]
    rng = np.random.default_rng(seed)
    weights = rng.gamma(1.0, size=(draws, count))
    counts = kernels.expected_counts(*problem.arguments, weights=weights)
    evidence = kernels.evidence(*problem.arguments)
    filtered, predictive = kernels.filtered(*problem.arguments)
    smoothed = kernels.smoothed(*problem.arguments)
    paths, log_prob = kernels.viterbi(*problem.arguments)
    samples = kernels.sample_paths(*problem.arguments, uniforms=rng.random((draws, 2, steps)))
    expected = {name: np.zeros_like(getattr(counts, name)) for name in ("initial", "transition", "emission")}
    for b, n in itertools.product(range(draws), range(count)):
        start, end = problem.offsets[n : n + 2]
        sums = sum_over_paths(problem, b, n)
        own = n if problem.log_initial.shape[1] > 1 else 0
        expected["initial"][b, own] += weights[b, n] * sums.smoothed[0]
        np.add.at(expected["transition"][b], problem.moves[start : end - 1], weights[b, n] * sums.moves)
        np.add.at(expected["emission"][b], problem.emission_rows[start:end], weights[b, n] * sums.smoothed)
        np.testing.assert_allclose([evidence[b, n], counts.evidence[b, n]], sums.evidence, **EXACT)
        np.testing.assert_allclose(smoothed[b, start:end], sums.smoothed, **EXACT)
        np.testing.assert_allclose(filtered[b, start:end], sums.filtered, **EXACT)
        np.testing.assert_allclose(predictive[b, start:end].cumsum(), sums.prefix, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(log_prob[b, n], sums.best, **EXACT)
        check_path(paths[b, start:end], sums, best=True)
        for sample in samples[b]:
            check_path(sample[start:end], sums, best=False)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(counts, name), values, err_msg=name, **EXACT)


def check_path(path: np.ndarray, sums: Sums, best: bool) -> None:
    """A decoded path is possible, and the best one when asked; an impossible sequence has none."""
    if sums.evidence == -np.inf:
        assert (path == -1).all()
        return
    joint = sums.joint[(sums.paths == path).all(1)]
    assert joint.shape == (1,) and np.isfinite(joint[0])
    if best:
        np.testing.assert_allclose(joint[0], sums.best, **EXACT)


@pytest.mark.parametrize("states", [1, 2, 3])
def test_simulated_paths_follow_the_chain(make_problem, states):
    problem = make_problem(5, states, [4] * 20_000, matrices=2, zeros=0.2 if states == 3 else 0.0)
    problem.transition_index[:] = np.tile([0, 1, 1, 0], 20_000)
    law = np.exp(problem.log_initial[0, 0] - log_sum(problem.log_initial[0, 0]))
    matrices = np.exp(problem.log_transition[0])
    matrices /= matrices.sum(-1, keepdims=True)
    arguments = problem.log_initial, problem.log_transition, problem.offsets, problem.transition_index
    uniforms = np.random.default_rng(6).random((1, problem.offsets[-1]))
    paths = kernels.simulate_paths(*arguments, uniforms=uniforms).reshape(-1, 4)
    for path in itertools.product(range(states), repeat=4):
        chance = law[path[0]] * np.prod([matrices[m, i, j] for m, i, j in zip([0, 1, 1], path, path[1:], strict=False)])
        share = (paths == path).all(1).mean()
        # Five standard errors of a proportion out of 20,000, over at most 81 paths.
        assert abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / 20_000), path


def test_sampled_paths_follow_the_posterior(make_problem):
    for zeros in (0.0, 0.2):
        problem = make_problem(3, 3, [4], rows=3, matrices=2, zeros=zeros)
        sums = sum_over_paths(problem, 0, 0)
        repeats = 20_000
        tables = [np.repeat(x, repeats // 10, 0) for x in problem.arguments[:3]]
        uniforms = np.random.default_rng(4).random((repeats // 10, 10, 4))
        paths = kernels.sample_paths(*tables, *problem.arguments[3:], uniforms=uniforms).reshape(-1, 4)
        for path, joint in zip(sums.paths, sums.joint, strict=True):
            chance = np.exp(joint - sums.evidence)
            share = (paths == path).all(1).mean()
            # Five standard errors of a proportion out of 20,000, over 81 paths.
            assert abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / repeats) + 1e-15, path


def test_viterbi_breaks_ties_towards_the_lowest_state():
    flat = np.log(np.full((1, 1, 3, 3), 1 / 3))
    paths, _ = kernels.viterbi(flat[:, :, 0], flat, np.zeros((1, 7, 3)), [0, 7])
    assert (paths == 0).all()


def test_many_paths_are_those_of_one_at_a_time(make_problem):
    """Across blocks of the recursion and sequences, the same uniforms give the same paths."""
    problem = make_problem(7, 3, [700, 1, 300], draws=2, rows=5, matrices=2, zeros=0.1)
    uniforms = np.random.default_rng(8).random((2, 4, 1001))
    together = kernels.sample_paths(*problem.arguments, uniforms=uniforms)
    for m in range(4):
        alone = kernels.sample_paths(*problem.arguments, uniforms=uniforms[:, m : m + 1])
        np.testing.assert_array_equal(together[:, m], alone[:, 0])
