"""The bootstrap: repeatable, counted, and in agreement with closed forms and with the Hessian."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, Fit, MarkovChain, Sequences, datasets, em, families
from probseq.chains import StationaryInitial
from probseq.diagnostics import block_bootstrap, bootstrap, derived, standard_errors
from probseq.diagnostics.resampling import Blocks, ModelSimulation, ProgramSimulation, default_block
from probseq.errors import DataError, FitError, ModelError
from probseq.models.program import ProgramModel

DOUBLE = torch.float64


def one_rate(values: torch.Tensor, **fields) -> Fit:
    lengths = fields.pop("lengths", torch.tensor([len(values)]))
    return em(HMM(1, families.Poisson()), Sequences(values, lengths, **fields))


@pytest.fixture(scope="module")
def quakes() -> Fit:
    return em(HMM(2, families.Poisson(), initial=StationaryInitial()), datasets.earthquakes(), restarts=2, workers=1)


@pytest.fixture(scope="module")
def counts() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).poisson(5.0, 60).astype(float))


# ---- against closed forms ------------------------------------------------------------------------------------------


def test_the_mean_of_counts(counts):
    """sqrt(rate / n), to four standard errors of a standard deviation over B refits, 1 / sqrt(2 B)."""
    fit = one_rate(counts)
    found = bootstrap(fit, replicates=80, seed=0, workers=1)
    exact = math.sqrt(float(fit.parameters["rate"]) / 60)
    assert found.replicates == 80 and not found.failed and not found.interrupted
    assert float(found.standard_error[-1]) == pytest.approx(exact, rel=4 / math.sqrt(160))
    rates = found.refits["rate[0]"].to_numpy()
    lower, upper = np.quantile(rates, [0.05, 0.95])
    row, estimate = found.frame(0.9).loc["rate[0]"], float(fit.parameters["rate"])
    assert row[["lower", "upper"]].tolist() == pytest.approx([lower, upper])
    assert row[["basic_lower", "basic_upper"]].tolist() == pytest.approx([2 * estimate - upper, 2 * estimate - lower])
    assert row["bias"] == pytest.approx(rates.mean() - estimate, abs=1e-12)


def test_whole_sequences_are_clusters(counts):
    """The variance of a mean of 20 clusters of three, to four standard errors of it."""
    fit = one_rate(counts, lengths=torch.full((20,), 3))
    found = block_bootstrap(fit, replicates=80, seed=0, workers=1)
    exact = float(counts.reshape(20, 3).mean(1).std(correction=0)) / math.sqrt(20)
    assert found.kind == "whole sequences"
    assert float(found.standard_error[-1]) == pytest.approx(exact, rel=4 / math.sqrt(160))


def test_bootstrap_and_hessian_agree_on_earthquakes(quakes):
    """Two answers of one order: with about ten moves in 107 years they differ by terms of relative order 1 / sqrt(10).

    So standard errors agree to half of themselves, and ends of 95% intervals to one standard error, on the scale (log
    or log odds) on which the Wald interval is made.
    """
    found = bootstrap(quakes, replicates=100, seed=1, workers=1)
    errors = standard_errors(quakes)
    assert not found.failed
    ratio = found.standard_error / errors.standard_error
    assert bool(((ratio > 1 / 1.5) & (ratio < 1.5)).all())
    own = errors.standard_error * errors.range.slope(errors.estimate)
    for theirs, ours in zip(found.percentile(), errors.interval(), strict=True):
        apart = (errors.range.scaled(theirs) - errors.range.scaled(ours)) / own
        assert bool((apart.abs() < 1.0).all())
    stay = derived(found, "mean_stay")
    assert stay.kind == "bootstrap"
    np.testing.assert_allclose(stay.draws[:, 0], 1.0 / found.refits["transition[0, 1]"], rtol=1e-12)


def test_probabilities_at_an_edge_are_named():
    """One success in six: so many refits have none as zero successes in six have chance, 33%."""
    series = Sequences(torch.tensor([0.0, 0, 1, 0, 0, 0], dtype=DOUBLE), torch.tensor([6]))
    fit = em(HMM(1, families.Bernoulli()), series)
    found = bootstrap(fit, replicates=60, seed=0, workers=1)
    share = float((found.refits["probability[0]"] < 1e-6).mean())
    assert share == pytest.approx((5 / 6) ** 6, abs=4 * math.sqrt(0.33 * 0.67 / 60))
    table = found.table
    assert table.loc["probability[0]", "note"] == f"at the edge of its range in {share:.0%} of refits"
    assert table.loc["initial[0]", "note"] == "the same in every refit"
    edge = replace(fit, parameters={**fit.parameters, "probability": torch.tensor([1e-9], dtype=DOUBLE)})
    note = replace(found, fit=edge).table.loc["probability[0]", "note"]
    assert note == f"at the edge of its range, as in {share:.0%} of refits"


# ---- new data ------------------------------------------------------------------------------------------------------


def test_simulated_data_keep_what_is_known_of_the_data():
    values = torch.tensor([1.0, 9, 2, 8, 1, 9], dtype=DOUBLE)
    series = Sequences(
        values,
        torch.tensor([4, 2]),
        observed=torch.tensor([True, False, True, True, True, True]),
        weights=torch.tensor([2.0, 1.0]),
        labels=torch.tensor([0, -1, -1, 1, -1, -1]),
        columns=("count",),
    )
    rate = torch.tensor([1.0, 9.0], dtype=DOUBLE)
    point = {"initial": torch.full((2,), 0.5), "transition": torch.full((2, 2), 0.5), "rate": rate}
    fit = replace(
        one_rate(values), model=HMM(2, families.Poisson()), parameters={n: v.double() for n, v in point.items()}
    )
    drawn = ModelSimulation(fit)(series, 3)
    assert torch.equal(drawn.lengths, series.lengths) and torch.equal(drawn.observed, series.observed)
    assert torch.equal(drawn.weights, series.weights) and drawn.columns == ("count",)
    assert ((drawn.labels >= 0) == (series.labels >= 0)).all()
    assert torch.equal(ModelSimulation(fit)(series, 3).values, drawn.values)
    with pytest.raises(ModelError, match="soft labels"):
        ModelSimulation(fit)(replace(series, labels=torch.full((6, 2), 0.5)), 3)


def test_blocks_are_stretches_of_the_data_and_every_step_is_as_likely():
    steps = torch.arange(40, dtype=DOUBLE)
    series = Sequences(steps, torch.tensor([30, 10]), time=pd.Index(range(40)))
    seen = np.zeros(40)
    sizes = []
    for seed in range(400):
        drawn = Blocks(6.0)(series, seed)
        assert drawn.total_steps == 40
        seen += np.bincount(drawn.values.long().numpy(), minlength=40)
        for n in range(drawn.count):
            own = drawn.take([n]).values
            assert (own.diff() == 1).all() and not (own[0] < 30 <= own[-1])
            assert drawn.ids[n] == (0 if own[0] < 30 else 1)
        sizes.append(drawn.count)
    # 400 expected visits a step, about 6 at a time: variance at most 400 x 11; five standard deviations
    assert abs(seen - 400).max() < 5 * math.sqrt(400 * 11)
    assert (
        40 / 6 <= np.mean(sizes) <= 40 / 6 + 3.5
    )  # blocks, and the cuts at the ends of both sequences and of the data


def test_the_default_block_is_ten_stays(quakes):
    series = datasets.earthquakes()
    assert default_block(quakes, series) == pytest.approx(10.7)  # a tenth of 107 years is shorter
    path = quakes.posterior(series).viterbi
    longest = max(
        len(run) for run in "".join(map(str, path.tolist())).replace("01", "0 1").replace("10", "1 0").split()
    )
    assert longest > 10.7
    found = block_bootstrap(quakes, block=25, replicates=3, seed=0, workers=1)
    assert found.kind == "blocks of 25 steps on average" and found.replicates == 3
    with pytest.raises(FitError, match="block must lie between 1 step and the length of the series, 107"):
        block_bootstrap(quakes, block=200, replicates=3, seed=0, workers=1)


# ---- a user's own program ------------------------------------------------------------------------------------------


def program(series: Sequences) -> None:
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2, dtype=DOUBLE)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 4.0], dtype=DOUBLE), 0.2).to_event(1))
    state = pyro.sample("state", MarkovChain(torch.full((2,), 0.5, dtype=DOUBLE), transition, series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)


@pytest.fixture(scope="module")
def own() -> Fit:
    return em(program, datasets.earthquakes(), restarts=1)


def test_a_program_simulates_itself(own):
    found = bootstrap(own, replicates=3, seed=0, workers=1)
    assert found.replicates == 3
    assert found.refits.shape == (3, 6) and (found.refits["rate[0]"] != float(own.parameters["rate"][0])).all()
    drawn = ProgramSimulation(own)(datasets.earthquakes(), 5)
    assert drawn.total_steps == 107 and not torch.equal(drawn.values, datasets.earthquakes().values)
    again = bootstrap(own, replicates=2, seed=0, workers=1, simulate=lambda p, series, seed: series)
    for name, value in own.parameters.items():  # the data themselves: EM from the estimate stays there
        torch.testing.assert_close(again.draws[name], value.expand_as(again.draws[name]), rtol=1e-3, atol=1e-3)


def test_a_program_of_other_observations_needs_a_function(own):
    def doubled(series: Sequences) -> None:
        rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 4.0], dtype=DOUBLE), 0.2).to_event(1))
        even = torch.full((2, 2), 0.5, dtype=DOUBLE)
        state = pyro.sample("state", MarkovChain(even[0], even, series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(2 * rate[state]), obs=2 * series.values)

    fit = replace(own, model=ProgramModel(doubled), parameters={"rate": own.parameters["rate"]})
    with pytest.raises(ModelError, match="got another site 'y'; pass simulate="):
        ProgramSimulation(fit)(datasets.earthquakes(), 0)


# ---- workers, failures, interrupts ---------------------------------------------------------------------------------


@pytest.mark.slow  # worker processes import torch anew
def test_the_result_does_not_depend_on_the_workers(counts):
    fit = one_rate(counts)
    alone = bootstrap(fit, replicates=5, seed=7, workers=1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    together = bootstrap(fit, replicates=5, seed=7, workers=2)
    assert torch.equal(state, torch.get_rng_state())
    pd.testing.assert_frame_equal(alone.refits, together.refits)
    assert not alone.refits.equals(bootstrap(fit, replicates=5, seed=8, workers=1).refits)


def failing(parameters, series: Sequences, seed: int) -> Sequences:
    """Every third series is refused."""
    if seed % 3 == 0:
        raise DataError("no such data.")
    return series


def test_failures_are_counted_and_reported(counts):
    fit = one_rate(counts)
    with pytest.warns(UserWarning, match="of 12 refits failed: no such data"):
        found = bootstrap(fit, replicates=12, seed=0, workers=1, simulate=failing)
    assert found.replicates + len(found.failed) == 12 and found.failed[0] == "no such data."

    def never(parameters, series, seed):
        raise DataError("nothing.")

    with pytest.raises(FitError, match="At least one of 3 refits must succeed, got none; the first ended: nothing"):
        bootstrap(fit, replicates=3, seed=0, workers=1, simulate=never)


def test_an_interrupt_returns_what_there_is(counts):
    made = []

    def stopped(parameters, series, seed):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(seed)
        return series

    found = bootstrap(one_rate(counts), replicates=10, seed=0, workers=1, simulate=stopped)
    assert found.interrupted and found.replicates == 3


def test_refusals(counts, quakes):
    with pytest.raises(FitError, match="replicates must be at least 2"):
        bootstrap(one_rate(counts), replicates=1, seed=0)
    draws = {name: value.expand(3, *value.shape) for name, value in quakes.parameters.items()}
    with pytest.raises(FitError, match="must be of a point fit, got draws of nuts"):
        bootstrap(replace(quakes, draws=draws, method="nuts"), seed=0)
