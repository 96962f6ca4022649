"""What a series says of its own dependence: autocorrelation, spells, months and moves between symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def autocorrelations(values: np.ndarray, lengths: Sequence[int] | np.ndarray, lags: Sequence[int]) -> np.ndarray:
    """(lags,) correlation of values some steps apart, about one mean; pairs with a missing step are left out.

    r_k = (mean product of the deviations of known pairs) / (mean square of known deviations).

    Args:
        values: (T,), NaN where missing.
        lengths: (N,) steps of each sequence; no pair crosses from one to the next.
        lags: in steps, at least 1.

    >>> autocorrelations(np.array([1.0, -1.0, 1.0, -1.0]), [4], [1, 2])
    array([-1.,  1.])
    """
    seen = ~np.isnan(values)
    deviation = np.where(seen, values - (values[seen].mean() if seen.any() else 0.0), 0.0)
    power = (deviation @ deviation) / max(int(seen.sum()), 1)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    found = []
    for lag in lags:
        pairs = seen[lag:] & seen[:-lag] & (sequence[lag:] == sequence[:-lag])
        total = float(deviation[lag:][pairs] @ deviation[:-lag][pairs])
        found.append(total / pairs.sum() / power if pairs.any() and power > 0 else np.nan)
    return np.array(found)


def mean_direction(angles: np.ndarray, turn: float) -> float:
    """The direction of the sum of unit vectors, in [0, turn) or, where some angle is below zero, half a turn around it.

    Args:
        angles: (T,), NaN where missing.
        turn: the full circle in their unit, such as 360.

    >>> round(mean_direction(np.array([350.0, 20.0]), 360.0), 9)
    5.0
    """
    known = angles[~np.isnan(angles)]
    direction = float(np.angle(np.exp(2j * np.pi / turn * known).mean())) * turn / (2 * np.pi)
    return direction if (known < 0).any() else direction % turn


def spell_durations(
    happening: np.ndarray, lengths: np.ndarray | Sequence[int], known: np.ndarray | None = None
) -> np.ndarray:
    """How many steps each complete spell lasted.

    A spell that runs into the start or the end of its sequence, or into a step that was not measured, has no known
    length and is left out.

    Args:
        happening: (T,) bool, whether the step belongs to a spell (it rained).
        lengths: (N,) steps of each sequence.
        known: (T,) bool, False where the step was not measured; None means all were.

    Returns:
        (spells,) int64, in order of time.

    >>> spell_durations(np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1], dtype=bool), [10]).tolist()
    [2, 3]
    """
    code = happening.astype(np.int8)
    if known is not None:
        code = np.where(known, code, -1).astype(np.int8)
    walls = np.cumsum(np.asarray(lengths))[:-1]
    code = np.insert(code, walls, -1)  # an unmeasured step between sequences, so that no spell crosses over
    changes = np.flatnonzero(np.diff(code)) + 1
    first = np.concatenate([[0], changes])
    last = np.concatenate([changes, [len(code)]])
    before = np.concatenate([[-1], code[first[1:] - 1]])
    after = np.concatenate([code[last[:-1]], [-1]])
    complete = (code[first] == 1) & (before == 0) & (after == 0)
    return (last - first)[complete].astype(np.int64)


def month_sums(time: pd.DatetimeIndex, values: np.ndarray, complete: float = 0.9) -> pd.DataFrame:
    """Totals of each month of each year, scaled up where a few steps are missing.

    Args:
        time: (T,) dates of one sequence.
        values: (T,) or (T, S) amounts, NaN where missing.
        complete: a month with a smaller share of its steps measured is left out.

    Returns:
        one row a (year, month), columns 0 .. S - 1: the mean of the measured steps times the steps of a full month.
    """
    table = pd.DataFrame(values if values.ndim == 2 else values[:, None])
    keys = [time.year.rename("year"), time.month.rename("month")]
    grouped = table.groupby(keys)
    measured = grouped.count()
    days = pd.Series(time.days_in_month).groupby(keys).first()
    full = days * (measured.max(axis=1) / days).max()  # steps of a month in which none is missing
    totals = grouped.sum().div(measured).mul(full, axis=0)
    return totals.where(measured.ge(complete * full, axis=0)).dropna(how="all")


def month_maxima(time: pd.DatetimeIndex, values: np.ndarray) -> pd.DataFrame:
    """The largest value of each month of each year: one row a (year, month), columns as for `month_sums`."""
    table = pd.DataFrame(values if values.ndim == 2 else values[:, None])
    return table.groupby([time.year.rename("year"), time.month.rename("month")]).max().dropna(how="all")


def move_counts(codes: np.ndarray, lengths: Sequence[int] | np.ndarray, symbols: int) -> np.ndarray:
    """(M, M) how often each symbol follows each; pairs with a missing step (NaN) are left out.

    >>> move_counts(np.array([0.0, 1.0, 1.0, np.nan, 0.0]), [5], 2).tolist()
    [[0, 1], [0, 1]]
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    known = ~np.isnan(codes[1:]) & ~np.isnan(codes[:-1]) & (sequence[1:] == sequence[:-1])
    cell = codes[:-1][known].astype(np.int64) * symbols + codes[1:][known].astype(np.int64)
    return np.bincount(cell, minlength=symbols * symbols).reshape(symbols, symbols)
