"""`marginalize` and `posterior` against the sum over all K^T paths of the program, for every family and structure."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats

from probseq import MarkovChain, families, marginalize, posterior

# Sums of at most 3^5 positive terms: a few hundred roundings of 1e-16, of log-probabilities of order 10 to 100.
EXACT = 1e-10

STRUCTURES = {
    "ragged": {"lengths": (4, 2)},
    "missing": {"lengths": (3, 2), "missing": (1, 3)},
    "three states": {"states": 3, "lengths": (3, 2), "missing": (4,)},
    "everything": {"states": 3, "lengths": (2, 3), "missing": (3,), "matrices": 2, "zero": (0, 1)},
}


def structured(make_problem, family, name: str):
    kind, width = family
    return make_problem(kind, width, **STRUCTURES[name], seed=len(name))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_log_prob_and_gradient(make_problem, sum_over_paths, log_joint, family, structure):
    problem = structured(make_problem, family, structure)
    expected = sum_over_paths(problem.given, problem.states, sum(problem.lengths)).joint.logsumexp(0)
    found = log_joint(marginalize(problem.given))
    assert math.isfinite(float(expected.detach()))
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    leaves = list(problem.parameters.values())
    wanted = torch.autograd.grad(expected, leaves)
    for name, one, other in zip(problem.parameters, torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=EXACT, atol=EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("structure", ["missing", "everything"])
def test_posterior_of_the_path(make_problem, sum_over_paths, family, structure):
    problem = structured(make_problem, family, structure)
    steps = sum(problem.lengths)
    exact = sum_over_paths(problem.given, problem.states, steps)
    found = posterior(problem.program, problem.parameters)()["state"]
    pairwise = torch.zeros(steps, problem.states, problem.states, dtype=torch.float64)
    for t in range(steps):
        shares = [exact.share(t, k) for k in range(problem.states)]
        assert found.smoothed[t].tolist() == pytest.approx(shares, abs=EXACT)
        if t + 1 not in [*problem.starts, steps]:
            for path, chance in zip(exact.paths, exact.chance, strict=True):
                pairwise[t, path[t], path[t + 1]] += float(chance)
    torch.testing.assert_close(found.pairwise, pairwise, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(found.expected_transitions.sum(0), pairwise.sum(0), rtol=EXACT, atol=EXACT)
    assert found.viterbi.tolist() == exact.paths[exact.joint.argmax()].tolist()
    # What no path changes, the priors, is in the joint of the program and not in the posterior's evidence.
    possible = exact.joint > -torch.inf
    path_alone = exact.seen_only([]).joint[possible]
    rest = (path_alone - chain_of(problem).log_prob(exact.paths[possible]))[0].detach()
    best, total = exact.joint.max().detach() - rest, exact.joint.logsumexp(0).detach() - rest
    assert float(found.viterbi_log_prob.sum()) == pytest.approx(float(best), abs=1e-9)
    assert float(found.log_evidence.sum()) == pytest.approx(float(total), abs=1e-9)


def chain_of(problem) -> MarkovChain:
    """The chain as the program makes it."""
    return poutine.trace(problem.given).get_trace().nodes["state"]["fn"]


@pytest.mark.parametrize("kind", [families.Poisson(), families.Gaussian(), families.Hurdle(families.Gamma())])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_filtered_and_predictive(make_problem, sum_over_paths, kind, structure):
    problem = structured(make_problem, (kind, 0), structure)
    exact = sum_over_paths(problem.given, problem.states, sum(problem.lengths))
    found = posterior(problem.program, problem.parameters)()["state"]
    for start, length in zip(problem.starts, problem.lengths, strict=True):
        before = exact.seen_only([]).joint.logsumexp(0)
        for t in range(start, start + length):
            seen = exact.seen_only(list(range(start, t + 1)))
            shares = [seen.share(t, k) for k in range(problem.states)]
            assert found.filtered[t].tolist() == pytest.approx(shares, abs=EXACT)
            now = seen.joint.logsumexp(0)
            assert float(found.predictive_log_prob[t]) == pytest.approx(float((now - before).detach()), abs=1e-9)
            before = now
    total = found.predictive_log_prob.sum()
    assert float(total) == pytest.approx(float(found.log_evidence.sum()), abs=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_frequencies_of_sampled_paths(make_problem, sum_over_paths, structure):
    """Chi-squared of 20,000 draws over the paths that are expected 5 times or more; p below 1e-4 fails."""
    problem = structured(make_problem, (families.Poisson(), 0), structure)
    exact = sum_over_paths(problem.given, problem.states, sum(problem.lengths))
    draws = posterior(problem.program, problem.parameters)()["state"].sample(20_000, seed=1)
    check_frequencies(draws, exact)


def check_frequencies(draws: torch.Tensor, exact) -> None:
    """Draws (S, T) of paths against their exact chances."""
    base = int(exact.paths.max()) + 1
    place = base ** torch.arange(exact.paths.shape[1] - 1, -1, -1)
    counts = torch.bincount((draws * place).sum(1), minlength=len(exact.paths)).double()
    expected = exact.chance * len(draws)
    assert (counts[exact.chance == 0] == 0).all()
    common = expected >= 5
    kept = [counts[common], counts[~common].sum()[None]]
    wanted = [expected[common], expected[~common].sum()[None]]
    observed, hoped = torch.cat(kept), torch.cat(wanted)
    used = hoped > 1e-9 * len(draws)
    statistic = float(((observed - hoped)[used].square() / hoped[used]).sum())
    assert stats.chi2.sf(statistic, int(used.sum()) - 1) > 1e-4


def test_weights_count_a_sequence_as_often(make_problem, sum_over_paths, log_joint):
    """Two sequences, the first three times and the second half: the sum over paths of each by itself."""
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    weighted = make_problem(families.Poisson(), lengths=(3, 2), weights=weights)
    plain = make_problem(families.Poisson(), lengths=(3, 2))
    exact = sum_over_paths(plain.given, 2, 5)
    none = exact.seen_only([]).joint.logsumexp(0)
    parts = [exact.seen_only(steps).joint.logsumexp(0) - none for steps in ([0, 1, 2], [3, 4])]
    expected = none + 3.0 * parts[0] + 0.5 * parts[1]
    torch.testing.assert_close(log_joint(marginalize(weighted.given)), expected, rtol=EXACT, atol=EXACT)


def test_weighted_program_as_it_stands_scores_one_path(make_problem, log_joint):
    """With a path given, marginalising changes nothing, whatever the weights."""
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    problem = make_problem(families.Poisson(), lengths=(3, 2), weights=weights)
    given = pyro.condition(problem.given, {"state": torch.tensor([0, 1, 1, 0, 1])})
    torch.testing.assert_close(log_joint(marginalize(given)), log_joint(given))
