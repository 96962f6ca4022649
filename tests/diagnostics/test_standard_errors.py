"""Standard errors against closed forms, finite differences of compiled log-likelihoods, and each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from probseq import HMM, Design, Fit, MarkovChain, Sequences, datasets, em, families, standard_errors
from probseq.chains import ForbiddenTransitions, SemiMarkovTransitions, ShiftedPoisson, StationaryInitial
from probseq.diagnostics import outer_product_errors, sandwich_errors
from probseq.diagnostics.estimates import estimate
from probseq.diagnostics.scores import scores
from probseq.errors import FitError, ModelError

DOUBLE = torch.float64
COUNTS = torch.tensor([3.0, 5, 4, 8, 0, 2, 7, 5, 6, 3, 3, 9], dtype=DOUBLE)


def regimes(lengths: list[int], seed: int = 0, gap: float = 0.05) -> Sequences:
    """Counts of two sticky regimes, some missing, with a covariate."""
    rng = np.random.default_rng(seed)
    values = []
    for length in lengths:
        state = np.cumsum(rng.random(length) < 0.15) % 2
        values.append(rng.poisson(np.where(state == 0, 2.0, 9.0)).astype(float))
    flat = np.concatenate(values)
    flat[rng.random(len(flat)) < gap] = np.nan
    return Sequences.from_arrays(flat, lengths=lengths, covariates=rng.normal(size=(len(flat), 1)))


def program(series: Sequences) -> None:
    """A user's own: two regimes of counts, the first state even."""
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2, dtype=DOUBLE)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 4.0], dtype=DOUBLE), 0.5).to_event(1))
    even = torch.full((2,), 0.5, dtype=DOUBLE)
    state = pyro.sample("state", MarkovChain(even, transition, series.lengths))
    with pyro.plate("step", series.total_steps), pyro.poutine.mask(mask=series.step_observed):
        pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)


def constant(values: Tensor, **fields) -> Sequences:
    return Sequences(values, torch.tensor([len(values)]), **fields)


# ---- closed forms --------------------------------------------------------------------------------------------------


def test_one_state_has_the_errors_of_a_mean():
    """Poisson: rate / n. The sandwich: sum of squares / n^2. The outer product: rate^2 / sum of squares."""
    fit, n = em(HMM(1, families.Poisson()), constant(COUNTS)), len(COUNTS)
    mean, squares = float(COUNTS.mean()), float((COUNTS - COUNTS.mean()).square().sum())
    assert standard_errors(fit).table.loc["rate[0]", "standard_error"] == pytest.approx(math.sqrt(mean / n), rel=1e-10)
    robust, product = sandwich_errors(fit).table, outer_product_errors(fit).table
    assert robust.loc["rate[0]", "standard_error"] == pytest.approx(math.sqrt(squares) / n, rel=1e-10)
    assert product.loc["rate[0]", "standard_error"] == pytest.approx(mean / math.sqrt(squares), rel=1e-10)


def test_scores_that_are_correlated_in_time():
    """The long-run variance of a mean with Bartlett weights (Newey & West 1987), written out."""
    fit, n, lags = em(HMM(1, families.Poisson()), constant(COUNTS)), len(COUNTS), 3
    e = (COUNTS - COUNTS.mean()).numpy()
    total = e @ e + 2 * sum((1 - lag / (lags + 1)) * (e[lag:] @ e[:-lag]) for lag in range(1, lags + 1))
    found = sandwich_errors(fit, lags=lags)
    assert float(found.standard_error[-1]) == pytest.approx(math.sqrt(total) / n, rel=1e-10)
    assert found.kind == "sandwich of scores by step, 3 lags"


def test_scores_by_sequence_are_those_of_clusters():
    """Sums of residuals of each sequence, squared; lags never reach from one sequence into the next."""
    series = Sequences(COUNTS, torch.full((4,), 3))
    fit = em(HMM(1, families.Poisson()), series)
    e = (COUNTS - COUNTS.mean()).reshape(4, 3)
    by_sequence = sandwich_errors(fit)  # four sequences are more than twice one coordinate
    assert by_sequence.kind == "sandwich of scores by sequence"
    assert float(by_sequence.standard_error[-1]) == pytest.approx(float(e.sum(1).square().sum().sqrt()) / 12, rel=1e-10)
    expected = e.square().sum() + (e[:, 1:] * e[:, :-1]).sum()  # weight 1/2 twice
    by_step = sandwich_errors(fit, per="step", lags=1)
    assert float(by_step.standard_error[-1]) == pytest.approx(float(expected.sqrt()) / 12, rel=1e-10)


