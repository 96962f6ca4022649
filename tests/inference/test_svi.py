"""SVI of the marginalised program: modes, approximate posteriors, minibatches with the right scale, stops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from probseq import HMM, FitError, Sequences, em, families, svi
from probseq.inference import variational


def regimes(sequences: int, seed: int = 0) -> Sequences:
    """Gaussian regimes at -2 and 3, 40 steps a sequence."""
    rng = np.random.default_rng(seed)
    arrays = []
    for _ in range(sequences):
        path = np.cumsum(rng.random(40) < 0.1) % 2
        arrays.append(np.where(path == 1, 3.0, -2.0) + rng.normal(0, 1, 40))
    return Sequences.from_arrays(arrays)


MODEL = HMM(2, families.Gaussian())


def test_autodelta_converges_and_says_so():
    series = regimes(3)
    mode = em(MODEL, series, priors=True, restarts=1)
    fit = svi(MODEL, series, steps=2000, tolerance=1e-5)
    assert fit.converged and fit.stop_reason.startswith("converged: the mean ELBO of 50 steps changed")
    assert len(fit.objective) < 2000 and fit.method == "svi" and fit.n_draws == 1
    assert float(fit.objective[-1]) == pytest.approx(float(mode.objective[-1]), abs=0.02)
    for name, value in mode.parameters.items():
        torch.testing.assert_close(fit.parameters[name], value, rtol=0, atol=0.05)
    assert fit.log_likelihood == pytest.approx(float(fit.log_prob(series).sum()), abs=1e-9)


@pytest.mark.parametrize("guide", [AutoNormal, AutoLaplaceApproximation])
def test_autoguides_give_draws(guide):
    """Draws around the mode with the spread of a mean of n Gaussians, sd / sqrt(n): within a factor of two."""
    series = regimes(5)
    with pytest.warns(UserWarning, match="steps = 300"):
        fit = svi(MODEL, series, guide=guide, steps=300, learning_rate=0.05, draws=200, tolerance=0.0)
    assert fit.n_draws == 200
    assert fit.draws["loc"].shape == (200, 2) and fit.draws["transition"].shape == (200, 2, 2)
    assert fit.parameters["loc"].tolist() == pytest.approx([-2.0, 3.0], abs=0.4)
    seen = torch.bincount(fit.posterior(series).viterbi, minlength=2).double()
    ratio = fit.draws["loc"].std(0) * seen.sqrt()
    assert ((ratio > 0.5) & (ratio < 2.0)).all()
    torch.testing.assert_close(fit.draws["initial"].sum(-1), torch.ones(200, dtype=torch.float64))
    # A score over the draws is the log of the mean likelihood, not the mean of the logs.
    each = torch.stack([fit.model.log_prob({n: v[s] for n, v in fit.draws.items()}, series) for s in range(200)])
    torch.testing.assert_close(fit.log_prob(series), each.logsumexp(0) - math.log(200))


def test_a_minibatch_scales_the_likelihood_without_bias(monkeypatch):
    """At fixed parameters: the mean over all minibatches of two of six sequences is the log-joint of all six."""
    from itertools import combinations

    import pyro

    from probseq import marginalize

    series = regimes(6)
    bound = MODEL.bind(series, with_priors=True)
    point = bound.start(series, 0, 0)

    def log_joint(part: Sequences) -> float:
        marginal = pyro.condition(marginalize(bound.program), point)
        return float(pyro.poutine.trace(marginal).get_trace(part).log_prob_sum())

    chosen = iter(combinations(range(6), 2))
    monkeypatch.setattr(torch, "randperm", lambda count, generator=None: torch.tensor(next(chosen)))
    generator = torch.Generator()
    batches = [log_joint(variational._minibatch(series, 2, generator)) for _ in range(15)]
    assert sum(batches) / 15 == pytest.approx(log_joint(series), abs=1e-9)
    assert np.std(batches) > 0.1


@pytest.mark.parametrize(
    "guide", [AutoDiagonalNormal, AutoIAFNormal, AutoLowRankMultivariateNormal, AutoMultivariateNormal]
)
def test_every_autoguide_has_a_point_and_draws(guide):
    """One sequence, a short run: the point is the median or, of a flow, one of the draws, and near the truth."""
    series = regimes(2)
    with pytest.warns(UserWarning, match="steps = 150"):
        fit = svi(MODEL, series, guide=guide, steps=150, learning_rate=0.05, draws=50, tolerance=0.0)
    assert fit.draws["transition"].shape == (50, 2, 2)
    assert fit.parameters["loc"].tolist() == pytest.approx([-2.0, 3.0], abs=1.0)
    if guide is AutoIAFNormal:
        joint = [float(fit.model.log_joint({n: v[s] for n, v in fit.draws.items()}, series, True)) for s in range(50)]
        assert torch.equal(fit.parameters["loc"], fit.draws["loc"][int(np.argmax(joint))])


def test_minibatches_lead_to_the_same_mode():
    series = regimes(12)
    mode = em(MODEL, series, priors=True, restarts=1)
    with pytest.warns(UserWarning, match="steps = 200"):
        fit = svi(MODEL, series, steps=200, batch=4, learning_rate=0.03)
    # The last steps, of 0.003, still wander by the noise of the batches.
    assert fit.parameters["loc"].tolist() == pytest.approx(mode.parameters["loc"].tolist(), abs=0.15)
    # Scores are those of all the data.
    assert fit.log_likelihood == pytest.approx(mode.log_likelihood, abs=2.0)


def test_weights_multiply_in_a_minibatch():
    series = regimes(4)
    weighted = Sequences(series.values, series.lengths, weights=torch.tensor([1.0, 2.0, 0.5, 1.0]))
    part = variational._minibatch(weighted, 2, torch.Generator().manual_seed(0))
    chosen = torch.randperm(4, generator=torch.Generator().manual_seed(0))[:2]
    assert weighted.weights is not None and part.weights is not None
    assert part.weights.tolist() == (2.0 * weighted.weights[chosen]).tolist()


def test_seeds_and_restarts():
    series = regimes(2)
    with pytest.warns(UserWarning, match="steps = 20"):
        fits = [svi(MODEL, series, guide=AutoNormal, steps=20, seed=seed, draws=5, restarts=2) for seed in (1, 1, 2)]
    assert torch.equal(fits[0].objective, fits[1].objective)
    assert torch.equal(fits[0].draws["loc"], fits[1].draws["loc"])
    assert not torch.equal(fits[0].objective, fits[2].objective)
    assert len(fits[0].attempts) == 2


def test_svi_leaves_the_generator_and_the_parameter_store_alone():
    import pyro

    series = regimes(2)
    pyro.param("mine", torch.tensor(1.0))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with pytest.warns(UserWarning):
        svi(MODEL, series, steps=5)
    assert torch.equal(torch.rand(3), expected)
    assert list(pyro.get_param_store().keys()) == ["mine"]


def test_an_interrupt_returns_the_fit_so_far(monkeypatch):
    import pyro.infer

    plain, calls = pyro.infer.SVI.step, [0]

    def step(self, *args, **kwargs):
        calls[0] += 1
        if calls[0] == 8:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(pyro.infer.SVI, "step", step)
    with pytest.warns(UserWarning, match="interrupted"):
        fit = svi(MODEL, regimes(2), restarts=3)
    assert (fit.stop_reason, len(fit.objective), len(fit.attempts)) == ("interrupted", 7, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch": 0}, "batch must lie between 1"), ({"batch": 3}, "batch must lie"), ({"steps": 0}, "at least 1")],
)
def test_options_out_of_range(options, message):
    with pytest.raises(FitError, match=message):
        svi(MODEL, regimes(2), **options)


def test_a_guide_may_be_made_by_a_function():
    made = []

    def make(program):
        made.append(AutoDelta(program))
        return made[0]

    with pytest.warns(UserWarning, match="steps = 5"):
        fit = svi(MODEL, regimes(2), guide=make, steps=5)
    assert len(made) == 1 and fit.n_draws == 1
