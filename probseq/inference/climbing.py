"""One run of EM from one start, and the runs from all starts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from probseq.inference.impossible import why_impossible
from probseq.inference.progress import Progress
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]
Report = Callable[[int, float], None]

PATIENCE = 20.0
"""Seconds that the remaining starts may take before worker processes are worth starting."""


@dataclass(frozen=True, eq=False)
class Climb:
    """One run of EM from one start.

    Args:
        parameters: at the last E-step.
        log_likelihood: at these parameters.
        objective: by iteration.
        stop_reason: in words.
        converged: whether the tolerance was reached.
        failed: whether a state degenerated, or the series is impossible, so that the run is not to be used.
        impossible: whether the series had no probability at the start.
    """

    parameters: Parameters
    log_likelihood: float
    objective: list[float]
    stop_reason: str
    converged: bool
    failed: bool = False
    impossible: bool = False


@dataclass(frozen=True, eq=False)
class Climber:
    """All that one start needs, sent whole to a worker process.

    Args:
        model: bound to the series.
        series: the data.
        priors: whether the objective has the log prior in it.
        tolerance: share of the objective still to gain at which to stop.
        max_iterations: for one start.
        seed: of the random starts.
    """

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
        kept, log_likelihood, moved = parameters, -math.inf, False
        try:
            while True:
                counts = model.expect(parameters, series)
                objective = counts.log_likelihood + (float(model.log_prior(parameters, series)) if self.priors else 0.0)
                if objective == -math.inf < counts.log_likelihood and not (trace or moved):
                    moved = True  # a start on the edge of a prior: the M-step leaves it
                    parameters = model.maximise(parameters, counts, self.priors, series)
                    continue
                if counts.log_likelihood == -math.inf and not (trace or moved):
                    reason = why_impossible(model, parameters, series)
                    return Climb(kept, log_likelihood, [math.nan], reason, False, failed=True, impossible=True)
                if not math.isfinite(objective):
                    reason = model.degenerate(parameters, series) or f"the log-likelihood became {objective}"
                    return Climb(kept, log_likelihood, trace or [math.nan], reason, False, failed=True)
                if trace and objective < trace[-1] - 1e-9 * abs(trace[-1]):
                    return self._ended(kept, log_likelihood, trace, "the objective fell", False)
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


def climb_from_starts(
    climber: Climber, start: Parameters | None, attempts: int, workers: int | None, bar: Progress
) -> Iterator[Climb]:
    """Every start in order, the first one deterministic; an interrupt ends the list with what there is."""
    began = time.perf_counter()
    first = climber.run(0, start, bar.report)
    bar.finish_attempt()
    yield first
    if first.stop_reason == "interrupted" or attempts == 1:
        return
    expected = (time.perf_counter() - began) * (attempts - 1)
    processes = (2 if expected > PATIENCE else 1) if workers is None else workers
    try:
        if processes > 1 and isinstance(climber.model, HMM):
            yield from _parallel(climber, attempts, processes, bar)
            return
        for attempt in range(1, attempts):
            climb = climber.run(attempt, None, bar.report)
            bar.finish_attempt()
            yield climb
            if climb.stop_reason == "interrupted":
                return
    except KeyboardInterrupt:
        return


def _parallel(climber: Climber, attempts: int, processes: int, bar: Progress) -> Iterator[Climb]:
    """The random starts in worker processes, one thread each."""
    from joblib import Parallel, delayed

    runs = Parallel(n_jobs=processes, return_as="generator")(
        delayed(climber.run)(attempt) for attempt in range(1, attempts)
    )
    for climb in runs:
        bar.finish_attempt()
        yield climb  # type: ignore[misc]
