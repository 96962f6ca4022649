"""The semi-Markov recursions against the sum over all segmentations, and against a recursion in plain torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from probseq.kernels import semi_markov
from probseq.kernels.semi_markov_reference import semi_markov_evidence_reference
from tests.kernels.segmentations import COUNTS, TABLES, all_paths, random_problem

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # sums of a few hundred positive terms, logarithms of order ten

CASES = {
    "dense": {},
    "at most D": {"tail": False},
    "table": {"rows": 4},
    "seasonal": {"matrices": 3, "rows": 5},
    "zeros": {"zeros": 0.25},
    "zeros, at most D": {"zeros": 0.25, "tail": False, "rows": 3},
    "draws": {"draws": 2, "rows": 4, "matrices": 2, "own_initial": True, "zeros": 0.1},
    "wide range": {"spread": 40.0, "zeros": 0.1},
}


def tensors(problem) -> list[torch.Tensor]:
    tables = [np.asarray(getattr(problem.laws, name)) for name in TABLES] + [problem.log_table]
    return [torch.tensor(table, requires_grad=True) for table in tables]


def reference(problem, tables) -> torch.Tensor:
    indices = [None if x is None else torch.tensor(x.astype(int)) for x in problem.arguments[3:]]
    return semi_markov_evidence_reference(*tables, torch.tensor(np.diff(problem.offsets)), *indices)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("states", "longest"), [(2, 1), (2, 3), (3, 2), (2, 12)])
def test_equals_the_sum_over_all_segmentations(name, states, longest):
    problem = random_problem(longest, states, longest, [7, 1, 4, 2], **CASES[name])
    draws, _, states = problem.log_table.shape
    evidence = semi_markov.evidence(*problem.arguments)
    counts = semi_markov.expected_counts(*problem.arguments)
    smoothed, (filtered, predictive) = (f(*problem.arguments) for f in (semi_markov.smoothed, semi_markov.filtered))
    paths, log_prob = semi_markov.viterbi(*problem.arguments)
    samples = semi_markov.sample_paths(*problem.arguments, uniforms=np.random.default_rng(0).random((draws, 14, 3)))
    for b, n in np.ndindex(evidence.shape):
        span = slice(*problem.offsets[n : n + 2])
        found = all_paths(problem, b, n)
        whole = sum(found.values())
        if whole == 0.0:
            assert evidence[b, n] == counts.evidence[b, n] == log_prob[b, n] == -np.inf
            assert (paths[b, span] == -1).all()
            assert (samples[b, span] == -1).all()
            assert (smoothed[b, span] == 0).all()
            continue
        gamma = sum(np.eye(states)[list(path)] * chance for path, chance in found.items()) / whole
        np.testing.assert_allclose([evidence[b, n], counts.evidence[b, n]], np.log(whole), **EXACT)
        np.testing.assert_allclose(predictive[b, span].sum(), np.log(whole), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(smoothed[b, span], gamma, **EXACT)
        np.testing.assert_allclose(filtered[b, span][-1], gamma[-1], **EXACT)
        np.testing.assert_allclose(log_prob[b, n], np.log(max(found.values())), **EXACT)
        np.testing.assert_allclose(np.log(found[tuple(paths[b, span].tolist())]), log_prob[b, n], **EXACT)
        assert found[tuple(samples[b, span].tolist())] > 0.0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("states", "longest"), [(2, 1), (3, 9), (4, 40), (9, 17)])
def test_counts_are_the_gradient_of_the_reference(name, states, longest):
    problem = random_problem(states, states, longest, [60, 1, 25, 3], **CASES[name])
    tables = tensors(problem)
    evidence = reference(problem, tables)
    weights = np.random.default_rng(0).gamma(1.0, size=evidence.shape)
    possible = torch.where(evidence > -torch.inf, evidence, 0.0)
    gradient = torch.autograd.grad((possible * torch.tensor(weights)).sum(), tables)
    counts = semi_markov.expected_counts(*problem.arguments, weights=weights)
    np.testing.assert_allclose(counts.evidence, evidence.detach(), rtol=1e-12, atol=1e-11)
    for count, slope in zip((*COUNTS, "emission"), gradient, strict=True):
        # logarithms of a thousand, in the wide range, carry 1e-13 of absolute error that the gradient shows
        np.testing.assert_allclose(getattr(counts, count), slope, rtol=1e-9, atol=1e-10, err_msg=count)


def test_filter_is_the_smoother_of_what_was_seen():
    problem = random_problem(1, 3, 4, [12], rows=5)
    filtered, predictive = semi_markov.filtered(*problem.arguments)
    for t in range(12):
        seen = problem.laws, problem.log_table, np.array([0, t + 1]), problem.emission_index[: t + 1]
        np.testing.assert_allclose(filtered[0, t], semi_markov.smoothed(*seen)[0, -1], **EXACT)
        np.testing.assert_allclose(predictive[0, : t + 1].sum(), semi_markov.evidence(*seen)[0, 0], **EXACT)


def test_reference_has_exact_first_and_second_derivatives():
    problem = random_problem(2, 2, 3, [4, 1, 2], draws=2, rows=3, matrices=2)
    tables = tensors(problem)
    assert torch.autograd.gradcheck(lambda *x: reference(problem, x), tables)
    assert torch.autograd.gradgradcheck(lambda *x: reference(problem, x), tables)


@pytest.mark.parametrize("name", ["dense", "at most D"])
def test_samples_follow_their_law(name):
    problem = random_problem(5, 2, 3, [5], **CASES[name])
    found, draws = all_paths(problem, 0, 0), 6000
    whole = sum(found.values())
    repeated = np.arange(draws + 1) * 5  # the same sequence over and over
    rows = np.tile(np.arange(5), draws)
    uniforms = np.random.default_rng(0).random((1, 5 * draws, 3))
    paths = semi_markov.sample_paths(problem.laws, problem.log_table, repeated, rows, uniforms=uniforms)
    prior = semi_markov.simulate_paths(problem.laws, repeated, uniforms=uniforms)
    nothing = random_problem(5, 2, 3, [5], **CASES[name])
    nothing.log_table[...] = 0.0
    for drawn, law, total in ((paths, found, whole), (prior, all_paths(nothing, 0, 0), None)):
        counted = Counter(map(tuple, drawn.reshape(-1, 5).tolist()))
        total = sum(law.values()) if total is None else total
        assert set(counted) <= set(law)
        for path, chance in law.items():
            share = chance / total
            # five standard deviations: one in two million by chance
            assert abs(counted[path] / draws - share) < 5.0 * np.sqrt(share * (1.0 - share) / draws) + 1e-9


def test_blocks_do_not_show():
    """Sequences of many blocks: posterior answers agree with one another, and paths with their own joint."""
    problem = random_problem(3, 3, 20, [200_000, 30, 9_000], spread=1.0, zeros=0.02, rows=400)
    one = semi_markov.expected_counts(*problem.arguments)
    smoothed = semi_markov.smoothed(*problem.arguments)
    evidence, (_, predictive) = (f(*problem.arguments) for f in (semi_markov.evidence, semi_markov.filtered))
    assert np.isfinite(evidence).all()
    np.testing.assert_allclose(evidence, one.evidence, rtol=1e-13)
    np.testing.assert_allclose(np.add.reduceat(predictive[0], problem.offsets[:-1]), evidence[0], rtol=1e-11)
    np.testing.assert_allclose(smoothed.sum(-1), 1.0, rtol=1e-10)
    by_row = np.zeros_like(one.emission[0])
    np.add.at(by_row, problem.rows, smoothed[0])
    np.testing.assert_allclose(by_row, one.emission[0], rtol=1e-10)
    np.testing.assert_allclose(one.duration.sum(), one.transition.sum(), rtol=1e-10)  # a segment for each move
    np.testing.assert_allclose(one.first.sum((0, 2)), one.initial.sum((0, 1)), rtol=1e-10)
    paths, log_prob = semi_markov.viterbi(*problem.arguments)
    for n in range(3):
        span = slice(*problem.offsets[n : n + 2])
        np.testing.assert_allclose(joint_of(problem, paths[0, span], span), log_prob[0, n], rtol=1e-12)


def joint_of(problem, path: np.ndarray, span: slice) -> float:
    """log p(x, path) from its segments."""
    laws, steps = problem.laws, len(path)
    cuts = np.flatnonzero(np.diff(path)) + 1
    value = laws.log_initial[0, 0, path[0]] + problem.log_table[0, problem.rows[span], path].sum()
    for begin, until in zip([0, *cuts], [*cuts, steps], strict=True):
        k = path[begin]
        law, beyond = (laws.log_duration if begin else laws.log_first)[0, k], until - begin - laws.log_first.shape[2]
        if beyond >= 0:
            value += law[-1] + beyond * laws.log_stay[0, k] + (laws.log_leave[0, k] if until < steps else 0.0)
        else:
            value += np.logaddexp.reduce(law[until - begin - 1 :]) if until == steps else law[until - begin - 1]
        if until < steps:
            value += laws.log_transition[0, 0, k, path[until]]
    return float(value)


def test_nothing_underflows():
    """A state may fall 1e5 nats behind and be the only one left later: labels of a long segment, far from the data."""
    steps, longest = 400, 300
    table = np.zeros((1, steps, 2))
    table[0, :, 1] = -500.0  # a likelihood of exp(-100000) before the end of the segment
    table[0, 100:300, 0] = -np.inf
    durations = np.full((1, 2, longest), -np.log(longest))
    jumps = np.log(np.array([[[[1e-300, 1.0], [1.0, 1e-300]]]]))
    never = np.full((1, 2), -np.inf)
    laws = semi_markov.SemiMarkovLaws(
        np.log(np.full((1, 1, 2), 0.5)), jumps, durations, durations, never, np.zeros((1, 2))
    )
    arguments = laws, table, np.array([0, steps])
    paths, log_prob = semi_markov.viterbi(*arguments)
    assert (paths[0] == np.repeat([0, 1, 0], [100, 200, 100])).all()
    np.testing.assert_allclose(log_prob, semi_markov.evidence(*arguments), rtol=1e-12)
    np.testing.assert_allclose(semi_markov.smoothed(*arguments)[0], np.eye(2)[paths[0]], atol=1e-12)
    expected = -100_000 - np.log(2) - 2 * np.log(longest) + np.log(201 / 300)  # the last may be 100 steps or longer
    np.testing.assert_allclose(log_prob[0, 0], expected, rtol=1e-13)


def test_rows_can_be_combined_by_weights():
    problem = random_problem(4, 3, 5, [30, 1, 9], rows=4)
    weights = np.random.default_rng(0).normal(size=(40, 4))
    combined = problem.laws, problem.log_table, problem.offsets, weights
    dense = problem.laws, weights @ problem.log_table, problem.offsets
    found, made = semi_markov.expected_counts(*combined), semi_markov.expected_counts(*dense)
    np.testing.assert_array_equal(found.duration, made.duration)
    np.testing.assert_allclose(found.emission, weights.T @ made.emission, rtol=1e-13)
    for recursion in (semi_markov.evidence, semi_markov.smoothed):
        np.testing.assert_array_equal(recursion(*combined), recursion(*dense))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_log_probability_is_refused(value):
    problem = random_problem(0, 2, 3, [5])
    problem.log_table[0, 2, 1] = value
    for recursion in (semi_markov.evidence, semi_markov.expected_counts, semi_markov.filtered, semi_markov.viterbi):
        with pytest.raises(ValueError, match="log_table must hold log-probabilities"):
            recursion(*problem.arguments)
    with pytest.raises(ValueError, match="log_stay must have shape"):
        broken = semi_markov.SemiMarkovLaws(
            *(getattr(problem.laws, name) for name in TABLES[:4]), np.zeros(3), np.zeros(3)
        )
        semi_markov.evidence(broken, np.zeros((1, 5, 2)), problem.offsets)


@pytest.mark.parametrize("deficit", [1e13, 5e15, 1e17])
def test_a_state_collapsed_onto_one_value_leaves_all_others_their_digits(deficit):
    """State 1 suits eight steps only; what it makes of the others would swallow the digits of all that follows."""
    problem = random_problem(5, 2, 12, [20, 9, 30])
    suited = np.isin(np.arange(59), [3, 4, 11, 24, 25, 26, 50, 57])
    hopeless = -deficit * np.random.default_rng(0).uniform(0.5, 1.0, 59)
    problem.log_table[0, :, 1] = np.where(suited, 17.0, hopeless)
    tables = tensors(problem)
    evidence = reference(problem, tables)
    gradient = torch.autograd.grad(evidence.sum(), tables)
    counts = semi_markov.expected_counts(*problem.arguments)
    np.testing.assert_allclose(semi_markov.evidence(*problem.arguments), evidence.detach(), rtol=1e-12)
    np.testing.assert_allclose(counts.evidence, evidence.detach(), rtol=1e-12)
    for count, slope in zip((*COUNTS, "emission"), gradient, strict=True):
        np.testing.assert_allclose(getattr(counts, count), slope, rtol=1e-10, atol=1e-10)


def test_a_sequence_that_must_pass_a_hopeless_step_keeps_its_evidence():
    """At most three steps a segment: five steps cannot avoid state 1, which is 10**16 nats behind at every step."""
    laws = [np.zeros((1, 1, 2)) + np.log(0.5), np.array([[[[-np.inf, 0.0], [0.0, -np.inf]]]])]
    laws += [np.full((1, 2, 3), -np.log(3.0))] * 2 + [np.full((1, 2), -np.inf), np.zeros((1, 2))]
    table = np.zeros((1, 5, 2))
    table[0, :, 1] = -1e16
    arguments = semi_markov.SemiMarkovLaws(*laws), table, np.array([0, 5])
    np.testing.assert_allclose(semi_markov.evidence(*arguments), -1e16, rtol=1e-15)
    np.testing.assert_allclose(semi_markov.expected_counts(*arguments).evidence, -1e16, rtol=1e-15)
