"""Simulation-based calibration: does a sampler draw from the posterior of the model it is given?

Parameters theta are drawn from the model's own prior and data y from the model with them, along a template series.
The rank of theta among draws from p(theta | y) is then uniform, whatever function of theta and y is ranked (Talts,
Betancourt, Simpson, Vehtari & Gelman 2018); a function that knows the data, such as their log-likelihood, finds faults
that no parameter shows (Modrák et al. 2023). The function may be one that does not mind how states are called: by
default the states of the truth and of every draw are put in one order.

Draws of a chain are thinned to half as many as their effective sample size: thinned to that size, a first-order
autoregression would keep a correlation of up to exp(-2) between neighbours, thinned to half of it up to exp(-4). With L
of them, r of which are below the truth, the rank is (r + U) / (L + 1), U uniform: uniform for any L, so that those
of different L make one picture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.diagnostics.prior_simulation import simulate_from_prior
from probseq.diagnostics.uniformity import ecdf_p_value
from probseq.errors import FitError, ProbseqError
from probseq.inference.fit import Fit
from probseq.inference.progress import Progress
from probseq.inference.sampling import RHAT, rank_rhat
from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM, Parameters
from probseq.models.program import ProgramModel, as_model
from probseq.sequences import Sequences

Model = HMM | ProgramModel
Quantities = Callable[[Model, Mapping[str, Tensor], Sequences], Mapping[str, Tensor]]
Simulate = Callable[[Model, Sequences, int], tuple[Parameters, Sequences]]

SIMPLEX = type(constraints.simplex)  # an instance does not stay the same in a worker process
INTERVAL = 0.9
"""Probability of the central posterior intervals whose coverage is counted."""
FEWEST = round((1 + INTERVAL) / (1 - INTERVAL))
"""Thinned draws, where there are as many: of fewer, no two hold such an interval between them."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What simulation-based calibration found; rows of every frame are simulations, columns quantities.

    Args:
        ranks: of the truth among the draws, in [0, 1]; uniform if the sampler is right.
        covered: whether the central 90% interval of the thinned draws holds the truth.
        truths: the values that the data were drawn with.
        effective: bulk effective sample size of the draws, to half of which they were thinned.
        rhats: rank-normalised R-hat of the draws.
        unmixed: simulation -> why its fit says that it has not converged; they are in the ranks all the same.
        failed: simulation -> why it gave no draws; these have no rank.
        stop_reason: why there are as many simulations as there are.
    """

    ranks: pd.DataFrame
    covered: pd.DataFrame
    truths: pd.DataFrame
    effective: pd.DataFrame
    rhats: pd.DataFrame
    unmixed: Mapping[int, str]
    failed: Mapping[int, str]
    stop_reason: str

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a quantity.

        Columns: `coverage` of 90% intervals, its binomial standard error `coverage_se` were it 90%; `p_value` of
        uniform ranks (`uniformity.ecdf_p_value`); `inside`, whether their distribution function is inside the 95%
        band; `inside_all`, inside the band that those of all quantities leave in at most 5% of calibrated runs
        (Bonferroni); `effective`, the median effective sample size; `rhat_above`, in how many simulations R-hat is
        above 1.01.
        """
        count, p_value = len(self.ranks), {name: ecdf_p_value(ranks.to_numpy()) for name, ranks in self.ranks.items()}
        table = pd.DataFrame({"coverage": self.covered.mean()}, index=self.ranks.columns)
        table["coverage_se"] = math.sqrt(INTERVAL * (1.0 - INTERVAL) / count)
        table["p_value"] = pd.Series(p_value)
        table["inside"] = table["p_value"] > 0.05
        table["inside_all"] = table["p_value"] > 0.05 / len(table)
        table["effective"] = self.effective.median()
        table["rhat_above"] = (self.rhats > RHAT).sum()
        return table.rename_axis("quantity")

    def __str__(self) -> str:
        failures = f"{len(self.failed)} failed, {len(self.unmixed)} did not mix"
        return f"{self.stop_reason}; {failures}\n{self.table.round(4).to_string()}"


