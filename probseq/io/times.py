"""Times in: a column of dates, periods or numbers becomes an index, checked to increase and to have no gaps."""

import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
import pandas as pd

from probseq.calendar import Calendar, find_calendar, show_time
from probseq.errors import DataError

Locate = Callable[[int], str]
"""Says where a row of the input is, in words for a message."""

_TIME_OF_DAY = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*([AaPp][Mm])?"


def read_times(column: pd.Series, locate: Locate) -> pd.Index:
    """The times (T,) of a column: dates and periods as they are, text parsed, eight-digit numbers read as YYYYMMDD.

    Raises:
        DataError: if a time is missing, cannot be read, or is a date that could mean two days.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"time {column.name!r} must be known at every row, got none at {locate(int(missing.argmax()))}; fill it in"
            " or drop the row."
        )
    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype | pd.DatetimeTZDtype):
        return pd.Index(column, name=column.name)
    if column.dtype.kind in "iuf":
        return _numbers(column, locate)
    text = column.astype(str).str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all():
        return _numbers(numbers, locate)
    return _dates(column, text, locate)


def check_order(time: pd.Index, lengths: np.ndarray, ids: pd.Index, locate: Locate) -> None:
    """Refuse times (T,) that repeat or go back within a sequence of `lengths` (N,)."""
    try:
        wrong = ~np.asarray(time[1:] > time[:-1])
    except TypeError as error:
        raise DataError(
            f"time must be dates or numbers, got {type(time[0]).__name__}; convert it with pandas.to_datetime."
        ) from error
    wrong[np.cumsum(lengths)[:-1] - 1] = False
    if not wrong.any():
        return
    step = int(wrong.argmax()) + 1
    sequence = ids[int(np.searchsorted(np.cumsum(lengths), step, side="right"))]
    within = f" of sequence {str(sequence)!r}" if len(lengths) > 1 else ""
    if time[step] == time[step - 1]:
        raise DataError(
            f"time must not repeat within a sequence, got {show_time(time[step])} twice at {locate(step)}{within}; drop"
            " or combine the duplicates, or name the group column if several series are stacked."
        )
    raise DataError(
        f"time must increase within a sequence, got {show_time(time[step])} after {show_time(time[step - 1])} at"
        f" {locate(step)}{within}; sort by time, or name the group column if several series are stacked."
    )


def missing_steps(time: pd.Index, lengths: np.ndarray, locate: Locate, fill_gaps: bool) -> np.ndarray:
    """How many steps (T,) are missing after each row, on the calendar that the times keep; zero on an irregular one.

    Raises:
        DataError: if steps are missing and `fill_gaps` is False, or it is True and there is no calendar.
    """
    calendar = find_calendar(time, lengths)
    missing = np.zeros(len(time), dtype=np.int64)
    if calendar is None:
        if fill_gaps and bool((lengths > 1).any()):
            raise DataError(
                f"time must be regular for gaps to be filled, got irregular steps from {show_time(time[0])}; round the"
                " times, or leave fill_gaps out."
            )
        return missing
    missing[:-1] = calendar.steps_between(time) - 1
    missing[np.cumsum(lengths) - 1] = 0
    if fill_gaps:
        _refuse_flood(missing, time, calendar)
        return missing
    if missing.max() > calendar.most_missing:
        step = int((missing > calendar.most_missing).argmax())
        raise DataError(
            f"time must have no gaps on its calendar ({calendar.describe(time)}), got {missing[step]} missing"
            f" step{'s' if missing[step] > 1 else ''} after {show_time(time[step])} at {locate(step)}; fill the gaps"
            " (fill_gaps=True inserts missing steps), or leave time out to take the rows as consecutive."
        )
    return np.zeros(len(time), dtype=np.int64)


def fill(time: pd.Index, lengths: np.ndarray, missing: np.ndarray) -> tuple[pd.Index, np.ndarray]:
    """The times with `missing` (T,) steps inserted after each row, and each new row's old one, -1 if inserted."""
    calendar = cast(Calendar, find_calendar(time, lengths))
    row = np.repeat(np.arange(len(time)), missing + 1)
    steps = np.arange(len(row)) - np.repeat(np.cumsum(missing + 1) - missing - 1, missing + 1)
    filled = calendar.advance(time[row], steps)
    return filled, np.where(steps == 0, row, -1)


def _refuse_flood(missing: np.ndarray, time: pd.Index, calendar: Calendar) -> None:
    inserted = int(missing.sum())
    if inserted > 1_000_000 + 100 * len(time):
        raise DataError(
            f"gaps to fill must be of a reasonable length, got {inserted:,} missing steps for {len(time):,} rows"
            f" ({calendar.describe(time)}); resample to a coarser step, or leave fill_gaps out."
        )


def _numbers(column: pd.Series, locate: Locate) -> pd.Index:
    numbers = column.to_numpy()
    if column.dtype.kind == "f":
        infinite = ~np.isfinite(numbers)
        if infinite.any():
            raise DataError(
                f"time {column.name!r} must be finite, got {numbers[infinite][0]} at {locate(int(infinite.argmax()))};"
                " correct it or drop the row."
            )
        if (numbers == np.rint(numbers)).all() and np.abs(numbers).max() < 2**53:
            numbers = numbers.astype(np.int64)
    if numbers.dtype.kind in "iu":
        numbers = numbers.astype(np.int64)
        if len(numbers) and numbers.min() >= 16770922 and numbers.max() <= 22611231:
            dates = pd.to_datetime(pd.Series(numbers).astype(str), format="%Y%m%d", errors="coerce")
            if dates.notna().all():
                return pd.DatetimeIndex(dates, name=column.name)
    return pd.Index(numbers, name=column.name)


def _dates(column: pd.Series, text: pd.Series, locate: Locate) -> pd.Index:
    for zone in ({}, {"utc": True}):  # offsets that change with the clocks have one index in UTC only
        iso = _parse(text, format="ISO8601", **zone)
        if iso.notna().all():
            return pd.DatetimeIndex(iso, name=column.name)
    dated = ~text.str.fullmatch(_TIME_OF_DAY)  # pandas would take a time without a day to be today's
    month_first, day_first = (_parse(text, dayfirst=first).where(dated) for first in (False, True))
    unread = (month_first.isna() & day_first.isna()).to_numpy()
    if unread.any() or (month_first.isna().any() and day_first.isna().any()):
        row = int((unread if unread.any() else month_first.isna().to_numpy()).argmax())
        raise DataError(
            f"time {column.name!r} must hold dates or numbers, got {column.iloc[row]!r} at {locate(row)}; write dates"
            " as 2015-12-31."
        )
    if month_first.notna().all() and day_first.notna().all():
        differ = (month_first != day_first).to_numpy()
        if differ.any():
            row = int(differ.argmax())
            raise DataError(
                f"time {column.name!r} must be unambiguous, got {column.iloc[row]!r} at {locate(row)}, which is a day"
                f" in either of two months; write dates as {month_first.iloc[row].date()}."
            )
    return pd.DatetimeIndex(month_first if month_first.notna().all() else day_first, name=column.name)


def _parse(text: pd.Series, **how: object) -> pd.Series:
    """Dates, NaT where a text is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns when it has to guess a format; what it guesses is checked here
        try:
            parsed = pd.to_datetime(text, errors="coerce", **how)  # type: ignore[call-overload]
        except (ValueError, TypeError, OverflowError):
            return pd.Series(pd.NaT, index=text.index)
    return parsed if parsed.dtype.kind == "M" else pd.Series(pd.NaT, index=text.index)
