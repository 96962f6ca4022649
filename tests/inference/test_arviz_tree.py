"""Fits as ArviZ trees: what the groups hold, and that ArviZ's own functions take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray

from probseq import HMM, FitError, MarkovChain, Sequences, families
from probseq.inference import Fit, Sampling, em
from probseq.models.program import ProgramModel
from tests.diagnostics.conftest import concentrated, made_fit
from tests.diagnostics.test_relabelling import MODELS

POINT = {
    "initial": torch.tensor([0.6, 0.4], dtype=torch.float64),
    "transition": torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64),
    "rate": torch.tensor([2.0, 9.0], dtype=torch.float64),
}
COUNTS = [1, 2, 3, 9, 8, 11, 10, 2, 1, 0, 2, 7, 9, 2, 2, 3, 1, 0, 9, 12]


def counts_fit(series: Sequences, draws: int = 80, chains: int = 4) -> Fit:
    model = HMM(2, families.Poisson()).bind(series, with_priors=True)
    fit = made_fit(model, series, concentrated(POINT, draws, 0.1), chains)
    generator = torch.Generator().manual_seed(0)
    shape = (chains, draws // chains)
    statistics = {
        "lp": torch.randn(shape, generator=generator, dtype=torch.float64),
        "energy": torch.randn(shape, generator=generator, dtype=torch.float64),
        "diverging": torch.rand(shape, generator=generator) < 0.1,
        "step_size": torch.full(shape, 0.3, dtype=torch.float64),
        "tree_depth": torch.randint(1, 5, shape, generator=generator),
        "n_steps": torch.randint(1, 31, shape, generator=generator),
        "acceptance_rate": torch.rand(shape, generator=generator, dtype=torch.float64),
    }
    warmup = {name: value[: 2 * chains].unflatten(0, (chains, 2)) for name, value in fit.draws.items()}
    tuned = {name: value[:, :2] for name, value in statistics.items()}
    return replace(fit, sampling=Sampling(chains, statistics, warmup, tuned, "stephens"))


@pytest.fixture(name="fit", scope="module")
def _fit() -> Fit:
    return counts_fit(Sequences.from_arrays([COUNTS], time=pd.date_range("2001-01-01", periods=20, freq="D")))


@pytest.fixture(name="tree", scope="module")
def _tree(fit: Fit) -> Any:
    return fit.to_arviz(prior_draws=60)


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_groups_axes_and_values(fit: Fit, tree: Any) -> None:
    assert sorted(tree.children) == [
        "log_likelihood",
        "observed_data",
        "posterior",
        "posterior_predictive",
        "prior",
        "prior_predictive",
        "sample_stats",
        "warmup_posterior",
        "warmup_sample_stats",
    ]
    assert tree.posterior["transition"].dims == ("chain", "draw", "state", "state_to")
    assert tree.posterior["rate"].dims == tree.warmup_posterior["rate"].dims == ("chain", "draw", "state")
    assert np.array_equal(tree.posterior["rate"], fit.draws["rate"].reshape(4, 20, 2).numpy())
    assert tree.sample_stats["diverging"].dtype == bool
    assert set(tree.sample_stats) == set(tree.warmup_sample_stats) == set(fit.sampling.statistics)  # type: ignore
    assert tree.prior["transition"].shape == (1, 60, 2, 2)
    assert tree.posterior_predictive["y"].shape == (4, 20, 20) and tree.prior_predictive["y"].shape == (1, 60, 20)
    assert tree.observed_data["y"].values.tolist() == COUNTS and tree.observed_data["y"].dtype == np.int64
    assert tree.observed_data["time"].values[3] == np.datetime64("2001-01-04")
    assert tree.attrs["relabelled"] == "stephens" and tree.attrs["inference_library"] == "probseq"


def test_log_likelihood_is_that_of_a_step_given_the_others(fit: Fit, tree: Any) -> None:
    """log p(y) - log p(y without y_t), of a series in which step t is missing."""
    series = fit.data()
    for number, draw in ((0, (0, 0)), (33, (1, 13))):
        parameters = {name: value[number] for name, value in fit.draws.items()}
        whole = float(fit.model.log_prob(parameters, series))
        for step in (0, 7, 19):
            observed = torch.arange(20) != step
            rest = float(fit.model.log_prob(parameters, replace(series, observed=observed)))
            found = float(tree.log_likelihood["y"][(*draw, step)])
            assert found == pytest.approx(whole - rest, rel=1e-11)


def test_replicas_follow_the_law_of_the_model(fit: Fit) -> None:
    """The mean of each step under sum_k p(z_t = k) rate_k, and the share of steps that move, to five errors."""
    draws = {name: value.expand(4000, *value.shape).clone() for name, value in POINT.items()}
    tree = made_fit(fit.model, fit.data(), draws).to_arviz(prior_draws=0)
    assert "prior" not in tree.children
    replicas, law = tree.posterior_predictive["y"].values[0], POINT["initial"]
    for step in range(20):
        error = replicas[:, step].std() / 4000**0.5
        assert abs(replicas[:, step].mean() - float(law @ POINT["rate"])) < 5 * error
        law = law @ POINT["transition"]
    far = replicas > 5.5  # few counts of either state are on the other's side
    stays = (far[:, 10] == far[:, 11]).mean()
    assert 0.7 < stays < 0.9  # 0.81 expected; 0.58 were the steps independent


def test_prior_draws_are_from_the_prior(fit: Fit) -> None:
    """The mean of each rate's prior, to five errors; rows of probabilities are even on average."""
    tree = fit.to_arviz(prior_draws=600, predictive_draws=0)
    assert "log_likelihood" not in tree.children and "posterior_predictive" not in tree.children
    law = fit.model.priors["rate"]  # type: ignore[union-attr]
    rates = tree.prior["rate"].values
    assert abs(rates.mean() - float(law.mean)) < 5 * float(law.variance) ** 0.5 / 1200**0.5
    assert np.allclose(tree.prior["transition"].mean(("chain", "draw")), 0.5, atol=0.05)


