"""Vectors of which some entries are missing: the marginal law, by closed forms and by integration, and EM on it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch.autograd import gradcheck
from torch.distributions import biject_to

from probseq import families as f
from probseq.families import numerical

F64 = torch.float64
NAN = math.nan


def t(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=F64)


@pytest.fixture
def holey(case):
    """A family that takes missing entries, with rows that have one missing here and there, though not all."""
    if not getattr(case.family, "partly_missing", False):
        pytest.skip("no missing entries in a row")
    values = case.sample(20, seed=4).double()
    gaps = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    gaps[torch.arange(len(values)), torch.arange(len(values)) % values.shape[1]] = False
    return case, torch.where(gaps, NAN, values)


def test_the_table_is_the_integral_over_what_is_missing(holey):
    """One missing entry at a time, integrated (or added up) out of the whole law by quadrature."""
    case, values = holey
    rows = values[values.isnan().sum(1) == 1][:2]
    if case.family.kind == "product" or "hurdle" in case.family.name:
        pytest.skip("columns of their own kinds: test_independent_columns_add_up")
    table = case.family.log_prob(rows, case.parameters)
    for r, row in enumerate(rows):
        column = int(row.isnan().nonzero())
        for k in range(2):

            def density(x, row=row, column=column, k=k):
                whole = row.clone()
                whole[column] = x
                return float(case.family.log_prob(whole.unsqueeze(0), case.parameters)[0, k].exp())

            if case.family.discrete:
                expected = sum(density(float(x)) for x in range(int(case.high) + 1))
            else:
                expected = quad(density, -np.inf, np.inf, epsabs=0, limit=400)[0]
            # quadrature's own error: heavy tails (df 3.5) on the whole line
            assert float(table[r, k].exp()) == pytest.approx(expected, rel=1e-6)


def test_independent_columns_add_up(holey):
    case, values = holey
    if case.family.kind not in ("product", "independent"):
        pytest.skip("dependent columns")
    expected = torch.zeros(len(values), 3, dtype=F64)
    for d in range(values.shape[1]):
        inner = case.family.families[d] if case.family.kind == "product" else case.family.inner
        prefix = f"{case.family.names[d]}_" if case.family.kind == "product" else ""
        own = {n: case.parameters[prefix + n] for n in inner.parameters()}
        own = own if prefix else {n: v[:, d] for n, v in own.items()}
        for r in (~values[:, d].isnan()).nonzero()[:, 0].tolist():
            expected[r] += inner.log_prob(values[r : r + 1, d], own)[0]
    np.testing.assert_allclose(case.family.log_prob(values, case.parameters), expected, rtol=1e-12, atol=1e-12)


def test_the_distribution_scores_as_the_table(holey):
    """Each state against every row, as under enumerated states, and chosen states."""
    case, values = holey
    declared = case.family.parameters(case.event_shape)
    table = case.family.log_prob(values, case.parameters)
    each = {n: v if declared[n].shared else v.unsqueeze(1) for n, v in case.parameters.items()}
    np.testing.assert_allclose(case.family.distribution(**each).log_prob(values), table.mT, rtol=1e-10, atol=1e-10)
    state = torch.arange(len(values)) % 3
    chosen = {n: v if declared[n].shared else v[state] for n, v in case.parameters.items()}
    found = case.family.distribution(**chosen).log_prob(values)
    np.testing.assert_allclose(found, table[torch.arange(len(values)), state], rtol=1e-10, atol=1e-10)


def test_gradients_know_no_nan(holey):
    case, values = holey
    declared = case.family.parameters(case.event_shape)
    transforms = {name: biject_to(one.constraint) for name, one in declared.items()}
    names = list(transforms)
    free = [transforms[name].inv(case.parameters[name]).detach().requires_grad_() for name in names]

    def made(coordinates):
        return {name: transforms[name](u) for name, u in zip(names, coordinates, strict=True)}

    rows = values[:6]
    assert gradcheck(lambda *u: case.family.log_prob(rows, made(u)), free, rtol=1e-4, atol=1e-6)
    law = case.family.distribution(**made(free))
    score = law.log_prob(rows.unsqueeze(1)).sum()
    first = torch.autograd.grad(score, free, create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first if g.requires_grad), free, allow_unused=True)
    for gradient in (*first, *second):
        assert gradient is None or bool(torch.isfinite(gradient).all())


def test_em_climbs_to_where_the_gradient_is_zero(holey):
    case, values = holey
    weights = torch.rand(len(values), 3, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.1
    priors = case.family.priors(values)
    declared = case.family.parameters(case.event_shape)
    likelihood = case.family.expected_log_prob(values, weights)

    def posterior(parameters):
        return likelihood(parameters) + numerical.log_prior(priors, parameters, declared, 3)

    for target, step in (
        (likelihood, lambda p: case.family.maximise(values, weights, p)),
        (posterior, lambda p: case.family.maximise_posterior(values, weights, p, priors)),
    ):
        point = dict(case.parameters)
        if "hurdle" in case.family.name and target is likelihood:
            point = case.family.pooled(values, 3)
        heights = [float(target(point).sum())]
        for _ in range(400):
            point = step(point)
            heights.append(float(target(point).sum()))
            if heights[-1] - heights[-2] < 1e-12 * abs(heights[-1]):
                break
        assert np.all(np.diff(heights) >= -1e-10 * np.abs(heights[1:]))
        transforms = {name: biject_to(one.constraint) for name, one in declared.items()}
        free = {n: transforms[n].inv(v).detach().requires_grad_() for n, v in point.items()}
        total = target({n: transforms[n](u) for n, u in free.items()}).sum()
        for name, gradient in zip(free, torch.autograd.grad(total, list(free.values())), strict=True):
            if name == "df":
                gradient = torch.where(point["df"] >= 1e5, 0.0, gradient)
            # EM stops at steps of 1e-12 of the likelihood, where the gradient is about its square root
            assert float(gradient.abs().max()) < 2e-4 * len(values), name


@pytest.mark.parametrize("family", [f.MultivariateGaussian(), f.MultivariateStudentT()], ids=lambda x: x.name)
def test_missing_at_random_leaves_the_estimate_unbiased(family):
    """The second column is missing where the first is high: its plain mean is far off, the estimate is not.

    y2 = y1 + noise of variance 1/4, y1 standard normal: the mean of the y2 that are seen is that of y1 below 0, -0.8.
    """
    rng = np.random.default_rng(0)
    first = rng.normal(size=4000) if family.kind == "multivariate-gaussian" else rng.standard_t(5, size=4000)
    second = first + 0.5 * rng.normal(size=4000)
    values = torch.tensor(np.stack([first, np.where(first > 0, NAN, second)], 1))
    weights = torch.ones(4000, 1, dtype=F64)
    point = family.pooled(values, 1)
    for _ in range(60 if family.kind == "multivariate-gaussian" else 30):
        point = family.maximise(values, weights, point)
    loc = point["loc"][0]
    # standard errors: 1 / sqrt(4000) = 0.016 of a mean, three quarters more for what is missing
    assert abs(float(loc[1])) < 0.1 and abs(float(loc[0])) < 0.07
    assert float(values[:, 1].nanmean()) < -0.6
    covariance = point["scale_tril"][0] @ point["scale_tril"][0].T
    assert float(covariance[0, 1] / covariance[0, 0]) == pytest.approx(1.0, abs=0.06)


def test_a_gaussian_with_gaps_equals_scipys_marginal():
    family = f.MultivariateGaussian()
    rng = np.random.default_rng(3)
    root = np.tril(rng.normal(size=(4, 4)))
    root[np.diag_indices(4)] = np.abs(np.diagonal(root)) + 0.5
    loc = rng.normal(size=4)
    row = rng.normal(size=4)
    covariance = root @ root.T
    for seen in ([0], [1, 3], [0, 2, 3]):
        gaps = np.full(4, NAN)
        gaps[seen] = row[seen]
        found = family.log_prob(
            torch.tensor(gaps)[None], {"loc": t(*loc)[None], "scale_tril": torch.tensor(root)[None]}
        )
        expected = stats.multivariate_normal.logpdf(row[seen], loc[seen], covariance[np.ix_(seen, seen)])
        assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_whole_bernoulli_vectors_are_exact_at_zero_and_one():
    family = f.Independent(f.Bernoulli())
    probability = t([0.0, 1.0, 0.5], [1.0, 0.5, 0.5])
    rows = t([0.0, 1.0, 1.0], [1.0, NAN, 0.0], [NAN, 0.0, NAN], [0.0, 0.5, 1.0])
    table = family.log_prob(rows, {"probability": probability})
    half = math.log(0.5)
    np.testing.assert_allclose(table, [[half, -np.inf], [-np.inf, half], [-np.inf, half], [-np.inf, -np.inf]])
    found = family.maximise(rows[:3], torch.ones(3, 2, dtype=F64), {"probability": probability})
    np.testing.assert_allclose(found["probability"], [[0.5, 0.5, 0.5]] * 2)