def test_lags_take_scores_by_step_however_many_sequences():
    """By default many sequences are clusters, between which lags would say nothing."""
    series = Sequences.from_arrays([COUNTS[3 * n : 3 * n + 3] for n in range(4)])
    fit = em(HMM(1, families.Poisson()), series)
    assert sandwich_errors(fit).kind == "sandwich of scores by sequence"
    lagged, by_step = sandwich_errors(fit, lags=2), sandwich_errors(fit, per="step", lags=2)
    assert lagged.kind == "sandwich of scores by step, 2 lags"
    assert torch.equal(lagged.standard_error[2:], by_step.standard_error[2:])


def test_a_weight_counts_a_sequence_as_often():
    lengths = torch.full((4,), 3)
    twice = Sequences(torch.cat([COUNTS, COUNTS[:3]]), torch.full((5,), 3))
    weighted = Sequences(COUNTS, lengths, weights=torch.tensor([2.0, 1, 1, 1]))
    fits = [em(HMM(1, families.Poisson()), series) for series in (twice, weighted)]
    for errors in (standard_errors, sandwich_errors, outer_product_errors):
        first, second = (errors(fit).standard_error for fit in fits)
        torch.testing.assert_close(first, second, equal_nan=True, rtol=1e-9, atol=0.0)


