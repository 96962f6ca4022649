"""A fitted model: parameters, how they were found, and every answer that they give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from probseq.chains.state_posterior import StatePosterior
from probseq.inference import forecasting, simulation, storage
from probseq.models.emission_step import emission_data
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from xarray import DataTree

    from probseq.inference.sampling import Sampling

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Attempt:
    """One start of a fit, kept or not.

    Args:
        number: 0 is the deterministic start.
        objective: what was maximised, at the end; NaN where the start failed.
        iterations: how many.
        stop_reason: why it stopped, in words.
    """

    number: int
    objective: float
    iterations: int
    stop_reason: str


@dataclass(frozen=True, eq=False)
class Fit:
    """A model with its fitted parameters.

    Args:
        model: the description that was fitted, bound to its data's categories and scale.
        parameters: site -> tensor: the point estimate. `initial` (C,), the transition law's (`transition` (K, K),
            mostly), the family's (K, ...).
        draws: site -> (S, ...): draws of the parameters; S = 1 is the point itself.
        method: "em", "svi", "laplace", "nuts" or "gibbs".
        with_priors: whether the model's log priors were part of the objective (maximum a posteriori).
        log_likelihood: nats, at the point, of the data that was fitted (weighted where it has weights).
        observations: number of observed steps, the n of BIC.
        n_parameters: free parameters.
        objective: (iterations,) what was maximised, by iteration; of a sampler the log joint density, by draw.
        converged: whether the tolerance was reached.
        stop_reason: why the fit stopped, in words.
        seconds: wall time.
        fingerprint: SHA-256 of the data.
        columns: names of the data's value columns.
        categories: what the codes of the data stand for, or None.
        attempts: every start.
        sampling: of a sampler, its chains and statistics.
        series: the data that was fitted, while the fit is in memory; a saved fit does not hold it.
    """

    model: HMM | ProgramModel
    parameters: Parameters
    draws: Parameters
    method: str
    with_priors: bool
    log_likelihood: float
    observations: int
    n_parameters: int
    objective: Tensor
    converged: bool
    stop_reason: str
    seconds: float
    fingerprint: str
    columns: tuple[str, ...] = ()
    categories: tuple[str, ...] | None = None
    attempts: tuple[Attempt, ...] = field(default=())
    sampling: Sampling | None = None
    series: Sequences | None = field(default=None, repr=False)

    # ---- size of the model against its fit -------------------------------------------------------------------------

    @property
    def aic(self) -> float:
        """2 p - 2 log L (Akaike 1974)."""
        return 2.0 * self.n_parameters - 2.0 * self.log_likelihood

    @property
    def bic(self) -> float:
        """p log n - 2 log L, n the observed steps (Schwarz 1978)."""
        return self.n_parameters * math.log(self.observations) - 2.0 * self.log_likelihood

    @property
    def iterations(self) -> int:
        """Of the attempt that was kept."""
        return len(self.objective)

    @cached_property
    def n_draws(self) -> int:
        """S."""
        return int(next(iter(self.draws.values())).shape[0]) if self.draws else 1

    @property
    def knows_priors(self) -> bool:
        """Whether the priors that it was made with are at hand: one saved with priors of no known law lacks them."""
        if not self.with_priors or isinstance(self.model, ProgramModel):
            return self.with_priors
        return set(self.model.emission_parameters(self.parameters)) <= set(self.model.priors)

    # ---- the SequenceModel protocol --------------------------------------------------------------------------------

    def log_prob(self, series: Sequences) -> Tensor:
        """(N,) nats: log p(x_n), averaged over the draws of the parameters; -inf where impossible."""
        return self._averaged("log_evidence", series)

    def predictive_log_prob(self, series: Sequences) -> Tensor:
        """(T,) nats: log p(x_t | x_<t), one step ahead, averaged over the draws; zero at a missing step."""
        return self._averaged("predictive_log_prob", series)

    def posterior(self, series: Sequences) -> StatePosterior:
        """Filtered, smoothed, Viterbi and sampled paths at the point estimate."""
        return self.model.posterior(self.parameters, series)

    def decode(self, series: Sequences) -> pd.DataFrame:
        """The series with its original index and, for each step, the decoded state.

        Columns: the data, `state` (Viterbi), `local` (most probable at that step alone), `probability_k` (smoothed),
        `filtered_k`, and `log_predictive` = log p(x_t | x_<t) in nats.
        """
        posterior = self.posterior(series)
        columns: dict[str, Any] = {"state": posterior.viterbi, "local": posterior.local}
        for k in range(posterior.states):
            columns[f"probability_{k}"] = posterior.smoothed[:, k]
        for k in range(posterior.states):
            columns[f"filtered_{k}"] = posterior.filtered[:, k]
        columns["log_predictive"] = posterior.predictive_log_prob
        return series.to_frame({name: value.numpy() for name, value in columns.items()})

    def forecast(
        self,
        series: Sequences,
        horizon: int,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        *,
        covariates: Any = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The next `horizon` steps of every sequence: mean, quantiles, and the probability of each state.

        The forecast is the exact mixture over states (and draws of the parameters), not a simulation; only where
        observations depend on earlier ones (lags) do 2000 simulated futures stand for it.

        Args:
            series: what has been seen.
            horizon: steps ahead, at least 1.
            quantiles: probabilities in (0, 1); columns `q0.05`, ... (families with an order only).
            covariates: of the steps ahead, for a model that depends on some: a frame or an array of N * horizon rows,
                one sequence after the other.
            seed: of the simulated futures.
        """
        model = self._hmm("forecast")
        return forecasting.forecast(model, self.draws, series, horizon, quantiles, covariates, seed)

    def simulate(self, lengths: int | Sequence[int] | Sequences, *, seed: int, labelled: bool = False) -> Sequences:
        """New series from the fitted model; draws of the parameters take turns, one for each sequence.

        Args:
            lengths: steps of each sequence; or a series whose steps, times and covariates to simulate along, which a
                model with covariates or seasons needs.
            seed: of the generator.
            labelled: give the states behind the series as its labels, which a fit to it would honour.
        """
        model = self._hmm("simulate")
        found = simulation.simulate(model, self.draws, lengths, seed, self.columns, self.categories)
        return found if labelled else found.unlabelled()

    def to_arviz(
        self,
        series: Sequences | None = None,
        *,
        prior_draws: int = 500,
        predictive_draws: int | None = None,
        seed: int = 0,
    ) -> DataTree:
        """The fit as an xarray DataTree, for every function of `arviz_stats` and `arviz_plots`, and for netCDF.

        Groups: `posterior`; `sample_stats` of a sampler; `log_likelihood`, log p(y_t | y_-t, draw) of each step that
        was observed, which makes ArviZ's leave-one-out cross-validation right (left out with weights, with lags, and of
        programs of several chains, where it would be wrong); `posterior_predictive`, a replicated series for each draw;
        `prior` and `prior_predictive` of a fit with priors (a fit that was loaded has those of a program only);
        `observed_data`, NaN where missing; `constant_data`, the covariates; `warmup_posterior` and
        `warmup_sample_stats`. Axes are named: `state`, `state_to`, `time` (with `sequence` along it), `column`,
        `category`.

        Args:
            series: the data; None is the one that was fitted.
            prior_draws: draws from the prior; 0 leaves its groups out.
            predictive_draws: at most so many draws, evenly spaced in each chain, in `log_likelihood` and
                `posterior_predictive`; None takes all, or as many as 2^25 numbers hold; 0 leaves those groups out.
            seed: of all that is drawn.
        """
        from probseq.inference.arviz_tree import arviz_tree

        return arviz_tree(self, self.data(series), prior_draws, predictive_draws, seed)

    # ---- words and files -------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """The fit as plain numbers and lists, as `probseq fit --json` prints it."""
        return storage.summary(self)

    def save(self, directory: str | Path) -> Path:
        """Write the fit as JSON and safetensors into a directory (made if need be); all of it or nothing."""
        return storage.save(self, Path(directory))

    @staticmethod
    def load(directory: str | Path, program: Any = None) -> Fit:
        """Read a fit; scores are bit-equal to those of the fit that was saved.

        Args:
            directory: as given to `save`.
            program: the Pyro program, for a fit of a user's own program; code is never stored.
        """
        return storage.load(Path(directory), program)

    def data(self, series: Sequences | None = None) -> Sequences:
        """The series to look at a fit with: the one given, or else the one that was fitted."""
        if series is not None:
            return series
        if self.series is not None:
            return self.series
        from probseq.errors import DataError

        raise DataError("A fit that was loaded must be given its data, got none; pass the series.")

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _averaged(self, answer: str, series: Sequences) -> Tensor:
        if self.n_draws == 1:
            return getattr(self.model.posterior(self.parameters, series), answer)
        per_draw = [
            getattr(self.model.posterior(simulation.draw_of(self.draws, s), series), answer)
            for s in range(self.n_draws)
        ]
        return torch.stack(per_draw).logsumexp(0) - math.log(self.n_draws)

    def _hmm(self, what: str) -> HMM:
        if isinstance(self.model, HMM):
            return self.model
        from probseq.errors import ModelError

        raise ModelError(
            f"{what} must know how a program runs on, got a user's own program; use pyro.infer.Predictive with the "
            "program and the fit's draws."
        )


