"""Models that cannot be: each is refused where it is made or bound, in one line that says what to write instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import HMM, Design, Season, Sequences, em, families
from probseq.chains import LogitTransitions, SemiMarkovTransitions, ShiftedPoisson
from probseq.errors import DataError, ModelError

WEEK = Design(seasons=(Season(7),))
CONTEXTS = {
    "regression": families.Regression(families.Gaussian(), WEEK),
    "autoregression": families.Autoregression(1),
    "hamilton": families.DeviationAutoregression(1),
}
WRAPPERS = {
    "Product": lambda inner: families.Product((families.Gaussian(), inner)),
    "Hurdle": families.Hurdle,
    "ZeroInflated": families.ZeroInflated,
    "Mixture": lambda inner: families.Mixture(inner, 2),
    "Independent": families.Independent,
}


@pytest.mark.parametrize("inner", CONTEXTS)
@pytest.mark.parametrize("outer", WRAPPERS)
def test_wrappers_take_families_of_the_observation_alone(outer, inner):
    with pytest.raises(ModelError, match=f"{outer} must wrap a family of the observation alone"):
        WRAPPERS[outer](CONTEXTS[inner])


def test_a_semi_markov_chain_does_not_remember_older_states():
    law = SemiMarkovTransitions(ShiftedPoisson(max=5))
    with pytest.raises(ModelError, match="emissions that depend on the last 2 states must have moves between single"):
        HMM(2, families.DeviationAutoregression(1), transition=law)
    HMM(2, families.Autoregression(1), transition=law)  # depends on the observation before, and on one state


def series(**columns: np.ndarray) -> Sequences:
    values = np.random.default_rng(0).normal(size=40)
    covariates = np.stack(list(columns.values()), 1)
    return Sequences.from_arrays(values, covariates=covariates, covariate_names=list(columns))


@pytest.mark.parametrize("place", ["moves", "emissions"])
def test_a_covariate_that_is_no_more_than_the_intercept_is_refused(place):
    data = series(heat=np.arange(40.0), one=np.ones(40))
    design = Design(covariates=("heat", "one"))
    if place == "moves":
        model = HMM(2, families.Gaussian(), transition=LogitTransitions(design))
    else:
        model = HMM(2, families.Regression(families.Gaussian(), design, ("loc",)))
    with pytest.raises(DataError, match="got 'one' as a combination of intercept, heat"):
        em(model, data, priors=False, restarts=1)


def test_columns_of_very_different_size_are_not_taken_for_a_combination():
    Design(covariates=("small", "large")).require_identified(
        series(small=1e-9 * np.arange(40.0), large=1e9 * np.arange(40.0) ** 2)
    )


def test_given_probabilities_of_single_precision_are_the_decimals_that_were_written():
    given = torch.tensor([[0.9, 0.1], [float("nan"), float("nan")]])  # float32: the row sums to 1 - 2e-8
    model = HMM(2, families.Gaussian(), fixed={"transition": given})
    values = np.random.default_rng(0).normal(size=40) + 3.0 * np.repeat([0, 1], 20)
    fit = em(model, Sequences.from_arrays(values), restarts=1)
    assert fit.parameters["transition"][0].tolist() == [0.9, 0.1]


def test_the_density_of_a_nearly_gaussian_vector_keeps_its_digits():
    """At df = 1e15 torch's difference of log-gammas is off by a nat; the law is Gaussian to 1e-6 from 1e7 on."""
    family, values = families.MultivariateStudentT(), torch.tensor([[0.3, -1.0], [2.0, 1.0]], dtype=torch.float64)
    tril = torch.eye(2, dtype=torch.float64)
    law = family.distribution(df=torch.tensor(1e15).double(), loc=torch.zeros(2).double(), scale_tril=tril)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), scale_tril=tril)
    torch.testing.assert_close(law.log_prob(values), gaussian.log_prob(values), atol=1e-5, rtol=0.0)
