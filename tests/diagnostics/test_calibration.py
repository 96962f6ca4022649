"""Simulation-based calibration: an exact sampler passes, and each way of being wrong is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands
from scipy import stats

from probseq import HMM, DataError, Fit, FitError, MarkovChain, ModelError, Sequences, families
from probseq.chains import FixedInitial, FixedTransitions
from probseq.diagnostics import calibrate, ecdf_band, ecdf_p_value, simulate_from_prior
from probseq.diagnostics.calibration import Calibration, rank_of
from probseq.diagnostics.uniformity import POINTS, ecdf
from probseq.families.scale import InverseGamma
from probseq.inference.sampling import Sampling, rank_rhat, sampled_fit

A, B = 3.0, 0.5
PRIOR = dist.Gamma(torch.tensor(A).double(), torch.tensor(B).double())
MODEL = HMM(1, families.Poisson(), priors={"rate": PRIOR})
TEMPLATE = Sequences.from_arrays([[3.0, math.nan, 5.0, 4.0], [6.0, 2.0]])


def sampler(model, series: Sequences, seed: int, change: Callable[..., np.ndarray] | None = None) -> Fit:
    """Draws from Gamma(A + sum y, B + n), the posterior of one Poisson rate, written down; or what `change` makes."""
    seen = series.values[series.step_observed].numpy()
    shape, rate = A + seen.sum(), B + len(seen)
    draws = np.random.default_rng(seed).gamma(shape, 1.0 / rate, size=100)
    if change is not None:
        draws = change(draws, seed)
    density = stats.gamma.logpdf(draws, A, scale=1 / B) + stats.poisson.logpmf(seen[:, None], draws).sum(0)
    one = torch.ones(100, 1, dtype=torch.float64)
    parameters = {"initial": one, "transition": one.unsqueeze(-1), "rate": torch.from_numpy(draws).unsqueeze(-1)}
    sampling = Sampling(1, {"lp": torch.from_numpy(density).unsqueeze(0)})
    return sampled_fit(model, series, "exact", parameters, sampling, 0.0)


def narrow(draws: np.ndarray, seed: int) -> np.ndarray:
    return draws.mean() + 0.6 * (draws - draws.mean())


def shifted(draws: np.ndarray, seed: int) -> np.ndarray:
    return 1.15 * draws


def deaf(draws: np.ndarray, seed: int) -> np.ndarray:
    """The prior, whatever the data: its parameter ranks are uniform all the same (Modrák et al. 2023)."""
    return np.random.default_rng(seed).gamma(A, 1.0 / B, size=len(draws))


def run(change: Callable[..., np.ndarray] | None = None, simulations: int = 200, workers: int = 1) -> Calibration:
    with np.errstate(all="raise"):
        return calibrate(
            MODEL, TEMPLATE, partial(sampler, change=change), seed=1, simulations=simulations, workers=workers
        )


def test_an_exact_sampler_is_calibrated() -> None:
    found = run()
    assert list(found.ranks) == ["rate[0]", "log_likelihood", "log_joint"]  # what is fixed by K = 1 is no quantity
    assert found.table["inside_all"].all() and not found.failed
    # 4 binomial standard errors
    assert (abs(found.table["coverage"] - 0.9) < 4 * found.table["coverage_se"]).all()
    assert found.table.loc["rate[0]", "effective"] == pytest.approx(100, rel=0.3)  # independent draws


@pytest.mark.parametrize("change", [narrow, shifted])
def test_a_wrong_sampler_leaves_the_band(change: Callable[..., np.ndarray]) -> None:
    table = run(change).table
    assert not table.loc["rate[0]", "inside_all"]
    assert table.loc["rate[0]", "coverage"] < 0.9 - 3 * table.loc["rate[0]", "coverage_se"]


def test_a_sampler_that_ignores_the_data_is_found_by_their_likelihood_alone() -> None:
    table = run(deaf).table
    assert table.loc["rate[0]", "inside_all"]
    assert not table.loc["log_likelihood", "inside_all"]


@pytest.mark.slow  # ten seconds for two processes to import torch
def test_workers_make_no_difference() -> None:
    one, two = run(simulations=6), run(simulations=6, workers=2)
    np.testing.assert_array_equal(one.ranks, two.ranks)
    np.testing.assert_array_equal(one.truths, two.truths)


def test_an_interrupt_returns_what_there_is() -> None:
    calls = []

    def interrupted(model, series: Sequences, seed: int) -> Fit:
        calls.append(seed)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return sampler(model, series, seed)

    found = calibrate(MODEL, TEMPLATE, interrupted, seed=1, simulations=50, workers=1)
    assert len(found.ranks) == 5
    assert found.stop_reason == "interrupted after 5 of 50 simulations"


def test_failures_are_counted_and_what_did_not_mix_is_ranked() -> None:
    def troubled(model, series: Sequences, seed: int) -> Fit:
        if seed % 2:
            raise FitError("no start")
        fit = sampler(model, series, seed)
        stuck = {name: value[:1].expand_as(value).contiguous() for name, value in fit.draws.items()}
        drift = torch.linspace(0, 1, 100, dtype=torch.float64).unsqueeze(0)  # a density that never settles
        return sampled_fit(fit.model, series, "stuck", stuck, Sampling(1, {"lp": drift}), 0.0)

    with pytest.warns(UserWarning, match="simulations gave no draws: no start"):
        found = calibrate(MODEL, TEMPLATE, troubled, seed=1, simulations=12, workers=1)
    assert len(found.failed) + len(found.ranks) == 12 and 0 < len(found.ranks) < 12
    assert list(found.unmixed) == list(found.ranks.index)
    assert f"{len(found.failed)} failed, {len(found.unmixed)} did not mix" in str(found)


def test_no_simulation_that_can_be_fitted_is_an_error() -> None:
    def hopeless(model, series: Sequences, seed: int) -> Fit:
        raise FitError("no start")

    with pytest.raises(FitError, match="got none: no start"):
        calibrate(MODEL, TEMPLATE, hopeless, seed=1, simulations=2, workers=1)


# ---- what is simulated -----------------------------------------------------------------------------------------------


def test_simulations_have_the_template_shape_and_prior_moments() -> None:
    model = MODEL.bind(TEMPLATE, with_priors=True)
    runs = [simulate_from_prior(model, TEMPLATE, seed) for seed in range(400)]
    rates = np.array([float(parameters["rate"]) for parameters, _ in runs])
    assert stats.kstest(rates, stats.gamma(A, scale=1 / B).cdf).pvalue > 0.01
    _, series = runs[0]
    assert series.lengths.tolist() == [4, 2]
    assert series.step_observed.tolist() == TEMPLATE.step_observed.tolist()
    means = np.array([float(series.values[series.step_observed].mean()) for _, series in runs])
    # var(mean of 5 | rate) = rate / 5, so z has unit variance: 400 of them have a mean within 4 / 20
    assert abs(((means - rates) / np.sqrt(rates / 5)).mean()) < 0.2


def test_the_noise_in_the_data_knows_nothing_of_the_parameters() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    model = HMM(
        1, families.Gaussian(), priors={"loc": dist.Normal(0 * one, one), "scale": InverseGamma(50 * one, 49 * one)}
    )
    series = Sequences.from_arrays([[0.0, 1.0]])
    runs = [simulate_from_prior(model.bind(series, True), series, seed) for seed in range(300)]
    location = np.array([float(parameters["loc"]) for parameters, _ in runs])
    for step in range(2):
        noise = np.array([float(data.values[step]) for _, data in runs]) - location
        assert abs(np.corrcoef(location, noise)[0, 1]) < 4 / np.sqrt(300)  # four standard errors


def test_known_states_of_the_template_are_the_true_ones() -> None:
    series = Sequences.from_arrays([[0.0, 1.0, 0.0]], labels=[[1, -1, 0]])
    frozen = FixedTransitions(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    model = HMM(2, families.Bernoulli(), FixedInitial(torch.tensor([1.0, 0.0]).double()), frozen)
    _, found = simulate_from_prior(model.bind(series, True), series, 0)
    assert found.labels is not None and found.labels.tolist() == [0, -1, 0]


def program(series: Sequences) -> None:
    rate = pyro.sample("rate", PRIOR)
    one = torch.ones(1, dtype=torch.float64)
    state = pyro.sample("state", MarkovChain(one, one.unsqueeze(0), series.lengths))
    with pyro.plate("step", series.total_steps), pyro.poutine.mask(mask=series.step_observed):
        pyro.sample("y", dist.Poisson(rate.expand(1)[state]), obs=series.values)


def test_a_program_is_calibrated_as_the_model_that_it_is() -> None:
    def fit(model, series: Sequences, seed: int) -> Fit:
        assert model is program
        found = sampler(MODEL.bind(series), series, seed)
        return replace(found, draws={"rate": found.draws["rate"].squeeze(-1)})

    found = calibrate(program, TEMPLATE, fit, seed=2, simulations=30, workers=1)
    assert list(found.ranks) == ["rate", "log_joint"]
    assert (found.table["p_value"] > 0.005).all()


def test_a_program_of_two_observed_sites_needs_a_simulation_of_its_own() -> None:
    def two(series: Sequences) -> None:
        program(series)
        pyro.sample("more", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(ModelError, match="one observed site, shaped"):
        calibrate(two, TEMPLATE, sampler, seed=1, simulations=2)


def test_a_weighted_template_is_refused() -> None:
    with pytest.raises(DataError, match="no weights"):
        calibrate(MODEL, Sequences.from_arrays([[1.0, 2.0]], weights=[2.0]), sampler, seed=1, simulations=2)


# ---- ranks and bands -------------------------------------------------------------------------------------------------


def test_a_rank_stands_among_as_many_draws_as_are_effective() -> None:
    """Draws that move slowly count for few: the rank of a truth above them all is at least 1 - 1 / (few + 1)."""
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(size=20), 10).reshape(1, -1)
    found = rank_of(10.0, slow, rng)
    assert 10 < found.effective < 40 and not found.covered
    assert found.rank > 1 - 1 / 10
    assert rank_of(1.0, np.ones((1, 50)), rng).covered  # equal draws share their places


def test_the_exact_band_is_the_simulated_one_of_arviz() -> None:
    """arviz-stats finds the same gamma from 4,000 simulations; a count either way is its error."""
    for count in (100, 500):
        gamma = simulate_confidence_bands(count, 1, POINTS, 0.95, 4000, np.random.default_rng(0))
        lower, upper = get_pointwise_confidence_band(gamma, count, POINTS)
        band = ecdf_band(count)
        np.testing.assert_allclose(band.lower, lower, atol=1.001 / count)
        np.testing.assert_allclose(band.upper, upper, atol=1.001 / count)


def test_uniform_numbers_leave_the_band_as_often_as_they_should() -> None:
    values = np.random.default_rng(3).uniform(size=(4000, 60))
    band = ecdf_band(60, 0.9)
    curves = np.stack([ecdf(row) for row in values])
    inside = ((curves >= band.lower - 1e-12) & (curves <= band.upper + 1e-12)).all(1)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)  # 4 standard errors; counts make it a little more than 0.9
    p_values = np.array([ecdf_p_value(row) for row in values[:300]])
    assert ((p_values <= 0.1) == ~inside[:300]).all()


def test_few_and_extreme_numbers_have_p_values() -> None:
    assert ecdf_p_value(np.array([0.5])) == pytest.approx(1.0)
    assert ecdf_p_value(np.full(50, 0.999)) < 1e-12
    assert ecdf_p_value(np.zeros(50)) < 1e-12


def test_a_single_chain_has_an_r_hat() -> None:
    rng = np.random.default_rng(5)
    still, moving = rng.normal(size=(1, 200)), rng.normal(size=(1, 200)) + np.linspace(0, 3, 200)
    assert rank_rhat(torch.from_numpy(still)) < 1.05
    assert rank_rhat(torch.from_numpy(moving)) > 1.2


def test_the_figure_shows_each_quantity_and_marks_what_is_outside() -> None:
    from probseq import plots

    found = run(narrow, simulations=60)
    figure, grid = plots.figure(9, 6, 2, 2)
    panels = plots.rank_ecdfs(grid.ravel(), found)
    assert [axes.get_title(loc="left") for axes in panels] == list(found.ranks)
    curve, outside = panels[0].lines[1], panels[0].lines[2]
    share = (found.ranks["rate[0]"].to_numpy()[:, None] <= POINTS).mean(0)
    np.testing.assert_allclose(np.asarray(curve.get_ydata())[1:-1], share - POINTS, atol=1e-12)
    assert len(np.asarray(outside.get_xdata())) > 0
    assert not grid.ravel()[3].get_visible()
    figure.canvas.draw()
