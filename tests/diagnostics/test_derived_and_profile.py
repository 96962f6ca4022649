"""Derived quantities and profile likelihoods against closed forms."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import chi2
from torch.distributions import constraints

from probseq import HMM, Fit, MarkovChain, Sequences, datasets, em, families
from probseq.chains import LogitTransitions, SemiMarkovTransitions, ShiftedPoisson, StationaryInitial
from probseq.design import Design
from probseq.diagnostics import derived, profile, sandwich_errors, standard_errors
from probseq.errors import FitError, ModelError

DOUBLE = torch.float64
COUNTS = torch.tensor([3.0, 5, 4, 8, 0, 2, 7, 5, 6, 3, 3, 9], dtype=DOUBLE)
DROP = chi2.ppf(0.95, 1) / 2


@pytest.fixture(scope="module")
def quakes() -> Fit:
    return em(HMM(2, families.Poisson(), initial=StationaryInitial()), datasets.earthquakes(), restarts=2, workers=1)


def one_state(family, values=COUNTS) -> Fit:
    return em(HMM(1, family), Sequences(values, torch.tensor([len(values)])), priors=False)


# ---- the delta method ----------------------------------------------------------------------------------------------


def test_two_states_by_hand(quakes):
    """delta_0 = b / (a + b), stay_0 = 1 / a, second eigenvalue 1 - a - b, with a, b the chances of leaving 0 and 1."""
    errors = standard_errors(quakes)
    places = [errors.names.index("transition[0, 1]"), errors.names.index("transition[1, 0]")]
    a, b = errors.estimate[places].tolist()
    covariance = errors.covariance[places][:, places].numpy()
    slopes = {
        "stationary_law": (b / (a + b), np.array([-b, a]) / (a + b) ** 2),
        "mean_stay": (1 / a, np.array([-1 / a**2, 0.0])),
        "second_eigenvalue": (1 - a - b, np.array([-1.0, -1.0])),
        "half_life": (
            math.log(0.5) / math.log(1 - a - b),
            math.log(0.5) / math.log(1 - a - b) ** 2 / (1 - a - b) * np.ones(2),
        ),
    }
    for name, (value, slope) in slopes.items():
        row = derived(quakes, name).table.iloc[0]
        assert row["estimate"] == pytest.approx(value, rel=1e-12)
        assert row["standard_error"] == pytest.approx(math.sqrt(slope @ covariance @ slope), rel=1e-9)
        assert row["lower"] < value < row["upper"]
    assert derived(quakes, "mean_stay").table["lower"].min() > 1.0
    assert derived(quakes, "stationary_law").names == ("stationary_law[0]", "stationary_law[1]")


def test_any_function_of_the_parameters(quakes):
    """The difference of two rates, with the covariance of either kind."""

    def gap(parameters):
        return parameters["rate"][1] - parameters["rate"][0]

    for errors in (standard_errors(quakes), sandwich_errors(quakes)):
        c = errors.covariance[-2:, -2:]
        found = derived(errors, gap, support=constraints.positive)
        assert found.names == ("gap",) and found.kind == f"delta method, {errors.kind}"
        assert float(found.standard_error) == pytest.approx(float(c[0, 0] + c[1, 1] - 2 * c[0, 1]) ** 0.5, rel=1e-9)
    several = derived(quakes, lambda p: {"ratio": p["rate"][1] / p["rate"][0], "law": p["initial"]})
    assert several.names == ("ratio", "law[0]", "law[1]")


def test_over_draws_it_is_their_own_law(quakes):
    generator = np.random.default_rng(0)
    rate = torch.from_numpy(generator.gamma(20.0, size=(101, 2)))
    draws = {name: value.expand(101, *value.shape) for name, value in quakes.parameters.items()} | {"rate": rate}
    found = derived(replace(quakes, draws=draws, method="nuts"), lambda p: p["rate"].sum())
    totals = rate.sum(1).numpy()
    assert found.kind == "draws of nuts"
    assert found.table.loc["value", ["lower", "upper"]].tolist() == pytest.approx(np.quantile(totals, [0.025, 0.975]))
    assert found.table.loc["value", "standard_error"] == pytest.approx(totals.std(ddof=1))
    assert found.table.loc["value", "estimate"] == pytest.approx(float(quakes.parameters["rate"].sum()))


def test_a_stationary_law_of_segments_and_of_codes(quakes):
    """Explicit durations give shares of time; a law of codes of the last states is one of states."""
    moves = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    rates = torch.tensor([3.0, 8.0], dtype=DOUBLE)
    segments = {"transition": moves, "duration_rate": rates, "rate": rates, "initial": torch.full((2,), 0.5)}
    found = derived(
        over_two_draws(
            quakes, HMM(2, families.Poisson(), transition=SemiMarkovTransitions(ShiftedPoisson(60))), segments
        ),
        "stationary_law",
    )
    torch.testing.assert_close(found.estimate, (1 + rates) / (2 + rates.sum()))  # what is beyond 60 steps is 1e-30
    lags = HMM(2, families.DeviationAutoregression(1), initial=StationaryInitial())
    matrix = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=DOUBLE)
    values = {"transition": matrix, "loc": rates, "coefficients": torch.tensor([0.5]), "scale": torch.tensor(1.0)}
    law = derived(over_two_draws(quakes, lags, lags.complete(values)), "stationary_law")
    torch.testing.assert_close(law.estimate, torch.tensor([0.75, 0.25], dtype=DOUBLE))


def over_two_draws(fit: Fit, model: HMM, parameters: dict[str, torch.Tensor]) -> Fit:
    draws = {name: value.expand(2, *value.shape) for name, value in parameters.items()}
    return replace(fit, model=model, parameters=parameters, draws=draws)


def test_a_program_has_its_matrix_at_the_site_transition():
    def program(series: Sequences) -> None:
        stay = pyro.sample("stay", dist.Beta(torch.tensor([2.0, 2.0], dtype=DOUBLE), 1.0).to_event(1))
        matrix = torch.stack([stay, 1 - stay, 1 - stay, stay], -1)[..., 0, :].reshape(2, 2)
        rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 4.0], dtype=DOUBLE), 0.5).to_event(1))
        state = pyro.sample("state", MarkovChain(torch.full((2,), 0.5, dtype=DOUBLE), matrix, series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)

    fit = em(program, datasets.earthquakes(), restarts=1)
    with pytest.raises(ModelError, match="must have its matrix at the site 'transition'"):
        derived(fit, "mean_stay")
    assert derived(fit, lambda p: p["rate"].mean()).estimate == pytest.approx(float(fit.parameters["rate"].mean()))


def test_refused_quantities(quakes):
    with pytest.raises(FitError, match="one of stationary_law, mean_stay"):
        derived(quakes, "entropy")
    with pytest.raises(FitError, match="must be a tensor"):
        derived(quakes, lambda p: 3.0)
    series = Sequences.from_arrays(COUNTS, covariates=torch.linspace(0, 1, 12).unsqueeze(1))
    moves = HMM(2, families.Poisson(), transition=LogitTransitions(Design(("covariate",))))
    with pytest.raises(ModelError, match="moves that depend on the last state alone"):
        derived(
            replace(
                quakes, model=moves, draws={n: v.expand(2, *v.shape) for n, v in quakes.draws.items()}, series=series
            ),
            "mean_stay",
        )


# ---- profiles ------------------------------------------------------------------------------------------------------


def test_the_profile_of_a_poisson_rate():
    """n (r - m) - n m log(r / m) nats below the maximum at m."""
    n, m = 12, float(COUNTS.mean())

    def drop(rate):
        return n * (rate - m) - n * m * np.log(rate / m)

    found = profile(one_state(families.Poisson()), "rate[0]")
    assert found.lower == pytest.approx(brentq(lambda r: drop(r) - DROP, 1.0, m), rel=1e-6)
    assert found.upper == pytest.approx(brentq(lambda r: drop(r) - DROP, m, 20.0), rel=1e-6)
    assert not found.lower_open and not found.upper_open and found.objective == "log-likelihood"
    np.testing.assert_allclose(found.curve["drop"], drop(found.values.numpy()), atol=1e-9)


def test_the_profile_of_a_mean_maximises_over_the_scale():
    """(n / 2) log(1 + (mu - m)^2 / s^2), the interval of a likelihood ratio test (Student's, but for its quantile)."""
    fit = one_state(families.Gaussian())
    m, s = float(COUNTS.mean()), float(COUNTS.std(correction=0))
    reach = s * math.sqrt(math.expm1(2 * DROP / 12))
    found = profile(fit, "loc[0]")
    assert (found.lower, found.upper) == (pytest.approx(m - reach, rel=1e-6), pytest.approx(m + reach, rel=1e-6))
    half = profile(fit, "loc[0]", level=0.5)
    assert found.lower < half.lower < half.upper < found.upper


def test_an_end_that_is_the_edge_of_the_range():
    """No success in n trials: the log-likelihood n log(1 - p) is highest at 0 and falls by the drop at one end."""
    found = profile(one_state(families.Binomial(3), torch.zeros(12, dtype=DOUBLE)), "probability[0]")
    assert found.lower == 0.0 and found.lower_open and not found.upper_open
    assert found.upper == pytest.approx(-math.expm1(-DROP / 36), rel=1e-5)


def test_a_move_that_never_happened_has_an_upper_end():
    """With every state known, n of them not that move: n log(1 - p); of the only move, n log p."""
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1])
    labels = torch.cat([labels, torch.zeros(8, dtype=torch.int64), 2 * torch.ones(3, dtype=torch.int64)])
    series = Sequences(torch.cat([COUNTS, COUNTS[:11]]), torch.tensor([len(labels)]), labels=labels)
    fit = em(HMM(3, families.Poisson()), series)
    start = fit.parameters | {"transition": fit.parameters["transition"].clamp_min(1e-12)}
    start["transition"] = start["transition"] / start["transition"].sum(-1, keepdim=True)
    fit = replace(fit, parameters=start)
    found = profile(fit, "transition[1, 2]")  # of state 1: two stays, two moves to 0; the others share what is left
    assert found.lower_open and found.upper == pytest.approx(-math.expm1(-DROP / 4), rel=1e-4)
    only = profile(fit, "transition[2, 2]")  # two stays
    assert only.upper_open and only.estimate == pytest.approx(1.0)
    assert only.lower == pytest.approx(math.exp(-DROP / 2), rel=1e-4)


