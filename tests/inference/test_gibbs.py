"""Gibbs sampling as a whole: what it draws against importance sampling, its densities, its options and refusals."""

from __future__ import annotations

import importlib
import threading
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, Design, FitError, ModelError, Sequences, chains, families, gibbs
from probseq.chains import (
    FixedInitial,
    FixedTransitions,
    ForbiddenTransitions,
    LeftRightTransitions,
    StationaryInitial,
    StickyTransitions,
    TiedTransitions,
)
from probseq.models.hmm import HMM as Model
from tests.inference.conftest import FAMILIES, make_case

gibbs_module = importlib.import_module("probseq.inference.gibbs")  # not the function of its name

CONJUGATE = {
    name: one
    for name, one in FAMILIES.items()
    if name
    not in ("negative-binomial", "student-t", "von-mises", "multivariate-student-t", "product", "mixture-tied", "tied")
} | {
    "independent-gaussian": (families.Independent(families.Gaussian()), 2),
    "product-of-three": (
        families.Product((families.Hurdle(families.Gamma()), families.Categorical(3), families.Gaussian())),
        3,
    ),
    "mixture-hurdle-gamma": (families.Mixture(families.Hurdle(families.Gamma()), 2), 0),
    "hurdle-geometric": (families.Hurdle(families.Geometric()), 0),
    "zero-inflated-binomial": (families.ZeroInflated(families.Binomial(7)), 0),
}
WHOLE = ("full", "spherical")  # vectors that must be measured whole


def quick(model: HMM, series: Sequences, **options):
    """A short run, which need not have mixed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "gibbs did not mix")
        return gibbs(model, series, **{"chains": 2, "draws": 20, "tune": 30, **options})


def largest_error(fit, series: Sequences) -> float:
    """Of `lp`, against the model's own log joint, over some draws."""
    joint = fit.sampling.statistics["lp"].reshape(-1)
    some = range(0, len(joint), 7)
    one = [fit.model.log_joint({n: v[i] for n, v in fit.draws.items()}, series, priors=True) for i in some]
    return float((joint[list(some)] - torch.stack(one)).abs().max())


@pytest.mark.parametrize("name", CONJUGATE)
def test_the_log_density_of_a_draw_is_the_models_own(name: str) -> None:
    case = make_case(*CONJUGATE[name], missing=0.0 if name in WHOLE else 0.05)
    fit = quick(case.model, case.series)
    assert largest_error(fit, case.series) < 1e-9
    declared = fit.model.all_declared(tuple(case.series.values.shape[1:]))
    assert declared.keys() == fit.draws.keys() == fit.sampling.warmup.keys()
    for parameter, value in fit.draws.items():
        shape = declared[parameter].shape
        assert value.shape == (40, *(() if declared[parameter].shared else (2,)), *shape)
        assert fit.sampling.warmup[parameter].shape == (2, 30, *value.shape[1:])
        assert bool(declared[parameter].constraint.check(value).all())


THREE = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.7, 0.3], [0.1, 0.0, 0.9]], dtype=torch.float64)
CHAINS = {
    "sticky": {"transition": StickyTransitions()},
    "left-right": {"transition": LeftRightTransitions(), "initial": FixedInitial((1.0, 0.0, 0.0))},
    "forbidden": {"transition": ForbiddenTransitions(((0, 2), (2, 0)))},
    "known": {"transition": FixedTransitions(tuple(map(tuple, THREE.tolist())))},
    "tied": {"transition": TiedTransitions(((0, 1, 2), (2, 0, 1), (1, 2, 0)))},
    "stationary": {"initial": StationaryInitial()},
    "stationary-forbidden": {"initial": StationaryInitial(), "transition": ForbiddenTransitions(((0, 2), (1, 0)))},
    "fixed": {"fixed": {"transition": THREE}},
    "fixed-row": {"fixed": {"transition": torch.stack([THREE[0], THREE[1] * torch.nan, THREE[2] * torch.nan])}},
    "fixed-entry": {"fixed": {"loc": torch.tensor([0.0, torch.nan, torch.nan])}},
    "fixed-emission": {"fixed": {"loc": torch.tensor([0.0, 1.0, 3.0]), "scale": torch.ones(3)}},
    "fixed-initial": {"fixed": {"initial": torch.tensor([0.2, 0.3, 0.5])}},
}