def test_known_states_have_the_errors_of_counts():
    """With every state known the chain is two binomial samples and the rates are two means."""
    labels = torch.tensor([0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1])
    fit = em(HMM(2, families.Poisson()), constant(COUNTS, labels=labels))
    table = standard_errors(fit).table
    left = np.array([[((labels[:-1] == i) & (labels[1:] == j)).sum().item() for j in range(2)] for i in range(2)])
    for i in range(2):
        p, n = left[i, 1] / left[i].sum(), left[i].sum()
        assert table.loc[f"transition[{i}, 1]", "standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / n), rel=1e-9)
        own = COUNTS[labels == i]
        rate = math.sqrt(float(own.mean()) / len(own))
        assert table.loc[f"rate[{i}]", "standard_error"] == pytest.approx(rate, rel=1e-9)
    log_odds = math.log(left[0, 1] / left[0, 0])
    width = 1.959964 * math.sqrt(1 / left[0, 0] + 1 / left[0, 1])
    ends = [1 / (1 + math.exp(-(log_odds + side * width))) for side in (-1, 1)]
    assert table.loc["transition[0, 1]", ["lower", "upper"]].tolist() == pytest.approx(ends, rel=1e-6)
    assert table.loc["initial[0]", "note"] == "at the edge of its range"


def test_a_plain_interval_that_leaves_the_range_is_said_to_be_near_its_edge():
    """p = 1/6 of six has the standard error sqrt(p (1 - p) / 6) = 0.152: the plain interval of 68% stays above zero."""
    found = standard_errors(em(HMM(1, families.Bernoulli()), constant(torch.tensor([0.0, 0, 1, 0, 0, 0]).double())))
    assert found.frame().loc["probability[0]", "note"] == "near the edge of its range"
    assert found.frame(0.68).loc["probability[0]", "note"] == ""


def test_intervals_respect_the_range():
    fit = em(HMM(1, families.Gaussian()), constant(COUNTS[:3]))
    scale, error = float(fit.parameters["scale"]), float(fit.parameters["scale"]) / math.sqrt(6)
    row = standard_errors(fit).table.loc["scale[0]"]
    assert row["standard_error"] == pytest.approx(error, rel=1e-9)
    assert row["lower"] == pytest.approx(scale * math.exp(-1.959964 / math.sqrt(6)), rel=1e-6)
    assert row["plain_upper"] == pytest.approx(scale + 1.959964 * error, rel=1e-6)


# ---- finite differences --------------------------------------------------------------------------------------------


def second_differences(function, point: np.ndarray) -> np.ndarray:
    """Hessian by central differences at two steps, extrapolated to none (Richardson): errors of order step^4."""

    def at(step: float) -> np.ndarray:
        shifts = np.diag(step * np.abs(point))
        hessian = np.empty((len(point), len(point)))
        for i, a in enumerate(shifts):
            for j, b in enumerate(shifts):
                corners = [function(point + s * a + t * b) * s * t for s in (-1, 1) for t in (-1, 1)]
                hessian[i, j] = sum(corners) / (4 * a[i] * b[j])
        return hessian

    return (4 * at(1e-3) - at(2e-3)) / 3


def test_a_users_own_program_matches_finite_differences():
    """To 1e-5, by values of the log-likelihood alone; rounding, 1e-13 of 300 nats over steps of 1e-6, is below 1e-6."""
    series = regimes([90, 60])
    fit = em(program, series, priors=False, restarts=2)
    model = fit.model

    def log_likelihood(free: np.ndarray) -> float:
        a, b, low, high = (torch.tensor(x, dtype=DOUBLE) for x in free)
        point = {"transition": torch.stack([1 - a, a, b, 1 - b]).reshape(2, 2), "rate": torch.stack([low, high])}
        return float(model.posterior(point, series).log_evidence.sum())

    transition, rate = fit.parameters["transition"], fit.parameters["rate"]
    point = np.array([transition[0, 1], transition[1, 0], *rate])
    expected = np.sqrt(np.diag(np.linalg.inv(-second_differences(log_likelihood, point))))
    names = ["transition[0, 1]", "transition[1, 0]", "rate[0]", "rate[1]"]
    found = standard_errors(fit).table.loc[names, "standard_error"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


CASES = {
    "forbidden": HMM(3, families.Gaussian(), transition=ForbiddenTransitions(((0, 2), (2, 0)))),
    "fixed": HMM(2, families.Poisson(), fixed={"transition": torch.tensor([[0.9, 0.1], [math.nan, math.nan]])}),
    "stationary": HMM(2, families.NegativeBinomial(), initial=StationaryInitial()),
    "covariates": HMM(2, families.Regression(families.Poisson(), Design(("covariate",)))),
    "explicit durations": HMM(2, families.Poisson(), transition=SemiMarkovTransitions(ShiftedPoisson(20))),
    "lags": HMM(2, families.Autoregression(1)),
}


@pytest.fixture(scope="module", params=[*CASES, "program"])
def fitted(request) -> Fit:
    """Maximum likelihood fits with structure of every kind."""
    series = regimes([50, 1, 40], seed=1)
    model = program if request.param == "program" else CASES[request.param]
    if request.param in ("forbidden", "lags"):
        series = replace(series, values=series.values + torch.linspace(0, 2, series.total_steps, dtype=DOUBLE).sin())
    return em(model, series, priors=False, restarts=1, seed=3)


def test_the_information_is_the_derivative_of_the_gradient(fitted):
    """Central differences of exact gradients: errors of step^2 = 1e-10 against curvatures of 0.1 and more."""
    found, information = estimate(fitted)

    def gradient(u: Tensor) -> Tensor:
        leaf = u.clone().requires_grad_()
        return torch.autograd.grad(found.objective(leaf), leaf)[0]

    unit, step = torch.eye(len(found.start), dtype=DOUBLE), 1e-5
    columns = [(gradient(found.start - step * e) - gradient(found.start + step * e)) / (2 * step) for e in unit]
    torch.testing.assert_close(information, torch.stack(columns), rtol=1e-6, atol=1e-5)
    assert (standard_errors(fitted).standard_error.isnan() == torch.tensor([n != "" for n in found.notes])).all()


def test_scores_are_the_derivatives_of_the_filters_predictions(fitted):
    """d log p(x_t | x_<t) / du by central differences of the compiled filter: rounding is 1e-14 over 2e-5."""
    found, _ = estimate(fitted)
    rows = scores(found, "step").rows
    unit, step = torch.eye(len(found.start), dtype=DOUBLE), 1e-5

    def predicted(u: Tensor) -> Tensor:
        return found.model.posterior(found.at(u), found.series).predictive_log_prob

    columns = [(predicted(found.start + step * e) - predicted(found.start - step * e)) / (2 * step) for e in unit]
    torch.testing.assert_close(rows, torch.stack(columns, 1), rtol=1e-6, atol=1e-7)
    by_sequence = scores(found, "sequence").rows
    torch.testing.assert_close(by_sequence.sum(0), rows.sum(0), rtol=0.0, atol=1e-8)


# ---- edges, saddles, priors ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quakes() -> Fit:
    return em(HMM(3, families.Poisson()), datasets.earthquakes(), restarts=5, workers=1)


def test_a_move_that_never_happened_is_held_and_named(quakes):
    """The others have the errors of the model in which that move is forbidden and the first state known."""
    table = standard_errors(quakes).table
    edges = table.index[table["note"] == "at the edge of its range"].tolist()
    assert edges == ["transition[2, 0]", "initial[0]", "initial[1]", "initial[2]"]
    assert table.loc[edges, "standard_error"].isna().all()
    known = HMM(
        3,
        families.Poisson(),
        transition=ForbiddenTransitions(((2, 0),)),
        fixed={"initial": torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE)},
    )
    start = quakes.parameters | {"transition": quakes.parameters["transition"].clone()}
    start["transition"][2, 0] = 0.0
    again = em(known, datasets.earthquakes(), start=start)
    expected = standard_errors(again).table
    shared = [name for name in expected.index if name not in edges]
    np.testing.assert_allclose(table.loc[shared, "standard_error"], expected.loc[shared, "standard_error"], rtol=1e-4)
    assert expected.loc["transition[2, 0]", "note"] == "zero"


def test_a_flat_direction_is_refused_and_named(quakes):
    """Two states that are each other's double: what one gains the other loses, at no cost."""
    double = dict(quakes.parameters)
    double["rate"] = double["rate"][[0, 0, 2]]
    double["transition"] = torch.tensor([[0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]], dtype=DOUBLE)
    with pytest.raises(FitError, match=r"must curve down in every direction, got .* along [+-](transition|rate)\["):
        standard_errors(replace(quakes, parameters=double))


def test_a_point_off_the_maximum_is_warned_of(quakes):
    off = quakes.parameters | {"rate": quakes.parameters["rate"] * 1.02}
    with pytest.warns(UserWarning, match="must be taken at a maximum of the log-likelihood, got a point from which"):
        standard_errors(replace(quakes, parameters=off))


def test_a_posterior_mode_says_so():
    """With a Gamma(a, b) prior the curvature of the log posterior by log rate is n mean + a - 1 = (n + b) mode."""
    prior = dist.Gamma(torch.tensor(3.0, dtype=DOUBLE), torch.tensor(2.0, dtype=DOUBLE))
    fit = em(HMM(1, families.Poisson(), priors={"rate": prior}), constant(COUNTS), priors=True)
    found = standard_errors(fit)
    mode = (float(COUNTS.sum()) + 2.0) / (len(COUNTS) + 2.0)
    assert found.objective == "log posterior"
    assert float(found.standard_error[-1]) == pytest.approx(math.sqrt(mode / (len(COUNTS) + 2.0)), rel=1e-9)


def test_sites_that_depend_on_no_state_have_no_scores():
    def with_another(series: Sequences) -> None:
        program(series)
        level = pyro.sample("level", dist.Normal(torch.tensor(0.0, dtype=DOUBLE), 1.0))
        pyro.sample("apart", dist.Normal(level, 1.0), obs=torch.tensor(0.3, dtype=DOUBLE))

    fit = em(with_another, regimes([60]), priors=False, restarts=1)
    assert standard_errors(fit).table.loc["level", "standard_error"] == pytest.approx(1.0, rel=1e-9)
    with pytest.raises(ModelError, match="observed sites that depend on a state"):
        sandwich_errors(fit)


REFUSED = [
    ({"per": "day"}, "per must be"),
    ({"lags": -1}, "lags must be"),
    ({"per": "sequence", "lags": 2}, "lags must be of scores by step, got 2 by sequence"),
]


@pytest.mark.parametrize("options, message", REFUSED)
def test_refusals(options, message):
    fit = em(HMM(1, families.Poisson()), constant(COUNTS))
    with pytest.raises(FitError, match=message):
        sandwich_errors(fit, **options)
    with pytest.raises(FitError, match="level of an interval"):
        standard_errors(fit).frame(level=95)
