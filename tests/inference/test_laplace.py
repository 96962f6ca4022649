"""Laplace's approximation against finite differences, a closed form, and Pyro's AutoLaplaceApproximation."""

from __future__ import annotations

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoLaplaceApproximation
from pyro.infer.autoguide.initialization import init_to_value

from probseq import HMM, FitError, MarkovChain, em, families, laplace, marginalize
from probseq.inference.laplace import curvature
from probseq.inference.potential import Potential
from probseq.inference.starting_points import potential_of
from probseq.models.program import ProgramModel
from tests.inference.test_nuts import ONE_STATE, counts
from tests.inference.test_potential import COUNTS, hierarchical


def by_differences(value, at: torch.Tensor, step: float = 1e-3) -> torch.Tensor:
    """(P, P) minus the second differences of a function of a vector, with the error of order step^4 removed."""
    size = len(at)

    def second(h: float) -> torch.Tensor:
        result = torch.zeros(size, size, dtype=torch.float64)
        unit = h * torch.eye(size, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                ends = [value(at + a * unit[i] + b * unit[j]) * a * b for a in (1, -1) for b in (1, -1)]
                result[i, j] = -sum(ends) / (4.0 * h * h)
        return result

    return (4.0 * second(step) - second(2.0 * step)) / 3.0


@pytest.mark.parametrize("program", [False, True], ids=["model", "program"])
def test_the_curvature_is_that_of_finite_differences(program):
    """To 1e-5 of the largest entry, as the second differences of some 100 nats allow: 1e-14 / step^2 = 1e-8 each."""
    series = COUNTS if program else counts(40)
    model = ProgramModel(hierarchical).bind(series) if program else HMM(2, families.Poisson()).bind(series, True)
    potential = potential_of(model, series, 0)
    at = potential.coordinates.pack()
    expected = by_differences(lambda u: float(potential.density(u)), at)
    found = curvature(potential, at)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_one_state_is_known():
    """Poisson with Gamma(a, b): in log rate the mode is log(A / B), A = a + sum y, B = b + T, and the precision A."""
    series = counts()
    model = HMM(1, families.Poisson(), priors={"rate": dist.Gamma(torch.tensor(2.0).double(), 0.1)}, **ONE_STATE)
    fit = laplace(model, series, draws=4000, seed=3)
    shape, rate = 2.0 + float(series.values.sum()), 0.1 + series.total_steps
    assert fit.converged and fit.method == "laplace" and fit.with_priors
    assert float(fit.parameters["rate"]) == pytest.approx(shape / rate, rel=1e-9)
    logs = fit.draws["rate"].log()
    assert float(logs.mean()) == pytest.approx(math.log(shape / rate), abs=5 / math.sqrt(4000 * shape))
    assert float(logs.std()) == pytest.approx(shape**-0.5, rel=5 / math.sqrt(8000))
    again = laplace(model, series, draws=4000, seed=3, start=em(model, series, priors=True, restarts=1))
    torch.testing.assert_close(again.draws["rate"], fit.draws["rate"], rtol=1e-7, atol=0)


def test_pyro_has_the_same_mode_and_covariance():
    """Of two states, where stick-breaking is a linear map of the log-ratio; its precision by finite differences too."""
    series = counts()
    model = HMM(2, families.Poisson()).bind(series, with_priors=True)
    fit = laplace(model, series, draws=5)
    program = marginalize(model.program)
    guide = AutoLaplaceApproximation(program, init_loc_fn=init_to_value(values=fit.parameters))
    guide(series)
    loc = guide.loc.detach().clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]

    def value(u: torch.Tensor) -> float:
        with torch.no_grad():
            guide.loc.copy_(u)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        return -float(Trace_ELBO().loss(program, guide, series))

    step = 1e-4 * torch.eye(len(loc), dtype=torch.float64)
    slope = torch.tensor([(value(loc + h) - value(loc - h)) / 2e-4 for h in step])
    assert float(slope.abs().max()) < 1e-5  # our mode is a mode of theirs
    value(loc)
    theirs = guide.laplace_approximation(series)
    precision = torch.linalg.inv(theirs.get_posterior().covariance_matrix).detach()  # pyright: ignore
    expected = by_differences(value, loc.detach())
    assert float((precision - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    potential = Potential(model, series, fit.parameters)
    ours = curvature(potential, potential.coordinates.pack())
    rate = potential.coordinates.slices["rate"]
    covariance = torch.linalg.inv(ours)[rate, rate]
    torch.testing.assert_close(covariance, torch.linalg.inv(precision)[-2:, -2:], rtol=1e-6, atol=1e-10)


def switching(series):
    """Two rates and one chance to stay."""
    rate = pyro.sample("rate", dist.Gamma(torch.full((2,), 2.0, dtype=torch.float64), 0.2).to_event(1))
    stay = pyro.sample("stay", dist.Beta(torch.tensor(4.0, dtype=torch.float64), 1.5))
    moves = torch.stack([torch.stack([stay, 1.0 - stay]), torch.stack([1.0 - stay, stay])])
    state = pyro.sample("state", MarkovChain(torch.full((2,), 0.5, dtype=torch.float64), moves, series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)


def test_a_program_and_its_draws():
    fit = laplace(switching, counts(), draws=50, seed=1)
    assert fit.converged and fit.draws["rate"].shape == (50, 2) and ((fit.draws["stay"] > 0).all())
    again = laplace(switching, counts(), draws=50, seed=1)
    assert torch.equal(fit.draws["stay"], again.draws["stay"])


def test_a_saddle_is_no_mode():
    """Twin states, from where the density rises whichever of them takes the greater rate."""
    series = counts()
    fit = laplace(switching, series, draws=1)
    mean = series.values.mean().expand(2).clone()
    twins = replace(fit, parameters={"rate": mean, "stay": torch.tensor(0.9, dtype=torch.float64)})
    with pytest.raises(FitError, match="must stand on a mode"):
        laplace(switching, series, start=twins)


def test_draws_out_of_range():
    with pytest.raises(FitError, match="draws must be at least 1, got 0"):
        laplace(HMM(2, families.Poisson()), counts(), draws=0)
