"""What the other steps say of one, against the sum over all K^T paths of a problem in which that step says nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probseq import kernels

# Messages of at most 6 steps, each with a few roundings of 1e-16 relative to the logarithms in them (up to 1000).
EXACT = {"rtol": 1e-12, "atol": 1e-12}

CASES = {
    "dense": {},
    "table": {"rows": 4},
    "seasonal": {"matrices": 3},
    "zeros": {"zeros": 0.25},
    "zeros, table, seasonal": {"zeros": 0.25, "matrices": 2, "rows": 3, "index_dtype": np.uint8},
    "own initial": {"own_initial": True, "zeros": 0.1},
    "draws": {"draws": 3, "rows": 4, "matrices": 2, "own_initial": True, "index_dtype": np.uint16},
    "wide range": {"spread": 300.0, "zeros": 0.2},
}


def log_sum(values: np.ndarray) -> float:
    top = values.max()
    return top + np.log(np.exp(values - top).sum()) if top > -np.inf else -np.inf


def by_all_paths(problem, draw: int, sequence: int, step: int) -> tuple[np.ndarray, float]:
    """log p(z_t, x_-t) (K,) and log p(x), by the definition."""
    start, end = problem.offsets[sequence : sequence + 2]
    states = problem.log_table.shape[2]
    law = problem.log_initial[draw, sequence if problem.log_initial.shape[1] > 1 else 0]
    rows, moves = problem.emission_rows[start:end], problem.moves[start : end - 1]
    paths = np.array(list(itertools.product(range(states), repeat=end - start)))
    scores = problem.log_table[draw, rows, paths]
    path = law[paths[:, 0]] + problem.log_transition[draw, moves, paths[:, :-1], paths[:, 1:]].sum(1)
    rest = path + np.delete(scores, step, axis=1).sum(1)
    return np.array([log_sum(rest[paths[:, step] == k]) for k in range(states)]), log_sum(path + scores.sum(1))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("states", [1, 2, 3])
def test_equals_the_sum_over_all_paths(make_problem, name, states):
    for seed in range(3):
        problem = make_problem(seed, states, [3, 1, 6, 2], **CASES[name])
        cavity, log_prob = kernels.left_out(*problem.arguments)
        for b, n in np.ndindex(problem.log_table.shape[0], 4):
            for step in range(problem.offsets[n], problem.offsets[n + 1]):
                joint, evidence = by_all_paths(problem, b, n, step - problem.offsets[n])
                rest = log_sum(joint)
                if rest == -np.inf:
                    assert (cavity[b, step] == -np.inf).all() and log_prob[b, step] == -np.inf
                    continue
                np.testing.assert_allclose(cavity[b, step], joint - rest, **EXACT)
                np.testing.assert_allclose(log_prob[b, step], evidence - rest, **EXACT)


def test_is_the_harmonic_mean_under_the_smoothed_law(make_problem):
    """log p(x_t | x_-t) = -log sum_k gamma_t(k) / p(x_t | z_t = k), on a long series whose likelihoods are alike."""
    problem = make_problem(4, 4, [2000, 515], rows=7, matrices=2, index_dtype=np.uint8)
    _, log_prob = kernels.left_out(*problem.arguments)
    gamma = kernels.smoothed(*problem.arguments)
    likelihood = np.exp(problem.log_table[0, problem.emission_rows])
    np.testing.assert_allclose(log_prob[0], -np.log((gamma[0] / likelihood).sum(1)), rtol=0, atol=1e-11)


def test_regimes_that_never_meet_keep_their_chances():
    """Two states that never change place: the forward message of one is 0 beside exp(-40000), and yet it wins."""
    half = np.log(np.full((1, 1, 2), 0.5))
    with np.errstate(divide="ignore"):
        stay = np.log(np.eye(2))[None, None]
    table = np.zeros((1, 200, 2))
    table[0, :100, 0], table[0, 100:, 1] = 400.0, 401.0
    cavity, log_prob = kernels.left_out(half, stay, table, [0, 200])
    # all that x_-t says is by how much one regime beats the other without it: 100 nats, less what step t said
    margin = 100.0 + table[0, :, 0] - table[0, :, 1]
    expected = np.stack([-margin, np.zeros(200)], 1) - np.log1p(np.exp(-margin))[:, None]
    np.testing.assert_allclose(cavity[0], expected, rtol=1e-12, atol=1e-12)
    joint = cavity[0] + table[0]
    np.testing.assert_allclose(log_prob[0], np.logaddexp(joint[:, 0], joint[:, 1]), rtol=1e-12, atol=1e-12)


def test_steps_that_say_nothing_have_probability_one(make_problem):
    problem = make_problem(1, 3, [30, 5], zeros=0.0)
    problem.log_table[0, [0, 7, 29, 30]] = 0.0
    assert (kernels.left_out(*problem.arguments)[1][0, [0, 7, 29, 30]] == 0.0).all()


def test_weights_combine_rows(make_problem):
    problem = make_problem(2, 3, [5, 3], rows=4)
    weights = np.random.default_rng(0).normal(size=(8, 4))
    arguments = problem.log_initial, problem.log_transition
    whole = kernels.left_out(*arguments, weights @ problem.log_table, problem.offsets)
    combined = kernels.left_out(*arguments, problem.log_table, problem.offsets, weights)
    for one, other in zip(whole, combined, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_a_nan_is_refused(make_problem):
    problem = make_problem(0, 2, [3])
    problem.log_table[0, 1, 1] = np.nan
    with pytest.raises(ValueError, match="log_table must hold log-probabilities below infinity"):
        kernels.left_out(*problem.arguments)
