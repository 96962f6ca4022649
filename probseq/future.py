"""A series continued: steps to come, each missing, with their times and what is known of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.calendar import find_calendar
from probseq.errors import DataError

if TYPE_CHECKING:
    from probseq.sequences import Sequences


def continue_series(series: Sequences, horizon: int, covariates: Any = None) -> Sequences:
    """The series with `horizon` missing steps after the end of each sequence; see `Sequences.future`."""
    time = series.future_index(horizon)
    count = series.count
    order = np.argsort(
        np.concatenate([series.step_sequence.numpy(), np.repeat(np.arange(count), horizon)]), kind="stable"
    )

    def extended(field: Tensor, ahead: Tensor) -> Tensor:
        return torch.cat([field, ahead.to(field.dtype)])[torch.from_numpy(order)]

    def filled(field: Tensor, value: float) -> Tensor:
        return extended(field, torch.full((count * horizon, *field.shape[1:]), value))

    observed = torch.ones(series.values.shape, dtype=torch.bool) if series.observed is None else series.observed
    known = None if covariates is None else _covariates(series, time, covariates)
    longer = series.time is not None and time.name != "steps_ahead"
    return replace(
        series,
        values=extended(series.values, series.values[:1].expand((count * horizon, *series.values.shape[1:]))),
        lengths=series.lengths + horizon,
        observed=filled(observed, False),
        time=series.time.append(time)[order] if longer and series.time is not None else None,
        covariates=None if known is None or series.covariates is None else extended(series.covariates, known),
        covariate_names=series.covariate_names if known is not None else (),
        labels=None if series.labels is None else filled(series.labels, -1 if series.labels.ndim == 1 else 1.0),
    )


def _covariates(series: Sequences, time: pd.Index, covariates: Any) -> Tensor:
    """(N * horizon, C) what is known of the steps ahead, in the order of the series' covariates."""
    names = series.covariate_names
    if isinstance(covariates, pd.DataFrame):
        lacking = [name for name in names if name not in covariates.columns]
        if lacking:
            raise DataError(
                f"future covariates must hold {', '.join(names)}, got no column {lacking[0]!r}; add it to the frame."
            )
        covariates = covariates[list(names)].to_numpy()
    given = torch.from_numpy(np.array(covariates, dtype=np.float64))
    given = given.unsqueeze(1) if given.ndim == 1 else given
    if not names or tuple(given.shape) != (len(time), len(names)):
        raise DataError(
            f"future covariates must hold {len(names)} columns and a row for each of the {len(time)} steps ahead, one "
            f"sequence after the other, got shape {tuple(given.shape)}; give what the series was read with."
        )
    if not bool(given.isfinite().all()):
        raise DataError("future covariates must be finite, got NaN or infinity; give a value for each step ahead.")
    return given


def future_times(series: Sequences, horizon: int) -> pd.Index:
    """The times of the next `horizon` steps of each sequence; see `Sequences.future_index`."""
    if horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}; ask for one step or more.")
    ahead = np.tile(np.arange(1, horizon + 1), series.count)
    if series.time is None:
        return pd.Index(np.repeat(series.lengths.numpy(), horizon) + ahead - 1, name="step")
    calendar = find_calendar(series.time, series.lengths.numpy()) if _increase(series) else None
    if calendar is None:
        return pd.Index(ahead, name="steps_ahead")
    last = series.time[np.repeat(series.offsets.numpy()[1:] - 1, horizon)]
    return calendar.advance(last, ahead)


def _increase(series: Sequences) -> bool:
    """Whether the times rise within each sequence."""
    time, lengths = cast(pd.Index, series.time), series.lengths.numpy()
    if not (pd.api.types.is_numeric_dtype(time.dtype) or hasattr(time, "asi8")):
        return False
    later = np.asarray(time[1:] > time[:-1])
    later[np.cumsum(lengths)[:-1] - 1] = True
    return bool(later.all())
