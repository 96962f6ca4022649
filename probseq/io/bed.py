"""Genome tracks out: BED segments and bedGraph signals, as the UCSC Genome Browser's format pages define them.

Positions count from 0 and an interval ends before its `end`; columns are separated by tabs. Records stand in the order
of their names' bytes and intervals in that of their starts, as `LC_ALL=C sort -k1,1 -k2,2n` leaves them and
bedGraphToBigWig asks for. A file takes its place when it is whole.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from probseq.errors import DataError
from probseq.io.writing import written_whole

COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (120, 120, 120),
)  # fmt: skip
"""Red, green and blue of the states in turn (Okabe & Ito 2008, safe for the colour-blind)."""

_DIGITS = [b"%g" % (number / 1000) for number in range(1001)]


class IntervalFile:
    """Where the intervals of each record are put as they are found."""

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._pieces: list[tuple[bytes, int, int]] = []

    def add(self, record: str, lines: bytes) -> None:
        """Lines of one record, after those that it has already."""
        check_record_name(record)
        start = self._spool.tell()
        self._spool.write(lines)
        self._pieces.append((record.encode(), start, start + len(lines)))

    def copy_to(self, stream: BinaryIO) -> None:
        """All lines, the records in the order of their names."""
        for _, start, end in sorted(self._pieces, key=lambda piece: piece[0]):  # stable within a record
            self._spool.seek(start)
            for at in range(start, end, 1 << 24):
                stream.write(self._spool.read(min(1 << 24, end - at)))


@contextmanager
def interval_file(path: str | Path, header: str = "") -> Iterator[IntervalFile]:
    """An `IntervalFile` that becomes the file at `path`, after an optional track line, when the block ends well."""
    with written_whole(path) as stream:
        beside = Path(path).resolve().parent if Path(path).is_file() or not Path(path).exists() else None
        with tempfile.TemporaryFile(dir=beside) as spool:
            file = IntervalFile(spool)
            yield file
            stream.write(header.encode())
            file.copy_to(stream)


def bed_lines(
    record: str,
    starts: np.ndarray,
    ends: np.ndarray,
    states: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    strands: Sequence[str] | None = None,
) -> bytes:
    """Segments of one record as BED9: chrom, start, end, name, score, strand, thickStart, thickEnd, itemRgb.

    Args:
        record: chrom.
        starts, ends: (n,) from 0, half open.
        states: (n,) the state of each segment, which chooses its name and colour.
        scores: (n,) from 0 to 1; written from 0 to 1000.
        names: of the states, without tabs.
        strands: "+", "-" or "." of each state; None means "." throughout.
    """
    tails = [
        (name, "." if strands is None else strands[state], ",".join(map(str, COLOURS[state % len(COLOURS)])))
        for state, name in enumerate(names)
    ]
    points = np.rint(1000 * np.clip(scores, 0, 1)).astype(int)
    rows = zip(starts.tolist(), ends.tolist(), points.tolist(), states.tolist(), strict=True)
    return "".join(
        f"{record}\t{start}\t{end}\t{tails[state][0]}\t{point}\t{tails[state][1]}\t{start}\t{end}\t{tails[state][2]}\n"
        for start, end, point, state in rows
    ).encode()


def bedgraph_lines(record: str, bounds: np.ndarray, thousandths: np.ndarray) -> bytes:
    """Runs of one signal as bedGraph: chrom, start, end, value.

    Args:
        record: chrom.
        bounds: (n + 1,) where the runs begin, and where the last one ends; from 0.
        thousandths: (n,) integers from 0 to 1000, a thousand times the values.
    """
    name, digits = record.encode(), _DIGITS
    edges = bounds.tolist()
    rows = zip(edges, edges[1:], thousandths.tolist(), strict=False)
    return b"".join([b"%s\t%d\t%d\t%s\n" % (name, start, end, digits[value]) for start, end, value in rows])


def bed_track(name: str, description: str) -> str:
    """The track line that a genome browser shows a BED file by."""
    return f'track name="{_quoted(name)}" description="{_quoted(description)}" itemRgb="On" visibility=1\n'


def bedgraph_track(name: str, description: str) -> str:
    """The track line of a bedGraph file of values from 0 to 1."""
    words = f'name="{_quoted(name)}" description="{_quoted(description)}"'
    return f"track type=bedGraph {words} viewLimits=0:1 autoScale=off visibility=full\n"


def check_record_name(record: str) -> None:
    """Refuse a record that no track can name."""
    if not 1 <= len(record) <= 255 or any(letter.isspace() for letter in record):
        raise DataError(
            f"a record's name must have 1 to 255 letters and no blanks to stand in a BED file, got {record!r}; name it"
            " in its header line."
        )


def _quoted(text: str) -> str:
    return " ".join(text.replace('"', "'").split())
