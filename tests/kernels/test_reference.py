"""The torch recursion: its derivatives, and the compiled recursions against it on problems too big to enumerate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import kernels
from probseq.kernels.reference import evidence_reference, logsumexp


def tensors(problem, requires_grad: bool = False) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(x, requires_grad=requires_grad) for x in problem.arguments[:3])


def indices(problem) -> tuple:
    lengths = torch.tensor(np.diff(problem.offsets))
    return lengths, *(None if x is None else torch.tensor(x.astype(int)) for x in problem.arguments[4:])


CASES = {
    "dense": {},
    "table": {"rows": 7, "index_dtype": np.uint8},
    "seasonal": {"matrices": 5, "rows": 9},
    "draws": {"draws": 2, "rows": 11, "matrices": 3, "own_initial": True},
    "zeros": {"zeros": 0.3, "matrices": 2},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("states", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 32, 40])
def test_counts_are_the_gradient_of_the_reference(make_problem, states, name):
    problem = make_problem(states, states, [40, 1, 300, 3], **CASES[name])
    tables = tensors(problem, requires_grad=True)
    evidence = evidence_reference(*tables, *indices(problem))
    weights = np.random.default_rng(0).gamma(1.0, size=evidence.shape)
    possible = torch.where(evidence > -torch.inf, evidence, 0.0)
    gradient = torch.autograd.grad((possible * torch.tensor(weights)).sum(), tables)
    counts = kernels.expected_counts(*problem.arguments, weights=weights)
    # Logarithms of size 1e3 carry 1e-13 of absolute error, which 300 steps may add up.
    np.testing.assert_allclose(counts.evidence, evidence.detach(), rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(kernels.evidence(*problem.arguments), evidence.detach(), rtol=1e-12, atol=1e-11)
    for value, slope in zip((counts.initial, counts.transition, counts.emission), gradient, strict=True):
        np.testing.assert_allclose(value, slope, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("states", [2, 5, 8, 9, 32, 40])
def test_filter_smoother_and_viterbi_agree_with_each_other(make_problem, states):
    problem = make_problem(1, states, [600, 1, 1500, 30], rows=50, matrices=4, spread=1.0)
    counts = kernels.expected_counts(*problem.arguments)
    smoothed = kernels.smoothed(*problem.arguments)
    filtered, predictive = kernels.filtered(*problem.arguments)
    by_row = np.zeros_like(counts.emission[0])
    np.add.at(by_row, problem.emission_rows, smoothed[0])
    np.testing.assert_allclose(by_row, counts.emission[0], rtol=1e-11)
    sums = np.add.reduceat(predictive[0], problem.offsets[:-1])
    np.testing.assert_allclose(sums, counts.evidence[0], rtol=1e-12)
    last = problem.offsets[1:] - 1
    np.testing.assert_allclose(filtered[0, last], smoothed[0, last], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(filtered.sum(-1), 1.0, rtol=1e-13)
    paths, log_prob = kernels.viterbi(*problem.arguments)
    for n, (start, end) in enumerate(zip(problem.offsets, last + 1, strict=False)):
        z, moves = paths[0, start:end], problem.moves[start : end - 1]
        joint = problem.log_initial[0, 0, z[0]] + problem.log_transition[0, moves, z[:-1], z[1:]].sum()
        joint += problem.log_table[0, problem.emission_rows[start:end], z].sum()
        np.testing.assert_allclose(log_prob[0, n], joint, rtol=1e-12)


def test_viterbi_equals_a_recursion_written_with_numpy(make_problem):
    for states in (1, 2, 3, 4, 8, 9, 32, 40):
        problem = make_problem(states, states, [1300], rows=30, matrices=3, zeros=0.1)
        delta = problem.log_initial[0, 0] + problem.log_table[0, problem.emission_rows[0]]
        for step in range(1, 1300):
            best = (delta[:, None] + problem.log_transition[0, problem.moves[step - 1]]).max(0)
            delta = best + problem.log_table[0, problem.emission_rows[step]]
        _, log_prob = kernels.viterbi(*problem.arguments)
        np.testing.assert_allclose(log_prob[0, 0], delta.max(), rtol=1e-12)


def test_reference_has_exact_first_and_second_derivatives(make_problem):
    problem = make_problem(2, 2, [3, 1, 2], draws=2, rows=3, matrices=2)
    tables = tensors(problem, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: evidence_reference(*x, *indices(problem)), tables)
    assert torch.autograd.gradgradcheck(lambda *x: evidence_reference(*x, *indices(problem)), tables)


def test_derivatives_at_structural_zeros_are_zero_not_nan():
    law = torch.tensor([0.0, -torch.inf], dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[-0.5, -1.0], [-torch.inf, 0.0]], dtype=torch.float64, requires_grad=True)
    table = torch.tensor([[-1.0, -2.0], [-torch.inf, -1.0], [-3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    evidence = evidence_reference(law[None], rows[None], table, torch.tensor([3]))
    gradient = torch.autograd.grad(evidence.sum(), (law, rows, table), create_graph=True)
    assert [x.tolist() for x in gradient] == [
        [1.0, 0.0],
        [[0.0, 1.0], [0.0, 1.0]],
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
    ]
    second = torch.autograd.grad(sum(x.sum() for x in gradient), (law, rows, table))
    assert all(torch.isfinite(x).all() for x in second)


def test_reference_broadcasts_leading_dimensions(make_problem):
    problem = make_problem(3, 3, [4, 2], draws=5)
    law, rows, table = tensors(problem)
    lengths = indices(problem)[0]
    full = evidence_reference(law, rows, table, lengths)
    np.testing.assert_allclose(full, kernels.evidence(*problem.arguments), rtol=1e-12)
    shared = evidence_reference(law[:, None], rows[0], table[None], lengths)
    assert shared.shape == (5, 5, 2)
    torch.testing.assert_close(shared[0, 0], full[0])


def test_logsumexp_is_torch_s_own_where_that_is_finite():
    values = torch.randn(4, 5, dtype=torch.float64) * 300
    torch.testing.assert_close(logsumexp(values, 1), torch.logsumexp(values, 1))
