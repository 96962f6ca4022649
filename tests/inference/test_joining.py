"""Chains that were run apart are the chains of one fit, and only those of one posterior are joined."""

from __future__ import annotations

import warnings
from functools import partial

import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, FitError, Sequences, datasets, em, families, gibbs
from probseq.inference import join_chains
from probseq.inference.sampling import rank_rhat

MODEL = HMM(2, families.Poisson())
sampled = partial(gibbs, chains=2, draws=50, tune=20)


def joined(*fits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few draws need not agree
        return join_chains(fits)


@pytest.fixture(scope="module")
def apart():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [sampled(MODEL, datasets.earthquakes(), seed=seed) for seed in (1, 2)]


def test_draws_and_statistics_stand_one_chain_after_the_other(apart) -> None:
    found = joined(*apart)
    assert found.sampling is not None and found.sampling.chains == 4 and found.n_draws == 200
    rates = torch.cat([fit.draws["rate"] for fit in apart])
    torch.testing.assert_close(found.draws["rate"], rates, rtol=0, atol=0)
    density = torch.cat([fit.sampling.statistics["lp"] for fit in apart])
    torch.testing.assert_close(found.sampling.statistics["lp"], density, rtol=0, atol=0)
    assert f"R-hat of the log density {rank_rhat(density):.3f}" in found.stop_reason
    assert found.sampling.warmup["rate"].shape == (4, 20, 2)
    assert found.seconds == sum(fit.seconds for fit in apart)
    best = max(apart, key=lambda fit: float(fit.sampling.statistics["lp"].max()))
    torch.testing.assert_close(found.parameters["rate"], best.parameters["rate"], rtol=0, atol=0)
    assert found.to_arviz(prior_draws=0, predictive_draws=0)["posterior"].sizes["chain"] == 4


def test_chains_of_another_posterior_are_refused(apart) -> None:
    quakes = datasets.earthquakes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        one, half = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
        other = sampled(HMM(2, families.Poisson(), priors={"rate": dist.Gamma(one, half)}), quakes, seed=1)
        third = sampled(HMM(3, families.Poisson()), quakes, seed=1)
        longer = gibbs(MODEL, quakes, chains=2, draws=60, tune=20, seed=1)
        later = gibbs(MODEL, quakes, chains=2, draws=50, tune=30, seed=1)
        elsewhere = sampled(MODEL, Sequences.from_arrays([[1.0, 9.0, 2.0, 8.0] * 5]), seed=1)
    for wrong, why in [
        (other, "of one posterior, got a draw of log density"),
        (third, "one shape of parameters"),
        (longer, r"one number of draws, got \[50, 60\]"),
        (later, "one length of warm-up"),
        (elsewhere, "one series"),
        (em(MODEL, quakes, restarts=1), "fits of a sampler, got .*'em'"),
    ]:
        with pytest.raises(FitError, match=why):
            join_chains([apart[0], wrong])
    with pytest.raises(FitError, match="fits of a sampler"):
        join_chains([])
