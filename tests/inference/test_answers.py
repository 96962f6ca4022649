"""Decoding, forecasts and simulation of a fit, against scipy, brute force and the definition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats

from probseq import HMM, DataError, Fit, Sequences, families
from probseq.inference.fit import as_draws

DAYS = pd.date_range("2024-02-26", periods=6, name="day")


def fit_at(family, emission: dict, columns=("value",), categories=None) -> Fit:
    """A fit with given parameters, as no fit would find them."""
    parameters = {
        "initial": torch.tensor([0.7, 0.3], dtype=torch.float64),
        "transition": torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64),
        **{name: torch.tensor(value, dtype=torch.float64) for name, value in emission.items()},
    }
    return Fit(
        model=HMM(2, family),
        parameters=parameters,
        draws=as_draws(parameters),
        method="em",
        with_priors=False,
        log_likelihood=0.0,
        observations=6,
        n_parameters=5,
        objective=torch.zeros(1, dtype=torch.float64),
        converged=True,
        stop_reason="given",
        seconds=0.0,
        fingerprint="",
        columns=columns,
        categories=categories,
    )


CASES = {
    "gaussian": (
        families.Gaussian(),
        {"loc": [-1.0, 2.0], "scale": [0.5, 1.5]},
        [0.1, -0.7, 2.0, 3.1, -1.0, -0.5],
        [stats.norm(-1.0, 0.5), stats.norm(2.0, 1.5)],
    ),
    "poisson": (
        families.Poisson(),
        {"rate": [1.0, 7.0]},
        [0.0, 1.0, 8.0, 5.0, 2.0, 1.0],
        [stats.poisson(1.0), stats.poisson(7.0)],
    ),
    "student-t": (
        families.StudentT(),
        {"df": [3.0, 8.0], "loc": [-1.0, 2.0], "scale": [0.5, 1.5]},
        [0.1, -0.7, 2.0, 3.1, -1.0, -0.5],
        [stats.t(3.0, -1.0, 0.5), stats.t(8.0, 2.0, 1.5)],
    ),
}
GAMMA = {"nonzero": [0.2, 0.9], "concentration": [0.7, 2.0], "rate": [1.0, 0.25]}


def filtered_by_hand(fit: Fit, table: np.ndarray) -> np.ndarray:
    """(T, K) p(z_t | x_1..t) by Bayes' rule, a step at a time."""
    law, transition = fit.parameters["initial"].numpy(), fit.parameters["transition"].numpy()
    result = []
    for row in table:
        law = law * row / (law * row).sum()
        result.append(law)
        law = law @ transition
    return np.array(result)


def states_ahead(fit: Fit, last: np.ndarray, horizon: int) -> np.ndarray:
    transition = fit.parameters["transition"].numpy()
    return np.array([last @ np.linalg.matrix_power(transition, h) for h in range(1, horizon + 1)])


@pytest.mark.parametrize("name", CASES)
def test_forecast_is_the_exact_mixture(name):
    family, emission, values, laws = CASES[name]
    fit = fit_at(family, emission)
    frame = pd.DataFrame({"value": values}, index=DAYS).reset_index()
    series = Sequences.from_frame(frame, "value", time="day")
    found = fit.forecast(series, 4, quantiles=(0.01, 0.5, 0.9))
    assert list(found.columns) == ["mean", "q0.01", "q0.5", "q0.9", "probability_0", "probability_1"]
    assert found.index.equals(pd.date_range("2024-03-03", periods=4, name="day")) and found.index.name == "day"
    density = laws[0].pmf if family.discrete else laws[0].pdf
    other = laws[1].pmf if family.discrete else laws[1].pdf
    last = filtered_by_hand(fit, np.stack([density(np.array(values)), other(np.array(values))], 1))[-1]
    weights = states_ahead(fit, last, 4)
    np.testing.assert_allclose(found[["probability_0", "probability_1"]], weights, rtol=1e-12)
    np.testing.assert_allclose(found["mean"], weights @ [law.mean() for law in laws], rtol=1e-12)
    for quantile, row in itertools.product((0.01, 0.5, 0.9), range(4)):

        def cdf(x: float, row: int = row) -> float:
            return float(weights[row] @ [law.cdf(x) for law in laws])

        value = found[f"q{quantile:g}"].iloc[row]
        if family.discrete:
            # The smallest whole number with P(X <= x) >= q.
            assert value == round(value) and cdf(value) >= quantile > cdf(value - 1)
        else:
            exact = optimize.brentq(lambda x: cdf(x) - quantile, -100, 100, xtol=1e-12)  # noqa: B023
            assert value == pytest.approx(exact, abs=1e-8)


