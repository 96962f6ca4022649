"""How a file was read for a fit, kept as `source.json` beside it, so that decode and forecast read theirs the same way.

It also keeps what the fit itself does not know: the command, the seed and the models it was chosen from.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from probseq.errors import DataError
from probseq.inference import Fit
from probseq.io.writing import write_text
from probseq.sequences import Sequences

NAME, FORMAT = "source.json", 1
_FASTA = (".fa", ".fasta", ".fna")


@dataclass(frozen=True)
class Source:
    """Options of reading, and where a fit came from.

    Args:
        columns: of values; none for FASTA.
        time: column of times.
        group: column that names the sequence.
        fill_gaps: insert missing steps.
        categories: names of the symbols, in the order of their codes; None for numbers.
        unit: of the data.
        command: that made the fit.
        seed: of the fit.
        steps: of the longest sequence that was fitted.
        candidates: a record for each number of states tried; empty where there was one.
        covariates: columns that the model depends on.
        label: column of states that are known, -1 or empty where not.
        weight: column of how often each sequence counts.
    """

    columns: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    fill_gaps: bool = False
    categories: tuple[str, ...] | None = None
    unit: str = ""
    command: str = ""
    seed: int = 0
    steps: int = 0
    candidates: tuple[dict[str, Any], ...] = ()
    covariates: tuple[str, ...] = ()
    label: str | None = None
    weight: str | None = None

    def read(self, file: Path, *, symbols: bool = False, fitting: bool = False) -> Sequences:
        """The series of a file.

        Args:
            file: CSV or FASTA.
            symbols: read a CSV column as names rather than numbers; known categories imply it.
            fitting: whether the columns of labels and weights must be there; else they are read where they are.
        """
        label, weight = self.label, self.weight
        if (label or weight) and not fitting:
            present = columns_of(file)
            label, weight = (name if name in present else None for name in (label, weight))
        if is_fasta(file):
            single = self.time or self.group or label or weight
            if single or self.covariates or self.columns not in ((), ("base",)):
                named = single or ", ".join(self.covariates or self.columns)
                raise DataError(f"a FASTA file must be read without columns, got {named!r} for {file}; leave it out.")
            return Sequences.from_fasta(file)
        if not self.columns:
            raise DataError(f"a CSV file must be read by column, got no --column for {file}; name the column.")
        names: Any = self.columns[0] if len(self.columns) == 1 else list(self.columns)
        kinds: Any = self.categories if self.categories is not None else symbols
        return Sequences.from_csv(
            file,
            names,
            time=self.time,
            group=self.group,
            covariates=self.covariates,
            weight=weight,
            label=label,
            fill_gaps=self.fill_gaps,
            symbols=kinds,
        )

    def of(self, series: Sequences, candidates: tuple[dict[str, Any], ...] = ()) -> "Source":
        """With what reading and fitting the series has shown."""
        return replace(
            self,
            columns=series.columns,
            categories=series.categories,
            steps=int(series.lengths.max()),
            candidates=candidates,
        )

    def save(self, directory: Path) -> None:
        """Write it into the directory of a fit."""
        write_text(directory / NAME, json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n")


def load(directory: Path) -> tuple[Fit, Source]:
    """A saved fit and how its file was read; what only `Fit.save` wrote is read by its columns alone."""
    if directory.is_file():
        raise DataError(
            f"a saved fit must be a directory, got a file at {directory}; give what `probseq fit --out` wrote."
        )
    fit = Fit.load(directory)
    place = directory / NAME
    if not place.exists():
        return fit, Source(columns=fit.columns, categories=fit.categories)
    try:
        stored = {
            "covariates": (),
            "label": None,
            "weight": None,
            **json.loads(place.read_text()),
        }  # fits of version 0.1 have none
        if stored.pop("format") != FORMAT:
            raise ValueError("another format")
        known = {field.name for field in fields(Source)}
        if set(stored) != known:
            raise ValueError("other fields than this version has")
        for name in ("columns", "categories", "candidates", "covariates"):
            stored[name] = None if stored[name] is None else tuple(stored[name])
        return fit, Source(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the reading options of a saved fit must be whole, got {error} in {place}; fit and save it again."
        ) from error


def columns_of(file: Path) -> tuple[str, ...]:
    """The names in the first line of a table; none where it cannot be read as one, which its reader says better."""
    import pandas as pd

    try:
        return () if is_fasta(file) else tuple(map(str, pd.read_csv(file, nrows=0).columns))
    except (OSError, ValueError):
        return ()


def is_fasta(file: Path) -> bool:
    """Whether the name says FASTA, gzipped or not."""
    return (file.with_suffix("") if file.suffix == ".gz" else file).suffix.lower() in _FASTA
