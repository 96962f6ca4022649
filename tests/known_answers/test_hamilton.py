"""Hamilton's (1989) two regimes of US real GNP growth: an autoregression of order four on deviations from their means.

The published figures, and the log-likelihood -181.26339 at them, are those of Hamilton (1989, table I) as recomputed by
later packages to more digits; the likelihood is conditional on the first four quarters, whose states are averaged over
by the stationary law.
"""

from __future__ import annotations

import math

import pytest
import torch

from probseq import HMM, Fit, Sequences, datasets, em, families, standard_errors
from probseq.chains import StationaryInitial

PUBLISHED = -181.26339
MODEL = HMM(2, families.DeviationAutoregression(order=4), initial=StationaryInitial())


def published() -> dict[str, torch.Tensor]:
    stay, leave = 0.754673, 0.095915
    values = {
        "transition": [[stay, 1 - stay], [leave, 1 - leave]],
        "loc": [-0.358811, 1.163516],
        "coefficients": [0.013486, -0.057521, -0.246983, -0.212923],
        "scale": math.exp(-0.262658),
    }
    return MODEL.complete({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})


@pytest.fixture(scope="module")
def growth() -> Sequences:
    return datasets.gnp()


@pytest.fixture(scope="module")
def fit(growth) -> Fit:
    return em(MODEL, growth, restarts=5, seed=0)


def test_log_likelihood_at_the_published_parameters(growth):
    assert MODEL.log_prob(published(), growth).item() == pytest.approx(PUBLISHED, abs=1e-5)


def test_by_hamiltons_own_filter(growth):
    """The filter of Hamilton (1994, 22.4) over the last five states, one dimension each, written out here."""
    values, parameters = growth.values, published()
    chances, means = parameters["transition"], parameters["loc"]
    law = torch.tensor([0.095915, 1 - 0.754673], dtype=torch.float64)
    joint = law / law.sum()
    for _ in range(4):  # p(z_1, .., z_5), oldest first
        joint = joint.unsqueeze(-1) * chances
    shapes = [means.reshape((1,) * lag + (2,) + (1,) * (4 - lag)) for lag in (4, 3, 2, 1, 0)]  # lag 0 is the last dim
    total = 0.0
    for t in range(4, len(values)):
        residual = values[t] - shapes[0]
        for lag in range(1, 5):
            residual = residual - parameters["coefficients"][lag - 1] * (values[t - lag] - shapes[lag])
        joint = joint * torch.distributions.Normal(0.0, parameters["scale"]).log_prob(residual).exp()
        total += float(joint.sum().log())
        joint = (joint / joint.sum()).sum(0).unsqueeze(-1) * chances
    assert MODEL.log_prob(published(), growth).item() == pytest.approx(total, abs=1e-10)


def test_our_fit_from_our_own_starts(fit):
    assert fit.log_likelihood == pytest.approx(PUBLISHED, abs=1e-5)
    assert fit.converged and fit.n_parameters == 9
    assert (fit.objective.diff() >= -1e-9).all()
    for name, value in published().items():  # six digits are printed, and the maximum is flat to about 1e-4
        if name != "initial":
            torch.testing.assert_close(fit.parameters[name], value, rtol=0, atol=2e-4)


def test_published_standard_errors(fit):
    """Those of the observed information, as Stata prints them for this model; p11 has that of p01 = 1 - p00."""
    table = standard_errors(fit).table
    known = {
        "transition[0, 0]": 0.0965189,
        "transition[1, 0]": 0.0377362,
        "loc[0]": 0.2645396,
        "loc[1]": 0.0745187,
    }
    found = table.loc[list(known), "standard_error"]
    assert found.tolist() == pytest.approx(list(known.values()), abs=1e-4)
    assert (table["note"] == "").all()


def test_the_polish_alone_climbs_from_a_poor_start(growth):
    """EM stopped early and handed to L-BFGS ends at the same maximum."""
    start = MODEL.bind(growth).start(growth, attempt=0, seed=0)
    end = em(MODEL, growth, start=start, max_iterations=20)
    assert end.log_likelihood == pytest.approx(PUBLISHED, abs=1e-5)


def test_recessions_are_those_of_the_nber(fit, growth):
    """Hamilton's rule, p(recession | all data) > 1/2, agrees with the NBER in 9 quarters of 10, and finds all."""
    recession = torch.tensor(datasets.frame("gnp")["nber_rec"].to_numpy() > 0)[4:]
    found = fit.posterior(growth).smoothed[4:, 0] > 0.5
    assert (found == recession).double().mean() > 0.9
    starts = (recession[1:] & ~recession[:-1]).nonzero().squeeze(-1) + 1
    for start in starts.tolist():
        assert bool(found[max(0, start - 2) : start + 5].any())


def test_decoding_is_in_states(fit, growth):
    frame = fit.decode(growth)
    assert {"state", "probability_0", "probability_1"} <= set(frame.columns)
    assert frame["state"].isin([0, 1]).all()
    assert frame["log_predictive"].iloc[4:].sum() == pytest.approx(fit.log_likelihood, abs=1e-8)
    assert frame["log_predictive"].iloc[:4].abs().max() < 1e-12  # the filter adds probabilities that sum to one


def test_saved_and_loaded(fit, growth, tmp_path):
    again = Fit.load(fit.save(tmp_path / "gnp"))
    assert again.model == fit.model
    assert torch.equal(again.log_prob(growth), fit.log_prob(growth))