def test_forecast_of_rain_with_its_atom_at_zero():
    fit = fit_at(families.Hurdle(families.Gamma()), GAMMA)
    series = Sequences.from_arrays([0.0, 0.0, 3.0, 8.0, 0.0, 1.0])
    quantiles = (0.05, 0.3, 0.5, 0.8, 0.99)
    found = fit.forecast(series, 3, quantiles=quantiles)
    weights = found[["probability_0", "probability_1"]].to_numpy()
    gammas = [stats.gamma(a, scale=1 / b) for a, b in zip(GAMMA["concentration"], GAMMA["rate"], strict=True)]
    for row in range(3):
        wet = weights[row] * GAMMA["nonzero"]
        for quantile in quantiles:
            value = found[f"q{quantile:g}"].iloc[row]
            if quantile <= 1 - wet.sum():
                assert value == 0.0
            else:
                total = 1 - wet.sum() + wet @ [law.cdf(value) for law in gammas]
                assert total == pytest.approx(quantile, abs=1e-9)
        assert found["mean"].iloc[row] == pytest.approx(wet @ [law.mean() for law in gammas], rel=1e-12)
    # The same by brute force: 40,000 paths run on from the last filtered state; 5 standard errors of the wet share.
    rng = np.random.default_rng(0)
    state = (rng.random(40_000) < weights[0, 1]).astype(int)
    for row in range(3):
        wet = rng.random(40_000) < np.array(GAMMA["nonzero"])[state]
        share = 1 - float((found[[f"q{q:g}" for q in quantiles]].iloc[row] == 0).mean())
        exact = float(weights[row] @ GAMMA["nonzero"])
        assert abs(wet.mean() - exact) < 5 * (exact * (1 - exact) / 40_000) ** 0.5 and 0 <= share <= 1
        state = (rng.random(40_000) < fit.parameters["transition"].numpy()[state, 1]).astype(int)


def test_forecast_of_several_sequences_is_each_by_itself():
    family, emission, values, _ = CASES["gaussian"]
    fit = fit_at(family, emission)
    frame = pd.DataFrame({"value": values + values[:3], "station": ["A"] * 6 + ["B"] * 3, "t": [*range(6), *range(3)]})
    both = Sequences.from_frame(frame, "value", group="station", time="t")
    found = fit.forecast(both, 2)
    assert list(found["station"]) == ["A", "A", "B", "B"] and list(found.index) == [6, 7, 3, 4]
    for number, name in enumerate("AB"):
        alone = fit.forecast(both.take([number]), 2)
        # Quantiles are bisected to 1e-12 of themselves.
        np.testing.assert_allclose(found[found["station"] == name].drop(columns="station"), alone, rtol=1e-11)


def test_forecast_after_a_gap_starts_from_what_was_seen():
    """A missing last step moves the state law on once more."""
    family, emission, values, _ = CASES["gaussian"]
    fit = fit_at(family, emission)
    gap = fit.forecast(Sequences.from_arrays([*values, np.nan]), 2)
    whole = fit.forecast(Sequences.from_arrays(values), 3)
    np.testing.assert_allclose(gap.to_numpy(), whole.to_numpy()[1:], rtol=1e-12)