def scored_steps(model: HMM | ProgramModel, series: Sequences) -> Tensor:
    """(T,) bool: steps that the model scores: measured, with all their lags."""
    return emission_data(model.emission, series).scored if isinstance(model, HMM) else series.step_observed


def observed_steps(model: HMM | ProgramModel, series: Sequences) -> int:
    """n of BIC: steps that the model scores, those of a weighted sequence as often as it counts; at least 1."""
    scored = scored_steps(model, series)
    if series.weights is None:
        return int(scored.sum())
    counted = series.weights[series.step_sequence] * scored
    return max(1, round(float(counted.sum())))


def fitted(model: HMM | ProgramModel, series: Sequences, *, parameters: Parameters, **found: Any) -> Fit:
    """A `Fit` of a bound model to a series, with everything that these two alone say of it.

    Args:
        model: bound to the series.
        series: the data.
        parameters: the point.
        found: the other fields of `Fit`; `log_likelihood` is computed at the point unless it is known.
    """
    if "log_likelihood" not in found:
        found["log_likelihood"] = model.expect(parameters, series).log_likelihood
    return Fit(
        model=model,
        parameters=parameters,
        observations=observed_steps(model, series),
        n_parameters=model.n_parameters(tuple(series.values.shape[1:])),
        fingerprint=series.fingerprint(),
        columns=tuple(series.columns),
        categories=series.categories,
        series=series,
        **found,
    )


def as_draws(parameters: Mapping[str, Tensor]) -> Parameters:
    """A point as one draw."""
    return {name: value.unsqueeze(0) for name, value in parameters.items()}
