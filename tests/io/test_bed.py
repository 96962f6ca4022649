"""BED and bedGraph against the browser's own rules, and read back by bioframe."""

from pathlib import Path

import bioframe
import numpy as np
import pytest

from probseq import DataError
from probseq.io import bed
from tests.ucsc import check_bed, check_bedgraph

OF_BIOFRAME = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # bioframe 0.8 on pandas 3.1
LENGTHS = {"chr2": 30, "chr10": 12}


def write(path: Path, header: str = "") -> str:
    with bed.interval_file(path, header) as file:
        for name in ("chr2", "chr10"):  # the order of the genome, not that of the names
            ends = np.array([5, 9, LENGTHS[name]])
            starts, states = np.array([0, 5, 9]), np.array([0, 1, 0])
            scores = np.array([0.9996, 0.5, 1.0])
            file.add(name, bed.bed_lines(name, starts, ends, states, scores, ("AT-rich", "GC-rich"), ("+", ".")))
    return path.read_text()


@pytest.mark.parametrize("header", ["", bed.bed_track('the "best"\tone', "two\nlines")])
def test_bed(tmp_path: Path, header: str) -> None:
    rows = check_bed(write(tmp_path / "x.bed", header), LENGTHS)
    assert rows[1] == ["chr10", "5", "9", "GC-rich", "500", ".", "5", "9", "213,94,0"]
    assert [row[0] for row in rows] == ["chr10"] * 3 + ["chr2"] * 3
    assert rows[0][4:6] == ["1000", "+"]


@OF_BIOFRAME
def test_bioframe_reads_the_bed(tmp_path: Path) -> None:
    write(tmp_path / "x.bed")
    table = bioframe.read_table(tmp_path / "x.bed", schema="bed9", schema_is_strict=True)
    assert bioframe.is_bedframe(table) and bioframe.is_sorted(table)
    assert not bioframe.is_overlapping(table)
    assert table["name"].tolist() == ["AT-rich", "GC-rich", "AT-rich"] * 2


@OF_BIOFRAME
def test_bedgraph(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place, expected = tmp_path / "x.bedGraph", {}
    with bed.interval_file(place, bed.bedgraph_track("x", "p")) as file:
        for name, length in LENGTHS.items():
            values = np.repeat(rng.permutation(1001)[: length // 3], 3)
            expected[name] = values / 1000
            bounds = np.arange(0, length + 1, 3)
            file.add(name, bed.bedgraph_lines(name, bounds[:3], values[::3][:2]))
            file.add(name, bed.bedgraph_lines(name, bounds[2:], values[::3][2:]))
    found = check_bedgraph(place.read_text(), LENGTHS)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-12)
    table = bioframe.read_table(place, schema="bedGraph", schema_is_strict=True, skiprows=1)
    assert bioframe.is_bedframe(table) and not bioframe.is_overlapping(table)
    assert table["value"].between(0, 1).all()


def test_every_thousandth_reads_back() -> None:
    text = bed.bedgraph_lines("c", np.arange(1002), np.arange(1001)).decode()
    assert [float(line.split("\t")[3]) for line in text.splitlines()] == [n / 1000 for n in range(1001)]


@pytest.mark.parametrize("name", ["", "two words", "x" * 256])
def test_a_record_must_have_a_name_that_a_track_can_hold(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(DataError, match="a record's name must have 1 to 255 letters and no blanks"),
        bed.interval_file(tmp_path / "x.bed") as file,
    ):
        file.add(name, b"")
    assert list(tmp_path.iterdir()) == []
