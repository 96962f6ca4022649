"""Replicates and their statistics: by hand, in closed form, and for right and wrong models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from probseq import HMM, MarkovChain, Sequences, families
from probseq.diagnostics import decoding_uncertainty, predictive_check, replicates, standard_statistics
from probseq.diagnostics.dependence import autocorrelations, month_maxima, move_counts
from probseq.errors import DataError, ModelError
from probseq.models.program import ProgramModel
from tests.diagnostics.test_residuals import CASES, MOVES, fitted, numbers

POISSON = HMM(2, families.Poisson())
GAUSSIAN = HMM(2, families.Gaussian())


def test_replicates_follow_the_draws_and_the_gaps() -> None:
    """Two draws far apart: the first half of the replicates is of the first, the second of the other."""
    both = {name: torch.stack([one, one]) for name, one in MOVES.items()} | numbers(rate=[[1.0, 1.0], [100.0, 100.0]])
    series = Sequences.from_arrays([[1.0, 2.0, np.nan, 0.0], [3.0, 1.0]])
    fit = fitted(POISSON, numbers(rate=[1.0, 1.0]), both, series)
    drawn = replicates(fit, count=40, seed=1)
    assert drawn.shape == (40, 6) and np.isnan(drawn[:, 2]).all() and not np.isnan(np.delete(drawn, 2, 1)).any()
    assert np.nanmax(drawn[:20]) < 20 < 60 < np.nanmin(drawn[20:])
    np.testing.assert_array_equal(drawn, replicates(fit, count=40, seed=1))


def test_a_program_is_replicated_as_its_model_is() -> None:
    """Mean and variance of 400 replicates of a Gaussian model and of its program, within their sampling error."""
    parameters = CASES["gaussian"][1]
    series = Sequences.from_arrays([np.zeros(30)])
    found = [
        replicates(fitted(model, parameters, series=series), count=400, seed=2)
        for model in (GAUSSIAN, ProgramModel(GAUSSIAN.program).bind(series))
    ]
    # Stationary shares 2/3 and 1/3: mean 1, variance 2/3 + 1/12 + 2 = 2.75.
    for one in found:
        assert one.shape == (400, 30)
        assert one.mean() == pytest.approx(1.0, abs=0.1) and one.var() == pytest.approx(2.75, rel=0.1)


def test_an_autoregression_runs_freely() -> None:
    """One state: y_t = 1 + 0.5 y_t-1 + 2 e_t has mean 2 and variance 16/3; a gap stays one."""
    one = {"initial": torch.ones(1).double(), "transition": torch.ones(1, 1).double()}
    one |= numbers(intercept=[1.0], coefficients=[[0.5]], scale=[2.0])
    series = Sequences.from_arrays([np.where(np.arange(200) == 7, np.nan, 0.0), np.zeros(3)])
    drawn = replicates(fitted(HMM(1, families.Autoregression(1)), one), series, count=50, seed=3)
    assert drawn.shape == (50, 203) and np.isnan(drawn[:, 7]).all()
    assert np.nanmean(drawn) == pytest.approx(2.0, abs=0.2) and np.nanvar(drawn) == pytest.approx(16 / 3, rel=0.1)


def test_a_program_of_two_sites_is_refused() -> None:
    def program(series):
        state = pyro.sample("state", MarkovChain(MOVES["initial"], MOVES["transition"], series.lengths))
        loc = pyro.sample("loc", dist.Normal(0.0, torch.ones(2).double()).to_event(1))
        with pyro.plate("step", series.total_steps):
            pyro.sample("x", dist.Normal(loc[state], 1.0), obs=series.values)
            pyro.sample("y", dist.Normal(-loc[state], 1.0), obs=series.values)

    series = Sequences.from_arrays([[0.0, 1.0]])
    fit = fitted(ProgramModel(program).bind(series), numbers(loc=[0.0, 1.0]))
    fit = replace(fit, draws=numbers(loc=[[0.0, 1.0]]))
    with pytest.raises(ModelError, match="one observed site"):
        replicates(fit, series)


NOWHERE = {"dwell of a state that nobody visits": lambda y: np.nan}


def test_bands_and_p_values() -> None:
    """The mean of independent normal steps is normal itself; a constant is a tie at every replicate; names nest.

    What neither the data nor a replicate has is no statistic, inside or outside.
    """
    parameters = numbers(loc=[1.0, 1.0], scale=[2.0, 2.0])
    series = Sequences.from_arrays([np.full(25, 1.4)])
    table = predictive_check(
        fitted(GAUSSIAN, parameters),
        series,
        {"mean": np.mean, "constant": lambda y: 3.0, "end": lambda y: {"first": y[0], "last": y[-1]}} | NOWHERE,
        replicates=2000,
        seed=1,
    )
    assert table.index.tolist() == ["mean", "constant", "end first", "end last"]
    law = stats.norm(1.0, 2.0 / 5)
    for level in (0.05, 0.5, 0.95):  # three standard errors of a quantile of 2,000 draws
        assert table.loc["mean", f"q{level:g}"] == pytest.approx(law.ppf(level), abs=0.06)
    assert table.loc["mean", "p_value"] == pytest.approx(law.sf(1.4), abs=0.03) and table.loc["mean", "inside"]
    assert table.loc["constant", "p_value"] == 0.5 and table.loc["constant", "inside"]
    with pytest.raises(DataError, match="at least 20"):
        predictive_check(fitted(GAUSSIAN, parameters), series, replicates=19)


@pytest.mark.parametrize("name", ["gaussian", "hurdle-gamma", "categorical"])
def test_the_right_model_holds_and_one_without_regimes_does_not(name: str) -> None:
    """Of the true model nine statistics in ten lie inside on average; one that forgets its state misses dependence."""
    family, parameters = CASES[name]
    right = fitted(HMM(2, family), parameters)
    series = right.simulate([400, 100], seed=11)
    found = predictive_check(right, series.unlabelled(), replicates=100, seed=1)
    assert found["inside"].mean() > 0.75 and found["p_value"].between(0, 1).all()
    alone = fitted(HMM(2, family), parameters | {"transition": MOVES["initial"].expand(2, 2)})
    wrong = predictive_check(alone, series.unlabelled(), replicates=100, seed=1)
    telling = "moves 0 to 0" if name == "categorical" else "ACF of y, lag 1"
    assert found.loc[telling, "inside"] and not wrong.loc[telling, "inside"]
    assert wrong.loc[telling, "p_value"] < 0.05


def test_a_dated_series_has_its_months() -> None:
    family, parameters = CASES["hurdle-gamma"]
    fit = fitted(HMM(2, family), parameters)
    time = pd.date_range("2019-01-01", "2020-12-31", name="day")
    rain = np.where(np.arange(len(time)) == 40, np.nan, fit.simulate(len(time), seed=1).values.numpy())
    series = Sequences.from_arrays([rain], time=time)
    names = list(predictive_check(fit, series, replicates=20).index)
    months = [name for name in names if name.startswith("monthly")]
    assert len(months) == 24 and "monthly total Jan" in months and "monthly maximum Dec" in months
    assert "spells above 0, mean" in names and "state 1, mean dwell" in names


def test_angles_are_checked_around_the_circle() -> None:
    """Wind from the north, 350 and 20 degrees: its direction is 5 and not 185, of length cos(15), and twice cos(30).

    Alone or as one of two columns; the sines about 5 degrees are -s, s, so that lag 1 has correlation -1 and lag 2 1.
    """
    around = families.VonMises(360.0)
    angles = np.tile([350.0, 20.0], 30)
    parameters = numbers(loc=[5.0, 5.0], concentration=[20.0, 20.0])
    alone = predictive_check(fitted(HMM(2, around), parameters), Sequences.from_arrays([angles]), replicates=200)
    assert not [name for name in alone.index if "mean" in name and "direction" not in name and "dwell" not in name]
    expected = {"mean direction": 5.0, "resultant length": np.cos(np.pi / 12), "ACF, lag 1": -1.0, "ACF, lag 2": 1.0}
    for name, value in (expected | {"resultant length of doubled angles": np.cos(np.pi / 6)}).items():
        assert alone.loc[name, "observed"] == pytest.approx(value, abs=1e-9)
    # The mean of 60 directions of concentration 20 has the standard error 57.3 / sqrt(60 * 20 * 0.975) = 1.67 degrees.
    low, middle, high = alone.loc["mean direction", ["q0.05", "q0.5", "q0.95"]]
    assert middle == pytest.approx(5.0, abs=0.6) and high - low == pytest.approx(2 * 1.645 * 1.67, rel=0.25)
    both = HMM(2, families.Product((families.Gaussian(), around)))
    parameters = numbers(x0_loc=[0.0, 0.0], x0_scale=[1.0, 1.0], x1_loc=[5.0, 5.0], x1_concentration=[20.0, 20.0])
    series = Sequences.from_arrays([np.stack([np.zeros(60), np.where(np.arange(60) == 7, np.nan, angles)], 1)])
    table = predictive_check(replace(fitted(both, parameters), columns=series.columns), series, replicates=20)
    assert table.loc[f"{series.columns[1]}: mean direction", "observed"] == pytest.approx(5.0, abs=0.5)
    assert f"{series.columns[0]}: mean" in table.index and f"{series.columns[1]}: mean" not in table.index


def test_columns_are_told_apart() -> None:
    family = families.Independent(families.Poisson())
    fit = replace(fitted(HMM(2, family), numbers(rate=[[1.0, 9.0], [5.0, 2.0]])), columns=("a", "b"))
    series = fit.simulate(60, seed=2).unlabelled()
    found = standard_statistics(fit, series) | {"a above b": lambda y: float(np.mean(y[:, 0] > y[:, 1]))}
    table = predictive_check(fit, series, found, replicates=20)
    assert {"a: mean", "b: ACF of y, lag 2", "state 0, share", "a above b"} <= set(table.index)


def test_autocorrelation_by_hand() -> None:
    """1, -, 2, 3 | 6: mean 3; deviations -2, -, -1, 0 | 3, mean square 14/4; one pair at lag 1, of product 0."""
    values = np.array([1.0, np.nan, 2.0, 3.0, 6.0])
    found = autocorrelations(values, [4, 1], [1, 2, 3, 4])
    np.testing.assert_allclose(found, [0.0, (2.0) / 3.5, 0.0, np.nan])
    assert np.isnan(autocorrelations(np.ones(4), [4], [1])).all()


def test_counts_and_extremes_by_hand() -> None:
    assert move_counts(np.array([0.0, 1.0, 0.0, 1.0]), [2, 2], 2).tolist() == [[0, 2], [0, 0]]
    time = pd.DatetimeIndex(["2020-01-05", "2020-01-06", "2020-02-01", "2021-01-01"])
    found = month_maxima(time, np.array([1.0, 5.0, np.nan, 2.0]))[0]
    assert found[2020, 1] == 5.0 and found[2021, 1] == 2.0 and (2020, 2) not in found.index


def test_uncertainty_of_decoding_is_averaged() -> None:
    """Two draws against each one's own posterior; one draw against the record itself."""
    other = numbers(rate=[2.0, 4.0])
    both = {name: torch.stack([one, other.get(name, one)]) for name, one in (MOVES | CASES["poisson"][1]).items()}
    series = Sequences.from_arrays([[0.0, 7.0, np.nan, 2.0], [5.0, 6.0]], ids=["x", "y"])
    fit = fitted(POISSON, CASES["poisson"][1], both, series)
    found = decoding_uncertainty(fit)
    laws = [POISSON.posterior({name: one[s] for name, one in both.items()}, series) for s in range(2)]
    mean = (laws[0].smoothed + laws[1].smoothed) / 2
    np.testing.assert_allclose(found.steps[["probability_0", "probability_1"]], mean, rtol=1e-12)
    np.testing.assert_allclose(found.steps["entropy"], torch.special.entr(mean).sum(-1), rtol=1e-12)
    change = (laws[0].change_probability + laws[1].change_probability) / 2
    np.testing.assert_allclose(found.steps["change"], change, rtol=1e-12)
    agreement = ((laws[1].viterbi == laws[0].viterbi).double() + 1) / 2
    np.testing.assert_allclose(found.steps["agreement"], agreement)
    assert found.sequences.index.tolist() == ["x", "y"]
    np.testing.assert_allclose(found.sequences["entropy"], (laws[0].entropy + laws[1].entropy) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.sequences["changes"], [change[:4].sum(), change[4:].sum()], rtol=1e-12)
    assert (found.steps["entropy"] >= found.steps["entropy_within"] - 1e-12).all()  # entropy is concave
