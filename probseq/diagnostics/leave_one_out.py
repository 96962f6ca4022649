"""Leave-one-out cross-validation of steps, and of whole sequences, from the draws of one fit (PSIS-LOO).

    elpd = sum_t log p(y_t | y_-t),   p(y_t | y_-t) = 1 / E_{theta | y}[1 / p(y_t | y_-t, theta)]

The steps of a hidden Markov model depend on each other, so the term of a step is not p(y_t | theta) but p(y_t | y_-t,
theta), all other steps seen, with the states summed out exactly (`StatePosterior.leave_one_out_log_prob`). The average
over draws is by Pareto-smoothed importance sampling (Vehtari, Gelman and Gabry 2017; Vehtari et al. 2024): where the
shape k of the weights is above 0.7 a step has too much to say for that, and a fit without it says what it is worth. A
step within a gap of the series is easier to guess than the future: for that see `leave_future_out`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from probseq.diagnostics.held_out import (
    HeldOut,
    hide_step,
    refuse_weights,
    require_draws,
    require_fitted_data,
    smoothed_weights,
)
from probseq.errors import ModelError
from probseq.inference.fit import Fit, scored_steps
from probseq.inference.pointwise import per_draw
from probseq.inference.progress import Progress
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

MOST_NAMED = 5
"""Steps that a warning names."""


def loo(
    fit: Fit,
    series: Sequences | None = None,
    *,
    fit_function: Callable[[Sequences], Fit] | None = None,
    progress: bool = False,
) -> ELPDData:
    """Expected log predictive density of a left-out step, given all the others, by PSIS.

    What is left out with a step is its label too, where it has one. Only steps with an observation count. Draws of an
    approximation, as of `svi`, are taken as if they were the posterior's.

    Args:
        fit: with draws of the parameters' posterior, of an `HMM` or of a program of one chain whose observations depend
            on the state of their step alone.
        series: the data that was fitted; None is what the fit holds.
        fit_function: fits a series as `fit` was; where given, steps whose Pareto k is too large are left out in truth,
            one fit each.
        progress: show a progress bar for those fits on standard error.

    Returns:
        ArviZ's `ELPDData`: `elpd` and its standard error `se`, the effective number of parameters `p`, and by step
        (dim `step`, from 0 over all sequences) `elpd_i` and `pareto_k`, zero where a step was left out in truth.

    Raises:
        ModelError: a point fit, autoregressive emissions, weighted sequences, or other data than was fitted.
    """
    require_draws(fit, "loo", "compare point fits by fit.bic, or by leave_future_out_exact")
    series = require_fitted_data(fit, series, "loo")
    refuse_weights(series, "loo")
    _refuse_lags(fit)
    steps = scored_steps(fit.model, series).nonzero()[:, 0]
    found = _smoothed(fit, per_draw(fit, series, "leave_one_out_log_prob")[:, steps], "step", steps.numpy())
    if fit_function is not None:
        found = _refitted(found, series, fit_function, progress)
    return _told(found, "step", "pass fit_function to leave them out in truth")


def leave_sequence_out(fit: Fit, series: Sequences | None = None) -> ELPDData:
    """Expected log predictive density of a left-out sequence, by PSIS: sum_n log p(y_n | y_-n).

    Sequences are independent given the parameters, so this holds for every model, autoregressive ones too. Whole
    sequences have much to say, and Pareto k is often large: see `leave_sequence_out_exact`.

    Args:
        fit: with draws of the parameters' posterior.
        series: the data that was fitted, of at least two sequences; None is what the fit holds.

    Returns:
        ArviZ's `ELPDData`, as `loo`, by sequence (dim `sequence`).
    """
    require_draws(fit, "leave_sequence_out", "use leave_sequence_out_exact")
    series = require_fitted_data(fit, series, "leave_sequence_out")
    refuse_weights(series, "leave_sequence_out")
    _require_several(series, "leave_sequence_out")
    found = _smoothed(fit, per_draw(fit, series, "log_evidence"), "sequence", np.arange(series.count))
    return _told(found, "sequence", "use leave_sequence_out_exact")


def leave_sequence_out_exact(
    fit_function: Callable[[Sequences], Fit], series: Sequences, *, progress: bool = False
) -> HeldOut:
    """Log predictive density of each sequence by a fit to the others.

    Args:
        fit_function: fits a series, such as `lambda others: em(HMM(2, family), others)`. With draws the density is
            their average; of a point fit it is the point's own (plug-in).
        series: at least two sequences.
        progress: show a progress bar on standard error.

    Returns:
        `HeldOut` with a row for each sequence: `sequence`, its number from 0, `id`, `elpd` and `fitted`.
    """
    _require_several(series, "leave_sequence_out_exact")
    rows, interrupted = [], False
    with Progress("leave-sequence-out", series.count, progress) as bar:
        try:
            for n in range(series.count):
                fit = fit_function(series.take([other for other in range(series.count) if other != n]))
                if fit.stop_reason.startswith("interrupted"):
                    raise KeyboardInterrupt
                rows.append((n, series.ids[n], float(fit.log_prob(series.take([n]))), True))
                bar.finish_attempt()
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    return HeldOut(pd.DataFrame(rows, columns=["sequence", "id", "elpd", "fitted"]), interrupted)


def compare(fits: Mapping[str, Fit], series: Sequences | None = None, *, method: str = "stacking") -> pd.DataFrame:
    """Rank models of the same data by `loo`.

    Args:
        fits: by name, at least two, each with draws.
        series: the data that all were fitted to; None is what each fit holds.
        method: of the weights: "stacking" (Yao et al. 2018), "BB-pseudo-BMA" or "pseudo-BMA".

    Returns:
        ArviZ's comparison, best first: rank, elpd, p, elpd_diff, weight, se, dse (of the difference), warning; and
        `pareto_k_max`, and `pareto_k_bad`, the number of steps whose k is too large.

    Raises:
        ModelError: fewer than two fits, of other data each, or that score other steps each.
    """
    from arviz_stats.loo import compare as rank

    if len(fits) < 2:
        raise ModelError(f"compare must be given at least two fits, got {len(fits)}; pass {{name: fit, ...}}.")
    found = {name: loo(fit, series) for name, fit in fits.items()}
    first, *others = fits
    for name in others:
        steps = found[first].elpd_i.step.values, found[name].elpd_i.step.values
        if fits[name].fingerprint != fits[first].fingerprint or not np.array_equal(*steps):
            raise ModelError(
                f"compare must be given fits that score the same steps of the same data, got {len(steps[0])} steps of "
                f"'{first}' and {len(steps[1])} of '{name}'; fit both to one series."
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)  # of pandas 3, in arviz-stats 0.8
        table = rank(found, method=method)
    table["pareto_k_max"] = [float(found[str(name)].pareto_k.max()) for name in table.index]
    table["pareto_k_bad"] = [_too_large(found[str(name)]).size for name in table.index]
    return table


def _smoothed(fit: Fit, terms: Tensor, dim: str, numbers: np.ndarray) -> ELPDData:
    """PSIS-LOO of terms (S, n); draws that depend on each other count for fewer, by the terms' own sample sizes."""
    from arviz_base import from_dict
    from arviz_stats.base.array import array_stats
    from arviz_stats.loo import loo as psis_loo

    chains = 1 if fit.sampling is None else fit.sampling.chains
    values = terms.reshape(chains, -1, terms.shape[1]).numpy()
    share = 1.0
    if fit.sampling is not None:
        sizes = array_stats.ess(np.exp(values), chain_axis=0, draw_axis=1, method="mean", relative=True)
        share = min(1.0, float(np.nanmean(sizes)))
    weights, shapes = smoothed_weights(-terms.T.numpy(), share)
    tree = from_dict({"log_likelihood": {"y": values}}, coords={dim: numbers}, dims={"y": [dim]})
    like: Any = tree["log_likelihood"]["y"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)  # ours says where, and what helps
        warnings.filterwarnings("ignore", "The point-wise LOO is the same", UserWarning)  # true of a single step
        found: Any = psis_loo(
            tree,
            pointwise=True,
            reff=share,
            log_weights=like.copy(data=weights.T.reshape(values.shape)),
            pareto_k=like.isel(chain=0, draw=0, drop=True).copy(data=shapes),
        )
    return found


