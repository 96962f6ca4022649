"""The container: shapes, parts, answers. Expected values are worked out by hand or with plain numpy."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq import DataError, Sequences


def three() -> Sequences:
    """Three sequences of 2, 3 and 1 steps with every field filled."""
    return Sequences(
        values=torch.tensor([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0], [3.0, 13.0], [4.0, 14.0], [5.0, 15.0]]),
        lengths=torch.tensor([2, 3, 1]),
        observed=torch.tensor([[True, True], [True, False], [False, False], [True, True], [True, True], [True, True]]),
        ids=pd.Index(["a", "b", "c"], name="site"),
        time=pd.Index([1, 2, 1, 2, 3, 7], name="day"),
        columns=("x", "y"),
        covariates=torch.arange(6.0)[:, None],
        covariate_names=("heat",),
        weights=torch.tensor([1.0, 2.0, 0.0]),
        labels=torch.tensor([0, 1, -1, 0, 1, 0]),
    )


def test_sizes() -> None:
    series = three()
    assert (series.total_steps, series.count) == (6, 3)
    assert series.offsets.tolist() == [0, 2, 5, 6]
    assert series.step_sequence.tolist() == [0, 0, 1, 1, 1, 2]
    assert series.step_observed.tolist() == [True, False, False, True, True, True]


def test_types_are_settled() -> None:
    series = Sequences(torch.tensor([1.0, 2.0], dtype=torch.float32), torch.tensor([2], dtype=torch.int32))
    assert series.values.dtype == torch.float64
    assert series.lengths.dtype == torch.int64
    assert series.columns == ("value",)
    assert series.ids.tolist() == [0]
    assert Sequences(torch.ones(3, 2), torch.tensor([3])).columns == ("value_0", "value_1")


def test_missing_entries_hold_the_first_observed_value_of_their_column() -> None:
    nan = float("nan")
    values = torch.tensor([[nan, 5.0], [3.0, nan], [nan, nan]])
    series = Sequences(values, torch.tensor([3]), observed=~values.isnan())
    assert series.values.tolist() == [[3.0, 5.0], [3.0, 5.0], [3.0, 5.0]]


def test_a_mask_without_gaps_is_dropped() -> None:
    assert Sequences(torch.ones(2), torch.tensor([2]), observed=torch.ones(2, dtype=torch.bool)).observed is None


def test_a_wholly_missing_series_is_a_legal_container() -> None:
    series = Sequences(torch.full((2,), float("nan")), torch.tensor([2]), observed=torch.zeros(2, dtype=torch.bool))
    assert not series.step_observed.any()
    assert series.values.isfinite().all()


@pytest.mark.parametrize(
    "choice", [[2, 0], np.array([True, False, True])[::-1], torch.tensor([0, -1]), slice(1, 3), 1, [1, 1]]
)
def test_take_keeps_every_field_of_the_chosen_sequences(choice: object) -> None:
    series = three()
    taken = series.take(choice)  # type: ignore[arg-type]
    chosen = np.arange(3)[choice.numpy() if isinstance(choice, torch.Tensor) else choice]  # type: ignore[index]
    chosen = np.atleast_1d(chosen)
    steps = np.concatenate([np.arange(6)[series.step_sequence.numpy() == n] for n in chosen])
    assert taken.ids.tolist() == series.ids[chosen].tolist()
    assert taken.ids.name == "site"
    assert taken.lengths.tolist() == series.lengths[chosen].tolist()
    assert taken.weights is not None and taken.weights.tolist() == series.weights[chosen].tolist()  # type: ignore[index]
    assert taken.time is not None and taken.time.tolist() == series.time[steps].tolist()  # type: ignore[index]
    assert taken.step_observed.tolist() == series.step_observed[steps].tolist()
    for name in ("covariates", "labels"):
        assert getattr(taken, name).tolist() == getattr(series, name)[steps].tolist()
    complete = taken.step_observed
    assert taken.values[complete].tolist() == series.values[steps][complete].tolist()
    assert (taken.columns, taken.covariate_names) == (("x", "y"), ("heat",))


@pytest.mark.parametrize(
    ("at", "before", "after"),
    [
        (1, [1, 1, 1], [1, 2]),
        (-1, [1, 2], [1, 1, 1]),
        (0.5, [1, 2], [1, 1, 1]),  # round(0.5 * 3) = 2, round(0.5) = 0
        ("2", [1, 1], [1, 2, 1]),
    ],
)
def test_split_lengths(at: object, before: list[int], after: list[int]) -> None:
    first, second = three().split(at)  # type: ignore[arg-type]
    assert (first.lengths.tolist(), second.lengths.tolist()) == (before, after)
    assert first.total_steps + second.total_steps == 6


def test_split_at_a_time_of_each_kind() -> None:
    days = pd.date_range("2020-01-01", periods=4)
    for time in (days, days.tz_localize("Asia/Hong_Kong"), days.to_period("D")):
        series = Sequences(torch.arange(4.0), torch.tensor([4]), time=time)
        for at in ("2020-01-02", time[1]):
            before, after = series.split(at)  # type: ignore[arg-type]
            assert (before.values.tolist(), after.values.tolist()) == ([0.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (1.5, "a share to split at must lie between 0 and 1, got 1.5; "),
        (7, "split must leave steps on both sides, got none after 7; "),
        ("0", "split must leave steps on both sides, got none before '0'; "),
        ("next year", "a point to split at must be a time of the index, got 'next year' for int64 times; "),
    ],
)
def test_split_refuses(at: object, words: str) -> None:
    with pytest.raises(DataError) as error:
        three().split(at)  # type: ignore[arg-type]
    assert str(error.value).startswith(words)


def test_split_by_time_needs_times() -> None:
    with pytest.raises(DataError, match="must have a time index to refer to, got '2020'; give a step count"):
        Sequences(torch.arange(4.0), torch.tensor([4])).split("2020")


@pytest.mark.parametrize(
    ("choice", "words"), [([3], "between 0 and 2, got 3 in take"), ([], "at least one sequence, got none")]
)
def test_take_refuses(choice: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        three().take(choice)


def test_to_frame() -> None:
    frame = three().to_frame({"score": np.arange(6.0), "state": torch.arange(12.0).reshape(6, 2)})
    assert frame.index.tolist() == [1, 2, 1, 2, 3, 7]
    assert frame.index.name == "day"
    assert list(frame) == ["site", "x", "y", "heat", "weight", "label", "score", "state_0", "state_1"]
    assert frame["site"].tolist() == ["a", "a", "b", "b", "b", "c"]
    assert frame["x"].isna().tolist() == [False, False, True, False, False, False]
    assert frame["y"].isna().tolist() == [False, True, True, False, False, False]
    assert frame["weight"].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0, 0.0]
    assert frame["state_1"].tolist() == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]


def test_to_frame_refuses_an_extra_of_another_length() -> None:
    with pytest.raises(DataError, match=r"extra column 'p' must have one entry per step, 6, got shape \(3,\)"):
        three().to_frame({"p": np.ones(3)})


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (pd.date_range("2015-12-30", periods=3), ["2016-01-02", "2016-01-03"]),
        (pd.date_range("2015-10-31", periods=3, freq="ME"), ["2016-01-31", "2016-02-29"]),
        (
            pd.to_datetime(
                ["2026-10-22", "2026-10-23", "2026-10-26", "2026-10-27", "2026-10-28", "2026-10-29", "2026-10-30"]
            ),
            ["2026-11-02", "2026-11-03"],
        ),
        (pd.period_range("1984Q2", periods=3, freq="Q"), ["1985Q1", "1985Q2"]),
        (pd.Index([2004, 2005, 2006]), [2007, 2008]),
        (pd.Index([0.1, 0.2, 0.30000000000000004]), [0.4, 0.5]),
        (pd.Index([1, 2, 9, 100]), [1, 2]),
    ],
)
def test_future_index(time: pd.Index, expected: list) -> None:
    future = Sequences(torch.ones(len(time)), torch.tensor([len(time)]), time=time).future_index(2)
    if isinstance(time, pd.DatetimeIndex):
        assert future.tolist() == pd.to_datetime(expected).tolist()
    elif isinstance(time, pd.PeriodIndex):
        assert [str(period) for period in future] == expected
    else:
        assert future.tolist() == pytest.approx(expected)


def test_future_index_of_several_sequences_and_without_time() -> None:
    series = Sequences(torch.ones(5), torch.tensor([2, 3]))
    assert series.future_index(2).tolist() == [2, 3, 3, 4]
    with pytest.raises(DataError, match="horizon must be at least 1, got 0"):
        series.future_index(0)


def test_future_index_across_a_change_of_the_clocks_keeps_midnight() -> None:
    days = pd.date_range("2024-03-28", periods=3, tz="Europe/Berlin")  # summer time starts on 2024-03-31
    future = Sequences(torch.ones(3), torch.tensor([3]), time=days).future_index(3)
    assert [str(moment) for moment in future] == [
        "2024-03-31 00:00:00+01:00",
        "2024-04-01 00:00:00+02:00",
        "2024-04-02 00:00:00+02:00",
    ]


def test_fingerprint_is_of_content() -> None:
    one, other = Sequences(torch.arange(3.0), torch.tensor([3])), Sequences(torch.arange(3.0), torch.tensor([3]))
    assert one.fingerprint() == other.fingerprint()
    assert len(one.fingerprint()) == len(hashlib.sha256().hexdigest())
    mask = torch.tensor([True, False, True])
    different = [
        Sequences(torch.tensor([0.0, 1.0, 2.5]), torch.tensor([3])),
        Sequences(torch.arange(3.0), torch.tensor([1, 2])),
        Sequences(torch.arange(3.0), torch.tensor([3]), observed=mask),
        Sequences(torch.arange(3.0), torch.tensor([3]), weights=torch.tensor([2.0])),
        Sequences(torch.arange(3).to(torch.uint8), torch.tensor([3])),
    ]
    assert len({series.fingerprint() for series in [one, *different]}) == 6


def test_repr_is_one_line_that_says_what_it_is() -> None:
    assert repr(three()) == (
        "Sequences(3 sequences, 6 steps, columns 'x', 'y', 2 steps missing, from 1, covariates heat, weights, labels)"
    )


GOOD = {"values": torch.ones(4), "lengths": torch.tensor([1, 3])}
BAD_FIELDS = [
    ({"values": torch.ones(0)}, r"values must be a non-empty .* array, got shape \(0,\); "),
    ({"values": torch.ones(2, 2, 2)}, r"values must be a non-empty .* got shape \(2, 2, 2\); "),
    ({"lengths": torch.tensor([4, 0])}, "every sequence must have at least one step, got 0 at sequence 1; "),
    ({"lengths": torch.tensor([1, 2])}, "lengths must add up to the number of steps, got 3 for 4 steps; "),
    ({"observed": torch.ones(3, dtype=torch.bool)}, r"observed must be boolean in the shape of values, \(4,\), got"),
    ({"values": torch.tensor([1.0, float("inf"), 1, 1])}, "values must be finite, got inf at step 1; "),
    ({"ids": pd.Index(["a"])}, "ids must have one entry per sequence, 2, got 1; "),
    ({"time": pd.RangeIndex(3)}, "time must have one entry per step, 4, got 3; "),
    ({"columns": ("x", "y")}, "columns must have one entry per column of values, 1, got 2; "),
    ({"covariates": torch.ones(3, 1)}, "covariates must have one entry per step, 4, got 3; "),
    ({"covariates": torch.full((4, 1), float("nan"))}, "covariates must be finite, got nan at step 0, column 0; "),
    ({"weights": torch.tensor([1.0, -1.0])}, "weights must be finite and not negative, got -1.0 at sequence 1; "),
    ({"weights": torch.zeros(2)}, "weights must not all be zero, got only zeros; "),
    ({"labels": torch.tensor([0, 1, -2, 0])}, "labels must be state numbers from 0, .* got -2 at step 2; "),
    (
        {"values": torch.tensor([0, 1, 2, 0], dtype=torch.uint8), "categories": ("a", "b")},
        "symbol codes must be below the number of categories, 2, got 2 at step 2; ",
    ),
]


@pytest.mark.parametrize(("fields", "words"), BAD_FIELDS)
def test_bad_fields_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Sequences(**(GOOD | fields))


@settings(max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_take_and_split_lose_nothing(lengths: list[int], random) -> None:
    """Every step of the series is in exactly one half, in order; shuffling sequences twice gives them back."""
    series = Sequences(torch.arange(float(sum(lengths))), torch.tensor(lengths))
    order = random.sample(range(len(lengths)), len(lengths))
    back = series.take(order).take(np.argsort(order))
    assert back.values.tolist() == series.values.tolist()
    assert back.ids.tolist() == list(range(len(lengths)))
    if max(lengths) > 1:
        before, after = series.split(1)
        assert sorted(before.values.tolist() + after.values.tolist()) == series.values.tolist()
        assert before.values.tolist() == series.offsets[:-1].tolist()
