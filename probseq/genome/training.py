"""What a genome's model is fitted to: stretches spread over it, or the records that an annotation covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.io.fasta import BASES, read_records, record_lengths
from probseq.io.features import Features, read_features
from probseq.sequences import Sequences

STRETCH = 100_000
"""Bases of a stretch that is fitted to: many segments long."""
BACKGROUND = "background"


@dataclass(frozen=True)
class Training:
    """What to fit to, and what is known of its states.

    Args:
        series: a sequence for each stretch, or record, with labels where there are any.
        names: of the states that have one, in the order of their numbers.
        strands: "+", "-" or "." of each of these.
        whole: whether it is all of the genome.
        known: where the features leave other bases open, those that stay what they are when the genome is read.
    """

    series: Sequences
    names: tuple[str, ...] = ()
    strands: tuple[str, ...] = ()
    whole: bool = True
    known: Features | None = None

    def words(self, states: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names and strands of so many states: those that have none are called by their numbers."""
        more = range(len(self.names), states)
        return (*self.names, *(f"state{k}" for k in more)), (*self.strands, *("." for _ in more))

    def labelled(self, record: Sequences) -> Sequences:
        """A record of the genome, with what stays known of it."""
        name = str(record.ids[0])
        if self.known is None or not len(self.known.on(name).starts):
            return record
        labels = self.known.labels(name, record.total_steps, self.names, -1)
        return replace(record, labels=torch.from_numpy(labels))


@dataclass(frozen=True)
class Annotation:
    """Known features, as the command line and `segment` name them.

    Args:
        file: BED, GFF3 or CSV.
        kinds: those that are states, in order of precedence where they overlap; none means all, in their file's order.
        stranded: whether a kind has a state on either strand, learned from both.
        partial: whether a base outside of all features is of unknown state, rather than background.
    """

    file: Path
    kinds: tuple[str, ...] = ()
    stranded: bool = False
    partial: bool = False

    def features(self, lengths: Mapping[str, int]) -> tuple[Features, tuple[str, ...]]:
        """The features, checked against the records, and the kinds that are states."""
        features = read_features(self.file)
        kinds = self.kinds or features.names
        features.check(lengths, kinds)
        features = features.of(kinds)
        if not self.stranded:
            return features, kinds
        return features.stranded(), tuple(kind + strand for kind in kinds for strand in "+-")


def spread_stretches(genome: str | Path, most: int) -> Training:
    """Stretches spread evenly over a genome; all of it if it is not longer than `most` bases.

    A stretch with less than half of its bases known is left out, if there are others.
    """
    lengths = record_lengths(genome)
    chosen = choose_stretches(lengths, most)
    whole = sum(lengths.values()) <= most
    parts: list[Sequences] = []
    for record in read_records(genome):
        name = str(record.ids[0])
        for start, end in chosen.get(name, []):
            seen = None if record.observed is None else record.observed[start:end].clone()
            label = name if end - start == record.total_steps else f"{name}:{start + 1}-{end}"
            parts.append(_part(label, record.values[start:end].clone(), seen))
    shares = [float(part.step_observed.double().mean()) for part in parts]
    least = 0.0 if whole or max(shares) < 0.5 else 0.5
    kept = [part for part, share in zip(parts, shares, strict=True) if share >= least]
    return Training(joined(kept), whole=whole)


def choose_stretches(lengths: Mapping[str, int], most: int) -> dict[str, list[tuple[int, int]]]:
    """Start and end of the stretches in each record, at even distances over all records laid end to end.

    >>> choose_stretches({"a": 1_000_000, "b": 50}, 200_000)
    {'a': [(200012, 300012), (700037, 800037)]}
    """
    total = sum(lengths.values())
    if total <= most:
        return {name: [(0, length)] for name, length in lengths.items()}
    count = max(1, most // STRETCH)
    middles = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
    ends = np.cumsum(np.fromiter(lengths.values(), np.int64))
    names, chosen = list(lengths), {}
    for middle, at in zip(middles.tolist(), np.searchsorted(ends, middles, side="right").tolist(), strict=True):
        length = lengths[names[at]]
        size = min(STRETCH, most, length)
        start = min(max(middle - int(ends[at] - length) - size // 2, 0), length - size)
        placed = chosen.setdefault(names[at], [])
        if not placed or start >= placed[-1][1]:
            placed.append((start, start + size))
    return chosen


def annotated_records(genome: str | Path, annotation: Annotation) -> Training:
    """The records that have features, each base labelled; with strands, their reverse complements too.

    Both strands count half, so that a base counts once.
    """
    features, kinds = annotation.features(record_lengths(genome))
    names = kinds if annotation.partial else (*kinds, BACKGROUND)
    strands = tuple(name[-1] if annotation.stranded and name != BACKGROUND else "." for name in names)
    elsewhere = -1 if annotation.partial else len(kinds)
    parts = []
    for record in read_records(genome):
        name = str(record.ids[0])
        if len(features.on(name).starts):
            labels = features.labels(name, record.total_steps, kinds, elsewhere)
            parts.append(_part(name, record.values, record.observed, torch.from_numpy(labels)))
            if annotation.stranded:
                parts.append(reverse_complement(parts[-1], _opposite(names)))
    series = joined(parts, weights=0.5 if annotation.stranded else None)
    absent = set(range(len(names))) - set(torch.unique(series.labels).tolist())
    if absent:
        missing = names[min(absent)]
        raise DataError(
            f"every state must be seen at least once, got none of {missing!r}; it lies wholly under kinds named before"
            " it: change their order, or leave it out."
        )
    return Training(series, names, strands, known=features if annotation.partial else None)


def reverse_complement(series: Sequences, opposite: Sequence[int]) -> Sequences:
    """One record read along the other strand; opposite[k] is the state that k is there."""
    swap = torch.tensor([*opposite, -1])  # -1, unknown, is the last entry
    return _part(
        f"{series.ids[0]} reversed",
        (3 - series.values).flip(0),
        None if series.observed is None else series.observed.flip(0),
        None if series.labels is None else swap[series.labels].flip(0),
    )


def joined(parts: Sequence[Sequences], weights: float | None = None) -> Sequences:
    """Records as the sequences of one series."""
    observed = None
    if any(part.observed is not None for part in parts):
        observed = torch.cat([part.step_observed for part in parts])
    return Sequences(
        values=torch.cat([part.values for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        observed=observed,
        ids=pd.Index([part.ids[0] for part in parts], name="record"),
        columns=("base",),
        categories=BASES,
        labels=None
        if parts[0].labels is None
        else torch.cat([part.labels for part in parts if part.labels is not None]),
        weights=None if weights is None else torch.full((len(parts),), weights, dtype=torch.float64),
    )


def _opposite(names: Sequence[str]) -> list[int]:
    """The number of each state's counterpart on the other strand."""
    swap = {"+": "-", "-": "+"}
    return [names.index(name[:-1] + swap[name[-1]]) if name[-1] in swap else at for at, name in enumerate(names)]


def _part(name: str, values: Tensor, observed: Tensor | None, labels: Tensor | None = None) -> Sequences:
    return Sequences(
        values=values,
        lengths=torch.tensor([len(values)]),
        observed=observed,
        ids=pd.Index([name], name="record"),
        columns=("base",),
        categories=BASES,
        labels=labels,
    )