def test_a_switching_autoregression() -> None:
    """Two sequences whose first steps, and those after a gap, have no score."""
    generator = np.random.default_rng(4)
    gap = np.where(np.arange(40) == 17, np.nan, generator.normal(5.0, 1.0, size=40))
    series = Sequences.from_arrays([gap, generator.normal(size=10)])
    fit = quick(HMM(2, families.Autoregression(2)), series)
    assert largest_error(fit, series) < 1e-9
    assert fit.draws["coefficients"].shape == (40, 2, 2)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("labelled", [False, True], ids=["plain", "labelled"])
def test_every_law_of_the_moves_and_what_is_given(name: str, labelled: bool) -> None:
    generator = np.random.default_rng(2)
    values, labels = generator.normal(size=30), np.full(30, -1)
    labels[[0, 12, 29]] = 0, 1, 2
    series = Sequences(
        torch.from_numpy(values),
        torch.tensor([20, 10]),
        observed=torch.from_numpy(generator.random(30) < 0.9),
        labels=torch.from_numpy(labels) if labelled else None,
    )
    model = HMM(3, families.Gaussian(), **CHAINS[name])
    fit = quick(model, series)
    assert largest_error(fit, series) < 1e-9
    for parameter, known in model.fixed.items():
        given = ~known.isnan()
        assert bool((fit.draws[parameter][:, given] == known[given]).all())
        free = fit.draws[parameter][:, ~given]
        assert free.numel() == 0 or bool((free[1:] != free[:-1]).any())


def test_soft_labels_are_honoured() -> None:
    generator = np.random.default_rng(3)
    series = Sequences(
        torch.from_numpy(generator.poisson(4.0, size=25) * 1.0),
        torch.tensor([25]),
        labels=torch.from_numpy(generator.dirichlet([1.0, 1.0], size=25)),
    )
    assert largest_error(quick(HMM(2, families.Poisson()), series), series) < 1e-9


