"""NUTS against closed forms, quadrature and Pyro's own; what it keeps, repeats and refuses; interrupts."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from probseq import HMM, FitError, ModelError, Sequences, families, nuts, pyro_nuts
from probseq.chains import FixedInitial, FixedTransitions, StationaryInitial
from tests.inference.test_potential import COUNTS, hierarchical

NAN = math.nan
ONE_STATE = {"initial": FixedInitial((1.0,)), "transition": FixedTransitions(((1.0,),))}


def counts(size: int = 60, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.random(size) < 0.1) % 2
    return Sequences.from_arrays(rng.poisson(np.where(path == 1, 12.0, 3.0)).astype(float))


def short(model, series, **options):
    """A few draws, which need not have mixed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nuts did not mix")
        return nuts(model, series, **{"chains": 2, "draws": 60, "tune": 60, **options})


def test_one_state_is_its_conjugate_posterior():
    """Poisson with Gamma(2, 0.1): the posterior is Gamma(2 + sum y, 0.1 + T); moments and quantiles of 4,000 draws.

    Five standard errors of a mean of 1,500 effective draws or more, which one smooth dimension has.
    """
    series = counts()
    model = HMM(1, families.Poisson(), priors={"rate": dist.Gamma(torch.tensor(2.0).double(), 0.1)}, **ONE_STATE)
    fit = nuts(model, series, draws=1000, tune=300, seed=1)
    shape, rate = 2.0 + float(series.values.sum()), 0.1 + series.total_steps
    drawn = fit.draws["rate"][:, 0]
    assert fit.converged and fit.method == "nuts" and fit.sampling is not None and fit.sampling.chains == 4
    assert float(drawn.mean()) == pytest.approx(shape / rate, abs=5 * math.sqrt(shape) / rate / math.sqrt(1500))
    assert float(drawn.std()) == pytest.approx(math.sqrt(shape) / rate, rel=5 / math.sqrt(2 * 1500))
    below = torch.special.gammainc(torch.tensor(shape).double(), rate * drawn)  # uniform
    assert float((below < 0.05).double().mean()) == pytest.approx(0.05, abs=0.025)
    assert float((below > 0.95).double().mean()) == pytest.approx(0.05, abs=0.025)
    lp = fit.sampling.statistics["lp"]
    assert lp.shape == (4, 1000)
    expected = dist.Gamma(torch.tensor(2.0).double(), 0.1).log_prob(drawn[7])
    expected = expected + dist.Poisson(drawn[7]).log_prob(series.values).sum()
    assert float(lp[0, 7]) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.slow
