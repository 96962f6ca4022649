"""Rows combined by weights: every recursion equals the one on the table that the combination makes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from probseq import kernels
from probseq.chains import evidence

ROWS = 3


def problem(states: int, lengths: list[int], draws: int = 1, matrices: int = 1) -> dict:
    """A random problem whose steps combine three rows; a third of the matrix is structural zeros."""
    rng = np.random.default_rng(states + sum(lengths))
    steps = sum(lengths)
    transition = rng.dirichlet(np.ones(states), size=(draws, matrices, states))
    transition[..., np.eye(states, k=-1, dtype=bool)] = 0.0
    transition /= transition.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_transition = np.log(transition)
    return {
        "log_initial": np.log(rng.dirichlet(np.ones(states), size=(draws, 1))),
        "log_transition": log_transition,
        "log_table": rng.normal(size=(draws, ROWS, states)),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "emission_index": rng.normal(size=(steps, ROWS)),
        "transition_index": rng.integers(matrices, size=steps) if matrices > 1 else None,
    }


def dense(arguments: dict) -> dict:
    """The same problem with a row for each step."""
    return arguments | {"log_table": arguments["emission_index"] @ arguments["log_table"], "emission_index": None}


@pytest.mark.parametrize("states", [1, 2, 3, 8, 20, 40])
@pytest.mark.parametrize(("lengths", "draws", "matrices"), [([1], 1, 1), ([700, 1, 30], 1, 3), ([5, 4], 2, 1)])
def test_equals_the_table_that_the_weights_make(states: int, lengths: list[int], draws: int, matrices: int) -> None:
    arguments = problem(states, lengths, draws, matrices)
    plain = dense(arguments)
    found, expected = kernels.expected_counts(**arguments), kernels.expected_counts(**plain)
    np.testing.assert_allclose(found.evidence, expected.evidence, rtol=1e-12)
    np.testing.assert_allclose(found.initial, expected.initial, atol=1e-12)
    np.testing.assert_allclose(found.transition, expected.transition, atol=1e-10)  # sums of 700 numbers
    np.testing.assert_allclose(found.emission, arguments["emission_index"].T @ expected.emission, atol=1e-10)
    np.testing.assert_allclose(kernels.evidence(**arguments), expected.evidence, rtol=1e-12)
    np.testing.assert_allclose(kernels.smoothed(**arguments), kernels.smoothed(**plain), atol=1e-12)
    for ours, theirs in zip(kernels.filtered(**arguments), kernels.filtered(**plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_array_equal(kernels.viterbi(**arguments)[0], kernels.viterbi(**plain)[0])
    np.testing.assert_array_equal(kernels.k_best(**arguments, count=3)[0], kernels.k_best(**plain, count=3)[0])
    uniforms = np.random.default_rng(1).random((draws, 2, sum(lengths)))
    drawn = kernels.sample_paths(**arguments, uniforms=uniforms)
    np.testing.assert_array_equal(drawn, kernels.sample_paths(**plain, uniforms=uniforms))


@pytest.mark.parametrize("states", [2, 40])
def test_exact_arithmetic_where_scaled_does_not_reach(states: int) -> None:
    """A left-right chain of far apart rows leaves the scaled range; the weighted counts still add up."""
    arguments = problem(states, [600])
    arguments["log_table"] = 500.0 * arguments["log_table"]
    found, expected = kernels.expected_counts(**arguments), kernels.expected_counts(**dense(arguments))
    np.testing.assert_allclose(found.evidence, expected.evidence, rtol=1e-12)
    np.testing.assert_allclose(found.emission, arguments["emission_index"].T @ expected.emission, atol=1e-9)


def test_two_threads_meet_in_the_middle() -> None:
    arguments = problem(3, [90_000])
    arguments["log_transition"] = np.log(np.full((1, 1, 3, 3), 0.1) + 0.7 * np.eye(3))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found, expected = kernels.expected_counts(**arguments), kernels.expected_counts(**dense(arguments))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(found.evidence, expected.evidence, rtol=1e-12)
    np.testing.assert_allclose(found.emission, arguments["emission_index"].T @ expected.emission, rtol=1e-9, atol=1e-7)


def test_sum_over_all_paths() -> None:
    arguments = problem(3, [5])
    table = arguments["emission_index"] @ arguments["log_table"][0]
    start, move = arguments["log_initial"][0, 0], arguments["log_transition"][0, 0]
    scores = []
    for path in itertools.product(range(3), repeat=5):
        moves = sum(move[i, j] for i, j in itertools.pairwise(path))
        scores.append(start[path[0]] + moves + sum(table[t, k] for t, k in enumerate(path)))
    total = np.logaddexp.reduce(scores)
    np.testing.assert_allclose(kernels.evidence(**arguments)[0, 0], total, rtol=1e-12)


def test_gradient_in_the_rows() -> None:
    arguments = problem(2, [4, 3])
    tensors = [torch.from_numpy(arguments[name]) for name in ("log_initial", "log_table")]
    for tensor in tensors:
        tensor.requires_grad_()
    transition = torch.log(torch.tensor([[[[0.7, 0.3], [0.2, 0.8]]]], dtype=torch.float64))

    def value(initial: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return evidence(initial, transition, table, torch.tensor([4, 3]), arguments["emission_index"])

    assert torch.autograd.gradcheck(value, tensors)
    assert torch.autograd.gradgradcheck(value, tensors)


def test_bad_weights_are_refused() -> None:
    arguments = problem(2, [4])
    with pytest.raises(ValueError, match=r"emission_index must have shape \(4, 3\) as weights of rows"):
        kernels.evidence(**arguments | {"emission_index": np.ones((4, 2))})
    table = arguments["log_table"].copy()
    table[0, 1, 0] = -np.inf
    with pytest.raises(ValueError, match=r"log_table must be finite where rows are combined, got -inf at \(0, 1, 0\)"):
        kernels.evidence(**arguments | {"log_table": table})
