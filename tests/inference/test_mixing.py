"""What a sampler says of its chains where R-hat cannot."""

from __future__ import annotations

import warnings

import pytest
import torch

from probseq import HMM, datasets, families, gibbs
from probseq.chains import FixedInitial, FixedTransitions
from probseq.inference.sampling import Sampling, sampled_fit

QUAKES = datasets.earthquakes()
HALF = torch.full((2,), 0.5, dtype=torch.float64)


def test_with_nothing_free_there_is_nothing_to_mix() -> None:
    rates = {"rate": torch.tensor([15.0, 26.0], dtype=torch.float64)}
    known = HMM(2, families.Poisson(), FixedInitial(HALF), FixedTransitions(HALF.expand(2, 2)), fixed=rates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = gibbs(known, QUAKES, chains=2, draws=10, tune=0)
    assert fit.converged and fit.stop_reason == "2 chains of 10 draws: no parameter was free"
    torch.testing.assert_close(fit.draws["rate"], rates["rate"].expand(20, 2))


def test_a_few_draws_are_said_to_be_few() -> None:
    with pytest.warns(UserWarning, match="did not mix: 2 chains of 2 draws: too few for an R-hat, 0 divergent; draw"):
        fit = gibbs(HMM(2, families.Poisson()), QUAKES, chains=2, draws=2)
    assert not fit.converged
    with pytest.warns(UserWarning, match="1 chain of 1 draws: too few"):
        gibbs(HMM(2, families.Poisson()), QUAKES, chains=1, draws=1)


def test_chains_that_never_move_did_not_mix() -> None:
    model = HMM(1, families.Poisson()).bind(QUAKES, with_priors=True)
    draws = {name: value.expand(100, *value.shape) for name, value in model.start(QUAKES, 0, 0).items()}
    still = Sampling(2, {"lp": torch.zeros(2, 50, dtype=torch.float64)})
    with pytest.warns(UserWarning, match="2 chains of 50 draws: the log density never changed"):
        assert not sampled_fit(model, QUAKES, "nuts", draws, still, 0.0).converged
