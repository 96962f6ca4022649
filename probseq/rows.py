"""The rows that a family scores: observations beside their lags and a design row, each distinct one once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probseq.context import Context
from probseq.distinct import Distinct, find_distinct

if TYPE_CHECKING:
    from probseq.sequences import Sequences

MOST_CODES = 65536
"""Symbols and their lags are numbered outright up to so many combinations."""


def find_rows(series: Sequences, context: Context, partly: bool) -> Distinct:
    """The distinct rows of a series, with the one missing row for every step that cannot be scored.

    A step cannot be scored when its observation is missing, wholly, or in part unless `partly`; or when one of its
    lags is: missing itself, or before the start of its sequence.

    Args:
        series: the data.
        context: what stands beside the observation.
        partly: keep partly missing vectors as rows with NaN in the missing entries.
    """
    scored = _scored(series, context.lags, partly)
    missing = None if bool(scored.all()) else scored
    values = _with_gaps(series) if partly else series.values
    if not context:
        symbols = None if series.categories is None else len(series.categories)
        return find_distinct(values, missing, symbols)
    if not context.design and values.dtype == torch.uint8 and values.ndim == 1:
        found = _coded(series, context.lags, missing)
        if found is not None:
            return found
    flat = values.reshape(series.total_steps, -1).double()
    columns = [flat, *(_back(flat, lag) for lag in range(1, context.lags + 1))]
    if not context.design:
        return find_distinct(torch.cat(columns, 1), missing, None)
    design, index = context.design.rows(series)
    columns.append(torch.from_numpy(index.astype(np.float64)).unsqueeze(1))
    found = find_distinct(torch.cat(columns, 1), missing, None)
    rows = torch.cat([found.rows[:, :-1], design[found.rows[:, -1].long()]], 1)
    return Distinct(rows, found.index, found.missing_row, found.dense)


def _scored(series: Sequences, lags: int, partly: bool) -> Tensor:
    """(T,) bool."""
    observed = series.observed
    scored = series.step_observed
    if partly and observed is not None and observed.ndim == 2:
        scored = observed.any(1)
    if lags == 0:
        return scored
    lengths, offsets = series.lengths.numpy(), series.offsets.numpy()
    place = np.arange(series.total_steps) - np.repeat(offsets[:-1], lengths)
    known = scored & torch.from_numpy(place >= lags)
    for lag in range(1, lags + 1):
        known = known & _back(series.step_observed, lag)
    return known


def _back(values: Tensor, lag: int) -> Tensor:
    """values[t - lag], the first value before the start."""
    lag = min(lag, len(values))
    return torch.cat([values[:1].expand((lag, *values.shape[1:])), values[: len(values) - lag]])


def _with_gaps(series: Sequences) -> Tensor:
    """The values with NaN at the missing entries of vectors that are measured in part."""
    observed = series.observed
    if observed is None or observed.ndim == 1:
        return series.values
    gap = ~observed & observed.any(1, keepdim=True)
    return torch.where(gap, torch.nan, series.values.double()) if bool(gap.any()) else series.values


def _coded(series: Sequences, lags: int, scored: Tensor | None) -> Distinct | None:
    """Symbols and their lags numbered y_t + M y_{t-1} + ..., where that is few numbers."""
    symbols = len(series.categories) if series.categories is not None else int(series.values.max()) + 1
    count = symbols ** (lags + 1)
    if count + 1 > MOST_CODES:
        return None
    index = series.values.numpy().astype(np.uint8 if count < 256 else np.uint16)
    for lag in range(1, lags + 1):
        index += _back(series.values, lag).numpy().astype(index.dtype) * index.dtype.type(symbols**lag)
    codes = torch.arange(count)
    rows = torch.stack([codes // symbols**power % symbols for power in range(lags + 1)], 1).double()
    if scored is None:
        return Distinct(rows, index, None, dense=False)
    index[~scored.numpy()] = count
    return Distinct(torch.cat([rows, rows[:1]]), index, count, dense=False)
