"""Evenly spaced times: which grid a time index lies on, how many steps lie between two rows, what comes next.

One transition of a model is one step of the calendar, so a step missing from the data must be known as missing. A
calendar is found when more than half of all moves are the same length and every other move is a multiple of it; a
time index without one is irregular, and its rows are taken as consecutive steps.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Unit = Literal["tick", "month", "month end", "weekday", "number"]

HOLIDAY_WEEKDAYS = 10
"""A weekday series (a market) may skip this many weekdays in a row, as holidays, without being called incomplete."""


def show_time(moment: object) -> str:
    """A time as a reader writes it: a day without its midnight."""
    if isinstance(moment, pd.Timestamp) and moment == moment.normalize():
        return str(moment.date())
    return str(moment)


@dataclass(frozen=True)
class Calendar:
    """A grid of times.

    Attributes:
        unit: what one ordinal counts. "tick" is the index's own integer (nanoseconds, periods, integer numbers);
            "month" and "month end" count months at one day of the month or at its last day; "weekday" counts
            Monday to Friday; "number" is a float measured in steps.
        step: ordinals from one step to the next ("number": the length of a step in the index's own unit).
        wall: whether a time zone is set aside, so that a day is a day across a change of the clocks.
    """

    unit: Unit
    step: float
    wall: bool = False

    def steps_between(self, time: pd.Index) -> np.ndarray:
        """Steps from each time to the next, (T - 1,) int64; 1 where nothing is missing."""
        ordinals = _ordinals(time, self.unit, self.wall)
        if self.unit == "number":
            return np.rint(np.diff(ordinals) / self.step).astype(np.int64)
        return np.diff(ordinals) // int(self.step)

    def advance(self, time: pd.Index, steps: np.ndarray) -> pd.Index:
        """The times (M,) that lie `steps` (M,) steps after `time` (M,)."""
        moved = _ordinals(time, self.unit, self.wall) + steps * (self.step if self.unit == "number" else int(self.step))
        return _times(moved, time, self.unit, self.wall)

    @property
    def most_missing(self) -> int:
        """How many steps in a row may be absent before the series counts as having a gap."""
        return HOLIDAY_WEEKDAYS if self.unit == "weekday" else 0

    def describe(self, time: pd.Index) -> str:
        """The calendar in a word or two, for messages about `time`."""
        months = {1: "monthly", 3: "quarterly", 12: "yearly"}
        if self.unit in ("month", "month end"):
            return months.get(int(self.step), f"{int(self.step)}-month")
        if self.unit == "weekday":
            return "weekday" if self.step == 1 else f"{int(self.step)}-weekday"
        if isinstance(time, pd.PeriodIndex):
            return f"periods {time.freqstr}"
        if isinstance(time, pd.DatetimeIndex | pd.TimedeltaIndex):
            length = pd.Timedelta(np.timedelta64(int(self.step), time.unit))
            names = {pd.Timedelta(days=1): "daily", pd.Timedelta(days=7): "weekly", pd.Timedelta(hours=1): "hourly"}
            return names.get(length, f"{length}")
        return f"steps of {self.step:g}"


def find_calendar(time: pd.Index, lengths: np.ndarray) -> Calendar | None:
    """The calendar that sequences of increasing times lie on, or None when they are irregular.

    Args:
        time: (T,) times of all sequences, one after the other, increasing within each.
        lengths: (N,) steps of each sequence.
    """
    inside = np.ones(max(len(time) - 1, 0), dtype=bool)
    inside[np.cumsum(lengths)[:-1] - 1] = False
    if not inside.any():
        return None
    if not isinstance(time, pd.DatetimeIndex):
        unit: Unit = "number" if pd.api.types.is_float_dtype(time.dtype) else "tick"
        return _regular(time, unit, False, inside)
    clock = time.tz_localize(None)
    hour = clock - clock.normalize()
    once_a_day = bool((hour == hour[0]).all())
    wall = time.tz is not None and once_a_day
    if once_a_day:
        if bool((clock.day == clock.day[0]).all()):
            return _regular(time, "month", wall, inside)
        if bool(clock.is_month_end.all()):
            return _regular(time, "month end", wall, inside)
        if bool((clock.day_of_week < 5).all()) and clock.max() - clock.min() >= pd.Timedelta(days=7):
            weekdays = _regular(time, "weekday", wall, inside)
            if weekdays is not None and weekdays.step == 1:
                return weekdays
    return _regular(time, "tick", wall, inside)


def _regular(time: pd.Index, unit: Unit, wall: bool, inside: np.ndarray) -> Calendar | None:
    """The calendar of this unit if one length of move dominates and divides all the others."""
    moves = np.diff(_ordinals(time, unit, wall))[inside]
    if unit == "number":
        step = float(np.median(moves))
        moves = moves / step
        whole = np.rint(moves)
        if np.abs(moves - whole).max() > 1e-3 or np.mean(whole == 1) <= 0.5:
            return None
        return Calendar(unit, step, wall)
    lengths, counts = np.unique(moves, return_counts=True)
    step = int(lengths[counts.argmax()])
    if counts.max() <= 0.5 * len(moves) or step <= 0 or (lengths % step).any():
        return None
    return Calendar(unit, step, wall)


def _ordinals(time: pd.Index, unit: Unit, wall: bool) -> np.ndarray:
    if not isinstance(time, pd.DatetimeIndex):
        if isinstance(time, pd.PeriodIndex | pd.TimedeltaIndex):
            return np.asarray(time.asi8)  # type: ignore[attr-defined]
        return time.to_numpy()
    clock = time.tz_localize(None) if unit != "tick" or wall else time
    if unit == "tick":
        return np.asarray(clock.asi8)  # type: ignore[attr-defined]
    if unit in ("month", "month end"):
        return np.asarray(clock.year, dtype=np.int64) * 12 + np.asarray(clock.month, dtype=np.int64) - 1
    days = clock.normalize().to_numpy().astype("datetime64[D]").astype(np.int64) + 3  # day 0 is a Monday
    return days // 7 * 5 + days % 7


def _times(ordinals: np.ndarray, like: pd.Index, unit: Unit, wall: bool) -> pd.Index:
    if isinstance(like, pd.PeriodIndex):
        return pd.PeriodIndex.from_ordinals(ordinals, freq=like.freq, name=like.name)  # type: ignore[attr-defined]
    if isinstance(like, pd.TimedeltaIndex):
        return pd.TimedeltaIndex(ordinals.astype(f"timedelta64[{like.unit}]")).rename(like.name)
    if not isinstance(like, pd.DatetimeIndex):
        return pd.Index(ordinals, name=like.name)
    if unit == "tick":
        times = pd.DatetimeIndex(ordinals.astype(f"datetime64[{like.unit}]"))
        if like.tz is not None and not wall:
            return times.tz_localize("UTC").tz_convert(like.tz).rename(like.name)
    else:
        clock = like.tz_localize(None)
        if unit == "weekday":
            days = (ordinals // 5 * 7 + ordinals % 5 - 3).astype("datetime64[D]")
        else:
            month = (ordinals - 1970 * 12).astype("datetime64[M]")
            if unit == "month end":
                days = (month + 1).astype("datetime64[D]") - 1
            else:
                days = month.astype("datetime64[D]") + (np.asarray(clock.day, dtype=np.int64) - 1)
        times = pd.DatetimeIndex(days.astype(f"datetime64[{like.unit}]")) + (clock - clock.normalize())
    if like.tz is not None:
        summer = np.ones(len(times), dtype=bool)
        times = times.tz_localize(like.tz, nonexistent="shift_forward", ambiguous=summer)
    return times.rename(like.name)