def test_posterior_means_agree_with_importance_sampling() -> None:
    """Weights p(x | theta) of 200,000 draws from the prior; the tolerance is four standard errors of both."""
    series = Sequences.from_arrays([[0.0, 1.0, 6.0, float("nan")], [5.0, 7.0, 1.0]])
    priors = {"rate": dist.Gamma(torch.tensor(2.0).double(), torch.tensor(0.5).double())}
    model = HMM(2, families.Poisson(), priors=priors).bind(series, with_priors=True)
    fit = gibbs(model, series, draws=4000, chains=2, tune=200, thin=5)

    def answers(draws):
        rate, stay = draws["rate"], draws["transition"].diagonal(dim1=-2, dim2=-1)
        return torch.stack(
            [rate.amax(-1), rate.amin(-1), rate.prod(-1), stay.sum(-1), draws["initial"].square().sum(-1)]
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = {
            "initial": dist.Dirichlet(torch.full((2,), 1.1).double()).sample(torch.Size([200_000])),
            "transition": dist.Dirichlet(torch.full((2, 2), 1.1).double()).sample(torch.Size([200_000])),
            "rate": priors["rate"].sample(torch.Size([200_000, 2])),
        }
    weights = model.log_prob(prior, series).sum(-1).softmax(0)
    wanted = (answers(prior) * weights).sum(-1)
    error = ((answers(prior) - wanted[:, None]).square() * weights.square()).sum(-1)
    found = answers(fit.draws)
    thinned = found.unflatten(1, (-1, 10)).mean(-1)  # batches, whose means are nearly independent
    error = error + thinned.var(-1) / thinned.shape[1]
    assert bool(((found.mean(-1) - wanted).abs() < 4 * error.sqrt()).all())
    assert float(error.sqrt().max()) < 0.1


def test_draws_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch, poisson) -> None:
    state = torch.get_rng_state()
    first = quick(poisson.model, poisson.series, seed=4)
    assert bool((torch.get_rng_state() == state).all())
    monkeypatch.setattr(gibbs_module.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(gibbs_module, "STRETCH", 2000)
    again = quick(poisson.model, poisson.series, seed=4)
    other = quick(poisson.model, poisson.series, seed=5)
    for name, value in first.draws.items():
        assert torch.equal(value, again.draws[name]) and not torch.equal(value, other.draws[name])
    assert torch.equal(first.sampling.statistics["lp"], again.sampling.statistics["lp"])


def test_thinning_keeps_every_so_manyth(poisson) -> None:
    every = quick(poisson.model, poisson.series, draws=60, chains=1)
    third = quick(poisson.model, poisson.series, draws=20, chains=1, thin=3)
    assert torch.equal(every.draws["rate"][::3], third.draws["rate"])
    cold = quick(poisson.model, poisson.series, tune=0, draws=5)
    assert cold.sampling.warmup["rate"].shape == (2, 0, 2)


def test_an_interrupt_returns_what_there_is(monkeypatch: pytest.MonkeyPatch, poisson) -> None:
    """The interrupt comes where the chains are waited for; a signal might be lost in whatever runs just then."""
    walked, wait = threading.Event(), gibbs_module.wait

    def report(bar, iteration: int, objective: float) -> None:
        if iteration >= 10_000:
            walked.set()

    def waiting(running, **options):
        if walked.wait(0.01):
            walked.clear()
            monkeypatch.setattr(gibbs_module, "wait", wait)
            raise KeyboardInterrupt
        return wait(running, **options)

    monkeypatch.setattr(gibbs_module.Progress, "report", report)
    monkeypatch.setattr(gibbs_module, "wait", waiting)
    monkeypatch.setattr(gibbs_module, "STRETCH", 20_000)
    with pytest.warns(UserWarning, match="interrupted"):
        fit = gibbs(poisson.model, poisson.series, draws=1_000_000, tune=100, chains=2)
    assert 200 < fit.n_draws < 1_000_000 and not fit.converged and fit.n_draws % 2 == 0


@pytest.mark.parametrize(
    "model, message",
    [
        (HMM(2, families.StudentT()), "family with full conditionals, got student-t; use nuts"),
        (HMM(2, families.Poisson(), priors={"rate": dist.LogNormal(0.0, 1.0)}), "rate that is Gamma, got LogNormal"),
        (HMM(2, families.Autoregression(1, shared=("scale",))), "of each state's own"),
        (HMM(2, families.DeviationAutoregression(1)), "no state but the current one"),
        (HMM(2, families.Poisson(), transition=chains.LogitTransitions(Design(("x",)))), "covariates"),
        (
            HMM(2, families.Poisson(), fixed={"transition": torch.tensor([[0.9, torch.nan], [torch.nan, 0.5]])}),
            "fixed by whole rows",
        ),
        (HMM(2, families.Poisson(), transition=chains.SemiMarkovTransitions(chains.ShiftedPoisson())), "Dirichlet"),
        (lambda series: None, "of an HMM, got function; use nuts"),
    ],
)
def test_what_has_no_full_conditional_is_refused(model, message: str) -> None:
    series = Sequences.from_arrays([1.0, 2.0, 5.0, 4.0, 2.0], covariates=np.arange(5.0)[:, None], covariate_names=["x"])
    with pytest.raises(ModelError, match=message):
        gibbs(model, series)


def test_weights_and_options_are_refused() -> None:
    series = Sequences.from_arrays([[1.0, 2.0], [3.0, 1.0]], weights=[1.0, 2.0])
    with pytest.raises(ModelError, match="once, got weights"):
        gibbs(HMM(2, families.Poisson()), series)
    with pytest.raises(FitError, match="at least 1"):
        gibbs(HMM(2, families.Poisson()), series, draws=0)


def test_an_impossible_series_is_an_error() -> None:
    series = Sequences(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3]), labels=torch.tensor([1, -1, 0]))
    with pytest.raises(FitError, match="no state allows"):
        gibbs(HMM(2, families.Poisson(), transition=LeftRightTransitions()), series)


def test_it_is_a_fit_that_answers(poisson) -> None:
    fit = quick(poisson.model, poisson.series)
    assert isinstance(fit.model, Model) and fit.method == "gibbs" and fit.with_priors
    assert fit.log_prob(poisson.series).shape == (3,)
    assert fit.objective.shape == (40,)
    assert float(fit.objective.max()) == pytest.approx(
        float(fit.model.log_joint(fit.parameters, poisson.series, priors=True)), abs=1e-9
    )
