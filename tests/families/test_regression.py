"""Regressions against their inner family row by row, their M-step against independent optima, exact derivatives."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from torch import Tensor

from probseq import DataError, Design, ModelError, Season, families
from probseq.families import Family, Regression
from probseq.families.links import BaselineSoftmax, CoefficientPrior, link_of
from tests.every_family import FAMILIES

DESIGN = Design(("a",), (Season(5),))
STATES, ROWS = 2, 14
INNER = {
    name: family
    for name, (family, width) in FAMILIES.items()
    if width == 0 and not family.context and family.kind != "mixture"  # whose components 14 rows do not tell apart
}
# A row's log-likelihood is the same few operations in another order: a hundred roundings of 1e-16.
EXACT = 1e-11


def predictors(generator: torch.Generator, *shape: int) -> Tensor:
    return 0.6 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def problem(inner: Family, seed: int = 1, count: int = ROWS) -> tuple[Regression, Tensor, dict[str, Tensor]]:
    """A regression of every parameter, rows [y | design] that its first state drew, and parameters of two states."""
    generator = torch.Generator().manual_seed(seed)
    family = Regression(inner, DESIGN)
    x = torch.cat([torch.ones(count, 1).double(), predictors(generator, count, DESIGN.width - 1)], 1)
    parameters = {name: predictors(generator, STATES, *one.shape) for name, one in family.parameters().items()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = {name: value[0] for name, value in family.beside(parameters, x).items()}
        drawn = family.emission(parameters, (torch.zeros(count, dtype=torch.int64),), x).sample()
    assert len(first) == len(parameters)
    return family, torch.cat([drawn.double().unsqueeze(1), x], 1), parameters


def row_by_row(family: Regression, parameters: dict[str, Tensor], x: Tensor) -> list[dict[str, Tensor]]:
    """The inner parameters (K, *shape) of each row, by numpy and scipy."""
    result = []
    for row in x.numpy():
        chosen = {}
        for name, one in family.inner.parameters().items():
            eta = parameters[f"{name}_coefficients"].detach().numpy() @ row
            if one.shape:
                chosen[name] = special.softmax(np.concatenate([eta, np.zeros((len(eta), 1))], 1), axis=1)
            elif one.constraint is torch.distributions.constraints.real:
                chosen[name] = eta
            elif one.constraint is torch.distributions.constraints.unit_interval:
                chosen[name] = special.expit(eta)
            else:
                chosen[name] = np.exp(eta)
        result.append({name: torch.from_numpy(np.asarray(value)) for name, value in chosen.items()})
    return result


@pytest.mark.parametrize("name", INNER)
def test_table_cdf_and_mean_are_the_inner_familys_at_each_rows_parameters(name: str) -> None:
    family, rows, parameters = problem(INNER[name])
    y, x = rows[:, 0], rows[:, 1:]
    alone = row_by_row(family, parameters, x)
    table = family.log_prob(rows, parameters)
    mean = family.mean_beside(parameters, x)
    for r, own in enumerate(alone):
        torch.testing.assert_close(table[r], family.inner.log_prob(y[r : r + 1], own)[0], rtol=EXACT, atol=EXACT)
        torch.testing.assert_close(mean[r], family.inner.mean(own), rtol=EXACT, atol=EXACT)
    if name == "categorical":
        return
    cdf, survival = family.cdf(rows, parameters), family.survival(rows, parameters)
    for r, own in enumerate(alone):
        torch.testing.assert_close(cdf[r], family.inner.cdf(y[r : r + 1], own)[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(survival[r], family.inner.survival(y[r : r + 1], own)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", INNER)
def test_the_programs_law_scores_what_the_table_says(name: str) -> None:
    family, rows, parameters = problem(INNER[name])
    table = family.log_prob(rows, parameters)
    enumerated = torch.arange(STATES).unsqueeze(-1)
    law = family.emission(parameters, (enumerated,), rows[:, 1:])
    torch.testing.assert_close(law.log_prob(rows[:, 0]).T, table, rtol=EXACT, atol=EXACT)
    draws = {key: torch.stack([value, value.flip(0)]).unsqueeze(1) for key, value in parameters.items()}
    both = family.emission(draws, (torch.zeros(ROWS, dtype=torch.int64),), rows[:, 1:]).log_prob(rows[:, 0])
    torch.testing.assert_close(both.reshape(2, ROWS).T, table, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("name", INNER)
def test_gradients_and_the_newton_steps_hessian(name: str) -> None:
    family, rows, parameters = problem(INNER[name], count=6)
    declared = list(parameters)
    leaves = tuple(value.requires_grad_() for value in parameters.values())

    def table(*values: Tensor) -> Tensor:
        return family.log_prob(rows, dict(zip(declared, values, strict=True)))

    torch.autograd.gradcheck(table, leaves, rtol=1e-5, atol=1e-6)
    weights = torch.rand(6, STATES, generator=torch.Generator().manual_seed(3)).double()
    weights[2] = 0.0
    shapes = [value.shape[1:] for value in parameters.values()]
    sizes = [math.prod(shape) for shape in shapes]

    def objective(u: Tensor) -> Tensor:
        parts = [part.reshape(STATES, *shape) for part, shape in zip(u.split(sizes, 1), shapes, strict=True)]
        return (weights * table(*parts)).sum()

    u = torch.cat([value.detach().reshape(STATES, -1) for value in leaves], 1)
    value, gradient, hessian = family._derivatives(rows, weights, parameters)(u)
    assert float(value.sum()) == pytest.approx(float(objective(u)), rel=1e-12)
    torch.testing.assert_close(gradient, torch.func.grad(objective)(u), rtol=1e-8, atol=1e-9)
    whole = torch.autograd.functional.hessian(objective, u)
    for state in range(STATES):
        torch.testing.assert_close(hessian[state], whole[state, :, state], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["gaussian", "hurdle-gamma", "categorical"])
def test_second_derivatives_of_the_table(name: str) -> None:
    family, rows, parameters = problem(INNER[name], count=4)
    leaves = tuple(value.requires_grad_() for value in parameters.values())
    torch.autograd.gradgradcheck(
        lambda *values: family.log_prob(rows, dict(zip(parameters, values, strict=True))), leaves, rtol=1e-4, atol=1e-5
    )


def regression_data(seed: int = 4, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(count), rng.normal(size=count), rng.uniform(-1, 1, count)])
    return x, rng.uniform(0.1, 2.0, size=count), rng


def fitted(family: Regression, y: np.ndarray, x: np.ndarray, weights: np.ndarray) -> dict[str, Tensor]:
    rows = torch.from_numpy(np.column_stack([y, x]))
    found = family.maximise(rows, torch.from_numpy(weights[:, None]), family.pooled(rows, 1))
    return {name: value[0] for name, value in found.items()}


TWO = Design(("a", "b"))


def test_gaussian_regression_is_weighted_least_squares() -> None:
    x, weights, rng = regression_data()
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=len(x))
    found = fitted(Regression(families.Gaussian(), TWO, ("loc",)), y, x, weights)
    root = np.sqrt(weights)
    expected = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
    assert found["loc_coefficients"].numpy() == pytest.approx(expected, rel=1e-8)
    residual = np.average((y - x @ expected) ** 2, weights=weights) ** 0.5
    assert float(found["scale"]) == pytest.approx(residual, rel=1e-8)


def minimum(loss, start) -> np.ndarray:
    """Of an independent loss, by BFGS and a finish by Nelder and Mead's standards: 1e-6 in the parameters."""
    found = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
    return found.x


