"""Segment a genome: fit a hidden Markov model of bases, read it along every record, write BED and bedGraph.

Churchill (1989) for composition; with labels, a gene finder in its simplest form (Krogh, Mian & Haussler 1994). Records
are read one at a time. Beside the model, memory is some bytes for each base of the longest record and of what is fitted
to; no table of states by bases is made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probseq import families
from probseq.errors import ModelError
from probseq.genome.tracks import RecordSegments, read_record, signal_path, summary
from probseq.genome.training import Annotation, Training, annotated_records, spread_stretches
from probseq.inference import Fit, em
from probseq.io.bed import IntervalFile, bed_lines, bed_track, bedgraph_track, check_record_name, interval_file
from probseq.io.fasta import read_records
from probseq.io.writing import check_writable
from probseq.models import HMM
from probseq.sequences import Sequences

FIT_BASES = 5_000_000


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A genome in segments.

    Args:
        fit: the model, which decodes other genomes too.
        names: of the states.
        states: a row a state: name, bases, share, segments, mean_length, A, C, G, T, reading.
        segments: a row a segment: record, start, end (from 0, half open), state, name, score.
        files: what was written, the BED file first.
        fit_bases: how many bases were fitted to.
        fit_seconds, read_seconds: the time that fitting took, and reading and writing.
    """

    fit: Fit
    names: tuple[str, ...]
    states: pd.DataFrame
    segments: pd.DataFrame
    files: tuple[Path, ...]
    fit_bases: int
    fit_seconds: float
    read_seconds: float

    @property
    def bases(self) -> int:
        """Of all records."""
        return int(self.states["bases"].sum())