def test_missing_steps_and_several_sequences() -> None:
    nan = float("nan")
    times = pd.Index([2001, 2002, 2003, 2001, 2002])
    series = Sequences.from_arrays([[1.0, nan, 3.0], [9.0, 8.0]], ids=["north", "south"], time=times)
    tree = counts_fit(series, 16, 2).to_arviz(prior_draws=2)
    observed = tree.observed_data["y"]
    assert observed.values[[0, 2, 3]].tolist() == [1.0, 3.0, 9.0] and np.isnan(observed.values[1])
    assert observed["time"].values.tolist() == [0, 1, 2, 3, 4]  # the years are not one step's alone
    assert observed["timestamp"].values.tolist() == times.tolist()
    assert observed["sequence"].values.tolist() == ["north"] * 3 + ["south"] * 2
    assert tree.log_likelihood["y"]["time"].values.tolist() == [0, 2, 3, 4]
    assert np.isfinite(tree.posterior_predictive["y"]).all()


@pytest.mark.parametrize("index", ["dates", "zoned", "periods", "text", "years", "none"])
def test_netcdf_keeps_everything(index: str, tmp_path: Path) -> None:
    dates = pd.date_range("2001-01-01", periods=20, freq="D")
    times = {
        "dates": dates,
        "zoned": dates.tz_localize("Asia/Tokyo"),
        "periods": pd.period_range("2001-01", periods=20, freq="M"),
        "text": pd.Index([f"day {n:02d}" for n in range(20)]),
        "years": pd.RangeIndex(1900, 1920),
        "none": None,
    }
    tree = counts_fit(Sequences.from_arrays([COUNTS], time=times[index]), 16).to_arviz(prior_draws=3)
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    with xarray.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as back:
        xarray.testing.assert_equal(back.load(), tree)
        assert back.attrs == tree.attrs


# ---- what ArviZ makes of it ------------------------------------------------------------------------------------------