def test_poisson_logistic_and_gamma_regression_against_scipy() -> None:
    x, weights, rng = regression_data()
    truth = np.array([0.4, 0.7, -0.5])
    counts = rng.poisson(np.exp(x @ truth))
    poisson = fitted(Regression(families.Poisson(), TWO), counts, x, weights)["rate_coefficients"]
    best = minimum(lambda b: -weights @ stats.poisson.logpmf(counts, np.exp(x @ b)), np.zeros(3))
    assert poisson.numpy() == pytest.approx(best, abs=1e-5)
    wet = (rng.uniform(size=len(x)) < special.expit(x @ truth)).astype(float)
    logistic = fitted(Regression(families.Bernoulli(), TWO), wet, x, weights)["probability_coefficients"]
    best = minimum(lambda b: weights @ np.logaddexp(0, np.where(wet > 0, -1, 1) * (x @ b)), np.zeros(3))
    assert logistic.numpy() == pytest.approx(best, abs=1e-5)
    size = rng.gamma(2.0, np.exp(-(x @ truth)))
    gamma = fitted(Regression(families.Gamma(), TWO, ("rate",)), size, x, weights)
    best = minimum(lambda b: -weights @ stats.gamma.logpdf(size, np.exp(b[3]), scale=np.exp(-(x @ b[:3]))), np.zeros(4))
    assert gamma["rate_coefficients"].numpy() == pytest.approx(best[:3], abs=1e-5)
    assert float(gamma["concentration"]) == pytest.approx(math.exp(best[3]), rel=1e-5)


