"""Frames in and out. Expected values are written out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq import Sequences


def test_one_column_without_anything_else() -> None:
    series = Sequences.from_frame(pd.DataFrame({"y": [1, 2, 3]}), "y")
    assert series.values.tolist() == [1.0, 2.0, 3.0]
    assert series.values.dtype == torch.float64
    assert (series.time, series.observed, series.columns) == (None, None, ("y",))
    assert list(series.to_frame()) == ["y"]


def test_a_list_of_one_column_is_one_dimensional_and_of_two_is_not() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    assert Sequences.from_frame(frame, ["x"]).values.shape == (2,)
    assert Sequences.from_frame(frame, ["y", "x"]).values.tolist() == [[3.0, 1.0], [4.0, 2.0]]


def test_a_series_is_a_frame_of_one_column() -> None:
    rain = pd.Series([0.0, 1.5], index=pd.date_range("2020-01-01", periods=2), name="rain")
    series = Sequences.from_frame(rain, "rain")  # type: ignore[arg-type]
    assert series.time is not None and series.time.equals(rain.index)


def test_missing_values_are_a_mask() -> None:
    frame = pd.DataFrame({"x": [np.nan, 2.0, 4.0], "y": pd.array([1, None, 3], dtype="Int64")})
    series = Sequences.from_frame(frame, ["x", "y"])
    assert series.observed is not None
    assert series.observed.tolist() == [[False, True], [True, False], [True, True]]
    assert series.step_observed.tolist() == [False, False, True]
    assert series.values.tolist() == [[2.0, 1.0], [2.0, 1.0], [4.0, 3.0]]  # placeholders: each column's first


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([True, False], [1.0, 0.0]),
        (pd.array([True, False], dtype="boolean"), [1.0, 0.0]),
        (["1.5", " 2"], [1.5, 2.0]),
        ([1, 2.5], [1.0, 2.5]),
        (np.array([7, 8], dtype=np.uint8), [7.0, 8.0]),
        (pd.array([3.5, 4.5], dtype="Float32"), [3.5, 4.5]),
    ],
)
def test_kinds_of_numbers(cells: list, expected: list[float]) -> None:
    assert Sequences.from_frame(pd.DataFrame({"y": cells}), "y").values.tolist() == expected


@pytest.mark.parametrize("empty", [None, np.nan, pd.NA, "", "  "])
def test_kinds_of_missing(empty: object) -> None:
    series = Sequences.from_frame(pd.DataFrame({"y": pd.Series([1, empty, 3], dtype=object)}), "y")
    assert series.step_observed.tolist() == [True, False, True]


def test_groups_are_brought_together_in_order_of_appearance() -> None:
    frame = pd.DataFrame({"site": ["b", "a", "b", "a", "a"], "day": [1, 1, 2, 2, 3], "y": [10.0, 20, 11, 21, 22]})
    series = Sequences.from_frame(frame, "y", time="day", group="site")
    assert series.ids.tolist() == ["b", "a"]
    assert series.lengths.tolist() == [2, 3]
    assert series.values.tolist() == [10.0, 11.0, 20.0, 21.0, 22.0]
    back = series.to_frame()
    assert back["site"].tolist() == ["b", "b", "a", "a", "a"]
    assert back.index.tolist() == [1, 2, 1, 2, 3]


def test_an_unused_category_is_no_group() -> None:
    site = pd.Categorical(["x", "x"], categories=["w", "x", "z"])
    series = Sequences.from_frame(pd.DataFrame({"site": site, "y": [1.0, 2.0]}), "y", group="site")
    assert series.ids.tolist() == ["x"]


def test_index_levels_can_be_named_as_columns() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], [2001, 2002]], names=["site", "year"])
    series = Sequences.from_frame(pd.DataFrame({"y": [1.0, 2, 3, 4]}, index=index), "y", time="year", group="site")
    assert series.ids.tolist() == ["a", "b"]
    assert series.time is not None and series.time.tolist() == [2001, 2002, 2001, 2002]


def test_the_index_comes_back() -> None:
    for index in (
        pd.date_range("2020-01-30", periods=3, name="date"),
        pd.period_range("2020Q1", periods=3, freq="Q", name="quarter"),
        pd.Index([5, 3, 9], name="sample"),
        pd.Index(["a", "b", "c"]),
    ):
        frame = pd.DataFrame({"y": [1.0, np.nan, 2.0]}, index=index)
        pd.testing.assert_frame_equal(Sequences.from_frame(frame, "y").to_frame(), frame, check_freq=False)


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (["2012-01-01", "2012-01-02"], "2012-01-01"),
        (["2012-01-01T00:00", "2012-01-02 00:00:00"], "2012-01-01"),
        (["30/01/2012", "31/01/2012"], "2012-01-30"),
        (["1/30/2012", "1/31/2012"], "2012-01-30"),
        ([20120130, 20120131], "2012-01-30"),
        (["20120130", "20120131"], "2012-01-30"),
        (["Jan 2012", "Feb 2012"], "2012-01-01"),
        (["2012Q1", "2012Q2"], "2012-01-01"),
        ([pd.Timestamp("2012-01-30").date(), pd.Timestamp("2012-01-31").date()], "2012-01-30"),
    ],
)
def test_dates_are_read(times: list, first: str) -> None:
    series = Sequences.from_frame(pd.DataFrame({"t": times, "y": [1.0, 2.0]}), "y", time="t")
    assert isinstance(series.time, pd.DatetimeIndex)
    assert series.time[0] == pd.Timestamp(first)
    assert series.time.name == "t"


def test_offsets_that_change_with_the_clocks_are_read_in_utc() -> None:
    times = ["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00", "2024-03-31T04:00:00+02:00"]
    series = Sequences.from_frame(pd.DataFrame({"t": times, "y": [1.0, 2.0, 3.0]}), "y", time="t")
    assert isinstance(series.time, pd.DatetimeIndex)
    assert series.time.equals(pd.date_range("2024-03-31", periods=3, freq="h", tz="UTC", name="t"))


def test_columns_may_be_named_by_numbers() -> None:
    series = Sequences.from_frame(pd.DataFrame(np.ones((3, 2))), [1, 0])  # type: ignore[list-item]
    assert series.columns == ("1", "0")
    assert Sequences.from_frame(pd.DataFrame(np.ones((3, 2))), 1).values.shape == (3,)  # type: ignore[arg-type]


def test_interleaved_groups_of_plain_rows_have_no_time() -> None:
    frame = pd.DataFrame({"site": ["a", "b", "a"], "y": [1.0, 2.0, 3.0]})
    assert Sequences.from_frame(frame, "y", group="site").time is None


def test_numbers_stay_numbers_as_times() -> None:
    for times in ([1900, 1901], ["1900", "1901"], [1900.0, 1901.0]):
        series = Sequences.from_frame(pd.DataFrame({"t": times, "y": [1.0, 2.0]}), "y", time="t")
        assert series.time is not None and series.time.tolist() == [1900, 1901]
        assert series.time.dtype == np.int64


def test_filling_gaps_inserts_missing_steps() -> None:
    frame = pd.DataFrame(
        {
            "site": ["a", "a", "a", "a", "b", "b", "b"],
            "day": pd.to_datetime(
                ["2020-02-27", "2020-02-28", "2020-03-02", "2020-03-03", "2021-01-01", "2021-01-02", "2021-01-04"]
            ),
            "y": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0, 7.0],
            "w": [2.0] * 4 + [3.0] * 3,
            "state": [0, 1, -1, 1, 0, 0, 1],
        }
    )
    series = Sequences.from_frame(frame, "y", time="day", group="site", weight="w", label="state", fill_gaps=True)
    assert series.lengths.tolist() == [6, 4]
    assert series.weights is not None and series.weights.tolist() == [2.0, 3.0]
    assert series.labels is not None and series.labels.tolist() == [0, 1, -1, -1, -1, 1, 0, 0, -1, 1]
    nan = np.nan
    assert series.to_frame()["y"].tolist() == pytest.approx([1, 2, nan, nan, nan, 4, 5, 6, nan, 7], nan_ok=True)
    assert series.time is not None
    expected = pd.date_range("2020-02-27", "2020-03-03").append(pd.date_range("2021-01-01", "2021-01-04"))
    assert series.time.tolist() == expected.tolist()


def test_filling_a_complete_calendar_changes_nothing() -> None:
    frame = pd.DataFrame({"year": [1, 2, 3], "y": [1.0, 2.0, 3.0]})
    assert Sequences.from_frame(frame, "y", time="year", fill_gaps=True).observed is None


def test_weekends_and_holidays_are_not_gaps_of_a_market() -> None:
    days = pd.bdate_range("2023-12-01", "2024-01-31").drop(pd.to_datetime(["2023-12-25", "2023-12-26", "2024-01-01"]))
    frame = pd.DataFrame({"rate": np.arange(len(days), dtype=float)}, index=days)
    assert Sequences.from_frame(frame, "rate").total_steps == len(days)
    filled = Sequences.from_frame(frame, "rate", fill_gaps=True)
    assert filled.total_steps == len(days) + 3
    assert not filled.step_observed[filled.time.get_loc(pd.Timestamp("2023-12-25"))]  # type: ignore[union-attr]


def test_irregular_times_are_taken_as_they_are() -> None:
    frame = pd.DataFrame({"t": [0.0, 1.0, 2.7, 9.9], "y": [1.0, 2.0, 3.0, 4.0]})
    assert Sequences.from_frame(frame, "y", time="t").total_steps == 4


@pytest.mark.parametrize(
    ("cells", "symbols", "codes", "categories"),
    [
        (["wet", "dry", "wet"], True, [1, 0, 1], ("dry", "wet")),
        (["wet", "dry", "wet"], ["wet", "dry"], [0, 1, 0], ("wet", "dry")),
        (["G", "A", "A"], "ACGT", [2, 0, 0], ("A", "C", "G", "T")),
        (pd.Categorical(["lo", "hi", "lo"], categories=["lo", "mid", "hi"]), False, [0, 2, 0], ("lo", "mid", "hi")),
        ([3, 1, 3], True, [1, 0, 1], ("1", "3")),
        ([True, False, True], True, [1, 0, 1], ("False", "True")),
    ],
)
def test_symbols(cells: list, symbols: object, codes: list[int], categories: tuple[str, ...]) -> None:
    series = Sequences.from_frame(pd.DataFrame({"x": cells}), "x", symbols=symbols)  # type: ignore[arg-type]
    assert series.values.dtype == torch.uint8
    assert series.values.tolist() == codes
    assert series.categories == categories
    assert series.to_frame()["x"].tolist() == [categories[code] for code in codes]


def test_missing_symbols() -> None:
    series = Sequences.from_frame(pd.DataFrame({"x": ["C", None, "A", np.nan]}), "x", symbols="ACGT")
    assert series.step_observed.tolist() == [True, False, True, False]
    assert series.values.tolist() == [1, 1, 0, 1]
    assert series.to_frame()["x"].isna().tolist() == [False, True, False, True]


def test_missing_number_symbols_keep_whole_names() -> None:
    assert Sequences.from_frame(pd.DataFrame({"x": [2.0, np.nan, 1.0]}), "x", symbols=True).categories == ("1", "2")


def test_covariates_weights_and_labels() -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 1, 2],
            "y": [1.0, 2, 3],
            "temp": [20, 21, 22],
            "wet": [True, False, True],
            "w": [0.5, 0.5, 2],
            "s": [1, np.nan, 0],
        }
    )
    series = Sequences.from_frame(frame, "y", group="id", covariates=["temp", "wet"], weight="w", label="s")
    assert series.covariates is not None and series.covariates.tolist() == [[20.0, 1.0], [21.0, 0.0], [22.0, 1.0]]
    assert series.covariate_names == ("temp", "wet")
    assert series.weights is not None and series.weights.tolist() == [0.5, 2.0]
    assert series.labels is not None and series.labels.tolist() == [1, -1, 0]


def test_categorical_labels_are_their_codes() -> None:
    labels = pd.Categorical(["intron", None, "exon"], categories=["exon", "intron"])
    series = Sequences.from_frame(pd.DataFrame({"y": [1.0, 2.0, 3.0], "s": labels}), "y", label="s")
    assert series.labels is not None and series.labels.tolist() == [1, -1, 0]


@settings(max_examples=50)
@given(st.data())
def test_a_frame_survives_the_round_trip(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    cell = st.floats(-1e300, 1e300) | st.just(np.nan)
    values = data.draw(
        st.lists(cell, min_size=sum(lengths), max_size=sum(lengths)).filter(lambda v: not np.isnan(v).all())
    )
    frame = pd.DataFrame({
        "site": np.repeat([f"s{number}" for number in range(len(lengths))], lengths),
        "y": np.array(values, dtype=float),
    }, index=pd.Index(np.concatenate([np.arange(length) for length in lengths]), name="step"))  # fmt: skip
    back = Sequences.from_frame(frame, "y", time="step", group="site").to_frame()
    pd.testing.assert_frame_equal(back, frame)


def test_the_callers_frame_and_array_are_left_alone() -> None:
    frame = pd.DataFrame({"y": [1.0, np.nan]})
    series = Sequences.from_frame(frame, "y")
    assert frame["y"].isna().tolist() == [False, True]
    frame.loc[0, "y"] = 5.0
    assert series.values[0] == 1.0
