"""Annotations in: features of BED, GFF3 and CSV files, and the known state of each base that they stand for.

BED counts from 0 and ends before `end` (UCSC); GFF3 and CSV count from 1 and include `end` (Sequence Ontology). Inside,
all are like BED.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probseq.errors import DataError
from probseq.io.csv import read_table, read_text

_RECORD = ("record", "chrom", "seqid", "seqname", "chr", "sequence")
_KIND = ("type", "feature", "kind", "label", "name")
_STRANDS = ("+", "-", ".", "?", "", "1", "-1")


@dataclass(frozen=True, eq=False)
class Features:
    """Annotated intervals, in the order of the file.

    Attributes:
        records: (n,) the record of each; empty names where the file does not say.
        starts, ends: (n,) int64 from 0, half open.
        kinds: (n,) what each is: the type of GFF3 and CSV, the name of BED.
        strands: (n,) "+", "-" or ".".
        source: the file.
    """

    records: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray
    strands: np.ndarray
    source: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The different kinds, in the order of their first appearance."""
        return tuple(dict.fromkeys(self.kinds.tolist()))

    def check(self, lengths: Mapping[str, int], kinds: Sequence[str]) -> None:
        """Refuse features of records that are not there, or beyond their ends, and kinds that no feature has.

        Args:
            lengths: bases of each record.
            kinds: those that are wanted.
        """
        unknown = [kind for kind in kinds if kind not in self.names]
        if unknown or not kinds:
            raise DataError(
                f"the kinds of feature must be among {', '.join(self.names)}, got {unknown[0] if unknown else 'none'!r}"
                f" for {self.source}; choose among them."
            )
        if not self.records.any() and len(lengths) > 1:
            raise DataError(
                f"features of {len(lengths)} records must say which they lie on, got no such column in {self.source};"
                f" add one named {', '.join(_RECORD[:3])}."
            )
        for record, end in zip(self.records.tolist(), self.ends.tolist(), strict=True):
            if record and record not in lengths:
                close = difflib.get_close_matches(record, lengths, n=1, cutoff=0.4)
                hint = f"did you mean {close[0]!r}?" if close else f"the first is {next(iter(lengths))!r}."
                raise DataError(
                    f"a feature must lie on a record of the FASTA file, got {record!r} in {self.source}; {hint}"
                )
            length = lengths[record] if record else next(iter(lengths.values()))
            if end > length:
                raise DataError(
                    f"a feature must end within its record, got {end} of {length} bases of {record or 'the record'!r}"
                    f" in {self.source}; is it of another version of the sequence?"
                )

    def of(self, kinds: Sequence[str]) -> Features:
        """Those of these kinds."""
        return self._taken(np.array([kind in kinds for kind in self.kinds.tolist()]))

    def stranded(self) -> Features:
        """The same with the strand as a part of each kind: "exon+" and "exon-".

        Raises:
            DataError: if the strand of one is not known.
        """
        unknown = np.flatnonzero(self.strands == ".")
        if len(unknown):
            start = int(self.starts[unknown[0]])
            raise DataError(
                f"a feature must have the strand + or - to tell strands apart, got none for {self.kinds[unknown[0]]!r}"
                f" at base {start + 1} in {self.source}; give it, or do not tell strands apart."
            )
        return replace(self, kinds=self.kinds + self.strands)

    def on(self, record: str) -> Features:
        """Those of one record."""
        return self._taken((self.records == record) | (self.records == ""))

    def _taken(self, chosen: np.ndarray) -> Features:
        fields = ("records", "starts", "ends", "kinds", "strands")
        return replace(self, **{name: getattr(self, name)[chosen] for name in fields})

    def labels(self, record: str, length: int, kinds: Sequence[str], elsewhere: int) -> np.ndarray:
        """(length,) int64: the place in `kinds` of the feature over each base, the first where there are several.

        Args:
            record: whose bases.
            length: of the record.
            kinds: in order of precedence; others are ignored.
            elsewhere: the label of a base in none of them.
        """
        found, here = np.full(length, elsewhere, dtype=np.int64), self.on(record)
        for number in reversed(range(len(kinds))):
            for i in np.flatnonzero(here.kinds == kinds[number]).tolist():
                found[here.starts[i] : here.ends[i]] = number
        return found


