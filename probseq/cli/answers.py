"""What a saved fit answers: decode, forecast, simulate, report."""

from pathlib import Path

import numpy as np
import pandas as pd

from probseq.cli.fitting import chapter_of
from probseq.cli.output import write_csv, write_stdout
from probseq.cli.source import load
from probseq.errors import DataError
from probseq.io.writing import check_writable
from probseq.sequences import Sequences


def decode(saved: Path, file: Path, out: Path | None) -> None:
    """States, their probabilities and the predictive density of each step, as CSV."""
    _check(out)
    fit, source = load(saved)
    series = source.read(file)
    frame = fit.decode(series)
    write_csv(frame, out, index=series.time is not None)


def forecast(saved: Path, file: Path, horizon: int, quantiles: str, covariates: Path | None, out: Path | None) -> None:
    """The next steps of each sequence, as CSV; `covariates` is a table of what the model depends on then."""
    _check(out)
    levels = parse_quantiles(quantiles)
    if horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}; ask for one step or more.")
    fit, source = load(saved)
    known = None if covariates is None else _future(covariates, source.covariates)
    write_csv(fit.forecast(source.read(file), horizon, levels, covariates=known), out, index=True)


def _future(file: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """The covariates of the steps ahead, a row for each."""
    if not names:
        raise DataError(f"covariates must belong to a model fitted with --covariates, got {file}; leave it out.")
    series = Sequences.from_csv(file, list(names))
    return series.to_frame()


def simulate(saved: Path, steps: int | None, sequences: int, seed: int, out: Path | None) -> None:
    """New sequences with their hidden states, as CSV."""
    _check(out)
    fit, source = load(saved)
    length = steps if steps is not None else source.steps or fit.observations
    if length < 1 or sequences < 1:
        raise DataError(f"steps and sequences must be at least 1, got {length} and {sequences}; ask for one or more.")
    series = fit.simulate([length] * sequences, seed=seed, labelled=True)
    frame = series.to_frame().rename(columns={"label": "state"})
    at = len(frame.columns) - 1 if sequences == 1 else 1
    frame.insert(0 if sequences == 1 else min(1, at), "step", np.tile(np.arange(length), sequences))
    write_csv(frame, out, index=False)


def report(saved: Path, file: Path, title: str, horizon: int | None, diagnosis: bool, out: Path) -> None:
    """The HTML page, and beside it the page of its diagnosis where asked for."""
    from probseq.report import write_report

    check_writable(out)
    fit, source = load(saved)
    if horizon is not None and horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}; ask for one step or more.")
    chapter = chapter_of(fit, source, source.read(file), title or f"{', '.join(fit.columns)} in {file.name}", horizon)
    links = {}
    if diagnosis:
        from probseq.report.diagnosis import Diagnosis, write_diagnosis

        beside = write_diagnosis(Diagnosis(chapter), out.with_name(f"{out.stem}-diagnosis.html"))
        links = {"What speaks against this fit": beside.name}
    write_report([chapter], out, links=links)
    write_stdout(f"Report written to {out}\n")


def parse_quantiles(text: str) -> tuple[float, ...]:
    """Probabilities between 0 and 1.

    >>> parse_quantiles("0.1, 0.9")
    (0.1, 0.9)
    """
    try:
        levels = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        levels = ()
    if not levels or not all(0 < level < 1 for level in levels):
        raise DataError(f"quantiles must be numbers between 0 and 1, got {text!r}; write --quantiles 0.05,0.5,0.95.")
    return levels


def _check(out: Path | None) -> None:
    if out is not None:
        check_writable(out)