def calibrate(
    model: HMM | Callable[..., object],
    series: Sequences,
    fit_function: Callable[..., Fit],
    *,
    seed: int,
    simulations: int = 500,
    quantities: Quantities | None = None,
    simulate: Simulate = simulate_from_prior,
    workers: int = -1,
    progress: bool = False,
) -> Calibration:
    """Simulation-based calibration of a sampler on a model.

    What the model takes from data (priors on their scale, the number of categories) it takes from the template, once;
    give priors of your own where those are too vague for the simulated series to look like any data. A simulation that
    cannot be fitted is counted, and warned of; one that did not mix is ranked and counted.

    Args:
        model: an HMM, or a Pyro program of one series.
        series: the template, whose lengths, times, covariates and missing steps every simulated series has.
        fit_function: called as `fit_function(model, series, seed=...)`; returns a `Fit` with draws, such as
            `functools.partial(nuts, chains=1)`.
        seed: of everything; the result does not depend on the number of workers.
        simulations: how many.
        quantities: called as `quantities(model, parameters, series)` with parameters (S, ...); returns name -> (S,).
            By default `ordered_quantities`.
        simulate: called as `simulate(model, series, seed)`; returns parameters from the prior and data with them.
        workers: processes; -1 is one for each core.
        progress: show a progress bar.

    Returns:
        what was found; after an interrupt, on the simulations that were finished.

    Raises:
        FitError: not one simulation could be fitted.
    """
    described: Model = as_model(model)
    bound = described.bind(series, with_priors=True)
    simulate(bound, series, seed)  # what is wrong with the template is wrong before the first simulation
    trial = _Trial(bound, series, fit_function, quantities or ordered_quantities, simulate, seed)
    outcomes: list[_Outcome] = []
    reason = f"{simulations} simulations"
    with Progress("calibrate", simulations, progress) as bar:
        try:
            for outcome in _outcomes(trial, simulations, workers):
                outcomes.append(outcome)
                bar.finish_attempt()
        except KeyboardInterrupt:
            reason = f"interrupted after {len(outcomes)} of {simulations} simulations"
    return _gathered(outcomes, reason)


def ordered_quantities(model: Model, parameters: Mapping[str, Tensor], series: Sequences) -> dict[str, Tensor]:
    """Every free entry of the parameters, exchangeable states by ascending mean, and of an HMM the log-likelihood.

    The states of a user's own program are taken as they are: a program whose states may change places needs a function
    of its own.

    Args:
        model: bound.
        parameters: site -> (S, ...), S draws.
        series: the data.

    Returns:
        name -> (S,). The last entry of each simplex is left out, as the others tell it.
    """
    count = len(next(iter(parameters.values())))
    ordered = [model.ordered(draw_of(parameters, number), series) for number in range(count)]
    simplexes: set[str] = set()
    if isinstance(model, HMM):
        learned = model.learned(draw_of(parameters, 0))
        ordered = [{name: draw[name] for name in learned} for draw in ordered]
        simplexes = {name for name, one in learned.items() if isinstance(one.constraint, SIMPLEX)}
    found: dict[str, Tensor] = {}
    for name in ordered[0]:
        values = torch.stack([draw[name] for draw in ordered])
        values = values[..., :-1] if name in simplexes else values
        for place in np.ndindex(*values.shape[1:]):
            label = f"{name}[{', '.join(map(str, place))}]" if place else name
            found[label] = values[(slice(None), *place)]
    if isinstance(model, HMM):
        found["log_likelihood"] = model.log_prob(parameters, series).sum(-1)
    return found


# ---- one simulation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rank:
    """One quantity in one simulation; the fields are those of `Calibration`'s frames."""

    rank: float
    covered: bool
    truth: float
    effective: float
    rhat: float


@dataclass(frozen=True, eq=False)
class _Outcome:
    """One simulation, ranks by quantity, and why it is none."""

    number: int
    ranks: Mapping[str, Rank]
    unmixed: str = ""
    failed: str = ""


