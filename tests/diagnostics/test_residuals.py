"""Residuals against sums over all paths, closed forms, and their own law under the true model and under wrong ones."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats

from probseq import HMM, Fit, MarkovChain, Sequences, families
from probseq.diagnostics import forecast_residuals, ordinary_residuals, residual_tests
from probseq.diagnostics.residual_tests import anderson_darling, ljung_box
from probseq.diagnostics.tails import Tails
from probseq.errors import DataError, ModelError
from probseq.families import Family
from probseq.inference.fit import as_draws
from probseq.models.program import ProgramModel

MOVES = {
    "initial": torch.tensor([2 / 3, 1 / 3], dtype=torch.float64),
    "transition": torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64),
}


def numbers(**values: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


CASES: dict[str, tuple[Family, dict[str, torch.Tensor]]] = {
    "gaussian": (families.Gaussian(), numbers(loc=[0.0, 3.0], scale=[1.0, 0.5])),
    "poisson": (families.Poisson(), numbers(rate=[1.0, 6.0])),
    "hurdle-gamma": (
        families.Hurdle(families.Gamma()),
        numbers(nonzero=[0.2, 0.9], concentration=[0.8, 2.0], rate=[1.0, 0.3]),
    ),
    "categorical": (families.Categorical(3), numbers(probabilities=[[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])),
    "zero-inflated-poisson": (
        families.ZeroInflated(families.Poisson()),
        numbers(inflation=[0.5, 0.1], rate=[2.0, 6.0]),
    ),
}


def fitted(model: Any, parameters: dict[str, torch.Tensor], draws: Any = None, series: Any = None) -> Fit:
    """A fit with given parameters."""
    parameters = MOVES | parameters
    draws = as_draws(parameters) if draws is None else draws
    numbers = {"log_likelihood": 0.0, "observations": 1, "n_parameters": 1, "objective": torch.zeros(1)}
    words = {"converged": True, "stop_reason": "", "seconds": 0.0, "fingerprint": "", "method": "em"}
    return Fit(model=model, parameters=parameters, draws=draws, with_priors=False, series=series, **numbers, **words)


def law_of(name: str, state: int, value: float) -> tuple[float, float, float]:
    """P(Y < value), P(Y <= value) and the density or probability there, by scipy."""
    own = {key: one[state].numpy() for key, one in CASES[name][1].items()}
    if name == "gaussian":
        law = stats.norm(own["loc"], own["scale"])
        return law.cdf(value), law.cdf(value), law.pdf(value)
    if name == "poisson":
        law = stats.poisson(own["rate"])
        return law.cdf(value - 1), law.cdf(value), law.pmf(value)
    if name == "zero-inflated-poisson":
        law, extra = stats.poisson(own["rate"]), own["inflation"]
        below = extra * (value > 0) + (1 - extra) * law.cdf(value - 1)
        return below, extra + (1 - extra) * law.cdf(value), extra * (value == 0) + (1 - extra) * law.pmf(value)
    if name == "categorical":
        shares = own["probabilities"]
        return shares[: int(value)].sum(), shares[: int(value) + 1].sum(), shares[int(value)]
    law, wet = stats.gamma(own["concentration"], scale=1 / own["rate"]), own["nonzero"]
    if value == 0:
        return 0.0, 1 - wet, 1 - wet
    return 1 - wet + wet * law.cdf(value), 1 - wet + wet * law.cdf(value), wet * law.pdf(value)


def by_all_paths(name: str, values: list[float], step: int, ordinary: bool) -> tuple[float, float]:
    """P(Y_t < y_t | others) and P(Y_t <= y_t | others), NaN being no observation."""
    first, moves = MOVES["initial"].numpy(), MOVES["transition"].numpy()
    total = np.zeros(3)
    for path in itertools.product(range(2), repeat=len(values)):
        weight = first[path[0]] * np.prod([moves[i, j] for i, j in itertools.pairwise(path)])
        for t, value in enumerate(values):
            if t != step and not np.isnan(value) and (ordinary or t < step):
                weight *= law_of(name, path[t], value)[2]
        total += weight * np.array([*law_of(name, path[step], values[step])[:2], 1.0])
    return total[0] / total[2], total[1] / total[2]


VALUES = {
    "gaussian": [0.3, 2.9, float("nan"), -1.0, 3.3],
    "poisson": [0.0, 7.0, float("nan"), 2.0, 5.0],
    "zero-inflated-poisson": [0.0, 7.0, float("nan"), 2.0, 0.0],
    "hurdle-gamma": [0.0, 4.0, float("nan"), 0.0, 0.7],
    "categorical": [0, 2, float("nan"), 1, 2],
}


@pytest.mark.parametrize("as_program", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_against_all_paths(name: str, as_program: bool) -> None:
    """Two sequences, a step missing; the same from the model and from its program, read as a user's own."""
    family, parameters = CASES[name]
    series = Sequences.from_arrays([VALUES[name], VALUES[name][3:]])
    model: Any = HMM(2, family)
    model = ProgramModel(model.program).bind(series) if as_program else model
    fit = fitted(model, parameters)
    for residuals, ordinary in ((ordinary_residuals(fit, series), True), (forecast_residuals(fit, series), False)):
        assert residuals["uniform"].isna().tolist() == [False, False, True, False, False, False, False]
        for row in (0, 1, 3, 4, 5, 6):
            values, step = (VALUES[name], row) if row < 5 else (VALUES[name][3:], row - 5)
            lower, upper = by_all_paths(name, values, step, ordinary)
            found = residuals.iloc[row]
            np.testing.assert_allclose([found["lower"], found["upper"]], [lower, upper], rtol=1e-11, atol=1e-14)
            assert found["mid"] == pytest.approx((lower + upper) / 2, abs=1e-12)
            assert lower - 1e-12 <= found["uniform"] <= upper + 1e-12
            inside = 1e-9 < found["uniform"] < 1 - 1e-9
            assert inside and found["normal"] == pytest.approx(stats.norm.ppf(found["uniform"]), abs=1e-8)


