"""Stochastic variational inference on the marginalised program: EM-like with AutoDelta, or any autoguide.

With AutoDelta it climbs log-likelihood plus log prior to the maximum a posteriori, states summed out exactly; with
AutoNormal and its siblings it fits an approximate posterior of the parameters. Minibatches are whole sequences, their
data scaled by N / n.
"""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuide, AutoIAFNormal, init_to_value
from pyro.optim import ClippedAdam  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor

from probseq.chains.marginalization import marginalize
from probseq.errors import FitError
from probseq.inference.fit import Attempt, Fit, fitted
from probseq.inference.progress import Progress
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel, as_model
from probseq.sequences import Sequences

WINDOW = 50
"""Steps over which the loss is averaged to judge convergence."""

Result = tuple[dict[str, Tensor], dict[str, Tensor], list[float], str]
"""Of one restart: point, draws, ELBO by step, stop reason."""


def svi(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    guide: Callable[[Callable[..., Any]], AutoGuide] | None = None,
    steps: int = 2000,
    learning_rate: float = 0.05,
    batch: int | None = None,
    draws: int = 1000,
    tolerance: float = 1e-6,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Fit:
    """Fit the program's parameters by SVI on the program with its states summed out.

    Args:
        model: an `HMM`, or any Pyro program of one argument, the series, with a `MarkovChain` site.
        series: the data.
        guide: a class of `pyro.infer.autoguide` (or a function that makes a guide); None is AutoDelta.
        steps: at most so many, for each restart.
        learning_rate: of ClippedAdam, in units of the unconstrained parameters; it falls tenfold over the run.
        batch: sequences in a minibatch; None takes all at every step.
        draws: of the parameters from the fitted guide; AutoDelta has one.
        tolerance: stop when the loss, averaged over 50 steps, changes by less than this share of itself.
        restarts: number of starts; the one with the lowest loss is kept.
        seed: of starts, minibatches and draws.
        progress: show a progress bar on standard error.

    Returns:
        The best `Fit`. `objective` is the ELBO, by step; the point is the guide's median or, where it has none
        (normalising flows), its draw of the highest density.

    Raises:
        FitError: the ELBO was not finite in any restart, or an option is out of range.
    """
    if batch is not None and not 1 <= batch <= series.count:
        raise FitError(f"batch must lie between 1 and the number of sequences, {series.count}, got {batch}.")
    if steps < 1 or restarts < 1:
        raise FitError(f"steps and restarts must be at least 1, got {steps} and {restarts}.")
    began = time.perf_counter()
    bound = as_model(model).bind(series, with_priors=True)
    if batch is not None:  # a minibatch is weighted: a program that ignores weights is refused here
        bound.bind(_minibatch(series, batch, torch.Generator().manual_seed(seed)), with_priors=True)
    run = functools.partial(_run, bound, series, guide or AutoDelta, steps, learning_rate, batch, draws, tolerance)
    results: list[Result] = []
    with Progress("SVI", restarts, progress) as bar:
        for attempt in range(restarts):
            results.append(run(attempt, seed, bar.report))
            bar.finish_attempt()
            if results[-1][3] == "interrupted":
                break
    return _fit(bound, series, results, began)


def _fit(model: HMM | ProgramModel, series: Sequences, results: list[Result], began: float) -> Fit:
    """The restart with the highest ELBO at its end, as a `Fit`."""
    usable = [result for result in results if result[2] and math.isfinite(result[2][-1])]
    if not usable:
        raise FitError(f"SVI must reach a finite ELBO, got none in {len(results)} starts; lower learning_rate.")
    point, drawn, objective, reason = max(
        usable, key=lambda result: sum(result[2][-WINDOW:]) / len(result[2][-WINDOW:])
    )
    if not reason.startswith("converged"):
        warnings.warn(f"SVI did not converge: {reason}.", stacklevel=3)
    return fitted(
        model,
        series,
        parameters=point,
        draws=drawn,
        method="svi",
        with_priors=True,
        objective=torch.tensor(objective, dtype=torch.float64),
        converged=reason.startswith("converged"),
        stop_reason=reason,
        seconds=time.perf_counter() - began,
        attempts=tuple(
            Attempt(number, result[2][-1] if result[2] else math.nan, len(result[2]), result[3])
            for number, result in enumerate(results)
        ),
    )


def _run(
    model: HMM | ProgramModel,
    series: Sequences,
    make_guide: Callable[..., AutoGuide],
    steps: int,
    learning_rate: float,
    batch: int | None,
    draws: int,
    tolerance: float,
    attempt: int,
    seed: int,
    report: Callable[[int, float], None],
) -> Result:
    """One restart: (point, draws, ELBO by step, stop reason)."""
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        torch.manual_seed(seed + 7919 * attempt)
        generator = torch.Generator().manual_seed(seed + 7919 * attempt)
        start = model.start(series, attempt, seed)
        program = marginalize(model.program)
        guide = _started(make_guide, program, start)
        optimiser = ClippedAdam({"lr": learning_rate, "lrd": 0.1 ** (1.0 / steps)})
        machine = SVI(program, guide, optimiser, Trace_ELBO())
        objective: list[float] = []
        reason = f"steps = {steps} reached"
        try:
            for step in range(steps):
                part = series if batch is None else _minibatch(series, batch, generator)
                objective.append(-float(machine.step(part)))  # pyright: ignore[reportArgumentType]
                if step % 10 == 0:
                    report(step, objective[-1])
                if not math.isfinite(objective[-1]):
                    reason = f"the ELBO became {objective[-1]} at step {step}"
                    break
                if batch is None and _settled(objective, tolerance):
                    reason = f"converged: the mean ELBO of {WINDOW} steps changed by less than {tolerance:g}"
                    break
        except KeyboardInterrupt:
            if not objective:
                raise
            reason = "interrupted"
        if hasattr(guide, "laplace_approximation"):
            guide = guide.laplace_approximation(series)
        with torch.no_grad():
            drawn = _draws(model, guide, series, 1 if isinstance(guide, AutoDelta) else draws)
            return _point(model, guide, series, drawn), drawn, objective, reason


def _started(make_guide: Callable[..., Any], program: Callable[..., Any], start: dict[str, Tensor]) -> Any:
    """The guide at the start's values where it is an autoguide class; as the function makes it otherwise."""
    if isinstance(make_guide, type) and issubclass(make_guide, AutoGuide):
        if issubclass(make_guide, AutoIAFNormal):  # a flow begins where it likes
            return make_guide(program)
        return make_guide(program, init_loc_fn=init_to_value(values=start))  # type: ignore[call-arg]
    return make_guide(program)


def _minibatch(series: Sequences, size: int, generator: torch.Generator) -> Sequences:
    """Some sequences, each counting N / n times."""
    chosen = torch.randperm(series.count, generator=generator)[:size]
    part = series.take(chosen.numpy())
    ones = torch.ones(size, dtype=torch.float64) if part.weights is None else part.weights
    return replace(part, weights=ones * (series.count / size))


def _settled(objective: list[float], tolerance: float) -> bool:
    """Whether the last two windows have the same mean."""
    if len(objective) < 4 * WINDOW or len(objective) % WINDOW:
        return False
    last, before = sum(objective[-WINDOW:]), sum(objective[-2 * WINDOW : -WINDOW])
    return abs(last - before) <= tolerance * abs(last)


def _draws(model: HMM | ProgramModel, guide: AutoGuide, series: Sequences, count: int) -> dict[str, Tensor]:
    """site -> (S, ...)."""
    each = [model.complete(_detached(guide(series))) for _ in range(count)]
    return {name: torch.stack([draw[name] for draw in each]) for name in each[0]}


def _point(
    model: HMM | ProgramModel, guide: AutoGuide, series: Sequences, drawn: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The guide's median; of a guide that has none, the draw of the highest joint density."""
    try:
        return model.complete(_detached(guide.median(series)))
    except NotImplementedError:
        each = [{name: value[s] for name, value in drawn.items()} for s in range(len(next(iter(drawn.values()))))]
        return max(each, key=lambda one: float(model.log_joint(one, series, True).nan_to_num(nan=-torch.inf)))


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}
