"""Exponential families by their sums: the same log-likelihoods and the same M-step as from the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import HMM, Sequences, families
from probseq.families import Family
from probseq.models.emission_step import emission_data

LINEAR = {"gaussian": families.Gaussian(), "log-normal": families.LogNormal()}
STATES = 3


@pytest.fixture(params=LINEAR)
def family(request: pytest.FixtureRequest) -> Family:
    return LINEAR[request.param]


@pytest.fixture
def values() -> torch.Tensor:
    """Positive, far from zero against their spread, so that raw squares would lose digits."""
    return torch.from_numpy(np.random.default_rng(0).normal(1000.0, 1.0, size=60))


def parameters(family: Family, values: torch.Tensor) -> dict[str, torch.Tensor]:
    found = family.pooled(values, STATES)
    return {"loc": found["loc"] + found["scale"] * torch.tensor([-1.0, 0.0, 2.0]), "scale": found["scale"] * 0.7}


def test_statistics_times_natural_parameters_is_the_table(family, values):
    point = parameters(family, values)
    form = family.linear_form(values)
    table = torch.as_tensor(form.statistics @ family.natural(form, point))
    torch.testing.assert_close(table, family.log_prob(values, point), rtol=1e-11, atol=0.0)


def test_natural_parameters_are_differentiable(family, values):
    form, names = family.linear_form(values), ("loc", "scale")
    point = [parameters(family, values)[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(lambda *p: family.natural(form, dict(zip(names, p, strict=True))), point)
    assert torch.autograd.gradgradcheck(lambda *p: family.natural(form, dict(zip(names, p, strict=True))), point)


@pytest.mark.parametrize("with_priors", [False, True])
def test_the_m_step_from_sums_is_the_one_from_rows(family, values, with_priors):
    weights = torch.from_numpy(np.random.default_rng(1).random((len(values), STATES)))
    current, form = parameters(family, values), family.linear_form(values)
    sums = torch.from_numpy(form.statistics).T @ weights
    priors = family.priors(values)
    found = family.maximise_sums(form, sums, current, priors if with_priors else None)
    if with_priors:
        expected = family.maximise_posterior(values, weights, current, priors)
    else:
        expected = family.maximise(values, weights, current)
    for name, value in expected.items():  # the two ways take squares about different centres: 1e-9 of the scale
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=0.0)


def test_sums_are_refused_where_they_would_cost_digits(family, values):
    form, point = family.linear_form(values), parameters(family, values)
    narrow = point | {"scale": point["scale"] * 1e-4}
    assert family.natural(form, narrow) is None
    weights = torch.zeros(len(values), STATES, dtype=torch.float64)
    weights[0] = 1.0  # all weight on one value: no variance is left
    assert family.maximise_sums(form, torch.from_numpy(form.statistics).T @ weights, point, None) is None


@pytest.mark.parametrize("missing", [False, True])
def test_a_model_counts_the_same_both_ways(family, missing, values):
    """Including ragged sequences, missing steps and a state without any weight."""
    series = values.clone()
    if missing:
        series[[0, 7, 59]] = torch.nan
    sequences = Sequences.from_arrays([series[:20].numpy(), series[20:].numpy()])
    model = HMM(STATES, family).bind(sequences)
    assert emission_data(family, sequences).form is not None
    point = model.start(sequences, 1, 0)
    by_sums, by_rows = (model.expect(point, sequences, by_sums=way) for way in (True, False))
    assert by_sums.emission.by_sums and not by_rows.emission.by_sums
    assert by_sums.log_likelihood == pytest.approx(by_rows.log_likelihood, rel=1e-11)
    torch.testing.assert_close(by_sums.chain.moves, by_rows.chain.moves, rtol=1e-8, atol=1e-10)
    steps = by_sums.emission.expected[0]  # the statistic one counts the observed steps in each state
    torch.testing.assert_close(steps, by_rows.emission.expected.sum(0), rtol=1e-8, atol=1e-10)
    ours, theirs = (model.maximise(point, counts, False, sequences) for counts in (by_sums, by_rows))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-7, atol=1e-12)


def test_repeated_values_keep_their_table(family):
    """Rounded data have few distinct rows, and a table of them is shorter than any sums."""
    sequences = Sequences.from_arrays(np.random.default_rng(0).integers(1, 9, size=100).astype(float))
    assert emission_data(family, sequences).form is None