def test_two_states_agree_with_quadrature_and_with_pyro():
    """One unknown, the chance to stay of both states: means by adaptive quadrature, by nutpie and by Pyro's NUTS."""
    series = counts(40, 3)
    stay = torch.tensor([[NAN, NAN], [0.2, 0.8]], dtype=torch.float64)
    given = {"transition": stay, "rate": torch.tensor([3.0, 12.0]), "initial": torch.tensor([0.5, 0.5])}
    model = HMM(2, families.Poisson(), fixed=given)

    def density(p: float) -> float:
        parameters = {
            "initial": torch.tensor([0.5, 0.5]).double(),
            "transition": torch.tensor([[p, 1.0 - p], [0.2, 0.8]], dtype=torch.float64),
            "rate": torch.tensor([3.0, 12.0]).double(),
        }
        likelihood = float(model.bind(series).log_prob(parameters, series).sum())
        return math.exp(likelihood + 110.0 + 0.1 * math.log(p) + 0.1 * math.log1p(-p))  # Dirichlet(1.1, 1.1)

    total = quad(density, 0, 1)[0]
    mean = quad(lambda p: p * density(p), 0, 1)[0] / total
    spread = math.sqrt(quad(lambda p: (p - mean) ** 2 * density(p), 0, 1)[0] / total)
    fit = nuts(model, series, draws=700, tune=200, seed=2)
    drawn = fit.draws["transition"][:, 0, 0]
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * spread / math.sqrt(900))
    assert float(drawn.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * 700))
    assert torch.equal(fit.draws["transition"][:, 1], torch.tensor([0.2, 0.8], dtype=torch.float64).expand(2800, 2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nuts did not mix")
        plain = pyro_nuts(model, series, chains=1, draws=150, tune=50, seed=2)
    theirs = plain.draws["transition"][:, 0, 0]
    assert float(theirs.mean()) == pytest.approx(mean, abs=5 * spread / math.sqrt(40))
    assert plain.sampling is not None and plain.sampling.statistics["lp"].shape == (1, 150)
    assert plain.sampling.warmup["rate"].shape == (1, 50, 2)


def test_what_is_kept_of_each_draw():
    fit = short(HMM(2, families.Poisson()), counts(), chains=3)
    sampling = fit.sampling
    assert sampling is not None
    names = {"lp", "energy", "diverging", "step_size", "tree_depth", "n_steps", "acceptance_rate"}
    assert names <= sampling.statistics.keys() == sampling.warmup_statistics.keys()
    assert {value.shape for value in sampling.statistics.values()} == {(3, 60)}
    assert {value.shape for value in sampling.warmup_statistics.values()} == {(3, 60)}
    assert fit.draws["transition"].shape == (180, 2, 2) and sampling.warmup["transition"].shape == (3, 60, 2, 2)
    assert sampling.statistics["diverging"].dtype == torch.bool
    series = counts()
    for s in (0, 59, 60, 179):
        draw = {name: value[s] for name, value in fit.draws.items()}
        expected = float(fit.model.log_joint(draw, series, True))
        assert float(sampling.statistics["lp"].reshape(-1)[s]) == pytest.approx(expected, rel=1e-10)
    best = int(sampling.statistics["lp"].reshape(-1).argmax())
    assert torch.equal(fit.parameters["rate"], fit.draws["rate"][best])


def test_the_seed_says_all():
    series = counts()
    one, again, other = (short(HMM(2, families.Poisson()), series, seed=seed) for seed in (1, 1, 2))
    for name, value in one.draws.items():
        assert torch.equal(value, again.draws[name]) and not torch.equal(value, other.draws[name])
    chains = one.draws["rate"].reshape(2, 60, 2)
    assert not torch.equal(chains[0], chains[1])


def test_a_stationary_law_follows_the_moves():
    fit = short(HMM(2, families.Poisson(), StationaryInitial()), counts(), chains=1)
    initial, moves = fit.draws["initial"], fit.draws["transition"]
    torch.testing.assert_close((initial.unsqueeze(-2) @ moves).squeeze(-2), initial)


def test_a_hierarchical_program():
    fit = short(hierarchical, COUNTS, chains=2, draws=40, tune=40, max_treedepth=4)
    assert fit.draws["shift"].shape == (80, 2, 2) and fit.draws["spread"].shape == (80,)
    assert (fit.draws["spread"] > 0).all() and ((fit.draws["stay"] > 0) & (fit.draws["stay"] < 1)).all()


class Interrupted:
    """A sampler that is interrupted while it is waited for, once it has drawn."""

    def __init__(self, sampler, drawn: Callable[[], int]) -> None:
        self.sampler, self.drawn = sampler, drawn

    def wait(self):
        while self.drawn() < 50:
            time.sleep(0.01)
        raise KeyboardInterrupt

    def abort(self):
        return self.sampler.abort()


@pytest.mark.parametrize("whole", [False, True], ids=["the first chain", "the second"])
def test_an_interrupt_leaves_what_there_is(monkeypatch, whole):
    """Ctrl-C in the first chain keeps its draws so far, one in the second the chain that is whole."""
    import nutpie

    module: Any = sys.modules["probseq.inference.nuts"]
    as_model, sample, points, chains = module._as_nutpie_model, nutpie.sample, [], []

    def watched(potential, start, kept, failures, report):
        points.append(kept)
        return as_model(potential, start, kept, failures, report)

    def interrupted(*given, **options):
        chains.append(None)
        last = len(chains) == 1 + int(whole)
        sampler = sample(*given, **options | ({"draws": 100_000} if last else {}))
        return Interrupted(sampler, lambda: len(points[-1])) if last else sampler

    monkeypatch.setattr(module, "_as_nutpie_model", watched)
    monkeypatch.setattr(nutpie, "sample", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        fit = nuts(HMM(2, families.Poisson()), counts(), chains=2, draws=300, tune=30, workers=1)
    assert fit.sampling is not None and fit.sampling.chains == 1 and fit.stop_reason.startswith("interrupted")
    kept = len(fit.draws["rate"])
    assert kept == 300 if whole else kept >= 1
    assert fit.sampling.statistics["lp"].shape == (1, kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 0}, "chains, draws and tune must be at least 1, got 0"),
        ({"target_accept": 1.0}, "target_accept must lie between 0 and 1, got 1.0"),
    ],
)
def test_options_out_of_range(options, message):
    for sampler in (nuts, pyro_nuts):
        with pytest.raises(FitError, match=message):
            sampler(HMM(2, families.Poisson()), counts(), **options)


def test_nothing_to_learn():
    model = HMM(1, families.Poisson(), fixed={"rate": torch.tensor([3.0])}, **ONE_STATE)
    with pytest.raises(ModelError, match="must have a free parameter"):
        nuts(model, counts())