def test_hurdle_gamma_with_each_part_varying_is_two_regressions() -> None:
    x, weights, rng = regression_data()
    wet = rng.uniform(size=len(x)) < special.expit(x @ [0.2, 0.8, -0.3])
    y = np.where(wet, rng.gamma(1.5, np.exp(x @ [0.5, 0.3, 0.2])), 0.0)
    found = fitted(Regression(families.Hurdle(families.Gamma()), TWO, ("nonzero", "rate")), y, x, weights)
    chance = fitted(Regression(families.Bernoulli(), TWO), wet.astype(float), x, weights)
    size = fitted(Regression(families.Gamma(), TWO, ("rate",)), y[wet], x[wet], weights[wet])
    torch.testing.assert_close(found["nonzero_coefficients"], chance["probability_coefficients"], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found["rate_coefficients"], size["rate_coefficients"], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found["concentration"], size["concentration"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", INNER)
def test_the_m_step_never_goes_down(name: str) -> None:
    family, rows, parameters = problem(INNER[name], seed=2)
    weights = torch.rand(ROWS, STATES, generator=torch.Generator().manual_seed(5)).double()
    weights[:, 1] = 0.0
    priors = family.priors(rows)
    score = family.expected_log_prob(rows, weights)
    before = score(parameters)
    found = family.maximise(rows, weights, parameters)
    assert float(score(found)[0]) >= float(before[0])
    for key, value in parameters.items():  # the state without weight keeps its own
        assert torch.equal(found[key][1], value[1])

    def posterior(values: dict[str, Tensor]) -> Tensor:
        return score(values) + sum(prior.log_prob(values[key]) for key, prior in priors.items())

    mode = family.maximise_posterior(rows, weights, parameters, priors)
    assert bool((posterior(mode) >= posterior(parameters)).all())
    leaves = {key: value.clone().requires_grad_() for key, value in mode.items()}
    slopes = torch.autograd.grad(posterior(leaves).sum(), list(leaves.values()))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-4  # of an objective of order 10, at its mode


def test_coefficient_prior_is_the_inner_prior_at_the_reference() -> None:
    inner = families.Gamma().priors(torch.tensor([1.0, 4.0, 2.0]).double())["rate"]
    prior = CoefficientPrior(inner, link_of(torch.distributions.constraints.positive), torch.tensor([2.0]).double())
    total = integrate.quad(lambda b: math.exp(float(prior.log_prob(torch.tensor([b, 0.3]).double()))), -40, 20)[0]
    assert total == pytest.approx(stats.norm.pdf(0.3, scale=2.0), rel=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = prior.expand([3]).sample(torch.Size([4000]))
    assert drawn.shape == (4000, 3, 2)
    assert stats.kstest(drawn[:, 0, 0].exp().numpy(), lambda v: inner.cdf(torch.from_numpy(v)).numpy()).pvalue > 1e-4
    assert stats.kstest(drawn[:, 1, 1].numpy() / 2.0, "norm").pvalue > 1e-4


def test_jacobian_of_the_multinomial_logit() -> None:
    link, x = BaselineSoftmax(), torch.tensor([0.3, -1.2, 0.7]).double()
    jacobian = torch.autograd.functional.jacobian(lambda value: link(value)[:-1], x)
    assert float(link.log_abs_det_jacobian(x, link(x))) == pytest.approx(float(jacobian.det().log()), rel=1e-12)
    torch.testing.assert_close(link.inv(link(x)), x)


def test_observations_outside_the_support_are_impossible_and_harm_no_gradient() -> None:
    family = Regression(families.Gamma(), TWO)
    rows = torch.tensor([[1.0, 1.0, 0.5, 0.1], [-1.0, 1.0, 0.2, 0.3], [0.0, 1.0, 0.2, 0.3]]).double()
    parameters = {name: torch.zeros(2, 3).double().requires_grad_() for name in family.parameters()}
    table = family.log_prob(rows, parameters)
    assert (table[1:] == -torch.inf).all() and bool(table[0].isfinite().all())
    slopes = torch.autograd.grad(table[0].sum(), list(parameters.values()))
    assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("name", INNER)
def test_json_words_and_counting(name: str) -> None:
    family, rows, parameters = problem(INNER[name])
    again = families.from_json(json.loads(json.dumps(family.to_json())))
    assert again == family and hash(again) == hash(family)
    assert "year_cos_1" not in family.describe(parameters, 0) and "period_5_cos_1" in family.describe(parameters, 0)
    assert family.n_parameters(3) == 3 * sum(value[0].numel() for value in parameters.values())
    assert family.mean(parameters).shape == family.variance(parameters).shape == (STATES,)


def test_refusals() -> None:
    with pytest.raises(ModelError, match="must depend on a covariate or a season"):
        Regression(families.Poisson(), Design())
    with pytest.raises(ModelError, match="must wrap a family of single numbers"):
        Regression(families.MultivariateGaussian(), TWO)
    with pytest.raises(ModelError, match="must be among rate, got .'mean',"):
        Regression(families.Poisson(), TWO, ("mean",))
    with pytest.raises(ModelError, match="name one or more"):
        Regression(families.Poisson(), TWO, ())
    with pytest.raises(DataError, match="rain must be a whole number >= 0 for Poisson, got 1.5 at step 1"):
        rows = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.5, 1.0, 0.0, 0.0]]).double()
        Regression(families.Poisson(), TWO).check(rows, None, ("rain",))


def test_a_categorical_law_learns_its_symbols_from_the_data() -> None:
    family = Regression(families.Categorical(), TWO)
    rows = torch.tensor([[0.0, 1.0, 0.5, 0.1], [2.0, 1.0, 0.2, 0.3], [1.0, 1.0, 0.4, 0.3]]).double()
    bound = family.bind(rows, 3)
    assert bound.parameters()["probabilities_coefficients"].shape == (2, 3)
