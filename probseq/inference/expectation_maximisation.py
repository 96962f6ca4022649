"""Expectation-maximisation (Baum et al. 1970; Dempster, Laird & Rubin 1977) of any model with hidden states.

E: exact expected counts by one compiled forward-backward pass. M: closed form where the family has one, numerical
otherwise. The objective, log-likelihood or log-likelihood plus log prior, never decreases. It stops when what is
still to be gained, extrapolated by Aitken's rule (Böhning et al. 1994), is below a share of the objective.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.fit import Attempt, Fit, as_draws, observed_steps
from probseq.inference.last_stretch import polish
from probseq.inference.progress import Progress
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]
Report = Callable[[int, float], None]

MAX_STEPS_WITHOUT_WORKERS = 20.0
"""Seconds that the remaining attempts may take before worker processes are worth starting."""


@dataclass(frozen=True, eq=False)
class Climb:
    """One run of EM from one start.

    Args:
        parameters: at the last E-step.
        log_likelihood: at these parameters.
        objective: by iteration.
        stop_reason: in words.
        converged: whether the tolerance was reached.
        failed: whether a state degenerated, so that the run is not to be used.
    """

    parameters: Parameters
    log_likelihood: float
    objective: list[float]
    stop_reason: str
    converged: bool
    failed: bool = False


def em(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    priors: bool = False,
    restarts: int = 5,
    seed: int = 0,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    start: Parameters | None = None,
    workers: int | None = None,
    polished: bool = True,
    progress: bool = False,
) -> Fit:
    """Fit by EM from several starts; the best is kept and all are reported.

    Args:
        model: an `HMM`, or any Pyro program of one argument, the series, with a `MarkovChain` site.
        series: the data.
        priors: False is maximum likelihood; True adds the program's log priors (maximum a posteriori, as Pyro's
            AutoDelta finds it), which also keeps states from collapsing.
        restarts: number of starts; the first is deterministic, the others are drawn with `seed`.
        seed: of the random starts.
        tolerance: stop when the gain still to come is below this share of the objective.
        max_iterations: for each start.
        start: parameters to start from instead (one start).
        polished: end with L-BFGS on the exact gradient from where the best start stopped (EM itself converges
            linearly); False leaves EM's own end.
        workers: processes for the restarts; None starts them only where they pay, 1 never.
        progress: show a progress bar on standard error.

    Returns:
        The best `Fit`. After an interrupt (Ctrl-C) it is what there was so far, and `stop_reason` says so.

    Raises:
        DataError: data that the emission family cannot have produced.
        FitError: every start ended in a degenerate state; the message says which and what helps.
    """
    began = time.perf_counter()
    bound = _bind(model, series, priors)
    problem = _Problem(bound, series, priors, tolerance, max_iterations, seed)
    attempts = 1 if start is not None else restarts
    if attempts < 1:
        raise FitError(f"restarts must be at least 1, got {restarts}; 1 is the deterministic start alone.")
    with Progress("EM", attempts, progress) as bar:
        climbs = list(_climbs(problem, start, attempts, workers, bar))
    best = _best(climbs, bound)
    climb = climbs[best]
    if polished and climb.stop_reason != "interrupted":
        climb = _polished(climb, bound, series, priors)
    if not climb.converged:
        warnings.warn(f"EM did not converge: {climb.stop_reason}.", stacklevel=2)
    parameters = bound.ordered(climb.parameters, series)
    return Fit(
        model=bound,
        parameters=parameters,
        draws=as_draws(parameters),
        method="em",
        log_likelihood=climb.log_likelihood,
        observations=observed_steps(series),
        n_parameters=bound.n_parameters(tuple(series.values.shape[1:])),
        objective=torch.tensor(climb.objective, dtype=torch.float64),
        converged=climb.converged,
        stop_reason=climb.stop_reason,
        seconds=time.perf_counter() - began,
        fingerprint=series.fingerprint(),
        columns=tuple(series.columns),
        categories=series.categories,
        attempts=tuple(
            Attempt(n, math.nan if c.failed else c.objective[-1], len(c.objective), c.stop_reason)
            for n, c in enumerate(climbs)
        ),
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """All that one start needs, sent whole to a worker process."""

    model: HMM | ProgramModel
    series: Sequences
    priors: bool
    tolerance: float
    max_iterations: int
    seed: int

    def run(self, attempt: int, start: Parameters | None = None, report: Report | None = None) -> Climb:
        parameters = self.model.start(self.series, attempt, self.seed) if start is None else dict(start)
        return self.climb(parameters, report)

    def climb(self, parameters: Parameters, report: Report | None) -> Climb:
        model: Any = self.model
        series, trace = self.series, []
        kept, log_likelihood = parameters, -math.inf
        try:
            while True:
                counts = model.expect(parameters, series)
                objective = counts.log_likelihood + (float(model.log_prior(parameters, series)) if self.priors else 0.0)
                if not math.isfinite(objective):
                    reason = model.degenerate(parameters, series) or f"the log-likelihood became {objective}"
                    return Climb(kept, log_likelihood, trace or [math.nan], reason, False, failed=True)
                if trace and objective < trace[-1] - 1e-9 * abs(trace[-1]):
                    return Climb(kept, log_likelihood, trace, "the objective fell", False)
                kept, log_likelihood = parameters, counts.log_likelihood
                trace.append(objective)
                if report is not None:
                    report(len(trace), objective)
                gain = remaining_gain(trace)
                if gain <= self.tolerance * (abs(objective) + 1.0):
                    return self._ended(kept, log_likelihood, trace, f"converged: {gain:.1e} nats still to gain", True)
                if len(trace) >= self.max_iterations:
                    reason = f"max_iterations = {self.max_iterations} reached"
                    return self._ended(kept, log_likelihood, trace, reason, False)
                parameters = model.maximise(parameters, counts, self.priors, series)
        except KeyboardInterrupt:
            if not trace:
                raise
            return Climb(kept, log_likelihood, trace, "interrupted", False)

    def _ended(
        self, parameters: Parameters, log_likelihood: float, trace: list[float], reason: str, converged: bool
    ) -> Climb:
        """A climb that ended on its own, unless it ended in a collapsed state."""
        collapse = self.model.degenerate(parameters, self.series)
        if collapse is not None:
            return Climb(parameters, log_likelihood, trace, collapse, False, failed=True)
        return Climb(parameters, log_likelihood, trace, reason, converged)


def remaining_gain(trace: list[float]) -> float:
    """Aitken's estimate of what a linearly converging sequence still has to rise.

    >>> remaining_gain([-3.0, -2.0, -1.5])
    0.5
    """
    if len(trace) < 3:
        return math.inf if len(trace) < 2 or trace[-1] != trace[-2] else 0.0
    last, before = trace[-1] - trace[-2], trace[-2] - trace[-3]
    if last <= 0.0:
        return 0.0
    if before <= 0.0 or last >= before:
        return math.inf
    rate = last / before
    return last * rate / (1.0 - rate)


def _bind(model: HMM | Callable[..., Any], series: Sequences, priors: bool) -> HMM | ProgramModel:
    bound = model if isinstance(model, HMM | ProgramModel) else ProgramModel(model)
    return bound.bind(series, with_priors=priors)


def _climbs(
    problem: _Problem, start: Parameters | None, attempts: int, workers: int | None, bar: Progress
) -> Iterator[Climb]:
    """Every attempt in order; an interrupt ends the list with what there is."""
    began = time.perf_counter()
    first = problem.run(0, start, bar.report)
    bar.finish_attempt()
    yield first
    if first.stop_reason == "interrupted" or attempts == 1:
        return
    expected = (time.perf_counter() - began) * (attempts - 1)
    processes = (2 if expected > MAX_STEPS_WITHOUT_WORKERS else 1) if workers is None else workers
    try:
        if processes > 1 and isinstance(problem.model, HMM):
            yield from _parallel(problem, attempts, processes, bar)
            return
        for attempt in range(1, attempts):
            climb = problem.run(attempt, None, bar.report)
            bar.finish_attempt()
            yield climb
            if climb.stop_reason == "interrupted":
                return
    except KeyboardInterrupt:
        return


def _parallel(problem: _Problem, attempts: int, processes: int, bar: Progress) -> Iterator[Climb]:
    """The random starts in worker processes, one thread each."""
    from joblib import Parallel, delayed

    runs = Parallel(n_jobs=processes, return_as="generator")(
        delayed(problem.run)(attempt) for attempt in range(1, attempts)
    )
    for climb in runs:
        bar.finish_attempt()
        yield climb  # type: ignore[misc]


def _polished(climb: Climb, model: HMM | ProgramModel, series: Sequences, priors: bool) -> Climb:
    """The climb with its last stretch done by L-BFGS, where that rises."""
    found = polish(model, climb.parameters, series, priors)
    if found is None or found[1] <= climb.objective[-1]:
        return climb
    parameters, objective = found
    log_likelihood = model.expect(parameters, series).log_likelihood
    reason = f"{climb.stop_reason}; polished by L-BFGS, {objective - climb.objective[-1]:.1e} nats gained"
    trace = [*climb.objective, objective]
    return Climb(parameters, log_likelihood, trace, reason, climb.converged)


def _best(climbs: list[Climb], model: HMM | ProgramModel) -> int:
    usable = [number for number, climb in enumerate(climbs) if not climb.failed]
    if not usable:
        raise FitError(
            f"A fit must end with every state usable, got from each of {len(climbs)} starts a state that is not: "
            f"{climbs[0].stop_reason}; fit with priors (priors=True, --priors), use fewer states or another family."
        )
    return max(usable, key=lambda number: climbs[number].objective[-1])
