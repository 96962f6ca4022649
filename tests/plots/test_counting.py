"""What the figures count: spell lengths, shares of spells, totals of months; by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from probseq.plots import month_sums, spell_durations
from probseq.plots.spells import exceedance, outside_band
from probseq.plots.totals import months_outside


@pytest.mark.parametrize(
    ("happening", "lengths", "known", "expected"),
    [
        ("0110100", [7], "1111111", [2, 1]),
        ("1101", [4], "1111", []),  # both touch an end
        ("0110110", [7], "1111111", [2, 2]),
        ("010010", [3, 3], "111111", [1, 1]),
        ("011110", [3, 3], "111111", []),  # the sequences end in the middle of it
        ("0111000", [7], "1101111", []),  # a day in it was not measured
        ("0100", [4], "1101", []),  # the day after was not measured
        ("0000", [4], "1111", []),
        ("1", [1], "1", []),
    ],
)
def test_spells(happening: str, lengths: list[int], known: str, expected: list[int]) -> None:
    seen = np.array([mark == "1" for mark in happening])
    measured = np.array([mark == "1" for mark in known])
    assert spell_durations(seen, lengths, measured).tolist() == expected


def test_spells_agree_with_groupby() -> None:
    """The oracle is itertools.groupby on each sequence of a random series, its first and last run dropped."""
    generator = np.random.default_rng(3)
    lengths = [40, 1, 2, 60]
    series = generator.random(sum(lengths)) < 0.6
    expected = []
    for part in np.split(series, np.cumsum(lengths)[:-1]):
        runs = [(key, len(list(run))) for key, run in itertools.groupby(part.tolist())]
        expected += [length for key, length in runs[1:-1] if key]
    assert spell_durations(series, lengths).tolist() == expected


def test_shares_of_spells() -> None:
    assert exceedance(np.array([1, 1, 2, 4]), 5).tolist() == [1.0, 0.5, 0.25, 0.25, 0.0]
    assert exceedance(np.array([9]), 3).tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(exceedance(np.array([], dtype=int), 2)).all()


def test_durations_outside_the_band() -> None:
    short = [np.array([1] * 10), np.array([1] * 10)]
    assert outside_band(np.array([3] * 8), short) == (2, 0, 2)  # 2 and 3 steps, above
    assert outside_band(np.array([1] * 4 + [2] * 8), [np.array([5] * 10)]) == (0, 1, 1)
    assert outside_band(np.array([1, 2]), short) == (0, 0, 0)  # too few to compare
    assert outside_band(np.array([], dtype=int), short) == (0, 0, 0)


def test_month_sums_fill_up_what_is_missing() -> None:
    days = pd.date_range("2019-01-01", "2020-12-31")
    values = np.ones(len(days))
    values[:2] = np.nan  # 29 of 31 days
    values[(days.year == 2020) & (days.month == 3) & (days.day > 20)] = np.nan  # 20 of 31: too few
    sums = month_sums(days, values)[0]
    assert sums[2019, 1] == pytest.approx(31)
    assert sums[2020, 2] == pytest.approx(29) and sums[2019, 2] == pytest.approx(28)
    assert (2020, 3) not in sums.index and sums[2019, 3] == pytest.approx(31)


def test_months_outside_the_band() -> None:
    days = pd.date_range("2019-01-01", "2020-12-31")
    flat = np.ones((len(days), 20)) + np.linspace(-0.1, 0.1, 20)
    wet_june = np.where(days.month == 6, 3.0, 1.0)
    assert months_outside(month_sums(days, wet_june), month_sums(days, flat)) == ["Jun"]