RATE = {"var_names": ["rate"]}
STATISTICS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["summary", "ess", "rhat", "mcse", "hdi", "eti", "mean", "median", "mode", "qds", "kde"], {}),
    **dict.fromkeys(
        ["histogram", "bfmi", "loo", "loo_pit", "loo_expectations", "loo_metrics", "loo_score", "thin"], {}
    ),
}
PLOTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["plot_autocorr", "plot_convergence_dist", "plot_dist", "plot_ess", "plot_ess_evolution"], RATE),
    **dict.fromkeys(["plot_forest", "plot_mcse", "plot_pair", "plot_parallel", "plot_prior_posterior"], RATE),
    **dict.fromkeys(["plot_rank", "plot_rank_dist", "plot_ridge", "plot_trace", "plot_trace_dist"], RATE),
    **dict.fromkeys(["plot_energy", "plot_loo_pit", "plot_ppc_dist", "plot_ppc_interval", "plot_ppc_pit"], {}),
    **dict.fromkeys(["plot_ppc_rootogram", "plot_ppc_tstat"], {}),
    "plot_pair_focus": {**RATE, "focus_var": "rate", "focus_var_coords": {"state": 0}},
}


def old_xarray_wanted() -> bool:
    """Whether xarray refuses Dataset(Dataset), which some plots of arviz-plots 0.8.0 do with any data."""
    try:
        xarray.Dataset(xarray.Dataset())
    except TypeError:
        return True
    return False


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")  # draws made by hand are no posterior
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_run(name: str, tree: Any) -> None:
    import arviz_stats

    assert getattr(arviz_stats, name)(tree, **STATISTICS[name]) is not None


@pytest.mark.filterwarnings("ignore:Detected at least one discrete variable")  # ArviZ has other plots for counts
@pytest.mark.parametrize("name", PLOTS)
def test_plots_run(name: str, tree: Any) -> None:
    import arviz_plots

    if name in ("plot_rank_dist", "plot_trace_dist") and old_xarray_wanted():
        pytest.xfail("arviz-plots 0.8.0 does not work with this xarray, whatever the data")
    function: Callable[..., Any] = getattr(arviz_plots, name)
    assert function(tree, backend="matplotlib", **PLOTS[name]) is not None


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, in arviz-stats
def test_models_are_compared(fit: Fit, tree: Any) -> None:
    """A worse model is second; and the plots of the comparison run."""
    import arviz_plots
    import arviz_stats

    series = fit.data()
    one = HMM(1, families.Poisson()).bind(series, with_priors=True)
    point = {name: torch.ones((1,) * n, dtype=torch.float64) for name, n in (("initial", 1), ("transition", 2))}
    rate = torch.tensor([4.7], dtype=torch.float64)
    worse = made_fit(one, series, concentrated(point | {"rate": rate}, 80, 0.1), 4).to_arviz(prior_draws=0)
    table = arviz_stats.compare({"two": tree, "one": worse})
    assert list(table.index) == ["two", "one"] and (table["elpd_diff"].abs() > 5).iloc[1]
    arviz_plots.plot_compare(table, backend="matplotlib")
    arviz_plots.plot_khat(arviz_stats.loo(tree, pointwise=True), backend="matplotlib")


# ---- every kind of fit -----------------------------------------------------------------------------------------------


def test_a_point_is_one_draw() -> None:
    series = Sequences.from_arrays([COUNTS])
    tree = em(HMM(2, families.Poisson()), series, restarts=1).to_arviz()
    assert sorted(tree.children) == ["log_likelihood", "observed_data", "posterior", "posterior_predictive"]
    assert dict(tree.posterior.sizes) == {"chain": 1, "draw": 1, "state": 2, "state_to": 2}


def weather(series: Sequences) -> None:
    """Two observed sites that share a state, with one number that has no state."""
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(2, dtype=torch.float64)))
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2, dtype=torch.float64)).to_event(1))
    wet = pyro.sample("wet", dist.Beta(1.0, 1.0).expand([2]).to_event(1))
    level = pyro.sample("level", dist.Normal(15.0, 10.0).expand([2]).to_event(1))
    width = pyro.sample("width", dist.Gamma(2.0, 1.0))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("rain", dist.Bernoulli(wet[state].double()), obs=(series.values > 3).double())
        pyro.sample("degrees", dist.Normal(level[state].double(), width.double()), obs=series.values)


