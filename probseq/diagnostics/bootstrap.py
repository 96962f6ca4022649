"""Bootstrap of a point fit: new data, the same fit, many times (Efron 1979; for hidden chains, Visser et al. 2000).

`bootstrap` draws the data from the fitted model. `block_bootstrap` resamples the data themselves: whole sequences where
there are many, else blocks of geometric length that begin anywhere (Politis & Romano 1994). Every refit starts from the
estimate, so that its states keep their numbers. A replicate depends on its own seed only, whatever worker makes it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.diagnostics.estimates import NO_COUNT, declared_by, entry_names, flat_entries
from probseq.diagnostics.ranges import Range
from probseq.diagnostics.resampling import Redraw, resampled, simulated
from probseq.errors import FitError, ProbseqError
from probseq.families.coordinates import is_simplex
from probseq.inference.climbing import PATIENCE
from probseq.inference.expectation_maximisation import em
from probseq.inference.fit import Fit
from probseq.inference.progress import Progress
from probseq.sequences import Sequences

LIFT = 0.01
"""Least positive probability that a refit starts from: EM leaves a smaller one only slowly."""

OFTEN = 0.05
"""Share of refits at the edge of a range from which an entry is said to be near it."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits to new data.

    Args:
        fit: the one that was bootstrapped.
        draws: site -> (B, ...): the parameters of the refits that did not fail.
        kind: how the data were made, in words.
        failed: why each failed refit did; a refit that did not converge counts as failed.
        interrupted: whether the user stopped it early.
        seconds: wall time.
    """

    fit: Fit
    draws: dict[str, Tensor] = field(repr=False)
    kind: str
    failed: tuple[str, ...]
    interrupted: bool
    seconds: float

    @property
    def replicates(self) -> int:
        """B, the refits that did not fail."""
        return int(next(iter(self.draws.values())).shape[0])

    @property
    def names(self) -> tuple[str, ...]:
        """(E,) of the entries of the learned parameters, such as "rate[0]"."""
        declared = declared_by(self.fit.model, self.fit.parameters)
        return tuple(n for key in declared for n in entry_names(key, tuple(self.fit.parameters[key].shape)))

    @property
    def estimate(self) -> Tensor:
        """(E,) of the fit."""
        return flat_entries(self.fit.parameters, declared_by(self.fit.model, self.fit.parameters))

    @property
    def refits(self) -> pd.DataFrame:
        """(B, E) the parameters, a row a refit."""
        declared = declared_by(self.fit.model, self.fit.parameters)
        rows = torch.cat([self.draws[name].reshape(self.replicates, -1) for name in declared], 1)
        return pd.DataFrame(rows.numpy(), columns=pd.Index(self.names, name="parameter"))

    @property
    def standard_error(self) -> Tensor:
        """(E,) standard deviation over the refits."""
        return torch.from_numpy(self.refits.to_numpy().copy()).std(0)

    def percentile(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(E,) lower and upper quantiles of the refits (Efron 1979)."""
        tail = 0.5 * (1.0 - level)
        ends = np.quantile(self.refits.to_numpy(), [tail, 1.0 - tail], axis=0)
        return torch.from_numpy(ends[0]), torch.from_numpy(ends[1])

    def basic(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(E,) quantiles reflected about the estimate (Davison & Hinkley 1997, equation 5.6); may leave the range."""
        lower, upper = self.percentile(level)
        return 2.0 * self.estimate - upper, 2.0 * self.estimate - lower

    def frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row an entry: `estimate`, `standard_error`, `bias`, `lower`, `upper` (percentiles), `basic_lower`, ...

        `note` says which probabilities are at zero or one, in the fit or in how many of the refits: a bootstrap is not
        right there (Andrews 2000), its standard errors and intervals are too narrow; `profile` has better ones.
        """
        (lower, upper), (low, high) = self.percentile(level), self.basic(level)
        columns = {
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "bias": torch.from_numpy(self.refits.to_numpy().mean(0)) - self.estimate,
            "lower": lower,
            "upper": upper,
            "basic_lower": low,
            "basic_upper": high,
        }
        numbers = {name: column.numpy() for name, column in columns.items()}
        return pd.DataFrame(numbers | {"note": self._notes()}, index=pd.Index(self.names, name="parameter"))

    @property
    def table(self) -> pd.DataFrame:
        """`frame` at 95%."""
        return self.frame()

    def _notes(self) -> list[str]:
        """(E,) which probabilities are at zero or one: all steps together would be less than `NO_COUNT` of a count."""
        declared = declared_by(self.fit.model, self.fit.parameters)
        parts = [Range.of(one.constraint, tuple(self.fit.parameters[name].shape)) for name, one in declared.items()]
        where, least = Range.joined(parts), NO_COUNT / max(self.fit.observations, 1)
        refits, notes = self.refits.to_numpy(), []
        for number, value in enumerate(self.estimate.tolist()):
            found = refits[:, number]
            if (found == value).all():
                notes.append("the same in every refit")
                continue
            share = float((np.minimum(found, 1.0 - found) < least).mean())
            at_edge = min(value, 1.0 - value) < least
            if (float(where.low[number]), float(where.high[number])) != (0.0, 1.0) or not (at_edge or share >= OFTEN):
                notes.append("")
            else:
                notes.append(f"at the edge of its range{', as' if at_edge else ''} in {share:.0%} of refits")
        return notes


def bootstrap(
    fit: Fit,
    series: Sequences | None = None,
    *,
    replicates: int = 200,
    seed: int,
    workers: int | None = None,
    progress: bool = False,
    simulate: Callable[[dict[str, Tensor], Sequences, int], Sequences] | None = None,
) -> Bootstrap:
    """Refit to data simulated from the fit: parametric bootstrap.

    The simulated series have the lengths, covariates, weights, gaps and known labels of the data. Of a family with lags
    each begins at the mean of its first state.

    Args:
        fit: at a maximum, of `em`.
        series: the data; the fit remembers it while it is in memory.
        replicates: how many refits.
        seed: of the data; the result is the same whatever the workers.
        workers: processes; None starts one a core where they pay.
        progress: show a progress bar on standard error.
        simulate: (parameters, series, seed) -> new data, for a program whose observed sites are not simply the values
            of the series or its columns.

    Returns:
        After an interrupt (Ctrl-C), what there was so far.

    Raises:
        FitError: every refit failed; the message is that of the first.
    """
    redraw = simulated(fit, simulate)
    return _repeat(fit, fit.data(series), redraw, "parametric", replicates, seed, workers, progress)


def block_bootstrap(
    fit: Fit,
    series: Sequences | None = None,
    *,
    block: float | None = None,
    replicates: int = 200,
    seed: int,
    workers: int | None = None,
    progress: bool = False,
) -> Bootstrap:
    """Refit to resampled data, which need not be from the model.

    Without `block`, and with ten sequences or more, whole sequences are drawn with replacement. Otherwise blocks are:
    they begin at any step, and last for a geometric number of steps (Politis & Romano 1994, the stationary bootstrap).
    Joined end to end, each join would be a move that never happened; so each block is a sequence of its own here. What
    is left of the cuts: the law of the first state becomes that of the blocks' first states (give the model a
    `StationaryInitial`), and what reaches over a cut - a long stay, lags - is lost. Take blocks much longer than stays.

    Args:
        fit: at a maximum, of `em`.
        series: the data; the fit remembers it while it is in memory.
        block: mean length in steps; by default ten times the longest mean stay of a state in the decoded path, at most
            a tenth of the series.
        replicates, seed, workers, progress: as for `bootstrap`.
    """
    series = fit.data(series)
    redraw, kind = resampled(fit, series, block)
    return _repeat(fit, series, redraw, kind, replicates, seed, workers, progress)


# ---- the refits ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Refit:
    """All that a worker needs to make a replicate of any number."""

    fit: Fit
    series: Sequences
    redraw: Redraw
    start: dict[str, Tensor]
    seed: int

    def run(self, number: int) -> tuple[dict[str, Tensor], str]:
        """Parameters and an empty text, or nothing and why it failed."""
        own = int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = self.redraw(self.series, own)
                model: Any = self.fit.model
                found = em(model, drawn, priors=self.fit.with_priors, start=self.start, workers=1)
        except ProbseqError as error:
            return {}, str(error)
        if found.stop_reason.startswith("interrupted"):
            raise KeyboardInterrupt
        return (found.parameters, "") if found.converged else ({}, found.stop_reason)


def _repeat(
    fit: Fit,
    series: Sequences,
    redraw: Redraw,
    kind: str,
    replicates: int,
    seed: int,
    workers: int | None,
    progress: bool,
) -> Bootstrap:
    """All replicates, in order."""
    if replicates < 2:
        raise FitError(f"replicates must be at least 2, got {replicates}; 200 give standard errors, 1000 intervals.")
    if fit.n_draws > 1:
        raise FitError(f"A bootstrap must be of a point fit, got draws of {fit.method}; they are the answer already.")
    if fit.with_priors and not fit.knows_priors:
        raise FitError(
            "A bootstrap of a maximum a posteriori must know its priors, got a saved fit whose own could not be "
            "written; fit again and take its bootstrap while it is in memory."
        )
    began = time.perf_counter()
    lean = replace(fit, series=None)  # the data travel to the workers once
    refit = _Refit(lean, series, redraw, _lifted(fit), seed)
    kept: list[dict[str, Tensor]] = []
    failed: list[str] = []
    interrupted = False
    with Progress("bootstrap", replicates, progress) as bar:
        try:
            for parameters, why in _run(refit, replicates, workers):
                if why:
                    failed.append(why)
                else:
                    kept.append(parameters)
                bar.finish_attempt()
        except KeyboardInterrupt:
            interrupted = True
    if not kept:
        if interrupted:
            raise KeyboardInterrupt
        raise FitError(f"At least one of {replicates} refits must succeed, got none; the first ended: {failed[0]}")
    if failed:
        warnings.warn(f"{len(failed)} of {len(failed) + len(kept)} refits failed: {failed[0]}", stacklevel=3)
    draws = {name: torch.stack([one[name] for one in kept]) for name in kept[0]}
    return Bootstrap(fit, draws, kind, tuple(failed), interrupted, time.perf_counter() - began)


def _run(refit: _Refit, replicates: int, workers: int | None) -> Iterator[tuple[dict[str, Tensor], str]]:
    """The replicates in order, in this process or in several."""
    began = time.perf_counter()
    yield refit.run(0)
    expected = (time.perf_counter() - began) * (replicates - 1)
    processes = workers if workers is not None else (os.cpu_count() or 1) if expected > PATIENCE else 1
    if processes == 1:
        yield from map(refit.run, range(1, replicates))
        return
    from joblib import Parallel, delayed

    runs: Any = Parallel(n_jobs=processes, return_as="generator")(
        delayed(refit.run)(number) for number in range(1, replicates)
    )
    yield from runs


def _lifted(fit: Fit) -> dict[str, Tensor]:
    """The estimate, with no positive probability so small that EM would be caught there; zeros stay zero."""
    declared = declared_by(fit.model, fit.parameters)
    result = dict(fit.parameters)
    for name, one in declared.items():
        if is_simplex(one.constraint):
            value = fit.parameters[name]
            raised = torch.where(value > 0, value.clamp_min(LIFT), 0.0)
            result[name] = raised / raised.sum(-1, keepdim=True)
    return fit.model.complete({name: result[name] for name in declared})
