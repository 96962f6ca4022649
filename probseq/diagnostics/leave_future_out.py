"""Leave-future-out cross-validation: how well a model that has seen the past foretells the next M steps.

    elpd = sum_i log p(y_i..i+M-1 | y_<i),   p(. | y_<i) = E_{theta | y_<i}[ p(. | y_<i, theta) ],   i = L, L + 1, ...

(Bürkner, Gabry & Vehtari 2020.) Exactly, the model is fitted again before each i. The approximation keeps the draws
of the last fit, at i*, and weighs them by p(y_i*..i-1 | y_<i*, theta), Pareto-smoothed; where the shape k of the
weights grows above 0.7 the model is fitted again. Steps are foretold with the states summed out, so that every model
can be judged, autoregressive ones too, and the terms of several models can be subtracted from each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor

from probseq.diagnostics.held_out import HeldOut, refuse_weights, require_draws, smoothed_weights
from probseq.errors import ModelError
from probseq.inference.fit import Fit, scored_steps
from probseq.inference.pointwise import per_draw
from probseq.inference.progress import Progress
from probseq.sequences import Sequences

Fitting = Callable[[Sequences], Fit]

LARGEST_SHAPE = 0.7
"""Pareto k above which weighted draws are not relied on (Vehtari et al. 2024)."""


def leave_future_out_exact(
    fit_function: Fitting, series: Sequences, *, first: int, horizon: int = 1, progress: bool = False
) -> HeldOut:
    """Leave-future-out by a fit before each stretch.

    Args:
        fit_function: fits a series, such as `lambda past: em(HMM(2, family), past)`. With draws the density is their
            average; of a point fit it is the point's own (plug-in), which knows nothing of the parameters' doubt.
        series: one sequence, or several that are cut at the same step each; a sequence takes part in the stretches that
            it has in full.
        first: L, the steps that are seen before the first stretch.
        horizon: M, the steps of a stretch.
        progress: show a progress bar on standard error.

    Returns:
        `HeldOut` with a row for each stretch: `step`, the first one, which is how many were seen of each sequence;
        `elpd`, of all sequences together; `observations`, how many were foretold; `pareto_k`, of the weights of the
        draws, zero right after a fit; `fitted`, whether there was one. Stretches without an observation have none. With
        M > 1 stretches overlap, and a step counts up to M times in the sum.

    Raises:
        ModelError: weighted sequences, or steps that leave no stretch.
    """
    return _leave_future_out(fit_function, series, first, horizon, progress, LARGEST_SHAPE, exactly=True)


def leave_future_out(
    fit_function: Fitting,
    series: Sequences,
    *,
    first: int,
    horizon: int = 1,
    largest_shape: float = LARGEST_SHAPE,
    progress: bool = False,
) -> HeldOut:
    """Leave-future-out by Pareto-smoothed importance sampling, fitting again where that is needed.

    Args:
        fit_function: fits a series; its fits must have draws of the parameters' posterior. Give its model priors of
            its own: default ones are on the scale of the data, and each refit sees other data.
        series: as for `leave_future_out_exact`.
        first: L, the steps that are seen before the first stretch.
        horizon: M, the steps of a stretch.
        largest_shape: Pareto k above which the model is fitted again.
        progress: show a progress bar on standard error.

    Returns:
        As `leave_future_out_exact`.

    Raises:
        ModelError: point fits, weighted sequences, or steps that leave no stretch.
    """
    return _leave_future_out(fit_function, series, first, horizon, progress, largest_shape, exactly=False)


def _leave_future_out(
    fit_function: Fitting,
    series: Sequences,
    first: int,
    horizon: int,
    progress: bool,
    largest_shape: float,
    exactly: bool,
) -> HeldOut:
    refuse_weights(series, "leave-future-out")
    starts = _starts(series, first, horizon)
    rows: list[dict[str, float]] = []
    interrupted = False
    with Progress("leave-future-out", len(starts), progress) as bar:
        try:
            for row in _stretches(fit_function, series, starts, horizon, largest_shape, exactly):
                rows.extend([row] if row["observations"] else [])
                bar.finish_attempt()
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    table = pd.DataFrame(rows, columns=["step", "elpd", "observations", "pareto_k", "fitted"])
    return HeldOut(table, interrupted)


def _stretches(
    fit_function: Fitting, series: Sequences, starts: range, horizon: int, largest_shape: float, exactly: bool
) -> Iterator[dict[str, float]]:
    """A row of the table for each stretch."""
    age = torch.cat([torch.arange(int(length)) for length in series.lengths])
    in_full = series.lengths[series.step_sequence]
    fitted, terms, scored = -1, torch.zeros(0), torch.zeros(0)
    for start in starts:
        weights, shape = None, 0.0
        if fitted >= 0 and not exactly:
            since = terms[:, (age >= fitted) & (age < start)].sum(-1)
            smoothed, found = smoothed_weights(since.unsqueeze(0).numpy())
            weights, shape = torch.from_numpy(smoothed[0]), float(found[0])
        again = fitted < 0 or exactly or not shape <= largest_shape
        if again:
            fit = _past(fit_function, series, start, exactly)
            fitted, weights, shape = start, None, 0.0
            end = start + horizon if exactly else int(series.lengths.max())
            seen = _before(series, end)
            terms, scored = _terms(fit, seen, series, age, end)
        stretch = (age >= start) & (age < start + horizon) & (start + horizon <= in_full)
        ahead = terms[:, stretch].sum(-1)
        count = len(ahead)
        elpd = ahead.logsumexp(0) - math.log(count) if weights is None else (ahead + weights).logsumexp(0)
        yield {
            "step": start,
            "elpd": float(elpd),
            "observations": int(scored[stretch].sum()),
            "pareto_k": shape,
            "fitted": again,
        }


def _terms(fit: Fit, seen: Sequences, series: Sequences, age: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """(S, T) one-step predictive log densities on the steps of the whole series, and which of them are scored (T,)."""
    within = age < end
    found = per_draw(fit, seen, "predictive_log_prob")
    terms = found.new_zeros(len(found), series.total_steps)
    terms[:, within] = found
    scored = torch.zeros(series.total_steps, dtype=torch.bool)
    scored[within] = scored_steps(fit.model, seen)
    return terms, scored


def _past(fit_function: Fitting, series: Sequences, start: int, exactly: bool) -> Fit:
    fit = fit_function(_before(series, start))
    if fit.stop_reason.startswith("interrupted"):
        raise KeyboardInterrupt
    if not exactly:
        require_draws(fit, "leave_future_out", "use leave_future_out_exact")
    return fit


def _before(series: Sequences, step: int) -> Sequences:
    """The first steps of each sequence."""
    return series if step >= int(series.lengths.max()) else series.split(step)[0]


def _starts(series: Sequences, first: int, horizon: int) -> range:
    longest = int(series.lengths.max())
    if first < 1 or horizon < 1:
        raise ModelError(f"first and horizon must be at least 1, got {first} and {horizon}; give one step or more.")
    if first + horizon > longest:
        raise ModelError(
            f"first + horizon must be at most the steps of the longest sequence, {longest}, got {first} + {horizon}; "
            "start earlier, or look less far ahead."
        )
    return range(first, longest - horizon + 1)
