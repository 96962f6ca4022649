"""The table of bad inputs: what is wrong, and the one line that says so, with the row or line it is on."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import DataError, ProbseqError, Sequences

DAYS = pd.date_range("2020-01-01", periods=4)


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"day": DAYS, "site": "s", "y": [1.0, 2.0, 3.0, 4.0], **columns})


# (what is wrong, the frame, arguments beside it, the message from its start)
FRAMES = [
    ("no such column", table(), {"value": "rian"}, r"column must be one of the table's, got 'rian'; choose from day, site"),
    ("near miss", table(rain=1.0), {"value": "rian"}, r"column must be .* got 'rian'; did you mean 'rain'\? choose from"),
    ("no such time", table(), {"time": "date"}, r"column must be one of the table's, got 'date'; .*choose from day, site, y"),
    ("no value column", table(), {"value": []}, "value must name at least one column, got none; choose from"),
    ("a column twice", table(), {"value": ["y", "y"]}, r"each column must have one use, got \['y'\] named twice"),
    ("a name twice", pd.DataFrame([[1, 2]], columns=["y", "y"]), {}, "column names must be unique, got 'y' more than once"),
    ("not a frame", [1, 2], {}, "frame must be a pandas DataFrame, got list; use Sequences.from_arrays"),
    ("no rows", table().iloc[:0], {}, "the table must have at least one row, got none; "),
    (
        "text among numbers",
        table(y=["1", "2", "oops", "4"]),
        {},
        "value 'y' must hold numbers, got 'oops' at row 2; write a number, or leave it empty if it is missing.",
    ),
    (
        "text among numbers, labelled rows",
        table(y=[1, "2,5", 3, 4]).set_index("day"),
        {},
        r"value 'y' must hold numbers, got '2,5' at row 1 \(index 2020-01-02 00:00:00\); write decimals with a point",
    ),
    (
        "only text",
        table(y=list("ACGT")),
        {},
        "value 'y' must hold numbers, got 'A' at row 0; pass symbols=True to read the texts as categories.",
    ),
    ("a date as value", table(), {"value": "day"}, r"value 'day' must hold numbers, got datetime64\[us\] at row 0; "),
    ("inf", table(y=[1, np.inf, 3, 4]), {}, "value 'y' must be finite, got inf at row 1; replace it, or leave it empty"),
    ("-inf as text", table(y=["1", "2", "3", "-inf"]), {}, "value 'y' must be finite, got -inf at row 3; "),
    ("all missing", table(y=np.nan), {}, "value 'y' must have at least one observed row, got only missing ones in 4; "),
    (
        "one of two columns all missing",
        table(z=[None] * 4),
        {"value": ["y", "z"]},
        "value 'z' must have at least one observed row, got only missing ones in 4; ",
    ),
    ("a blank group", table(site=["a", None, "b", "b"]), {"group": "site"}, "group 'site' must be known .* at row 1; "),
    (
        "unsorted times",
        table(day=DAYS[[0, 2, 1, 3]]),
        {"time": "day"},
        "time must increase within a sequence, got 2020-01-02 after 2020-01-03 at row 2; sort by time, or name the group",
    ),
    (
        "stacked series without a group",
        pd.concat([table(), table(site="t")], ignore_index=True),
        {"time": "day"},
        "time must increase within a sequence, got 2020-01-01 after 2020-01-04 at row 4; .* name the group column",
    ),
    (
        "unsorted within one group of several",
        table(site=["a", "b", "b", "a"], day=DAYS[[1, 2, 3, 0]]),
        {"time": "day", "group": "site"},
        "time must increase within a sequence, got 2020-01-01 after 2020-01-02 at row 3 of sequence 'a'; ",
    ),
    (
        "a time twice",
        table(day=DAYS[[0, 1, 1, 2]]),
        {"time": "day"},
        "time must not repeat within a sequence, got 2020-01-02 twice at row 2; drop or combine the duplicates",
    ),
    ("no time", table(day=[*DAYS[:3], None]), {"time": "day"}, "time 'day' must be known at every row, got none at row 3; "),
    (
        "no date",
        table(day=["2020-01-01", "2020-01-02", "soon", "2020-01-04"]),
        {"time": "day"},
        "time 'day' must hold dates or numbers, got 'soon' at row 2; write dates as 2015-12-31.",
    ),
    (
        "a time of day alone",
        table(day=["12:00", "13:00", "14:00", "15:00"]),
        {"time": "day"},
        "time 'day' must hold dates or numbers, got '12:00' at row 0; ",
    ),
    (
        "a day that never was",
        table(day=["1900-02-27", "1900-02-28", "1900-02-29", "1900-03-01"]),
        {"time": "day"},
        "time 'day' must hold dates or numbers, got '1900-02-29' at row 2; ",
    ),
    (
        "day or month first",
        table(day=["01/02/2020", "02/02/2020", "03/02/2020", "04/02/2020"]),
        {"time": "day"},
        "time 'day' must be unambiguous, got '01/02/2020' at row 0, which is a day in either of two months; write dates as",
    ),
    ("an infinite time", table(day=[1, 2, np.inf, 4]), {"time": "day"}, "time 'day' must be finite, got inf at row 2; "),
    (
        "a missing day",
        table(day=pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-05", "2020-01-06"])),
        {"time": "day"},
        "time must have no gaps on its calendar \\(daily\\), got 2 missing steps after 2020-01-02 at row 1; fill the gaps",
    ),
    (
        "a missing year",
        table(day=[1900, 1901, 1903, 1904]),
        {"time": "day"},
        "time must have no gaps on its calendar \\(steps of 1\\), got 1 missing step after 1901 at row 1; fill the gaps .*fill_gaps",
    ),
    (
        "a missing month",
        table(day=pd.to_datetime(["2020-01-31", "2020-02-29", "2020-04-30", "2020-05-31"])),
        {"time": "day"},
        "time must have no gaps on its calendar \\(monthly\\), got 1 missing step after 2020-02-29 at row 1; ",
    ),
    (
        "a market closed for a month",
        pd.DataFrame({"y": 1.0}, index=pd.bdate_range("2020-01-01", "2020-01-31").append(pd.bdate_range("2020-03-02", periods=9))),
        {},
        "time must have no gaps on its calendar \\(weekday\\), got 20 missing steps after 2020-01-31 at row 22 ",
    ),
    (
        "gaps of irregular times",
        table(day=[1.0, 2.5, 7.0, 9.0]),
        {"time": "day", "fill_gaps": True},
        "time must be regular for gaps to be filled, got irregular steps from 1.0; ",
    ),
    (
        "gaps longer than the series by far",
        table(day=pd.to_datetime(["2020-01-01 00:00:00", "2020-01-01 00:00:01", "2020-01-01 00:00:02", "2025-01-01 00:00:00"])),
        {"time": "day", "fill_gaps": True},
        "gaps to fill must be of a reasonable length, got 157,852,797 missing steps for 4 rows \\(0 days 00:00:01\\); ",
    ),
    ("gaps without time", table(), {"fill_gaps": True}, "fill_gaps must have a time column to go by, got none; "),
    (
        "a covariate with a hole",
        table(x=[1, np.nan, 3, 4]),
        {"covariates": ["x"]},
        "covariate 'x' must be known at every row, got none at row 1; ",
    ),
    (
        "a covariate unknown at an inserted step",
        table(day=DAYS + pd.to_timedelta([0, 0, 0, 1], unit="D"), x=1.0),
        {"time": "day", "covariates": ["x"], "fill_gaps": True},
        "covariates must be known at every step, got none for the inserted step 2020-01-04; ",
    ),
    ("a negative weight", table(w=-1), {"weight": "w"}, "weight 'w' must be a number not below 0, got -1.0 at row 0; "),
    (
        "a weight that changes",
        table(w=[1, 1, 2, 2]),
        {"weight": "w"},
        "weight 'w' must be the same at all rows of a sequence, got 2 after 1 at row 2 of sequence '0'; ",
    ),
    ("only zero weights", table(w=0), {"weight": "w"}, "weights must not all be zero, got only zeros; "),
    ("half a label", table(s=[0, 0.5, 1, 1]), {"label": "s"}, "label 's' must be a state's number from 0, .* got 0.5 at row 1; "),
    ("a negative label", table(s=[0, -2, 1, 1]), {"label": "s"}, "label 's' must be .* got -2 at row 1; number the states"),
    (
        "a symbol not named",
        table(y=["A", "C", "N", "T"]),
        {"symbols": "ACGT"},
        "value 'y' must be one of A, C, G, T, got 'N' at row 2; add it to symbols, or leave it empty",
    ),
    (
        "a misspelt symbol",
        table(y=["wet", "dry", "dri", "wet"]),
        {"symbols": ["wet", "dry"]},
        r"value 'y' must be one of wet, dry, got 'dri' at row 2; did you mean 'dry'\?",
    ),
    ("a symbol twice", table(y=list("AACC")), {"symbols": "AAC"}, "symbols must be different from each other, got A, A, C"),
    ("two columns of symbols", table(), {"value": ["y", "site"], "symbols": True}, "symbols must stand in one column, got 2"),
    (
        "too many symbols",
        pd.DataFrame({"y": [str(number) for number in range(257)]}),
        {"symbols": True},
        "value 'y' must have at most 256 categories, got 257; ",
    ),
    ("only missing symbols", table(y=[None] * 4), {"symbols": True}, "value 'y' must have at least one observed row"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "arguments", "words"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES])
def test_a_bad_frame_is_refused_in_one_line(frame: pd.DataFrame, arguments: dict, words: str) -> None:
    with pytest.raises(DataError, match="^" + words) as error:
        Sequences.from_frame(frame, **({"value": "y"} | arguments))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


# (what is wrong, the bytes of the file, the message)
FILES = [
    ("empty", b"", "the table must have a header and rows, got an empty file at {path}; check the export."),
    ("blank", b" \n\n", "the table must have a header and rows, got an empty file at {path}; check the export."),
    ("only a header", b"day,y\n", "the table must have at least one row, got only a header at {path}; check the export."),
    ("binary", b"\x89PNG\r\n\0\0\x01", "the file must be a text table, got binary data at {path}; export it as CSV."),
    (
        "another encoding",
        "day,y\n1,2\nPaço,3\n".encode("latin-1"),
        "the file must be UTF-8 text, got byte 0xe7 at line 3 of {path}; save it as UTF-8.",
    ),
    (
        "a short line",
        b"day,y\n1,2\n3\n",
        "every line must have as many cells as the header, 2, got 1 at line 3 of {path}; complete the line, or quote cells"
        " that hold the separator.",
    ),
    (
        "a long line",
        b"day,y\r\n1,2\r\n3,4\r\n5,6,7\r\n",
        "every line must have as many cells as the header, 2, got 3 at line 4 of {path}; complete the line, or quote cells"
        " that hold the separator.",
    ),
    (
        "a short line among quotes",
        b'day,y\n"a\nb",2\n3\n',
        "every line must have as many cells as the header, 2, got 1 at line 4 of {path}; complete the line, or quote cells"
        " that hold the separator.",
    ),
    ("a column twice", b"y,y\n1,2\n", "column names must be unique, got ['y'] twice in {path}; rename one of them."),
    ("text", b"day,y\n1,2\n2,x\n", "value 'y' must hold numbers, got 'x' at line 3; write a number, or leave it empty if"
     " it is missing."),
    ("text after a blank line", b"day,y\n1,2\n\n2,x\n", "value 'y' must hold numbers, got 'x' at row 2 below the header;"
     " write a number, or leave it empty if it is missing."),
    ("no such column", b"day,rain\n1,2\n", "column must be one of the table's, got 'y'; choose from day, rain."),
    ("half a gzip file", gzip.compress(b"day,y\n1,2\n")[:20], "the file must be readable, got Compressed file ended before"
     " the end-of-stream marker was reached at {path}; check it and its permissions."),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(raw)
    with pytest.raises(ProbseqError) as error:
        Sequences.from_csv(path, "y")
    assert str(error.value) == words.format(path=path)


def test_no_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        Sequences.from_csv(tmp_path / "none.csv", "y")
    assert (
        str(error.value) == f"the input must be an existing file, got none at {tmp_path / 'none.csv'}; check the path."
    )
    with pytest.raises(DataError) as error:
        Sequences.from_csv(tmp_path, "y")
    assert str(error.value) == f"the input must be a file, got a directory at {tmp_path}; name a file in it."


def test_a_refusal_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="frame must be"):
        Sequences.from_frame(None, "y")  # type: ignore[arg-type]
