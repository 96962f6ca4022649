"""Calendars: what counts as regular, and stepping on each kind of grid, against pandas' own date ranges."""

import numpy as np
import pandas as pd
import pytest

from probseq.calendar import find_calendar


def whole(time: pd.Index) -> np.ndarray:
    return np.array([len(time)])


GRIDS = {
    "daily": pd.date_range("2023-12-20", periods=90),
    "daily, zoned": pd.date_range("2024-01-20", periods=90, tz="Europe/Berlin"),
    "hourly": pd.date_range("2024-03-30 06:30", periods=60, freq="h"),
    "hourly, zoned": pd.date_range("2024-03-30 06:30", periods=60, freq="h", tz="Europe/Berlin"),
    "weekly": pd.date_range("2023-11-01", periods=30, freq="W-WED"),
    "weekday": pd.bdate_range("2023-12-20", periods=40),
    "monthly": pd.date_range("2023-11-15", periods=30, freq="MS") + pd.Timedelta(days=14),
    "month end": pd.date_range("2023-11-30", periods=30, freq="ME"),
    "quarterly": pd.date_range("1951-04-01", periods=30, freq="QS"),
    "yearly": pd.date_range("1900-12-31", periods=30, freq="YE"),
    "every 5 minutes": pd.date_range("2024-01-01 00:05", periods=30, freq="5min"),
    "periods": pd.period_range("2020-01", periods=30, freq="M"),
    "years as numbers": pd.Index(np.arange(1900, 1930)),
    "every tenth": pd.Index(np.arange(0, 300, 10)),
    "seconds as numbers": pd.Index(1.7e9 + 0.1 * np.arange(30)),
    "elapsed": pd.timedelta_range("1h", periods=30, freq="2h"),
}


@pytest.mark.parametrize("time", GRIDS.values(), ids=GRIDS)
def test_a_grid_is_found_and_followed(time: pd.Index) -> None:
    calendar = find_calendar(time, whole(time))
    assert calendar is not None
    assert (calendar.steps_between(time) == 1).all()
    start = time[[0] * (len(time) - 1)]
    ahead = calendar.advance(start, np.arange(1, len(time)))
    if time.dtype.kind == "f":
        assert ahead.to_numpy() == pytest.approx(time[1:].to_numpy(), abs=1e-5)
    else:
        assert ahead.tolist() == time[1:].tolist()


@pytest.mark.parametrize("time", GRIDS.values(), ids=GRIDS)
def test_missing_steps_are_counted(time: pd.Index) -> None:
    kept = np.delete(np.arange(len(time)), [5, 6, 17])
    calendar = find_calendar(time[kept], whole(kept))  # type: ignore[arg-type]
    assert calendar is not None
    assert calendar.steps_between(time[kept]).tolist() == np.diff(kept).tolist()


@pytest.mark.parametrize(
    "time",
    [
        pd.Index([1, 2, 9, 100]),
        pd.Index([0.0, 1.0, 2.4, 3.4]),
        pd.to_datetime(["2020-01-01", "2020-01-04", "2020-01-05", "2020-02-13"]),
        pd.to_datetime(["2020-01-01 00", "2020-01-02 00", "2020-01-03 12", "2020-01-04 12"]),
        pd.Index([3]),
    ],
)
def test_irregular_times_have_no_calendar(time: pd.Index) -> None:
    assert find_calendar(time, whole(time)) is None


def test_moves_between_sequences_do_not_count() -> None:
    time = pd.Index([1, 2, 3, 1, 2, 3, 50, 51])
    calendar = find_calendar(time, np.array([3, 3, 2]))
    assert calendar is not None and calendar.step == 1


@pytest.mark.parametrize(
    ("grid", "name"),
    [
        ("daily", "daily"),
        ("hourly", "hourly"),
        ("weekly", "weekly"),
        ("weekday", "weekday"),
        ("monthly", "monthly"),
        ("month end", "monthly"),
        ("quarterly", "quarterly"),
        ("yearly", "yearly"),
        ("every 5 minutes", "0 days 00:05:00"),
        ("years as numbers", "steps of 1"),
        ("every tenth", "steps of 10"),
        ("periods", "periods M"),
    ],
)
def test_names(grid: str, name: str) -> None:
    time = GRIDS[grid]
    calendar = find_calendar(time, whole(time))
    assert calendar is not None and calendar.describe(time) == name
