"""CSV in: a text table with a header line, comma, semicolon or tab separated, UTF-8, plain or gzipped."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from probseq.errors import DataError
from probseq.io.frames import Columns, read_frame
from probseq.io.times import Locate
from probseq.sequences import Sequences


def read_csv(
    path: str | Path, columns: Columns, fill_gaps: bool = False, symbols: bool | Sequence[str] = False
) -> Sequences:
    """Sequences from a CSV file; the arguments are those of `probseq.io.frames.read_frame`.

    Raises:
        DataError: if the file cannot be read as a table, or a cell cannot be used, naming its line.
    """
    frame, locate = read_table(path)
    return read_frame(frame, columns, fill_gaps, symbols, locate)


def read_table(path: str | Path) -> tuple[pd.DataFrame, Locate]:
    """The whole table, and a function that says on which line of the file a row stands."""
    text = read_text(path)
    if not text.strip():
        raise DataError(f"the table must have a header and rows, got an empty file at {path}; check the export.")
    header, _, body = text.lstrip("\r\n").partition("\n")
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header.rstrip("\r")], delimiter=separator))
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise DataError(f"column names must be unique, got {sorted(repeated)} twice in {path}; rename one of them.")
    if not body.strip():
        raise DataError(f"the table must have at least one row, got only a header at {path}; check the export.")
    _check_ragged(text, separator, len(names), path)
    alone = len(names) == 1  # then a blank line is a missing value, not an empty line
    try:
        frame = pd.read_csv(
            io.StringIO(text.strip("\r\n") if alone else text),
            sep=separator,
            index_col=False,
            low_memory=False,
            skip_blank_lines=not alone,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"the table must be well-formed CSV, got {reason!r} at {path}; check quotes.") from error
    one_line_a_row = text.rstrip().count("\n") == len(frame)  # no blank lines, no line breaks within quotes
    return frame, _line if one_line_a_row else _row


def read_text(path: str | Path) -> str:
    """The text of a file, without its byte order mark; gzip is undone.

    Raises:
        DataError: if there is no such file, it cannot be read, or it is not UTF-8 text.
    """
    raw = read_bytes(path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
        if b"\0" in raw:
            raise DataError(f"the file must be a text table, got binary data at {path}; export it as CSV.")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"the file must be UTF-8 text, got byte 0x{raw[error.start]:02x} at line {line} of {path}; save it as"
            " UTF-8."
        ) from error


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file; gzip is undone."""
    check_file(path)
    try:
        raw = Path(path).read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError) as error:
        raise DataError(f"the file must be readable, got {error} at {path}; check it and its permissions.") from error


def check_file(path: str | Path) -> None:
    """Refuse a path that is no file."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"the input must be a file, got a directory at {path}; name a file in it.")
    if not path.exists():
        raise DataError(f"the input must be an existing file, got none at {path}; check the path.")


def _check_ragged(text: str, separator: str, width: int, path: str | Path) -> None:
    """Refuse lines with more or fewer cells than the header; pandas would fill or drop them silently."""
    if '"' in text:
        for number, cells in enumerate(reader := csv.reader(io.StringIO(text), delimiter=separator), start=1):
            if cells and len(cells) != width:
                _refuse_ragged(len(cells), reader.line_num if number > 1 else 1, width, path)
        return
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    ends = np.append(np.flatnonzero(raw == ord("\n")), len(raw))
    separators = np.searchsorted(np.flatnonzero(raw == ord(separator)), ends)
    cells = np.diff(separators, prepend=0) + 1
    size = np.diff(ends, prepend=-1) - 1
    blank = (size == 0) | ((size == 1) & (raw[np.maximum(ends - 1, 0)] == ord("\r")))
    wrong = (cells != width) & ~blank
    if wrong.any():
        line = int(wrong.argmax())
        _refuse_ragged(int(cells[line]), line + 1, width, path)


def _refuse_ragged(cells: int, line: int, width: int, path: str | Path) -> None:
    raise DataError(
        f"every line must have as many cells as the header, {width}, got {cells} at line {line} of {path}; complete the"
        " line, or quote cells that hold the separator."
    )


def _line(row: int) -> str:
    return f"line {row + 2}"


def _row(row: int) -> str:
    return f"row {row + 1} below the header"
