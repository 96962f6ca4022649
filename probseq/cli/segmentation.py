"""`probseq segment`: a genome in, segments and signals out, and a table of what the states are."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probseq.cli.fitting import finite
from probseq.cli.output import print_rich, write_stdout
from probseq.errors import DataError
from probseq.genome import Segmentation, segment
from probseq.genome.training import Annotation
from probseq.io.writing import check_writable

INTERRUPTED = 130


@dataclass(frozen=True)
class Known:
    """What the command line says of labels.

    Args:
        labels: file of features, or None.
        kinds: comma separated, in order of precedence; empty means all.
        strands: whether to tell strands apart.
        partial: whether bases outside of all features are unknown.
        training: FASTA that the labels are of; None is the genome.
    """

    labels: Path | None
    kinds: str
    strands: bool
    partial: bool
    training: Path | None

    def annotation(self) -> Annotation | None:
        """The features, if there are any."""
        if self.labels is None:
            given = {"--kinds": self.kinds, "--strands": self.strands, "--partial": self.partial}
            for option, value in given.items():
                if value:
                    raise DataError(f"{option} must come with labels, got none; name their file with --labels.")
            return None
        kinds = tuple(kind.strip() for kind in self.kinds.split(",") if kind.strip())
        return Annotation(self.labels, kinds, self.strands, self.partial)


def run(genome: Path, known: Known, out: Path, save: Path | None, as_json: bool, **options: Any) -> int:
    """Segment, write and print; the exit code. Options are those of `probseq.segment`."""
    annotation = known.annotation()
    if save is not None:
        check_writable(save, directory=True)
    found = segment(
        genome,
        labels=annotation,
        training=known.training,
        out=out,
        progress=sys.stderr.isatty(),
        **options,
    )
    if save is not None:
        found.fit.save(save)
    if as_json:
        write_stdout(json_text(found))
    else:
        print_segmentation(found, genome)
    interrupted = any(attempt.stop_reason.startswith("interrupted") for attempt in found.fit.attempts)
    return INTERRUPTED if interrupted else 0


def json_text(found: Segmentation) -> str:
    """One JSON object on one line."""
    content = found.fit.summary() | {
        "bases": found.bases,
        "fitted_bases": found.fit_bases,
        "segments": len(found.segments),
        "segment_states": found.states.to_dict("records"),
        "files": [str(path) for path in found.files],
        "seconds_fitting": found.fit_seconds,
        "seconds_reading": found.read_seconds,
    }
    return json.dumps(finite(content), allow_nan=False) + "\n"


def print_segmentation(found: Segmentation, genome: Path) -> None:
    """What was found, as a table for a reader."""
    fit, records = found.fit, found.segments["record"].nunique()
    title = Text(genome.name, style="bold")
    count = f"{records:,} record{'s' * (records != 1)}, {found.bases:,} bases in {len(found.segments):,} segments"
    title.append(f"  {count}", style="not bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("state", "reading"):
        table.add_column(name, overflow="fold")
    for name in ("share", "segments", "mean length", *"ACGT"):
        table.add_column(name, justify="right")
    for row in found.states.to_dict("records"):
        empty = row["segments"] == 0
        cells = [
            "-" if empty else f"{row['mean_length']:,.0f}",
            *("-" if empty else f"{row[base]:.3f}" for base in "ACGT"),
        ]
        table.add_row(row["name"], row["reading"], f"{100 * row['share']:.1f}%", f"{row['segments']:,}", *cells)
    how = "" if fit.converged else " did NOT converge"
    kind = "posterior mode" if fit.with_priors else "maximum likelihood"
    fitted = (
        f"{kind} on {found.fit_bases:,} bases, log-likelihood {fit.log_likelihood:,.3f}, BIC {fit.bic:,.1f}; "
        f"EM{how} {fit.iterations} iterations: {fit.stop_reason}."
    )
    speed = 1e9 * (found.fit_seconds + found.read_seconds) / found.bases
    took = f"{found.fit_seconds:.1f} s to fit, {found.read_seconds:.1f} s to read and write; {speed:,.0f} ns a base."
    files = Text("Written: " + ", ".join(str(path) for path in found.files) + ".", style="dim")
    print_rich(title, table, Text(fitted, style="" if fit.converged else "bold red"), Text(took), files)