def segment(
    genome: str | Path,
    states: int | None = None,
    *,
    order: int = 0,
    out: str | Path | None = None,
    labels: Annotation | str | Path | None = None,
    training: str | Path | None = None,
    restarts: int = 5,
    seed: int = 0,
    fit_bases: int = FIT_BASES,
    signals: bool = True,
    track: bool = False,
    progress: bool = False,
) -> Segmentation:
    """Fit a hidden Markov model to a genome and cut every record into its Viterbi segments.

    Without labels the states are found; the fit is maximum likelihood by EM on the whole genome or, where that is
    longer than `fit_bases`, posterior mode on stretches spread over it. With labels the named states come first, known
    bases stay what they are known to be, and priors worth a tenth of an observation keep every base possible.

    Args:
        genome: a FASTA file, plain or gzipped. Every letter but A, C, G, T (and U) is missing, and so is, for order k,
            the score of the k bases after it.
        states: K; with labels as many as they name when None.
        order: a base is given the `order` bases before it.
        out: the BED file, with bedGraph files beside it; None writes nothing.
        labels: BED, GFF3 or CSV file of known features, or an `Annotation` of it, on `training`. Bases in none are
            background unless it is partial.
        training: FASTA file to fit to; None is the genome itself.
        restarts, seed: starts of EM, and their seed.
        fit_bases: most bases to fit to without labels; 0 is all.
        signals: write the probability of each state as bedGraph.
        track: begin the files with a track line for a genome browser.
        progress: say on standard error what is being done.
    """
    place = None if out is None else Path(out)
    _check(order, fit_bases, place)
    began = time.perf_counter()
    known = Annotation(Path(labels)) if isinstance(labels, str | Path) else labels
    data = _training(training or genome, known, fit_bases)
    say = _tell if progress else _keep_quiet
    say(f"fitting to {data.series.total_steps:,} bases")
    model = HMM(_count(states, data, known), families.ContextCategorical(order) if order else families.Categorical())
    source = None if known is not None or not data.whole else Path(training or genome)
    fit = _fit(model, data, source, restarts=restarts, seed=seed, progress=progress)
    fitted = time.perf_counter()
    names, strands = data.words(model.states)
    stretches = (data.labelled(record) if training is None else record for record in read_records(genome))
    records, files = _read(fit, (Path(genome).name, stretches), place, (names, strands), (signals, track), say)
    return Segmentation(
        fit=fit,
        names=names,
        states=summary(list(records.values()), names),
        segments=_table(records, names),
        files=files,
        fit_bases=data.series.total_steps,
        fit_seconds=fitted - began,
        read_seconds=time.perf_counter() - fitted,
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _keep_quiet(text: str) -> None:
    pass


def _check(order: int, fit_bases: int, out: Path | None) -> None:
    if out is not None:
        check_writable(out)
    if order < 0 or fit_bases < 0:
        raise ModelError(f"order and fit_bases must not be negative, got {order} and {fit_bases}; give 0 or more.")


def _training(genome: str | Path, known: Annotation | None, fit_bases: int) -> Training:
    if known is not None:
        return annotated_records(genome, known)
    return spread_stretches(genome, fit_bases or 1 << 62)


def _fit(model: HMM, data: Training, genome: Path | None, **options: Any) -> Fit:
    """Maximum likelihood of a whole genome, a long one from where stretches of it end; else, None, posterior mode.

    A start takes several numbers a base to find, which the stretches can afford.
    """
    if genome is None:
        return em(model, data.series, priors=True, **options)
    if data.series.total_steps <= FIT_BASES:
        return em(model, data.series, **options)
    few = em(model, spread_stretches(genome, FIT_BASES).series, priors=True, **options)
    return em(model, data.series, start=few.parameters, seed=options["seed"], progress=options["progress"])


def _count(states: int | None, data: Training, known: Annotation | None) -> int:
    """K; the named states at least, and no others where every base is known."""
    named = len(data.names)
    if states is None:
        if known is None:
            raise ModelError("states must be given without labels, got none; say how many to find.")
        return named
    exact = known is not None and not known.partial
    if states < max(named, 1) or (exact and states != named):
        rule = "be" if exact else "be at least"
        remedy = "leave it out, or choose the kinds of feature" if named else "give how many to find"
        what = f"the {named} that the labels name ({', '.join(data.names)})" if named else "1"
        raise ModelError(f"states must {rule} {what}, got {states}; {remedy}.")
    return states


def _read(
    fit: Fit,
    genome: tuple[str, Iterable[Sequences]],
    out: Path | None,
    words: tuple[tuple[str, ...], tuple[str, ...]],
    wanted: tuple[bool, bool],
    say: Callable[[str], None],
) -> tuple[dict[str, RecordSegments], tuple[Path, ...]]:
    """Segments of every record, and the files written.

    Args:
        fit: the model.
        genome: its name, and its records.
        out: the BED file.
        words: names and strands of the states.
        wanted: whether to write signals, and track lines.
        say: is told what is done.
    """
    (title, series), (names, strands), (signals, track) = genome, words, wanted
    records: dict[str, RecordSegments] = {}
    paths = [] if out is None else [out, *(signal_path(out, name) for name in names if signals)]
    with ExitStack() as stack:
        files: list[IntervalFile] = []
        for number, path in enumerate(paths):
            about = f"probability of {names[number - 1]}" if number else f"{len(names)} states"
            line = (bedgraph_track if number else bed_track)(f"{title}, {about}", about) if track else ""
            files.append(stack.enter_context(interval_file(path, line)))
        for record in series:
            name = str(record.ids[0])
            check_record_name(name)
            found = records[name] = read_record(fit, record, files[1:])
            if files:
                segments = (found.starts, found.ends, found.states, found.scores)
                files[0].add(name, bed_lines(name, *segments, names, strands))
            say(f"{name}: {record.total_steps:,} bases in {len(found.starts):,} segments")
    return records, tuple(paths)


def _table(records: dict[str, RecordSegments], names: tuple[str, ...]) -> pd.DataFrame:
    """All segments, a row each, in the order of the genome."""
    rows = [
        pd.DataFrame(
            {
                "record": name,
                "start": found.starts,
                "end": found.ends,
                "state": found.states,
                "name": pd.Categorical(np.array(names, dtype=object)[found.states], categories=list(names)),
                "score": found.scores,
            }
        )
        for name, found in records.items()
    ]
    return pd.concat(rows, ignore_index=True)
