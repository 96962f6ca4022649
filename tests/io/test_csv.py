"""CSV files in: encodings, separators, line ends, compression."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import Sequences

TEXT = "day,rain,site\n2020-01-01,0.0,Paço\n2020-01-02,,Paço\n2020-01-03,2.5,Paço\n"


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.rstrip("\n").encode(),
        (TEXT + "\n\n").encode(),
        TEXT.replace("Paço", '"Paço"').encode(),
        gzip.compress(TEXT.encode()),
    ],
    ids=["plain", "mark", "utf-16", "crlf", "semicolon", "tab", "no end", "blank end", "quotes", "gzip"],
)
def test_forms_of_the_same_table(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "rain.csv").write_bytes(raw)
    series = Sequences.from_csv(tmp_path / "rain.csv", "rain", time="day", group="site")
    assert series.values[series.step_observed].tolist() == [0.0, 2.5]
    assert series.step_observed.tolist() == [True, False, True]
    assert series.ids.tolist() == ["Paço"]
    assert series.time is not None and series.time.equals(pd.date_range("2020-01-01", periods=3, name="day"))


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-500, 500)[::-1].clip(-300, 300)
    (tmp_path / "x.csv").write_text("x\n" + "\n".join(repr(float(number)) for number in numbers))
    assert Sequences.from_csv(tmp_path / "x.csv", "x").values.tolist() == numbers.tolist()


def test_symbols_and_filled_gaps(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("year,state\n2000,wet\n2001,dry\n2002,dry\n2004,wet\n")
    series = Sequences.from_csv(tmp_path / "x.csv", "state", time="year", symbols=["dry", "wet"], fill_gaps=True)
    assert series.values[series.step_observed].tolist() == [1, 0, 0, 1]
    assert series.step_observed.tolist() == [True, True, True, False, True]


def test_a_blank_line_of_a_single_column_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\nx\n1\n\n3\n\n")
    series = Sequences.from_csv(tmp_path / "x.csv", "x")
    assert series.step_observed.tolist() == [True, False, True]
    assert series.values[series.step_observed].tolist() == [1.0, 3.0]


def test_it_equals_reading_the_frame(tmp_path: Path) -> None:
    frame = pd.DataFrame({"g": ["b", "b", "a"], "y": [1.5, np.nan, 2.0], "z": [1, 2, 3]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    read = Sequences.from_csv(tmp_path / "x.csv", ["y", "z"], group="g")
    assert read.fingerprint() == Sequences.from_frame(frame, ["y", "z"], group="g").fingerprint()
    pd.testing.assert_frame_equal(read.to_frame()[["g", "y"]], frame[["g", "y"]])