def read_features(path: str | Path) -> Features:
    """The features of a .bed, .gff, .gff3, .gtf, .csv or .tsv file, plain or gzipped.

    A CSV file has a header with `type`, `start`, `end` and, where the FASTA file has several records, `record`;
    `strand` if known.

    Raises:
        DataError: naming the line that cannot be used.
    """
    path = Path(path)
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if suffix == ".bed":
        rows = _bed(path)
    elif suffix in (".gff", ".gff3", ".gtf"):
        rows = _gff(path)
    elif suffix in (".csv", ".tsv"):
        rows = _csv(path)
    else:
        raise DataError(
            f"features must be a .bed, .gff, .gff3, .gtf, .csv or .tsv file, got {path}; rename or convert it."
        )
    if not rows:
        raise DataError(f"the file of features must have at least one, got none at {path}; check the export.")
    records, starts, ends, kinds, strands = zip(*rows, strict=True)
    words = [np.array(column, dtype=object) for column in (records, kinds, strands)]
    return Features(words[0], np.array(starts, np.int64), np.array(ends, np.int64), words[1], words[2], str(path))


def _bed(path: Path) -> list[tuple[str, int, int, str, str]]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        where = f"line {number} of {path}"
        if len(cells) < 3:
            raise DataError(
                f"a BED line must have at least 3 columns, got {len(cells)} at {where}; separate them by tabs."
            )
        start, end = _ends(cells[1], cells[2], 0, where)
        kind = cells[3].strip() if len(cells) > 3 and cells[3].strip() else "feature"
        rows.append((cells[0].strip(), start, end, kind, _strand(cells[5] if len(cells) > 5 else "", where)))
    return rows


def _gff(path: Path) -> list[tuple[str, int, int, str, str]]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.startswith("##FASTA"):
            break
        if not line.strip() or line.startswith("#"):
            continue
        cells, where = line.split("\t"), f"line {number} of {path}"
        if len(cells) != 9:
            raise DataError(
                f"a GFF line must have 9 columns separated by tabs, got {len(cells)} at {where}; complete it."
            )
        rows.append((cells[0], *_ends(cells[3], cells[4], 1, where), cells[2], _strand(cells[6], where)))
    return rows


def _csv(path: Path) -> list[tuple[str, int, int, str, str]]:
    table, locate = read_table(path)
    lower = {str(name).strip().lower(): name for name in table.columns}
    kind, record = (next((lower[name] for name in names if name in lower), None) for names in (_KIND, _RECORD))
    if kind is None or "start" not in lower or "end" not in lower:
        raise DataError(
            f"a CSV file of features must have columns type, start and end, got {', '.join(map(str, table.columns))} at"
            f" {path}; name them in its header."
        )
    columns: list[Any] = [table[lower["start"]], table[lower["end"]], table[kind]]
    columns += [
        table[column] if column is not None else [None] * len(table) for column in (record, lower.get("strand"))
    ]
    rows = []
    for number, (start, end, what, name, strand) in enumerate(zip(*columns, strict=True)):
        where = f"{locate(number)} of {path}"
        if record is not None and pd.isna(name):
            raise DataError(f"a feature must lie on a record, got none at {where}; name it.")
        if pd.isna(what):
            raise DataError(f"a feature must have a type, got none at {where}; name it.")
        ends = _ends(start, end, 1, where)
        rows.append(
            ("" if name is None else str(name), *ends, str(what), _strand("" if pd.isna(strand) else strand, where))
        )
    return rows


def _ends(start: Any, end: Any, origin: int, where: str) -> tuple[int, int]:
    """Start and end from 0, half open."""
    try:
        first, last = int(start), int(end)
        if (
            isinstance(start, float | np.floating)
            and first != start
            or isinstance(end, float | np.floating)
            and last != end
        ):
            raise ValueError("not whole")
    except (TypeError, ValueError):
        first, last = -1, -1
    if not origin <= first <= last - (1 - origin):
        rule = "0 <= start < end" if origin == 0 else "1 <= start <= end"
        raise DataError(f"a feature must have whole numbers {rule}, got {start} and {end} at {where}; correct it.")
    return first - origin, last


def _strand(text: Any, where: str) -> str:
    mark = str(text).strip()
    if mark not in _STRANDS:
        raise DataError(f"a strand must be +, - or ., got {mark!r} at {where}; correct it.")
    return {"1": "+", "-1": "-", "?": ".", "": "."}.get(mark, mark)
