"""Draws of parameters and data from the joint law stay draws from it under Gibbs steps (Geweke 2004).

In the form of Gandy & Scott (2020): draw theta from its prior and a series given theta, then take a few steps given
the series. If, and only if, every conditional is right, theta is then still a draw from its prior; and such draws are
independent, so that a Kolmogorov-Smirnov test is exact.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from probseq import HMM, Sequences, families
from probseq.chains import ForbiddenTransitions, StationaryInitial, StickyTransitions
from probseq.inference.gibbs_plan import plan
from probseq.kernels.gibbs import gibbs_steps

REPLICATES, STEPS, SEED = 600, 4, 11


def t(*values: float) -> Tensor:
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


NORMAL = {"loc": dist.Normal(t(1.0), t(2.0)), "scale": dist.InverseGamma(t(3.0), t(2.0))}
GAMMA = {"concentration": dist.Gamma(t(3.0), t(1.5)), "rate": dist.Gamma(t(2.0), t(1.0))}
CHANCE = dist.Beta(t(2.0), t(1.5))
RATE = dist.Gamma(t(2.0), t(0.8))


def columns(priors: dict, size: int) -> dict:
    return {name: prior.expand([size]).to_event(1) for name, prior in priors.items()}


WISHART = {
    "loc": dist.Normal(t(0.0, 1.0), t(2.0, 1.0)).to_event(1),
    "scale_tril": families.InverseWishartCholesky(t(5.0), torch.tensor([[1.0, 0.0], [0.5, 2.0]]).double()),
}
MODELS = {
    "poisson": (HMM(2, families.Poisson(), priors={"rate": RATE}), 0),
    "sticky-exponential": (HMM(2, families.Exponential(), transition=StickyTransitions(), priors={"rate": RATE}), 0),
    "binomial": (HMM(2, families.Binomial(4), priors={"probability": CHANCE}), 0),
    "geometric": (HMM(2, families.Geometric(), priors={"probability": CHANCE}), 0),
    "categorical": (HMM(2, families.Categorical(3), priors={"probabilities": dist.Dirichlet(t(0.5, 2.0, 1.0))}), 0),
    "gaussian": (HMM(3, families.Gaussian(), priors=NORMAL), 0),
    "log-normal": (HMM(2, families.LogNormal(), priors=NORMAL), 0),
    "gamma": (HMM(2, families.Gamma(), priors=GAMMA), 0),
    "beta": (
        HMM(2, families.Beta(), priors={n: dist.Gamma(t(3.0), t(1.5)) for n in ("concentration1", "concentration0")}),
        0,
    ),
    "hurdle-gamma": (HMM(2, families.Hurdle(families.Gamma()), priors={"nonzero": CHANCE, **GAMMA}), 0),
    "hurdle-poisson": (HMM(2, families.Hurdle(families.Poisson()), priors={"nonzero": CHANCE, "rate": RATE}), 0),
    "zero-inflated-poisson": (
        HMM(2, families.ZeroInflated(families.Poisson()), priors={"inflation": CHANCE, "rate": RATE}),
        0,
    ),
    "mixture-gaussian": (
        HMM(
            2,
            families.Mixture(families.Gaussian(), 2),
            priors={"weights": dist.Dirichlet(t(2.0, 1.0)), **columns(NORMAL, 2)},
        ),
        0,
    ),
    "independent-gaussian": (HMM(2, families.Independent(families.Gaussian()), priors=columns(NORMAL, 2)), 2),
    "full": (HMM(2, families.MultivariateGaussian(), priors=WISHART), 2),
    "spherical": (
        HMM(
            2,
            families.MultivariateGaussian("spherical"),
            priors={"loc": NORMAL["loc"].expand([2]).to_event(1), "scale": NORMAL["scale"]},
        ),
        2,
    ),
    "stationary": (HMM(3, families.Poisson(), initial=StationaryInitial(), priors={"rate": RATE}), 0),
    "stationary-forbidden": (
        HMM(
            3,
            families.Poisson(),
            initial=StationaryInitial(),
            transition=ForbiddenTransitions(((0, 2), (1, 1))),
            priors={"rate": RATE},
        ),
        0,
    ),
}


def template(width: int, nominal: bool) -> Sequences:
    """Three short sequences, a step in five missing."""
    size = (9, width) if width else (9,)
    observed = torch.tensor([True, True, False, True, True, True, True, False, True])
    values = torch.zeros(size, dtype=torch.uint8 if nominal else torch.float64)
    observed = observed.unsqueeze(-1).expand(size) if width else observed
    names = ("a", "b", "c") if nominal else None
    return Sequences(values, torch.tensor([5, 1, 3]), observed=observed, categories=names)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_joint_law_is_left_as_it_is(name: str) -> None:
    model, width = MODELS[name]
    blank = template(width, model.emission.nominal)
    before, after = [], []
    rng = np.random.Generator(np.random.SFC64(SEED))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for _ in range(REPLICATES):
            trace = pyro.poutine.trace(pyro.poutine.uncondition(model.program)).get_trace(blank)
            drawn = {n: site["value"] for n, site in trace.nodes.items() if site["type"] == "sample"}
            series = replace(blank, values=drawn["y"].to(blank.values.dtype))
            laid = plan(model, series)
            values = laid.pack(model.complete(drawn))
            before.append(values.copy())
            kept, evidence = np.empty((STEPS, len(values))), np.empty(STEPS)
            found = gibbs_steps(rng, values, laid.free, laid.chain, laid.emission, laid.data, 1, kept, evidence)
            assert found == STEPS
            after.append(values.copy())
    first, last = np.stack(before), np.stack(after)
    for parameter, where in laid.positions.items():
        if parameter == "initial" and model.initial.follows_moves:
            continue
        for place in where.reshape(-1)[laid.free[where.reshape(-1)]]:
            x, y = first[:, place], last[:, place]
            if np.ptp(x) == 0:  # a structural zero
                assert np.array_equal(x, y)
                continue
            assert np.mean(x != y) > 0.1  # it moves
            # Paired draws of one law: their signs of difference are fair, and their distributions the same.
            assert stats.wilcoxon(x, y).pvalue > 1e-4, (parameter, place)
            assert stats.ks_2samp(x, y).pvalue > 1e-4, (parameter, place)
