"""Where a point in time cuts each sequence of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from probseq.calendar import show_time
from probseq.errors import DataError

if TYPE_CHECKING:
    from probseq.sequences import Sequences


def cut_steps(series: Sequences, at: str | float | pd.Timestamp) -> np.ndarray:
    """The flat step (N,) at which each sequence is cut."""
    lengths, starts = series.lengths.numpy(), series.offsets.numpy()[:-1]
    if isinstance(at, int | np.integer):
        return starts + np.clip(int(at) if at >= 0 else lengths + int(at), 0, lengths)
    if isinstance(at, float):
        if not 0 < at < 1:
            raise DataError(f"a share to split at must lie between 0 and 1, got {at}; give 0.8, or a step count.")
        return starts + np.rint(at * lengths).astype(np.int64)
    if series.time is None:
        raise DataError(f"a time to split at must have a time index to refer to, got {at!r}; give a step count.")
    try:
        if pd.api.types.is_numeric_dtype(series.time.dtype):
            before = series.time.to_numpy() < float(cast(str, at))
        elif isinstance(series.time, pd.PeriodIndex):
            before = series.time < pd.Period(at, freq=cast(Any, series.time.freq))
        else:
            moment = pd.Timestamp(at)
            zone = getattr(series.time, "tz", None)
            before = series.time < (moment.tz_localize(zone) if zone is not None and moment.tz is None else moment)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"a point to split at must be a time of the index, got {at!r} for {series.time.dtype} times; write it"
            f" like {show_time(series.time[0])}."
        ) from error
    return starts + np.add.reduceat(np.asarray(before).astype(np.int64), starts)
