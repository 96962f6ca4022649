"""The UCSC Genome Browser's rules for BED and bedGraph files, line by line, written from its format pages alone."""

import re
from collections.abc import Mapping

import numpy as np

LINE = re.compile(r"^[^\s]{1,255}(\t[^\t\n]+)+$")


def data_lines(text: str) -> list[list[str]]:
    """The lines that are no track lines, in columns; every line ends with a newline and none is empty."""
    assert text.endswith("\n") and "\r" not in text
    lines = text.split("\n")[:-1]
    tracks = [line for line in lines if line.startswith("track")]
    assert tracks == lines[: len(tracks)] and len(tracks) <= 1
    for track in tracks:
        assert re.fullmatch(r'track( \w+=("[^"]*"|[^\s"]+))+', track)
    assert all(LINE.match(line) for line in lines[len(tracks) :])
    return [line.split("\t") for line in lines[len(tracks) :]]


def check_bed(text: str, lengths: Mapping[str, int], tiled: bool = True) -> list[list[str]]:
    """BED9 that is sorted; `tiled` says that its segments cover each record without gap or overlap."""
    rows = data_lines(text)
    for chrom, start, end, name, score, strand, thick_start, thick_end, rgb in rows:
        assert 0 <= int(start) < int(end) <= lengths[chrom]
        assert 1 <= len(name) <= 255 and strand in "+-."
        assert re.fullmatch(r"\d+", score) and 0 <= int(score) <= 1000
        assert (thick_start, thick_end) == (start, end)
        assert re.fullmatch(r"\d+,\d+,\d+", rgb) and all(0 <= int(part) <= 255 for part in rgb.split(","))
    _check_places(rows, lengths, tiled)
    return rows


def check_bedgraph(text: str, lengths: Mapping[str, int], tiled: bool = True) -> dict[str, np.ndarray]:
    """A bedGraph that is sorted, without overlaps; the signal of each record, base by base."""
    rows = data_lines(text)
    assert all(len(row) == 4 for row in rows)
    _check_places(rows, lengths, tiled)
    signal = {name: np.full(length, np.nan) for name, length in lengths.items()}
    for chrom, start, end, value in rows:
        assert re.fullmatch(r"-?\d+(\.\d+)?", value)
        signal[chrom][int(start) : int(end)] = float(value)
    return signal


def _check_places(rows: list[list[str]], lengths: Mapping[str, int], tiled: bool) -> None:
    keys = [(row[0].encode(), int(row[1])) for row in rows]
    assert keys == sorted(keys)
    last: dict[str, int] = {}
    for chrom, start, end, *_ in rows:
        assert int(start) == last.get(chrom, 0) if tiled else int(start) >= last.get(chrom, 0)
        last[chrom] = int(end)
    if tiled:
        assert last == dict(lengths)