def test_a_program_has_it_all() -> None:
    series = Sequences.from_arrays([[float(count) for count in COUNTS]])
    point = {name: POINT[name] for name in ("initial", "transition")}
    point |= {"wet": torch.tensor([0.1, 0.8]), "level": torch.tensor([2.0, 9.0]), "width": torch.tensor(2.0)}
    draws = {name: value.double() for name, value in concentrated(point, 12, 0.05).items()}
    tree = made_fit(ProgramModel(weather).bind(series), series, draws, 2).to_arviz(prior_draws=5)
    assert tree.posterior["level"].dims == ("chain", "draw", "state") and tree.posterior["width"].dims == SAMPLES
    assert tree.prior["transition"].dims == ("chain", "draw", "state", "state_to")
    for group in ("posterior_predictive", "prior_predictive"):
        assert tree[group]["rain"].dims == tree[group]["degrees"].dims == (*SAMPLES, "time")
    assert tree.observed_data["rain"].values.tolist() == [int(count > 3) for count in COUNTS]
    assert tree.log_likelihood["step"].dims == (*SAMPLES, "time")  # of both sites together


SAMPLES = ("chain", "draw")
LABELLED = {
    "logit": {"transition_coefficients": ["state", "other_state", "transition_term"]},
    "second order": {"initial": ["recent_states"], "transition": ["state_1_before", "state", "state_to"]},
    "free durations": {"duration": ["state", "segment_steps"]},
    "autoregression": {"coefficients": ["state", "lag"], "scale": []},
    "mixture": {"weights": ["state", "component"], "loc": ["state", "component"]},
    "regression": {"loc_coefficients": ["state", "term"]},
    "tied": {"loc": ["state", "column"], "scale_tril": ["column", "column_to"]},
    "full": {"loc": ["state", "column"], "scale_tril": ["state", "column", "column_to"]},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_names_for_its_axes(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    columns = 2 if MODELS[name].emission.event_dim else 1
    values = torch.randn(12, columns, generator=generator, dtype=torch.float64).squeeze(-1)
    series = Sequences.from_arrays([values[:7], values[7:]])
    model = MODELS[name].bind(series, with_priors=True)
    each = [model.start(series, attempt, 0) for attempt in range(4)]
    draws = {site: torch.stack([one[site] for one in each]) for site in each[0]}
    tree = made_fit(model, series, draws, 2).to_arviz(prior_draws=3)
    for site, axes in LABELLED.get(name, {}).items():
        assert list(tree.posterior[site].dims[2:]) == axes
        assert list(tree.prior[site].dims[2:]) == axes
    assert tree.posterior_predictive["y"].dims == (*SAMPLES, *(["time", "column"] if columns > 1 else ["time"]))
    lagged = bool(model.emission.context.lags)
    assert ("log_likelihood" in tree.children) != lagged


def test_weighted_sequences_have_no_pointwise_terms() -> None:
    series = Sequences.from_arrays([COUNTS[:9], COUNTS[9:]], weights=[1.0, 2.0])
    assert "log_likelihood" not in counts_fit(series, 8, 2).to_arviz(prior_draws=0).children


def test_fewer_draws_and_the_seed(fit: Fit) -> None:
    before = torch.random.get_rng_state()
    one, two = (fit.to_arviz(prior_draws=3, predictive_draws=20, seed=4) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    one.attrs = two.attrs = {}  # the time of making
    assert one.identical(two)
    assert one.log_likelihood["draw"].values.tolist() == [0, 4, 8, 12, 16] and one.posterior.sizes["draw"] == 20
    whole = fit.to_arviz(prior_draws=0).log_likelihood["y"].sel(draw=[0, 4, 8, 12, 16])
    assert np.array_equal(one.log_likelihood["y"], whole)
    assert not fit.to_arviz(prior_draws=3, seed=5).prior["rate"].equals(one.prior["rate"])
    with pytest.raises(FitError, match="must be at least 0, got -1 and None"):
        fit.to_arviz(prior_draws=-1)
    with pytest.raises(FitError, match="must give each of the 4 chains a draw, got 3"):
        fit.to_arviz(predictive_draws=3)


def test_a_fit_that_was_loaded(fit: Fit, tmp_path: Path) -> None:
    """It has its data from the caller, and its priors with it."""
    found = Fit.load(fit.save(tmp_path / "fit")).to_arviz(fit.data(), prior_draws=3, predictive_draws=8, seed=4)
    own = fit.to_arviz(prior_draws=3, predictive_draws=8, seed=4)
    assert found.prior.equals(own.prior) and "sample_stats" in found.children
