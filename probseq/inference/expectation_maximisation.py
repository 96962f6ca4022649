"""Expectation-maximisation (Baum et al. 1970; Dempster, Laird & Rubin 1977) of any model with hidden states.

E: exact expected counts by one compiled forward-backward pass. M: closed form where the family has one, numerical
otherwise. The objective, log-likelihood or log-likelihood plus log prior, never decreases. It stops when what is
still to be gained, extrapolated by Aitken's rule (Böhning et al. 1994), is below a share of the objective.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.climbing import Climb, Climber, climb_from_starts
from probseq.inference.first_states import try_other_first_states
from probseq.inference.fit import Attempt, Fit, as_draws, fitted
from probseq.inference.last_stretch import polish
from probseq.inference.progress import Progress
from probseq.models.emission_step import emission_data
from probseq.models.hmm import HMM
from probseq.models.knowledge import all_known
from probseq.models.program import ProgramModel, as_model
from probseq.sequences import Sequences

Parameters = dict[str, Tensor]


def em(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    priors: bool | None = None,
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
            AutoDelta finds it), which also keeps states from collapsing. None is maximum likelihood, and falls
            back on the priors, with a warning, where every start ends in a collapsed state.
        restarts: number of starts; the first is deterministic, the others are drawn with `seed`. Where every state is
            labelled one is enough: the expected counts are the counts.
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
        FitError: every start ended in a degenerate state, or the series is impossible under the model's structure
            (labels of a forbidden move, a stay longer than the longest duration); the message says which, where and
            what helps.
    """
    began = time.perf_counter()
    counted = isinstance(model, HMM) and all_known(series)
    attempts = 1 if start is not None or counted else restarts
    if attempts < 1:
        raise FitError(f"restarts must be at least 1, got {restarts}; 1 is the deterministic start alone.")

    def climbs(climber: Climber) -> list[Climb]:
        with Progress("EM", attempts, progress) as bar:
            return list(climb_from_starts(climber, start, attempts, workers, bar))

    climber = Climber(_bind(model, series, bool(priors)), series, bool(priors), tolerance, max_iterations, seed)
    climber, found = _without_collapse(climber, climbs, fall_back=priors is None)
    best = max((climb for climb in found if not climb.failed), key=lambda climb: climb.objective[-1])
    if start is None and best.stop_reason != "interrupted" and not counted:
        best = try_other_first_states(best, climber)
    return _fit(climber, best, found, polished, began)


def _without_collapse(
    climber: Climber, climbs: Callable[[Climber], list[Climb]], fall_back: bool
) -> tuple[Climber, list[Climb]]:
    """The climbs from all starts; with priors where maximum likelihood collapsed from each, if that is allowed."""
    found = climbs(climber)
    if not all(climb.failed for climb in found):
        return climber, found
    collapsed = [climb for climb in found if not climb.impossible]
    if not collapsed:
        raise FitError(found[0].stop_reason)
    collapse = collapsed[0].stop_reason.rstrip(".")
    if fall_back:
        warnings.warn(
            f"Maximum likelihood collapsed from every start ({collapse.split(';')[0]}); fitted with the model's priors "
            "instead. Pass priors=True to ask for that, priors=False to refuse it.",
            stacklevel=3,
        )
        bound = _bind(climber.model, climber.series, True)
        return _without_collapse(replace(climber, model=bound, priors=True), climbs, fall_back=False)
    raise FitError(
        f"A fit must end with every state usable, got a collapsed state from each of {len(found)} starts: {collapse}. "
        "Fit with priors (priors=True), or fewer states, or another family."
    )


def _fit(climber: Climber, climb: Climb, climbs: list[Climb], polished: bool, began: float) -> Fit:
    """The best climb, its last stretch polished, as a `Fit` that reports all climbs."""
    model, series = climber.model, climber.series
    if polished and climb.stop_reason != "interrupted":
        climb = _polished(climb, model, series, climber.priors)
    if not climb.converged:
        warnings.warn(f"EM did not converge: {climb.stop_reason}.", stacklevel=3)
    parameters = model.ordered(climb.parameters, series)
    return fitted(
        model,
        series,
        parameters=parameters,
        draws=as_draws(parameters),
        method="em",
        with_priors=climber.priors,
        log_likelihood=climb.log_likelihood,
        objective=torch.tensor(climb.objective, dtype=torch.float64),
        converged=climb.converged,
        stop_reason="; ".join(filter(None, [climb.stop_reason, _at_limit(model, parameters, series)])),
        seconds=time.perf_counter() - began,
        attempts=tuple(
            Attempt(number, math.nan if one.failed else one.objective[-1], len(one.objective), one.stop_reason)
            for number, one in enumerate(climbs)
        ),
    )


def _at_limit(model: HMM | ProgramModel, parameters: Parameters, series: Sequences) -> str | None:
    """What is to be remarked of a state that is a simpler law than its family, though the fit stands."""
    if not isinstance(model, HMM):
        return None
    rows = emission_data(model.emission, series).rows
    return model.emission.at_limit(model.emission_parameters(parameters), rows)


def _bind(model: HMM | ProgramModel | Callable[..., Any], series: Sequences, priors: bool) -> HMM | ProgramModel:
    bound = as_model(model).bind(series, with_priors=priors)
    if isinstance(bound, HMM) and not priors:
        for design in {bound.transition.design, bound.emission.context.design}:
            design.require_identified(series)
    return bound


def _polished(climb: Climb, model: HMM | ProgramModel, series: Sequences, priors: bool) -> Climb:
    """The climb with its last stretch done by L-BFGS, where that rises."""
    found = polish(model, climb.parameters, series, priors)
    if found is None or found[1] <= climb.objective[-1]:
        return climb
    parameters, objective, flat = found
    log_likelihood = model.expect(parameters, series).log_likelihood
    where = " to a maximum" if flat and not climb.converged else ""
    reason = f"{climb.stop_reason}; polished by L-BFGS{where}, {objective - climb.objective[-1]:.1e} nats gained"
    trace = [*climb.objective, objective]
    return Climb(parameters, log_likelihood, trace, reason, climb.converged or flat)
