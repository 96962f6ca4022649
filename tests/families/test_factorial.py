"""Means that add over factors: against scipy and a program of several chains, and a whole factorial model."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import optimize, stats

from probseq import HMM, MarkovChain, ModelError, Sequences, families, marginalize, posterior
from probseq.chains import ProductTransitions, StationaryInitial
from probseq.inference import Fit, em

FAMILY = families.FactorialGaussian((2, 3))
POINT = {
    "loc": torch.tensor(1.0, dtype=torch.float64),
    "effect": torch.tensor([0.7, -2.0, 5.0], dtype=torch.float64),
    "scale": torch.tensor(0.8, dtype=torch.float64),
}
MEANS = [1.0, 1.7, -1.0, -0.3, 6.0, 6.7]  # the first factor turns fastest
VALUES = torch.tensor([-2.5, 0.0, 1.1, 6.9, 3.3], dtype=torch.float64)


def test_the_law_of_each_state():
    law = stats.norm(np.array(MEANS), 0.8)
    x = VALUES.numpy()[:, None]
    np.testing.assert_allclose(FAMILY.log_prob(VALUES, POINT), law.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(FAMILY.cdf(VALUES, POINT), law.cdf(x), rtol=1e-10)
    np.testing.assert_allclose(FAMILY.survival(VALUES, POINT), law.sf(x), rtol=1e-10)
    np.testing.assert_allclose(FAMILY.mean(POINT), MEANS, rtol=1e-14)
    np.testing.assert_allclose(FAMILY.variance(POINT), [0.64] * 6, rtol=1e-14)
    state = torch.tensor([5, 0, 3])
    chosen = FAMILY.emission(POINT, (state,))
    torch.testing.assert_close(chosen.log_prob(VALUES[:3]), FAMILY.log_prob(VALUES[:3], POINT)[torch.arange(3), state])
    draws = {name: torch.stack([value, 2.0 * value]) for name, value in POINT.items()}
    table = FAMILY.log_prob(VALUES, draws)
    assert table.shape == (2, 5, 6)
    torch.testing.assert_close(table[0], FAMILY.log_prob(VALUES, POINT))
    leaves = [value.clone().requires_grad_() for value in POINT.values()]
    score = lambda *given: FAMILY.log_prob(VALUES, dict(zip(POINT, given, strict=True)))  # noqa: E731
    assert torch.autograd.gradcheck(score, leaves) and torch.autograd.gradgradcheck(score, leaves)


def test_the_m_step_is_the_highest_point():
    """Against a general optimiser; with weight on some states only, never below where it came from."""
    weights = torch.rand((5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def objective(x: np.ndarray, weights: torch.Tensor) -> float:
        mean = x[0] + FAMILY.indicators.numpy() @ x[1:4]
        return float((weights.numpy() * stats.norm.logpdf(VALUES.numpy()[:, None], mean, np.exp(x[4]))).sum())

    def vector(point: dict[str, torch.Tensor]) -> np.ndarray:
        return np.concatenate([point["loc"].reshape(1), point["effect"], point["scale"].log().reshape(1)])

    best = optimize.minimize(lambda x: -objective(x, weights), vector(POINT), method="BFGS")
    found = FAMILY.maximise(VALUES, weights, POINT)
    assert objective(vector(found), weights) == pytest.approx(-best.fun, abs=1e-8)
    np.testing.assert_allclose(vector(found), best.x, atol=1e-4)  # the optimiser's gradient is by differences
    some = weights * torch.tensor([1.0, 0, 1, 0, 0, 0], dtype=torch.float64)
    assert objective(vector(FAMILY.maximise(VALUES, some, POINT)), some) >= objective(vector(POINT), some)
    none = FAMILY.maximise(VALUES, torch.zeros_like(weights), POINT)
    assert all(torch.equal(none[name], POINT[name]) for name in POINT)


def simulated() -> tuple[Sequences, np.ndarray]:
    """A slow and a fast switch, whose effects of 3 and 10 add."""
    rng = np.random.default_rng(0)
    switches = []
    for leave in (0.02, 0.2):
        switches.append(np.cumsum(rng.random(400) < leave) % 2)
    mean = 3.0 * switches[0] + 10.0 * switches[1]
    return Sequences.from_arrays(mean + rng.normal(size=400)), np.stack(switches)


def test_a_factorial_model_finds_its_switches(tmp_path):
    series, truth = simulated()
    law = ProductTransitions((2, 2))
    model = HMM(4, families.FactorialGaussian((2, 2)), StationaryInitial(), law)
    assert model.n_parameters() == 2 + 2 + 4
    fit = em(model, series, priors=True, restarts=3)
    assert (fit.objective.diff() >= -1e-8 * fit.objective[1:].abs()).all()
    effects = fit.parameters["effect"]
    assert sorted(effects.abs().tolist()) == pytest.approx([3.0, 10.0], abs=0.5)  # 5 standard errors of about 0.1
    found = fit.posterior(series)
    for n, size in enumerate(effects.abs().tolist()):
        own = found.of(law.digit(n)).viterbi.numpy()
        right = float((own == truth[0 if size < 6 else 1]).mean())
        assert max(right, 1.0 - right) > 0.97
    loaded = Fit.load(fit.save(tmp_path / "fit"))
    assert loaded.model.emission == model.emission
    torch.testing.assert_close(loaded.log_prob(series), fit.log_prob(series))
    forecast = fit.forecast(series, 3)
    weights = forecast[[f"probability_{k}" for k in range(4)]].to_numpy()
    np.testing.assert_allclose(forecast["mean"], weights @ model.emission.mean(fit.parameters).numpy(), rtol=1e-9)


def test_its_program_is_that_of_two_chains():
    series = Sequences.from_arrays(VALUES.numpy())
    law = ProductTransitions((2, 3))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        moves = law.sample(6)
    model = HMM(6, FAMILY, StationaryInitial(), law).bind(series, with_priors=True)
    parameters = {"initial": law.stationary(moves), **moves, **POINT}
    joint = model.log_joint(parameters, series, priors=True)
    whole = pyro.condition(lambda: marginalize(model.program)(series), parameters)  # pyright: ignore
    assert float(poutine.trace(whole).get_trace().log_prob_sum()) == pytest.approx(float(joint), abs=1e-10)

    def program():
        first, second = (moves[f"transition_{n}"] for n in range(2))
        start = [law.digit(n).law(parameters["initial"]) for n in range(2)]
        one = pyro.sample("one", MarkovChain(start[0], first, 5))
        other = pyro.sample("other", MarkovChain(start[1], second, 5))
        with pyro.plate("step", 5):
            level = POINT["loc"] + POINT["effect"][0] * one
            more = torch.where(other == 1, -2.0, torch.where(other == 2, 5.0, 0.0))
            pyro.sample("y", dist.Normal(level + more, POINT["scale"]), obs=VALUES)

    expected = posterior(program)()["one"]
    found = model.posterior(parameters, series)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence)
    torch.testing.assert_close(found.of(law.digit(0)).smoothed, expected.smoothed)


def test_refusals_name_the_remedy():
    with pytest.raises(ModelError, match="at least two states, got \\(2, 1\\)"):
        families.FactorialGaussian((2, 1))
    series, _ = simulated()
    with pytest.raises(ModelError, match=r"product of the factors' sizes \(2, 2\), 4, got 3"):
        em(HMM(3, families.FactorialGaussian((2, 2))), series, restarts=1)