def test_forecast_averages_over_draws():
    """Two draws of the rates: the mixture of the mixtures."""
    family, emission, values, _ = CASES["poisson"]
    ones = [fit_at(family, emission), fit_at(family, {"rate": [2.0, 20.0]})]
    draws = {name: torch.cat([one.draws[name] for one in ones]) for name in ones[0].draws}
    both, series = replace(ones[0], draws=draws), Sequences.from_arrays(values)
    found, parts = both.forecast(series, 2), [one.forecast(series, 2) for one in ones]
    np.testing.assert_allclose(found["mean"], (parts[0]["mean"] + parts[1]["mean"]) / 2, rtol=1e-12)
    for row in range(2):
        q, cdf = found["q0.95"].iloc[row], []
        for part, rates in zip(parts, ((1.0, 7.0), (2.0, 20.0)), strict=True):
            weights = part[["probability_0", "probability_1"]].iloc[row].to_numpy()
            cdf.append([weights @ stats.poisson.cdf(x, rates) for x in (q, q - 1)])
        reached, before = np.mean(cdf, axis=0)
        assert reached >= 0.95 > before
    scores = [one.log_prob(series) for one in ones]
    torch.testing.assert_close(both.log_prob(series), torch.stack(scores).exp().mean(0).log())
    steps = torch.stack([one.predictive_log_prob(series) for one in ones])
    torch.testing.assert_close(both.predictive_log_prob(series), steps.exp().mean(0).log())


def test_forecast_of_symbols_and_of_vectors():
    law = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    symbols = fit_at(families.Categorical(3), {"probabilities": law}, categories=("a", "b", "c"))
    series = Sequences(torch.tensor([0, 2, 2, 1], dtype=torch.uint8), torch.tensor([4]), categories=("a", "b", "c"))
    found = symbols.forecast(series, 2)
    assert list(found.columns) == ["p(a)", "p(b)", "p(c)", "probability_0", "probability_1"]
    weights = found[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(found[["p(a)", "p(b)", "p(c)"]], weights @ law, rtol=1e-12)
    emission = {"loc": [[0.0, 1.0], [4.0, -1.0]], "scale": [[1.0, 1.0], [2.0, 1.0]]}
    vectors = fit_at(families.MultivariateGaussian("diagonal"), emission, columns=("wind", "rain"))
    table = Sequences.from_arrays(np.array([[0.1, 0.9], [3.0, -1.0]]), columns=["wind", "rain"])
    found = vectors.forecast(table, 2)
    assert list(found.columns) == ["mean_wind", "mean_rain", "probability_0", "probability_1"]
    weights = found[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(found[["mean_wind", "mean_rain"]], weights @ emission["loc"], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"horizon": 2, "quantiles": (0.5, 1.0)}, "between 0 and 1, got 1.0"),
        ({"horizon": 2, "quantiles": (0.0,)}, "between 0 and 1, got 0.0"),
    ],
)
def test_bad_questions(options, message):
    family, emission, values, _ = CASES["poisson"]
    with pytest.raises(DataError, match=message):
        fit_at(family, emission).forecast(Sequences.from_arrays(values), **options)


# ---- decoding ------------------------------------------------------------------------------------------------------


def test_decode_keeps_the_data_and_the_index():
    family, emission, values, laws = CASES["gaussian"]
    fit = fit_at(family, emission, columns=("level",))
    frame = pd.DataFrame({"level": [*values, np.nan, 0.5], "day": pd.date_range("2024-02-26", periods=8)})
    series = Sequences.from_frame(frame, "level", time="day")
    found = fit.decode(series)
    assert found.index.equals(pd.DatetimeIndex(frame["day"]))
    assert list(found.columns) == [
        *("level", "state", "local", "probability_0", "probability_1", "filtered_0", "filtered_1", "log_predictive")
    ]
    np.testing.assert_array_equal(found["level"], frame["level"])
    table = np.stack([law.pdf(frame["level"].to_numpy()) for law in laws], 1)
    table[6] = 1.0
    np.testing.assert_allclose(found[["filtered_0", "filtered_1"]], filtered_by_hand(fit, table), rtol=1e-10)
    assert found["log_predictive"].iloc[6] == pytest.approx(0.0, abs=1e-14)
    assert found["log_predictive"].sum() == pytest.approx(float(fit.log_prob(series)), abs=1e-10)
    best = max(itertools.product((0, 1), repeat=8), key=lambda path: joint(fit, table, path))
    assert tuple(found["state"]) == best
    assert (found["local"] == (found["probability_1"] > 0.5)).all()
    np.testing.assert_allclose(found[["probability_0", "probability_1"]].sum(axis=1), 1.0, rtol=1e-12)


