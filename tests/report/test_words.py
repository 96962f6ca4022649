"""A fit in plain words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import Sequences, datasets, families
from probseq.report import Chapter
from probseq.report import words as say
from probseq.report.words import _rain_names


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_rain_is_read_as_rain(chapter: Chapter) -> None:
    dry, wet = chapter.rows
    assert dry.name == "dry spell" and wet.name == "wet spell"
    assert dry.reading == "3% wet days, 0.4 mm on a wet day, mean stay 10 days"  # 1 / 2.5 mm; 1 / (1 - 0.9) days
    assert wet.reading == "90% wet days, 10 mm on a wet day, mean stay 2.5 days"
    assert dry.share + wet.share == pytest.approx(1)
    assert dry.parameters == {"nonzero": "0.0300", "concentration": "1.000", "rate": "2.500"}
    assert chapter.period() == "731 days, 2019-01-01 to 2020-12-31, 7 missing"


@pytest.mark.parametrize(
    ("chapter", "names"),
    [
        ("symbols", ["GC-rich", "AT-rich"]),
        ("counts", ["low", "high"]),
        ("returns", ["volatile", "calm", "unsettled"]),
        ("vectors", ["all steps"]),
    ],
    indirect=["chapter"],
)
def test_names(chapter: Chapter, names: list[str]) -> None:
    assert [row.name for row in chapter.rows] == names


@pytest.mark.parametrize(
    ("wet", "amount", "names"),
    [
        ([0.03, 0.99], [0.5, 9.0], ["dry spell", "wet spell"]),
        ([0.05, 0.7, 0.95], [0.4, 3.0, 14.0], ["dry spell", "light rain", "heavy rain"]),
        (
            [0.1, 0.18, 0.98, 0.98],
            [0.6, 14.0, 3.4, 21.0],
            ["dry spell", "dry, rare downpours", "light rain", "heavy rain"],
        ),
        ([0.1, 0.05, 0.9], [0.4, 0.3, 9.0], ["dry, rare drizzle", "dry spell", "wet spell"]),
        ([0.9, 0.9, 0.9, 0.9], [4.0, 1.0, 2.0, 3.0], [f"rain level {rank} of 4" for rank in (4, 1, 2, 3)]),
    ],
)
def test_rain_names(wet: list[float], amount: list[float], names: list[str]) -> None:
    assert _rain_names(np.array(wet), np.array(amount)) == names


@pytest.mark.parametrize(
    ("index", "step"),
    [
        (pd.date_range("2020", periods=20), "day"),
        (pd.date_range("2020", periods=20, freq="h"), "hour"),
        (pd.date_range("2020", periods=20, freq="W"), "week"),
        (pd.date_range("2020", periods=20, freq="MS"), "month"),
        (pd.date_range("2020", periods=20, freq="QS"), "quarter"),
        (pd.bdate_range("2020", periods=20), "weekday"),
        (pd.RangeIndex(20), "step"),
        (pd.Index(np.arange(1900, 1920), name="year"), "year"),
    ],
)
def test_steps_have_the_name_of_their_calendar(index: pd.Index, step: str) -> None:
    assert say.step_name(Sequences.from_frame(pd.DataFrame({"x": np.arange(20.0)}, index=index), "x")) == step


def test_bases_are_bases() -> None:
    assert say.step_name(datasets.phage_lambda()) == "base"


@pytest.mark.parametrize(
    ("column", "unit", "family", "wet"),
    [
        ("precipitation", "", "hurdle-gamma", True),
        ("x", "mm", "zero-inflated-poisson", True),
        ("visits", "", "hurdle-gamma", False),
        ("rain", "mm", "gaussian", False),
    ],
)
def test_wet_and_dry_are_said_of_rain_only(column: str, unit: str, family: str, wet: bool) -> None:
    series = Sequences.from_arrays([0.0, 1.0], columns=[column])
    assert say.words_for(series, families.by_name(family), unit).wet is wet


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.0, "1.000"), (123456.0, "123,456"), (-0.25, "-0.2500"), (1e-9, "1.000e-09")]
)
def test_numbers(value: float, text: str) -> None:
    assert say.number(value) == text


@pytest.mark.parametrize("chapter", ["counts"], indirect=True)
def test_a_state_that_is_never_left(chapter: Chapter) -> None:
    stuck = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    fit = replace(chapter.fit, parameters=chapter.fit.parameters | {"transition": stuck})
    rows = Chapter("Stuck", fit, chapter.series).rows
    assert rows[0].reading.endswith("mean stay 2 steps") and rows[1].reading.endswith("never left")
