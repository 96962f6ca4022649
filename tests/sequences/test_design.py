"""Designs against the calendar itself and against the formula, written out step by step."""

import dataclasses
import json
import math
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import DataError, Design, ModelError, Season, Sequences


def daily(start: str, steps: int) -> Sequences:
    return Sequences.from_arrays(torch.zeros(steps), time=pd.date_range(start, periods=steps))


def steps_of(design: Design, series: Sequences) -> np.ndarray:
    """(T, P) the row of every step."""
    rows, index = design.rows(series)
    return rows.numpy()[index]


def test_ten_years_of_days_are_366_rows() -> None:
    rows, index = Design(seasons=(Season("year", 2),)).rows(daily("2000-01-01", 3653))
    assert rows.shape == (366, 5)
    assert index.dtype == np.uint16
    assert len(np.unique(rows.numpy(), axis=0)) == 366


def test_a_date_has_the_same_row_in_every_year() -> None:
    series = daily("1999-01-01", 3000)
    values = steps_of(Design(seasons=(Season("year", 2),)), series)
    assert series.time is not None
    for step, day in enumerate(series.time):
        place = (date(2000, day.month, day.day) - date(2000, 1, 1)).days
        angle = 2 * math.pi * place / 366
        expected = [1, math.cos(angle), math.sin(angle), math.cos(2 * angle), math.sin(2 * angle)]
        assert values[step] == pytest.approx(expected, abs=1e-12)


def test_periods_and_time_zones_stand_where_their_dates_do() -> None:
    plain = daily("2003-11-20", 200)
    assert plain.time is not None
    times = pd.DatetimeIndex(plain.time)
    design = Design(seasons=(Season("year"), Season("week", 3)))
    for time in (times.to_period("D"), times.tz_localize("America/New_York")):
        other = Sequences.from_arrays(torch.zeros(200), time=time)
        assert np.array_equal(steps_of(design, other), steps_of(design, plain))


def test_months_have_twelve_rows_and_hours_of_a_day_share_the_year() -> None:
    months = Sequences.from_arrays(torch.zeros(120), time=pd.period_range("2000-01", periods=120, freq="M"))
    assert len(Design(seasons=(Season("year"),)).rows(months)[0]) == 12
    hours = Sequences.from_arrays(torch.zeros(24 * 50), time=pd.date_range("2000-01-01", periods=24 * 50, freq="h"))
    assert len(Design(seasons=(Season("year"),)).rows(hours)[0]) == 50
    values = steps_of(Design(seasons=(Season("day"),)), hours)
    angle = 2 * np.pi * (np.arange(24 * 50) % 24) / 24
    assert values == pytest.approx(np.stack([np.ones(1200), np.cos(angle), np.sin(angle)], 1), abs=1e-12)


def test_steps_are_counted_in_each_sequence_or_are_the_time() -> None:
    design = Design(seasons=(Season(5),))
    counted = design.rows(Sequences.from_arrays(torch.zeros(12), lengths=[7, 5]))[1]
    assert (counted[:7] == [0, 1, 2, 3, 4, 0, 1]).all() and (counted[7:] == [0, 1, 2, 3, 4]).all()
    years = Sequences.from_arrays(torch.zeros(30), time=pd.Index(range(1900, 1930)))
    assert np.array_equal(steps_of(design, years)[12:], steps_of(design, years.split(12)[1]))


def test_covariates_are_used_as_they_are_in_the_order_asked_for() -> None:
    covariates = torch.tensor([[1.5, 2.0], [0.5, 3.0], [1.5, 2.0], [1.5, 9.0], [0.5, 3.0]])
    series = Sequences.from_arrays(torch.zeros(5), covariates=covariates, covariate_names=["a", "b"])
    design = Design(("b", "a"), (Season(2.5),))
    assert design.names == ("intercept", "b", "a", "period_2.5_cos_1", "period_2.5_sin_1")
    angle = 2 * np.pi * np.arange(5) / 2.5
    expected = np.stack([np.ones(5), covariates[:, 1], covariates[:, 0], np.cos(angle), np.sin(angle)], 1)
    assert steps_of(design, series) == pytest.approx(expected, abs=1e-12)
    rows, index = Design(("a",)).rows(series)
    assert rows.tolist() == [[1, 1.5], [1, 0.5]] and index.tolist() == [0, 1, 0, 0, 1]


def test_an_empty_design_is_one_row() -> None:
    rows, index = Design().rows(daily("2000-01-01", 4))
    assert rows.tolist() == [[1.0]] and index.tolist() == [0] * 4 and not Design()


def test_json_there_and_back() -> None:
    design = Design(("wind",), (Season("year", 2), Season(7)))
    assert Design.from_json(json.loads(json.dumps(dataclasses.asdict(design)))) == design
    with pytest.raises(ModelError, match="must hold covariates and seasons"):
        Design.from_json({"covariates": []})


@pytest.mark.parametrize(
    ("time", "words"),
    [(None, "got no times"), (pd.RangeIndex(4), "got int64 times"), (pd.Index([0.5, 1, 2, 3]), "float")],
)
def test_a_calendar_is_needed(time: pd.Index | None, words: str) -> None:
    with pytest.raises(DataError, match=f"season of a .year. must have dates to go by, .*{words}"):
        Design(seasons=(Season("year"),)).rows(Sequences.from_arrays(torch.zeros(4), time=time))


def test_an_unknown_covariate_is_named() -> None:
    series = Sequences.from_arrays(torch.zeros(3), covariates=torch.zeros(3, 1), covariate_names=["wind"])
    with pytest.raises(DataError, match="got only wind for 'sun'; read the series with"):
        Design(("sun",)).rows(series)
    with pytest.raises(DataError, match="a series without any"):
        Design(("sun",)).rows(daily("2000-01-01", 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Season("month"),  # type: ignore[arg-type]
        lambda: Season(1),
        lambda: Season(math.inf),
        lambda: Season(True),
        lambda: Season("year", 0),
        lambda: Season("week", 4),
        lambda: Season(6, 3),
        lambda: Season("year", 1.5),  # type: ignore[arg-type]
        lambda: Design("wind"),  # type: ignore[arg-type]
        lambda: Design(seasons=Season("year")),  # type: ignore[arg-type]
        lambda: Design(seasons=("year",)),  # type: ignore[arg-type]
        lambda: Design(("a", "a")),
        lambda: Design(seasons=(Season("year"), Season("year", 2))),
        lambda: Design(("intercept",)),
    ],
)
def test_a_slip_is_refused_with_its_remedy(make) -> None:
    with pytest.raises(ModelError, match=r"must .*, got .*;"):
        make()