def test_far_out_is_finite() -> None:
    """Against log tails of scipy: a single state's, where doubles hold no cumulative probability any more."""
    one = {"initial": torch.ones(1).double(), "transition": torch.ones(1, 1).double()}
    values = [-500.0, 60.0, 8.0]
    cases = {
        "gaussian": (families.Gaussian(), numbers(loc=[0.0], scale=[1.0]), values),
        "gamma": (families.Gamma(), numbers(concentration=[2.0], rate=[1.0]), [5000.0, 1e-200, 2.0]),
        "poisson": (families.Poisson(), numbers(rate=[3.0]), [900.0, 3.0, 1.0]),
    }
    for family, parameters, given in cases.values():
        series = Sequences.from_arrays([given])
        found = forecast_residuals(fitted(HMM(1, family), one | parameters), series)
        assert np.isfinite(found["normal"]).all() and found["normal"].is_unique
    normal = forecast_residuals(
        fitted(HMM(1, cases["gaussian"][0]), one | cases["gaussian"][1]), Sequences.from_arrays([values])
    )
    np.testing.assert_allclose(normal["normal"], values, rtol=1e-9)
    # P(X <= x) = x^2 / 2 near zero; P(X > x) = (1 + x) e^-x
    gamma = forecast_residuals(
        fitted(HMM(1, families.Gamma()), one | cases["gamma"][1]), Sequences.from_arrays([[5000.0, 1e-200]])
    )
    exact = [-special.ndtri_exp(np.log(5001.0) - 5000.0), special.ndtri_exp(2 * np.log(1e-200) - np.log(2.0))]
    np.testing.assert_allclose(gamma["normal"], exact, rtol=1e-6)