def _refitted(found: ELPDData, series: Sequences, fit_function: Callable[[Sequences], Fit], progress: bool) -> ELPDData:
    """The same with the steps whose weights are too uneven left out in truth."""
    bad = _too_large(found)
    elpd, shape = found.elpd_i.copy(deep=True), found.pareto_k.copy(deep=True)
    p = found.p
    with Progress("leave-one-out", len(bad), progress) as bar:
        for place in bad:
            step = int(found.elpd_i.step[place])
            refit = fit_function(hide_step(series, step))
            terms = per_draw(refit, series, "leave_one_out_log_prob")[:, step]
            exact = float(terms.logsumexp(0)) - math.log(len(terms))
            p += float(elpd[place]) - exact
            elpd[place], shape[place] = exact, 0.0
            bar.finish_attempt()
    result = copy(found)
    result.elpd_i, result.pareto_k, result.p, result.elpd = elpd, shape, p, float(elpd.sum())
    result.se, result.warning = float(np.sqrt(elpd.size * elpd.values.var())), bool((shape > found.good_k).any())
    return result


def _too_large(found: ELPDData) -> np.ndarray:
    """Places of the terms whose Pareto k is above what the draws can bear, the largest first."""
    shape: Any = found.pareto_k.values
    bad = np.flatnonzero(~(shape <= found.good_k))
    return bad[np.argsort(-shape[bad])]


def _told(found: ELPDData, dim: str, remedy: str) -> ELPDData:
    """The same, having warned of terms that importance sampling cannot tell."""
    bad = _too_large(found)
    if bad.size:
        numbers = found.pareto_k[dim].values[bad[:MOST_NAMED]]
        named = ", ".join(str(number) for number in numbers) + (", ..." if bad.size > MOST_NAMED else "")
        warnings.warn(
            f"Pareto k is above {found.good_k:.2f} at {bad.size} of {found.n_data_points} {dim}s ({named}; from 0 over "
            f"all), so their terms are not to be relied on; {remedy}.",
            stacklevel=3,
        )
    return found


def _require_several(series: Sequences, what: str) -> None:
    if series.count < 2:
        raise ModelError(f"{what} must have at least two sequences, got 1; use loo, or leave_future_out for a series.")


def _refuse_lags(fit: Fit) -> None:
    if isinstance(fit.model, HMM) and fit.model.emission.context.lags:
        raise ModelError(
            f"loo must be of observations that depend on the state alone, got {fit.model.emission.name} with "
            f"{fit.model.emission.context.lags} lags, where a step left out would still speak through the next ones; "
            "use leave_future_out."
        )
