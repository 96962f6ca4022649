"""Posterior predictive checks: does the model make series like the data, in what they say of dependence?

Each statistic of the data is held against its law over replicates, series drawn from the model with draws of its
parameters (Rubin 1984; Gelman, Meng & Stern 1996). The posterior predictive p-value is P(T(y_rep) >= T(y)), ties
counting half; far from 1/2, on either side, the model misses what the statistic measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from probseq.diagnostics.dependence import (
    MONTHS,
    autocorrelations,
    mean_direction,
    month_maxima,
    month_sums,
    move_counts,
    spell_durations,
)
from probseq.diagnostics.replicates import replicates as draw_replicates
from probseq.errors import DataError, ModelError
from probseq.families import Product, VonMises
from probseq.families.family import Family
from probseq.inference.fit import Fit
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

Statistic = Callable[[np.ndarray], float | Mapping[str, float]]
"""Of one series (T,) or (T, D), NaN where missing: a number, or several by name."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of a series itself that are compared."""

MOST_SYMBOLS = 8
"""Up to how many symbols every move is counted."""


def predictive_check(
    fit: Fit,
    series: Sequences | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Statistics of the data against those of series that the fitted model makes.

    Args:
        fit: what made it does not matter; draws of the parameters are all used.
        series: the data; None means those that were fitted.
        statistics: name -> function of one series (T,) or (T, D), NaN where missing, that gives a number, or several by
            name; None takes `standard_statistics`, which can be added to: `standard_statistics(fit) | {...}`.
        replicates: how many series to simulate.
        seed: of the simulation.

    Returns:
        one row a statistic that the data or a replicate has: `observed`, the replicates' `q0.05`, `q0.5` and `q0.95`,
        the posterior predictive `p_value`, and whether the observed value lies `inside` the band of 90%. Of ten
        statistics one lies outside even under the right model.

    Raises:
        DataError: fewer than 20 replicates.
    """
    if replicates < 20:
        raise DataError(f"replicates must be at least 20 to make a band of 90%, got {replicates}; draw more.")
    series = fit.data(series)
    chosen = standard_statistics(fit, series) if statistics is None else statistics
    seen = series.values.double().numpy()
    if series.observed is not None:
        seen = np.where(series.observed.numpy(), seen, np.nan)
    observed = pd.Series(_evaluated(chosen, seen))
    drawn = pd.DataFrame(
        [_evaluated(chosen, one) for one in draw_replicates(fit, series, count=replicates, seed=seed)]
    ).reindex(columns=observed.index)
    table = pd.DataFrame({"observed": observed})
    for level in (0.05, 0.5, 0.95):
        table[f"q{level:g}"] = drawn.quantile(level)
    known = drawn.notna()
    above = ((drawn > observed) + 0.5 * (drawn == observed)).where(known)
    table["p_value"] = above.sum().where(observed.notna()) / known.sum().where(known.any())
    table["inside"] = observed.between(table["q0.05"], table["q0.95"])
    return table[observed.notna() | known.any()].rename_axis("statistic")


def _evaluated(statistics: Mapping[str, Statistic], values: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, function in statistics.items():
        value = function(values)
        if isinstance(value, Mapping):
            found |= {f"{name} {part}".strip(): float(one) for part, one in value.items()}
        else:
            found[name] = float(value)
    return found


def standard_statistics(
    fit: Fit,
    series: Sequences | None = None,
    *,
    lags: Sequence[int] = (1, 2, 5, 10),
    threshold: float | None = None,
) -> dict[str, Statistic]:
    """The statistics of a check by default, as fit the data.

    Of numbers: mean, variance, quantiles, largest; autocorrelation of y, |y| and y^2; spells above a threshold and at
    or below it. Of angles: mean direction and resultant length, also of the doubled angles, and their autocorrelation.
    Of dated numbers by calendar month: mean total (amounts) and mean largest value. Of symbols: their shares and the
    moves between them. Of all: share and mean dwell time of each state, along the Viterbi path at the point estimate,
    of the data and of each replicate alike.

    Args:
        fit: whose states are decoded.
        series: the data; None means those that were fitted.
        lags: of the autocorrelations, in steps.
        threshold: between spells; None is zero for amounts some of which are zero, else the median.
    """
    series = fit.data(series)
    found: dict[str, Statistic] = {}
    for column, name in enumerate(series.columns):
        before = "" if len(series.columns) == 1 else f"{name}:"
        for kind, function in _of_column(fit, series, column, lags, threshold).items():
            found[f"{before} {kind}".strip()] = _taking(function, column)
    try:
        fit.posterior(series)
    except ModelError:  # a program of several chains has no one path
        return found
    return found | {"state": lambda values: _decoded(fit, series, values)}


def _taking(function: Statistic, column: int) -> Statistic:
    return lambda values: function(values if values.ndim == 1 else values[:, column])


def _of_column(
    fit: Fit, series: Sequences, column: int, lags: Sequence[int], threshold: float | None
) -> dict[str, Statistic]:
    """The statistics of one column (T,)."""
    lengths = series.lengths.numpy()
    if series.categories is not None or isinstance(fit.model, HMM) and fit.model.emission.nominal:
        names = series.categories or tuple(map(str, range(int(series.values.max()) + 1)))
        return {"": lambda codes: _symbols(codes, lengths, names)}
    known = series.step_observed if series.observed is None or series.observed.ndim == 1 else series.observed[:, column]
    data = series.values.reshape(series.total_steps, -1)[:, column][known].double().numpy()
    lags = [lag for lag in lags if lag < int(lengths.max())]
    turn = _turn(fit.model.emission, column) if isinstance(fit.model, HMM) else None
    if turn is not None:
        centre = mean_direction(data, turn)
        return {"": lambda angles: _directions(angles, turn, centre, lengths, lags)}
    amounts = bool((data >= 0).all())
    cut = threshold if threshold is not None else 0.0 if amounts and bool((data == 0).any()) else float(np.median(data))
    powers = {"ACF of y,": lambda y: y, "ACF of |y|,": np.abs, "ACF of y^2,": np.square}
    if amounts:
        del powers["ACF of |y|,"]
    found: dict[str, Statistic] = {"": _moments}
    for name, power in powers.items():
        found[name] = lambda y, power=power: dict(
            zip([f"lag {lag}" for lag in lags], autocorrelations(power(y), lengths, lags), strict=True)
        )
    found[f"spells above {cut:g},"] = lambda y: _spells(y > cut, ~np.isnan(y), lengths)
    found[f"spells at most {cut:g},"] = lambda y: _spells(y <= cut, ~np.isnan(y), lengths)
    time = series.time
    if isinstance(time, pd.DatetimeIndex) and series.count == 1 and time.is_monotonic_increasing:
        clock = time.tz_localize(None)
        if len(set(clock.month)) > 1 and len(clock) >= 20 * len(clock.to_period("M").unique()):
            if amounts:
                found["monthly total"] = lambda y: _by_month(month_sums(clock, y))
            found["monthly maximum"] = lambda y: _by_month(month_maxima(clock, y))
    return found


def _moments(values: np.ndarray) -> dict[str, float]:
    known = values[~np.isnan(values)]
    found = {"mean": known.mean(), "variance": known.var(), "largest": known.max()}
    return found | {f"quantile {q:.0%}": np.quantile(known, q) for q in LEVELS}


def _turn(family: Family, column: int) -> float | None:
    """One turn of a column of angles, in its unit; None of numbers."""
    if isinstance(family, Product):
        return _turn(family.families[column], 0)
    if isinstance(family, VonMises):
        return family.period
    inner = getattr(family, "inner", None)
    return None if inner is None else _turn(inner, 0)


def _directions(
    angles: np.ndarray, turn: float, centre: float, lengths: np.ndarray, lags: Sequence[int]
) -> dict[str, float]:
    """Of angles (Mardia & Jupp 2000); the mean direction is told within half a turn of `centre`, lest it jump."""
    mean = mean_direction(angles, turn)
    known = angles[~np.isnan(angles)] * (2 * np.pi / turn)
    found = {"mean direction": centre + (mean - centre + turn / 2) % turn - turn / 2}
    found["resultant length"] = float(np.abs(np.exp(1j * known).mean()))
    found["resultant length of doubled angles"] = float(np.abs(np.exp(2j * known).mean()))
    # Jammalamadaka & SenGupta (2001, section 8.2): the correlation of sines about the mean direction, whose mean is 0.
    sines = np.sin((angles - mean) * (2 * np.pi / turn))
    return found | {f"ACF, lag {lag}": r for lag, r in zip(lags, autocorrelations(sines, lengths, lags), strict=True)}


def _spells(happening: np.ndarray, known: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """Of complete spells; NaN where there is none."""
    spells = spell_durations(happening, lengths, known)
    if len(spells) == 0:
        return {"number": 0.0, "mean": np.nan, "90%": np.nan, "longest": np.nan}
    return {
        "number": float(len(spells)),
        "mean": spells.mean(),
        "90%": np.quantile(spells, 0.9),
        "longest": spells.max(),
    }


def _by_month(sums: pd.DataFrame) -> dict[str, float]:
    """Mean over the years of each calendar month."""
    means = sums.iloc[:, 0].groupby(level="month").mean()
    return {MONTHS[int(month) - 1]: float(value) for month, value in means.items()}  # pyright: ignore[reportArgumentType]


def _symbols(codes: np.ndarray, lengths: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    known = codes[~np.isnan(codes)].astype(np.int64)
    shares = np.bincount(known, minlength=len(names)) / max(len(known), 1)
    found = {f"share of {name}": float(share) for name, share in zip(names, shares, strict=True)}
    if len(names) > MOST_SYMBOLS:
        return found
    counts = move_counts(codes, lengths, len(names))
    return found | {f"moves {a} to {b}": float(counts[i, j]) for i, a in enumerate(names) for j, b in enumerate(names)}


def _decoded(fit: Fit, series: Sequences, values: np.ndarray) -> dict[str, float]:
    """Share and mean run length of each state along the Viterbi path."""
    filled = torch.from_numpy(np.nan_to_num(values)).to(series.values.dtype)
    path = fit.posterior(replace(series, values=filled, labels=None))
    states, viterbi = path.states, path.viterbi.numpy()
    opens = np.ones(len(viterbi), dtype=bool)
    opens[1:] = viterbi[1:] != viterbi[:-1]
    opens[series.offsets[:-1].numpy()] = True
    found = {f"{k}, share": float((viterbi == k).mean()) for k in range(states)}
    for k in range(states):
        runs = int((opens & (viterbi == k)).sum())
        found[f"{k}, mean dwell"] = float((viterbi == k).sum() / runs) if runs else np.nan
    return found
