"""`probseq train`: read, train a recurrent network, print, save with its curves."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probseq.cli.fitting import INTERRUPTED, finite
from probseq.cli.output import print_rich, write_stdout
from probseq.cli.source import Source, is_fasta
from probseq.errors import DataError, ModelError
from probseq.inference import NetworkFit, train
from probseq.io.writing import check_writable, written_whole
from probseq.models.recurrent_model import RecurrentModel
from probseq.sequences import Sequences

SEPARATORS = {"line": "\n", "paragraph": "\n\n", "text": None}
"""What stands between the sequences of a text."""

WINDOW = 100
"""Steps of back-propagation where a text is one sequence and nothing else is asked for."""


@dataclass(frozen=True)
class Reading:
    """What file it is.

    Args:
        source: columns of a table.
        level: "character" or "word" of a text; None for a table or FASTA.
        each: "line", "paragraph" or "text": what of a text is a sequence.
        rare: symbols of a text that occur less often are one symbol.
        family: by name; None is categorical for symbols.
    """

    source: Source
    level: str | None = None
    each: str = "line"
    rare: int = 1
    family: str | None = None

    def read(self, file: Path) -> tuple[Sequences, str]:
        """The series, and the name of its family."""
        if self.level is not None:
            if self.source != Source() or self.family not in (None, "categorical"):
                what = "--family" if self.source == Source() else "columns"
                raise DataError(f"a text must be read by --text alone, got {what} for {file}; leave one of them out.")
            return self._text(file), "categorical"
        if self.each != "line" or self.rare != 1:
            raise DataError(f"--each and --rare must come with --text, got one for {file}; add --text characters.")
        family = self.family or ("categorical" if is_fasta(file) else None)
        if family is None:
            raise ModelError(
                f"data must be a text or have a family, got neither for {file}; write --text characters, or --column "
                "and --family."
            )
        if is_fasta(file) and family != "categorical":
            raise ModelError(f"DNA must have the categorical family, got {family}; use --family categorical.")
        return self.source.read(file, symbols=family == "categorical", fitting=True), family

    def _text(self, file: Path) -> Sequences:
        return Sequences.from_text(file, level=self.level or "", separator=SEPARATORS[self.each], rare=self.rare)


@dataclass(frozen=True)
class Shape:
    """The network.

    Args:
        cell: kind of its layers.
        layers: how many.
        hidden: units of each.
        embedding: size of the vectors of symbols; None is one-hot.
        dropout: share of the last layer that is left out at random in training.
        feedback: "observed", "predicted" or "none".
        stop: whether sequences end by themselves; None does where there are several of a text.
    """

    cell: str = "lstm"
    layers: int = 1
    hidden: int = 64
    embedding: int | None = None
    dropout: float = 0.0
    feedback: str = "observed"
    stop: bool | None = None

    def network(self, series: Sequences, family: str, covariates: tuple[str, ...], text: bool, seed: int) -> Any:
        """Untrained."""
        stop = text and series.count > 1 if self.stop is None else self.stop
        return RecurrentModel.for_series(
            series,
            family,
            self.cell,
            self.hidden,
            layers=self.layers,
            seed=seed,
            embedding=self.embedding,
            dropout=self.dropout,
            feedback=None if self.feedback == "none" else self.feedback,
            covariates=covariates,
            stopping="end" if stop else None,
        )


def run(
    file: Path, reading: Reading, shape: Shape, options: dict[str, Any], out: Path | None, resume: bool, as_json: bool
) -> int:
    """Train and print; the exit code."""
    if out is not None:
        check_writable(out, directory=True)
    elif resume:
        raise DataError("--resume must come with the directory of the run, got none; name it with --out.")
    series, family = reading.read(file)
    if reading.each == "text" and reading.level is not None and options["truncate"] is None:
        options = {**options, "truncate": WINDOW}
    network = shape.network(series, family, reading.source.covariates, reading.level is not None, options["seed"])
    shown = sys.stderr.isatty() and not as_json
    fit = train(network, series, directory=out, resume=resume, progress=shown, **options)
    if out is not None:
        draw(fit, out / "curves.png", bits=series.categories is not None)
    if as_json:
        write_stdout(json.dumps(finite(summary(fit, series)), allow_nan=False) + "\n")
    else:
        show(fit, series, out)
    return INTERRUPTED if fit.stop_reason == "interrupted" else 0


def summary(fit: NetworkFit, series: Sequences) -> dict[str, Any]:
    """The fit as plain values; of symbols with bits per step, too."""
    found = fit.summary()
    if series.categories is not None:
        found["bits_per_step"] = {name: value / math.log(2.0) for name, value in found["nats_per_step"].items()}
    return found


def show(fit: NetworkFit, series: Sequences, out: Path | None) -> None:
    """What was trained and how well, for a reader."""
    from rich import box
    from rich.table import Table

    found = summary(fit, series)
    cell: Any = fit.network.cell
    print_rich(
        f"{series!r}\n{cell.description()['kind']} network, {found['n_parameters']:,} weights; "
        f"{found['epochs']} epochs in {found['seconds']:.0f} s: {found['stop_reason']}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    units = ["nats", *(["bits"] if "bits_per_step" in found else [])]
    for heading in (f"epoch {found['best_epoch']} (kept)", *(f"{unit} per step" for unit in units)):
        table.add_column(heading, justify="left" if heading.startswith("epoch") else "right")
    for name in found["nats_per_step"]:
        table.add_row({"train": "training"}.get(name, name), *(f"{found[f'{u}_per_step'][name]:.4f}" for u in units))
    print_rich(table)
    if out is not None:
        print_rich(f"saved in {out}; its curves are in {out / 'curves.csv'} and {out / 'curves.png'}")


def draw(fit: NetworkFit, file: Path, bits: bool) -> None:
    """The curves as a picture."""
    from probseq import plots

    made, axes = plots.figure(7.0, 3.6)
    plots.training_curves(axes, fit, bits=bits)
    with written_whole(file) as stream:
        made.savefig(stream, format="png")
