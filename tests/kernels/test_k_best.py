"""The likeliest paths against all K^T of them, sorted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probseq import kernels
from probseq.kernels import decoding

# Sums of at most 12 terms of order 300: a dozen roundings of 1e-16 of them.
EXACT = {"rtol": 1e-12, "atol": 1e-13}

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


def every_path(problem, draw: int, sequence: int) -> tuple[np.ndarray, np.ndarray]:
    """All paths (P, T) of one sequence and their log joint (P,), by the definition."""
    start, end = problem.offsets[sequence : sequence + 2]
    states = problem.log_table.shape[2]
    law = problem.log_initial[draw, sequence if problem.log_initial.shape[1] > 1 else 0]
    rows, moves = problem.emission_rows[start:end], problem.moves[start : end - 1]
    paths = np.array(list(itertools.product(range(states), repeat=end - start)))
    joint = law[paths[:, 0]] + problem.log_table[draw, rows, paths].sum(1)
    return paths, joint + problem.log_transition[draw, moves, paths[:, :-1], paths[:, 1:]].sum(1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("states", [1, 2, 3])
def test_equals_all_paths_sorted(make_problem, name, states):
    """Values equal those of the sorted list, and each path has its value; more are asked for than there are."""
    for seed, count in itertools.product(range(2), (1, 4, 300)):
        problem = make_problem(seed, states, [3, 1, 5, 2], **CASES[name])
        paths, log_prob = kernels.k_best(*problem.arguments, count=count)
        draws = problem.log_table.shape[0]
        assert paths.shape == (draws, count, 11) and log_prob.shape == (draws, count, 4)
        for b, n in np.ndindex(draws, 4):
            check(problem, b, n, paths[b, :, slice(*problem.offsets[n : n + 2])], log_prob[b, :, n])


def check(problem, draw: int, sequence: int, found: np.ndarray, log_prob: np.ndarray) -> None:
    paths, joint = every_path(problem, draw, sequence)
    best = np.sort(joint[joint > -np.inf])[::-1]
    here = min(len(best), len(found))
    np.testing.assert_allclose(log_prob[:here], best[:here], **EXACT)
    assert (log_prob[here:] == -np.inf).all() and (found[here:] == -1).all()
    assert len({tuple(path) for path in found[:here]}) == here
    value = {tuple(path): total for path, total in zip(paths, joint, strict=True)}
    np.testing.assert_allclose([value[tuple(path)] for path in found[:here]], best[:here], **EXACT)


def test_the_first_is_the_viterbi_path(make_problem):
    for zeros in (0.0, 0.3):
        problem = make_problem(2, 4, [700, 1, 300], rows=6, matrices=3, zeros=zeros, draws=2)
        path, value = kernels.viterbi(*problem.arguments)
        paths, values = kernels.k_best(*problem.arguments, count=3)
        np.testing.assert_array_equal(paths[:, 0], path)
        np.testing.assert_allclose(values[:, 0], value, rtol=1e-13)


def test_ties_go_by_the_state_that_a_path_comes_from():
    """All eight paths of a fair coin are alike: they come in the order of their last state, then the one before."""
    fair = np.log(np.full((1, 1, 2, 2), 0.5))
    paths, log_prob = kernels.k_best(fair[:, :, 0], fair, np.zeros((1, 3, 2)), [0, 3], count=8)
    assert paths[0, :, ::-1].tolist() == [list(path) for path in itertools.product((0, 1), repeat=3)]
    np.testing.assert_allclose(log_prob, 3 * np.log(0.5), rtol=1e-15)


def test_segments_change_nothing(make_problem, monkeypatch):
    problem = make_problem(5, 3, [2000, 515], rows=7, matrices=2, zeros=0.1, index_dtype=np.uint8)
    whole = kernels.k_best(*problem.arguments, count=5)
    monkeypatch.setattr(decoding, "ROOM", 4 * 3 * 5 * 300)
    cut = kernels.k_best(*problem.arguments, count=5)
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_empty_sequences_have_one_path():
    fair = np.log(np.full((1, 1, 2, 2), 0.5))
    _, log_prob = kernels.k_best(fair[:, :, 0], fair, np.zeros((1, 1, 2)), [0, 0, 1], count=3)
    np.testing.assert_allclose(log_prob[0].T, [[0.0, -np.inf, -np.inf], [*[np.log(0.5)] * 2, -np.inf]])


def test_bad_input_is_refused(make_problem):
    problem = make_problem(0, 2, [3])
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        kernels.k_best(*problem.arguments, count=0)
    problem.log_table[0, 1, 1] = np.nan
    with pytest.raises(ValueError, match="log_table must hold log-probabilities below infinity"):
        kernels.k_best(*problem.arguments, count=2)
