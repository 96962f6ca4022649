"""A fitted model read along each record of a genome, a block at a time: segments, signals, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probseq.errors import DataError
from probseq.inference import Fit
from probseq.io.bed import IntervalFile, bedgraph_lines
from probseq.kernels.runs import viterbi_runs
from probseq.kernels.streaming import smoothed_blocks
from probseq.sequences import Sequences


@dataclass(frozen=True, eq=False)
class RecordSegments:
    """The segments of one record.

    Args:
        starts, ends: (n,) from 0, half open; they tile the record.
        states: (n,) of each, another than that of the one before.
        scores: (n,) mean posterior probability of its state over a segment's bases.
        bases: (K, 4) how many of each base every state holds.
    """

    starts: np.ndarray
    ends: np.ndarray
    states: np.ndarray
    scores: np.ndarray
    bases: np.ndarray


class Signal:
    """The probability of one state as runs of equal thousandths, joined across blocks and handed on when they end."""

    def __init__(self, file: IntervalFile, record: str) -> None:
        self._file, self._record = file, record
        self._start, self._value = 0, -1

    def add(self, start: int, probabilities: np.ndarray) -> None:
        """The next block, from base `start` on."""
        values = np.rint(1000.0 * probabilities).astype(np.int64)
        changes = np.flatnonzero(np.diff(values, prepend=self._value if start else values[0]))
        if not start:
            self._value = int(values[0])
        if len(changes):
            bounds = np.concatenate([[self._start], start + changes])
            runs = np.concatenate([[self._value], values[changes[:-1]]])
            self._file.add(self._record, bedgraph_lines(self._record, bounds, runs))
            self._start, self._value = int(bounds[-1]), int(values[changes[-1]])

    def end(self, length: int) -> None:
        """The record's end, which closes the last run."""
        last = np.array([self._start, length])
        self._file.add(self._record, bedgraph_lines(self._record, last, np.array([self._value])))


def read_record(fit: Fit, record: Sequences, signals: Sequence[IntervalFile] = ()) -> RecordSegments:
    """Viterbi segments of one record, and its posterior signals on the way.

    Args:
        fit: of a hidden Markov model of bases.
        record: one sequence.
        signals: a file for each state, or none.

    Raises:
        DataError: where the model makes the record impossible.
    """
    posterior = fit.posterior(record)
    states, name = posterior.states, str(record.ids[0])
    starts, path = _runs(posterior.arguments, states, name)
    ends = np.append(starts[1:], record.total_steps)
    sums, bases = np.zeros(len(starts)), np.zeros(4 * states, np.int64)
    tracks = [Signal(file, name) for file in signals]
    codes, seen = record.values.numpy(), record.observed
    for start, gamma in smoothed_blocks(**posterior.arguments):
        gamma = gamma.reshape(len(gamma), -1, states).sum(1)
        end = start + len(gamma)
        first, last = np.searchsorted(ends, [start, end - 1], side="right")
        inside = np.clip(starts[first : last + 1], start, end) - start
        state = np.repeat(path[first : last + 1], np.diff(np.append(inside, len(gamma))))
        sums[first : last + 1] += np.add.reduceat(gamma[np.arange(len(gamma)), state], inside)
        cell = 4 * state + codes[start:end]
        known = cell if seen is None else cell[seen.numpy()[start:end]]
        bases += np.bincount(known, minlength=4 * states)
        for k, track in enumerate(tracks):
            track.add(start, gamma[:, k])
    for track in tracks:
        track.end(record.total_steps)
    return RecordSegments(starts, ends, path, sums / (ends - starts), bases.reshape(states, 4))


def _runs(arguments: dict[str, Any], states: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Starts and states of the Viterbi segments; of a chain that remembers more, the current state."""
    starts, codes, _ = viterbi_runs(**arguments)
    if len(starts) == 0:
        raise DataError(
            f"every record must be possible under the model, got probability zero at {name!r}; fit with priors, or to"
            " this record too."
        )
    path = codes % states
    changes = np.append(True, path[1:] != path[:-1])
    return starts[changes], path[changes]


def summary(records: Sequence[RecordSegments], names: Sequence[str]) -> pd.DataFrame:
    """A row a state: what it holds and how long its segments are.

    Columns: name, bases, share of all bases, segments, mean_length, A, C, G, T (shares of its known bases), reading.
    """
    held = np.sum([record.bases for record in records], axis=0)
    lengths = np.concatenate([record.ends - record.starts for record in records])
    states = np.concatenate([record.states for record in records])
    counts = np.bincount(states, minlength=len(names))
    totals = np.bincount(states, weights=lengths, minlength=len(names)).astype(np.int64)
    with np.errstate(invalid="ignore"):
        shares = held / held.sum(1, keepdims=True)
        table = {"name": list(names), "bases": totals, "share": totals / lengths.sum(), "segments": counts}
        table["mean_length"] = totals / counts
    table |= dict(zip("ACGT", shares.T, strict=True))
    rich = held[:, 1:3].sum() / max(held.sum(), 1)
    return pd.DataFrame(table | {"reading": [_reading(share, rich) for share in shares]})


def _reading(shares: np.ndarray, genome: float) -> str:
    """A composition in plain words, beside the genome's share of G and C."""
    if np.isnan(shares).any():
        return "holds no segment"
    rich = float(shares[1] + shares[2])
    word = "GC-rich" if rich > genome + 0.01 else "AT-rich" if rich < genome - 0.01 else "average"
    return f"{word}, {100 * rich:.1f}% G+C of {100 * genome:.1f}% overall"


def signal_path(out: Path, name: str) -> Path:
    """The bedGraph file of a state beside the BED file: segments.state0.bedGraph for segments.bed."""
    plain = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in name)
    stem = out.name[: -len(".bed")] if out.name.lower().endswith(".bed") else out.name
    return out.with_name(f"{stem}.{plain}.bedGraph")