def test_the_profile_is_the_highest_there_is(quakes):
    """At each value a fit in which it is fixed ends no higher, and where EM converges no lower."""
    found = profile(quakes, "transition[0, 1]", level=0.8)
    for value, height in zip(found.values[::6].tolist(), found.profile[::6].tolist(), strict=True):
        row = torch.tensor([[1 - value, value], [math.nan, math.nan]], dtype=DOUBLE)
        model = HMM(2, families.Poisson(), initial=StationaryInitial(), fixed={"transition": row})
        again = em(model, datasets.earthquakes(), start=quakes.parameters | {"transition": row.nan_to_num(0.5)})
        assert again.log_likelihood == pytest.approx(height, abs=1e-5)


def test_a_profile_that_finds_a_higher_maximum_says_so():
    """log p(theta) = -(theta^2 - 1)^2 / (2 s^2) - (theta - 1)^2 / 8 + c: near -1 it is half a nat lower than at 1."""

    def program(series):
        theta = pyro.sample("theta", dist.Normal(torch.tensor(1.0).double(), 2.0))
        one = torch.ones(1).double()
        state = pyro.sample("state", MarkovChain(one, one.unsqueeze(0), series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Normal((theta**2).expand(1)[state], 0.7), obs=series.values)

    series = Sequences.from_arrays([[1.0]])
    fits = {at: em(program, series, priors=True, start={"theta": torch.tensor(at).double()}) for at in (-1.0, 1.0)}
    assert float(fits[-1.0].parameters["theta"]) < 0 < float(fits[1.0].parameters["theta"])
    heights = [float(fit.objective[-1]) for fit in fits.values()]
    assert heights[1] - heights[0] == pytest.approx(0.5, abs=0.1)
    with pytest.warns(UserWarning, match=r"at the highest log posterior, got 0\.4\d* nats more at theta = (1|0\.9)"):
        low = profile(fits[-1.0], "theta")
    assert float(low.profile.max()) == pytest.approx(heights[1], abs=0.05) and low.highest == pytest.approx(heights[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile(fits[1.0], "theta")


def test_names_that_cannot_be_profiled(quakes):
    with pytest.raises(FitError, match="must be one of transition"):
        profile(quakes, "lambda")
    half = torch.tensor([[0.9, 0.1], [math.nan, math.nan]], dtype=DOUBLE)
    fit = em(HMM(2, families.Poisson(), fixed={"transition": half}), datasets.earthquakes(), restarts=1)
    with pytest.raises(FitError, match=r"must be free to move, got transition\[0, 1\], which is fixed"):
        profile(fit, "transition[0, 1]")