@dataclass(frozen=True, eq=False)
class _Trial:
    """All that one simulation needs, sent whole to a worker process."""

    model: Model
    series: Sequences
    fit_function: Callable[..., Fit]
    quantities: Quantities
    simulate: Simulate
    seed: int

    def run(self, number: int) -> _Outcome:
        rng = np.random.default_rng([self.seed, number])
        data_seed, fit_seed = (int(part) for part in rng.integers(2**31, size=2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a fit did not mix is counted
            try:
                truth, data = self.simulate(self.model, self.series, data_seed)
                given = self.model if isinstance(self.model, HMM) else self.model.program
                fit = self.fit_function(given, data, seed=fit_seed)
            except ProbseqError as error:
                return _Outcome(number, {}, failed=str(error))
            if fit.stop_reason.startswith("interrupted"):
                raise KeyboardInterrupt
            return _Outcome(number, self._ranked(truth, data, fit, rng), "" if fit.converged else fit.stop_reason)

    def _ranked(self, truth: Parameters, data: Sequences, fit: Fit, rng: np.random.Generator) -> dict[str, Rank]:
        one = {name: value.unsqueeze(0) for name, value in truth.items()}
        true = {name: float(value) for name, value in self.quantities(self.model, one, data).items()}
        drawn = {name: value.numpy() for name, value in self.quantities(self.model, fit.draws, data).items()}
        chains = 1
        if fit.sampling is not None:
            chains, density = fit.sampling.chains, fit.sampling.statistics["lp"]
            true["log_joint"] = float(self.model.log_joint(truth, data, True))
            drawn["log_joint"] = density.reshape(-1).numpy()
        return {name: rank_of(value, drawn[name].reshape(chains, -1), rng) for name, value in true.items()}


def rank_of(truth: float, draws: np.ndarray, rng: np.random.Generator) -> Rank:
    """Where the truth stands among the draws.

    Args:
        truth: the value behind the data.
        draws: (chains, draws).
        rng: of the uniform number that makes the rank continuous.
    """
    from arviz_stats.base.array import array_stats

    flat = draws.reshape(-1)
    effective = (
        float(np.asarray(array_stats.ess(draws, chain_axis=0, draw_axis=1))) if flat.size > 3 else float(flat.size)
    )
    kept = int(np.clip(np.nan_to_num(effective, nan=flat.size) / 2, min(FEWEST, flat.size), flat.size))
    thinned = flat[np.linspace(0, flat.size - 1, kept).round().astype(int)]
    below, equal = int((thinned < truth).sum()), int((thinned == truth).sum())
    rank = (below + rng.uniform() * (equal + 1)) / (kept + 1)
    # The expected mass below the i-th of n independent draws is i / (n + 1), Weibull's position: the interval's content
    # is exact. Of all draws of a chain it would fall short, as they are worth fewer than they are.
    low, high = np.quantile(thinned, [0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2], method="weibull")
    return Rank(rank, bool(low <= truth <= high), truth, effective, rank_rhat(torch.from_numpy(draws)))


def _outcomes(trial: _Trial, simulations: int, workers: int) -> Iterator[_Outcome]:
    from joblib import Parallel, delayed, effective_n_jobs

    if effective_n_jobs(workers) == 1:
        yield from map(trial.run, range(simulations))
        return
    yield from Parallel(n_jobs=workers, return_as="generator")(  # type: ignore[misc]
        delayed(trial.run)(number) for number in range(simulations)
    )


def _gathered(outcomes: list[_Outcome], reason: str) -> Calibration:
    failed = {outcome.number: outcome.failed for outcome in outcomes if outcome.failed}
    kept = [outcome for outcome in outcomes if not outcome.failed]
    if not kept:
        first = next(iter(failed.values()), "the run was interrupted before the first was finished")
        raise FitError(f"calibrate must have a simulation that could be fitted, got none: {first}")
    if failed:
        first = next(iter(failed.values()))
        warnings.warn(f"{len(failed)} of {len(outcomes)} simulations gave no draws: {first}", stacklevel=3)
    numbers = pd.Index([outcome.number for outcome in kept], name="simulation")

    def frame(part: str) -> pd.DataFrame:
        rows = [{name: getattr(rank, part) for name, rank in outcome.ranks.items()} for outcome in kept]
        return pd.DataFrame(rows, index=numbers)

    return Calibration(
        ranks=frame("rank"),
        covered=frame("covered"),
        truths=frame("truth"),
        effective=frame("effective"),
        rhats=frame("rhat"),
        unmixed={outcome.number: outcome.unmixed for outcome in kept if outcome.unmixed},
        failed=failed,
        stop_reason=reason,
    )
