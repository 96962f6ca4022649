"""The rows that a family scores: observations beside their lags and a design row, each distinct one once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probseq.context import Context
from probseq.distinct import Distinct, find_distinct
from probseq.kmers import MOST_ROWS, find_kmers

if TYPE_CHECKING:
    from probseq.sequences import Sequences


def find_rows(series: Sequences, context: Context, partly: bool) -> Distinct:
    """The distinct rows of a series, with the one missing row for every step that cannot be scored.

    A step cannot be scored when its observation is missing, wholly, or in part unless `partly`; or when one of its
    lags is: missing itself, or before the start of its sequence.

    Args:
        series: the data.
        context: what stands beside the observation.
        partly: keep partly missing vectors as rows with NaN in the missing entries.
    """
    if context.lags and not context.design and series.values.dtype == torch.uint8 and series.values.ndim == 1:
        symbols = len(series.categories) if series.categories is not None else int(series.values.max()) + 1
        if symbols ** (context.lags + 1) <= MOST_ROWS:
            gone = None if series.observed is None else ~series.observed.numpy()
            return find_kmers(series.values.numpy(), gone, series.offsets.numpy(), context.lags, symbols)
    scored = _scored(series, context.lags, partly)
    missing = None if bool(scored.all()) else scored
    values = _with_gaps(series) if partly else series.values
    if not context:
        symbols = None if series.categories is None else len(series.categories)
        return find_distinct(values, missing, symbols)
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