def test_a_program_far_out() -> None:
    """An exponential law of torch, whose cdf rounds to one; the tail is e^-x."""

    def program(series):
        rate = pyro.sample("rate", dist.Gamma(2.0, torch.ones(2).double()).to_event(1))
        state = pyro.sample("state", MarkovChain(MOVES["initial"], MOVES["transition"], series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Exponential(rate[state]), obs=series.values)

    series = Sequences.from_arrays([[800.0, 1.0, 40.0]])
    fit = replace(
        fitted(ProgramModel(program).bind(series), {}),
        parameters=numbers(rate=[1.0, 1.0]),
        draws=numbers(rate=[[1.0, 1.0]]),
    )
    found = forecast_residuals(fit, series)["normal"]
    np.testing.assert_allclose(found, [-special.ndtri_exp(-x) for x in (800.0, 1.0, 40.0)], rtol=1e-7)


def test_columns_have_their_own_laws() -> None:
    """Independent columns against each alone given the same states; a vector's own entry is what is judged."""
    gaussian = families.MultivariateGaussian("full")
    tril = torch.tensor([[[1.0, 0.0], [0.5, 1.0]], [[2.0, 0.0], [-1.0, 0.5]]], dtype=torch.float64)
    parameters = numbers(loc=[[0.0, 1.0], [3.0, -1.0]]) | {"scale_tril": tril}
    values = torch.tensor([[0.1, 1.3], [2.0, float("nan")], [4.0, -1.5]], dtype=torch.float64)
    series = Sequences.from_arrays([values], columns=["a", "b"])
    model = HMM(2, gaussian)
    for fit in (fitted(model, parameters), fitted(ProgramModel(model.program).bind(series), parameters)):
        found = ordinary_residuals(fit, series)
        law = model.posterior(MOVES | parameters, series).cavity.numpy()
        scale = tril.square().sum(-1).sqrt().numpy()
        for column, name in enumerate(found.filter(like="uniform").columns):
            below = stats.norm.cdf(
                values[:, column, None].numpy(), parameters["loc"][:, column].numpy(), scale[:, column]
            )
            np.testing.assert_allclose(found[name], (law * below).sum(-1), rtol=1e-10)


def test_an_autoregression_looks_back() -> None:
    """One state: the forecast residual is the scaled innovation; the first step lacks its lag."""
    family = families.Autoregression(1)
    parameters = {"initial": torch.ones(1).double(), "transition": torch.ones(1, 1).double()}
    parameters |= {
        name: one.unsqueeze(0) for name, one in numbers(intercept=1.0, coefficients=[0.5], scale=2.0).items()
    }
    series = Sequences.from_arrays([[1.0, 2.0, 5.0, -1.0]])
    fit = fitted(HMM(1, family), parameters)
    expected = [np.nan, *((y - 1 - 0.5 * before) / 2 for y, before in ((2, 1), (5, 2), (-1, 5)))]
    np.testing.assert_allclose(forecast_residuals(fit, series)["normal"], expected, rtol=1e-10)
    with pytest.raises(ModelError, match="use forecast_residuals"):
        ordinary_residuals(fit, series)
    program = fitted(ProgramModel(HMM(1, family).program).bind(series), parameters)
    np.testing.assert_allclose(forecast_residuals(program, series)["normal"], expected, rtol=1e-10)
    with pytest.raises(ModelError, match="change with the observation of step 0"):
        ordinary_residuals(program, series)


def test_draws_are_averaged() -> None:
    family, parameters = CASES["poisson"]
    series = Sequences.from_arrays([VALUES["poisson"]])
    other = numbers(rate=[2.0, 4.0])
    both = {name: torch.stack([one, other.get(name, one)]) for name, one in (MOVES | parameters).items()}
    found = forecast_residuals(fitted(HMM(2, family), parameters, both), series)
    alone = [forecast_residuals(fitted(HMM(2, family), one), series) for one in (parameters, other)]
    np.testing.assert_allclose(found["upper"], (alone[0]["upper"] + alone[1]["upper"]) / 2, rtol=1e-12)


def test_laws_of_draws_are_added_up_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of draws of thousands of steps would be gigabytes."""
    made: list[weakref.ref[Tails]] = []
    alive: list[int] = []
    mixed = Tails.mixed

    def noted(law: Tails, log_weights: torch.Tensor) -> Tails:
        alive.append(sum(one() is not None for one in made))
        found = mixed(law, log_weights)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Tails, "mixed", noted)
    family, parameters = CASES["poisson"]
    draws = {name: value.expand(20, *value.shape) for name, value in (MOVES | parameters).items()}
    series = Sequences.from_arrays([VALUES["poisson"]])
    found = forecast_residuals(fitted(HMM(2, family), parameters, draws), series)
    assert len(alive) == 20 and max(alive) <= 2
    alone = forecast_residuals(fitted(HMM(2, family), parameters), series)
    np.testing.assert_allclose(found["upper"], alone["upper"], rtol=1e-12)


def test_a_law_without_a_cumulative_distribution() -> None:
    fit = fitted(HMM(2, families.Multinomial(6)), numbers(probabilities=[[0.5, 0.5], [0.1, 0.9]]))
    with pytest.raises(ModelError, match="columns have a law of their own, got multinomial"):
        forecast_residuals(fit, Sequences.from_arrays([torch.tensor([[1.0, 5.0], [6.0, 0.0]])]))

    def program(series):
        loc = pyro.sample("loc", dist.Normal(0.0, torch.ones(2).double()).to_event(1))
        state = pyro.sample("state", MarkovChain(MOVES["initial"], MOVES["transition"], series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.VonMises(loc[state], torch.ones(()).double()), obs=series.values)

    series = Sequences.from_arrays([[0.5, 0.1]])
    found = replace(fitted(ProgramModel(program).bind(series), {}), parameters=numbers(loc=[0.0, 1.0]))
    found = replace(found, draws=as_draws(found.parameters))
    with pytest.raises(ModelError, match="got VonMises at 'y'"):
        ordinary_residuals(found, series)


REPLICATES, STEPS = 200, 150


def replicates(name: str) -> Sequences:
    """As many independent series of one model."""
    family, parameters = CASES[name]
    return fitted(HMM(2, family), parameters).simulate([STEPS] * REPLICATES, seed=7)


def p_values(residuals: pd.DataFrame) -> np.ndarray:
    by_series = residuals["uniform"].to_numpy().reshape(REPLICATES, STEPS)
    return np.array([stats.kstest(one, "uniform").pvalue for one in by_series])


@pytest.mark.parametrize("name", ["gaussian", "poisson", "hurdle-gamma", "categorical"])
def test_uniform_under_the_true_model(name: str) -> None:
    """Kolmogorov-Smirnov p-values of 200 simulated series are themselves uniform: exact for independent residuals.

    The bound on their own p-value is passed by all but one in a hundred seeds.
    """
    fit, series = fitted(HMM(2, CASES[name][0]), CASES[name][1]), replicates(name)
    residuals = forecast_residuals(fit, series, seed=1)
    assert stats.kstest(p_values(residuals), "uniform").pvalue > 0.01
    tests = residual_tests(residuals, lags=(1, 5))
    assert (tests["p_value"] > 0.001).all()  # eight tests of 30,000 residuals
    # Ordinary ones are uniform at each step, though not independent: all first steps, all middle steps.
    ordinary = ordinary_residuals(fit, series, seed=1)["uniform"].to_numpy().reshape(REPLICATES, STEPS)
    for step in (0, STEPS // 2, STEPS - 1):
        assert stats.kstest(ordinary[:, step], "uniform").pvalue > 0.001


WRONG = {
    "gaussian": numbers(loc=[0.0, 2.0], scale=[1.0, 0.5]),
    "poisson": numbers(rate=[1.0, 4.0]),
    "hurdle-gamma": numbers(nonzero=[0.2, 0.9], concentration=[0.8, 2.0], rate=[1.0, 0.6]),
    "categorical": numbers(probabilities=[[0.4, 0.5, 0.1], [0.1, 0.5, 0.4]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_not_uniform_under_a_wrong_model(name: str) -> None:
    series = replicates(name)
    wrong = fitted(HMM(2, CASES[name][0]), WRONG[name])
    found = p_values(forecast_residuals(wrong, series, seed=1))
    assert stats.kstest(found, "uniform").pvalue < 1e-10
    assert np.mean(found < 0.05) > 0.5


def test_independent_observations_miss_the_regimes() -> None:
    """The right marginal law without its chain: Ljung-Box sees it."""
    family, parameters = CASES["gaussian"]
    series = replicates("gaussian")
    alone = {"transition": MOVES["initial"].expand(2, 2)}
    tests = residual_tests(forecast_residuals(fitted(HMM(2, family), parameters | alone), series))
    box = tests[(tests["test"] == "Ljung-Box") & (tests["of"] == "normal")]
    assert (box["verdict"] == "rejected (p < 0.001)").all()


def test_ljung_box_by_hand() -> None:
    """z = 1, -1, 2, -2: mean 0, sum of squares 10, products -7 at lag 1 and 4 at lag 2.

    Q = 4 x 6 x ((7/10)^2 / 3 + (4/10)^2 / 2) = 5.84; P(chi2_2 > 5.84) = e^-2.92.
    """
    statistic, p_value = ljung_box([np.array([1.0, -1.0, 2.0, -2.0])], 2)
    assert statistic == pytest.approx(5.84, abs=1e-12) and p_value == pytest.approx(np.exp(-2.92), abs=1e-12)
    split, _ = ljung_box([np.array([1.0, -1.0]), np.array([2.0, -2.0])], 1)  # products -1 and -4 over two pairs
    assert split == pytest.approx(24 * 0.25 / 2)


def test_thousands_of_sequences_are_told_apart() -> None:
    """No pair crosses from one to the next."""
    rng = np.random.default_rng(0)
    steps, count = 20_000, 4_000
    frame = pd.DataFrame({"uniform": rng.random(steps), "sequence": rng.permutation(count).repeat(steps // count)})
    frame["normal"] = stats.norm.ppf(frame["uniform"])
    frame.attrs["sequence"] = "sequence"
    table = residual_tests(frame, lags=(1,))
    parts = frame["normal"].to_numpy().reshape(count, -1)
    row = table[(table["test"] == "Ljung-Box") & (table["of"] == "normal")].iloc[0]
    centred = parts - parts.mean()
    r = (centred[:, 1:] * centred[:, :-1]).sum() / np.square(centred).sum()
    assert row["statistic"] == pytest.approx(steps * (steps + 2) * r**2 / (4 * count), rel=1e-9)


def test_anderson_darling_table() -> None:
    """Critical values of the case without estimated parameters (Stephens 1974, table 1): 2.492 at 5%, 3.857 at 1%."""
    from probseq.diagnostics.residual_tests import _anderson_darling_p

    assert _anderson_darling_p(2.492) == pytest.approx(0.05, abs=2e-4)
    assert _anderson_darling_p(3.857) == pytest.approx(0.01, abs=3e-4)
    values = np.random.default_rng(0).normal(size=50)
    u = np.sort(stats.norm.cdf(values))
    numbered = np.arange(1, 51)
    by_formula = -50 - np.mean((2 * numbered - 1) * np.log(u) + (101 - 2 * numbered) * np.log1p(-u))
    assert anderson_darling(values)[0] == pytest.approx(by_formula, rel=1e-12)


def test_bad_frames() -> None:
    with pytest.raises(DataError, match="column uniform"):
        residual_tests(pd.DataFrame({"a": [1.0]}))
    with pytest.raises(DataError, match="all finite, got 4 of which 1 infinite"):
        residual_tests(pd.DataFrame({"uniform": [0.1, 0.2, 0.3, 1.0], "normal": [0.0, 1.0, 2.0, np.inf]}))