def joint(fit: Fit, table: np.ndarray, path: tuple[int, ...]) -> float:
    law, transition = fit.parameters["initial"].numpy(), fit.parameters["transition"].numpy()
    moves = np.prod([transition[i, j] for i, j in zip(path, path[1:], strict=False)])
    return float(law[path[0]] * moves * np.prod([row[k] for row, k in zip(table, path, strict=True)]))


def test_decode_of_groups_keeps_their_names():
    family, emission, values, _ = CASES["poisson"]
    fit = fit_at(family, emission)
    frame = pd.DataFrame({"value": values, "station": ["A", "A", "B", "B", "B", "B"]})
    found = fit.decode(Sequences.from_frame(frame, "value", group="station"))
    assert len(found) == 6
    flat = found.reset_index()
    assert flat["station"].tolist() == frame["station"].tolist()


def test_decoding_what_the_model_makes_impossible_names_the_step():
    law = [[0.5, 0.5, 0.0], [0.1, 0.9, 0.0]]
    fit = fit_at(families.Categorical(3), {"probabilities": law}, categories=("a", "b", "c"))
    series = Sequences(torch.tensor([0, 1, 2, 1], dtype=torch.uint8), torch.tensor([1, 3]), categories=("a", "b", "c"))
    assert torch.isneginf(fit.log_prob(series)).tolist() == [False, True]
    with pytest.raises(DataError, match=r"probability zero at step 1 \(from 0\) of sequence 1 \(from 0\)"):
        fit.decode(series)


# ---- simulation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_simulation_follows_the_model(name):
    """States, moves and values of 200 series of 50 steps, within 5 standard errors."""
    family, emission, _, laws = CASES[name]
    fit = fit_at(family, emission)
    drawn = fit.simulate([50] * 200, seed=5, labelled=True)
    assert drawn.lengths.tolist() == [50] * 200 and drawn.columns == ("value",)
    assert drawn.labels is not None
    states, values = drawn.labels.reshape(200, 50).numpy(), drawn.values.reshape(200, 50).numpy()
    assert abs((states[:, 0] == 0).mean() - 0.7) < 5 * (0.7 * 0.3 / 200) ** 0.5
    for i, chance in enumerate((0.1, 0.8)):
        came = states[:, :-1] == i
        share, count = (states[:, 1:][came] == 1).mean(), came.sum()
        assert abs(share - chance) < 5 * (chance * (1 - chance) / count) ** 0.5
    for k, law in enumerate(laws):
        mine = values[states == k]
        assert abs(mine.mean() - law.mean()) < 5 * mine.std() / len(mine) ** 0.5


def test_simulation_is_seeded_and_leaves_the_generator_alone(case):
    parameters = case.truth
    fit = fit_at(families.Poisson(), {"rate": [1.0, 7.0]})
    fit = replace(fit, model=case.model, parameters=parameters, draws=as_draws(parameters), columns=case.series.columns)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one, same, other = (fit.simulate([50, 30], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(one.values, same.values) and not torch.equal(one.values, other.values)
    assert one.values.shape == (80, *case.series.values.shape[1:])
    case.model.check(one)
    assert torch.isfinite(fit.log_prob(one)).all()


def test_simulated_symbols_are_symbols():
    law = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    fit = fit_at(families.Categorical(3), {"probabilities": law}, categories=("a", "b", "c"))
    drawn = fit.simulate(9, seed=0)
    assert drawn.labels is None  # a fit would honour them
    assert drawn.values.dtype == torch.uint8 and drawn.categories == ("a", "b", "c")


def test_lengths_must_be_at_least_one():
    family, emission, _, _ = CASES["poisson"]
    for lengths in (0, [], [3, 0]):
        with pytest.raises(DataError, match="lengths must be at least 1 each"):
            fit_at(family, emission).simulate(lengths, seed=0)
