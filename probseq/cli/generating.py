"""`probseq generate`: sequences from a network that was trained, as text or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from probseq.cli.output import write_csv, write_stdout
from probseq.errors import DataError, ModelError
from probseq.inference import NetworkFit
from probseq.io.text import read_prose
from probseq.io.writing import check_writable, write_text
from probseq.models.free_running import complete
from probseq.models.recurrent_model import RecurrentModel
from probseq.sequences import Sequences


@dataclass(frozen=True)
class Wanted:
    """What to draw.

    Args:
        count: how many sequences.
        length: steps of each after its start; None lets each stop by itself.
        start: the text that each begins with.
        vector: numbers that all are conditional on, comma separated.
        longest: steps after which an end is no longer waited for.
        seed: of the generator.
    """

    count: int = 1
    length: int | None = None
    start: str = ""
    vector: str = ""
    longest: int = 10_000
    seed: int = 0

    def draw(self, network: RecurrentModel) -> Sequences:
        """The sequences."""
        rows = self._rows(network)
        if self.length is None and not (network.ends or network.length_law):
            raise DataError(
                "--length must be given to a network whose sequences do not end by themselves, got none; write "
                "--length 200, or train it with --stop."
            )
        if self.start:
            begun = _begun(network, self.start).take([0] * self.count)
            return complete(network, begun, self.length, self.seed, rows, self.longest)
        if self.length is None:
            return network.simulate(count=self.count, seed=self.seed, vectors=rows, longest=self.longest)
        if rows is None:
            return network.simulate([self.length] * self.count, seed=self.seed)
        lengths, steps = np.full(self.count, self.length), np.repeat(rows, self.length, 0)
        values = np.zeros((len(steps), network.columns) if network.columns else len(steps))
        along = Sequences.from_arrays(
            values, lengths=lengths, covariates=steps, covariate_names=list(network.vector.names)
        )
        return network.simulate(along, seed=self.seed)

    def _rows(self, network: RecurrentModel) -> np.ndarray | None:
        """(count, V) v of each; None where the network has none."""
        names = network.vector.names
        try:
            numbers = [float(part) for part in self.vector.split(",") if part.strip()]
        except ValueError:
            numbers = [np.nan]
        if len(numbers) != len(names) or not np.isfinite(numbers).all():
            raise DataError(
                f"--vector must be {len(names)} numbers ({', '.join(names) or 'none'}), got {self.vector!r}; put "
                "commas between them."
            )
        return np.tile(numbers, (self.count, 1)) if names else None


def run(saved: Path, wanted: Wanted, as_csv: bool, out: Path | None) -> None:
    """Draw, and print or write."""
    if out is not None:
        check_writable(out)
    network = NetworkFit.load(saved).network
    if not isinstance(network, RecurrentModel):
        raise ModelError(
            f"a network to generate from must be one of sequences, got kind '{network.kind}' in {saved}; use what "
            "answers for it, such as translate."
        )
    if network.covariates.names:
        raise DataError(
            f"a network with covariates ({', '.join(network.covariates.names)}) must be simulated along a series that "
            f"has them, got {saved}; use NetworkFit.load(...).simulate(series, seed=...) in Python."
        )
    series = wanted.draw(network)
    if network.categories is None or as_csv:
        frame = series.to_frame()
        at = int(series.count > 1)
        frame.insert(at, "step", np.concatenate([np.arange(length) for length in series.lengths.tolist()]))
        write_csv(frame, out, index=False)
    elif out is None:
        write_stdout(as_text(series, _level(network)))
    else:
        write_text(out, as_text(series, _level(network)))


def as_text(series: Sequences, level: str | None) -> str:
    """A line for each sequence of symbols, with spaces between those of a table of which one is longer than a letter.

    Args:
        series: of symbols.
        level: "character" or "word" of a text; None for others.
    """
    names = series.categories or ()
    apart = _apart(names) if level is None else level == "word"
    between = " " if apart else ""
    parts = series.values.split(series.lengths.tolist())
    return "".join(between.join(names[int(code)] for code in part) + "\n" for part in parts)


def _apart(names: Sequence[str]) -> bool:
    """Whether symbols of a table are printed with spaces between them: one of their names is longer than a letter."""
    return any(len(name) > 1 for name in names)


def _level(network: RecurrentModel) -> str | None:
    """What a symbol is, "character" or "word", of a network that learned from a text."""
    return network.names[0] if network.names in (("character",), ("word",)) else None


def _begun(network: RecurrentModel, start: str) -> Sequences:
    """The start as symbols of the network."""
    if network.categories is None:
        raise DataError(f"--start must be given to a network of symbols, got {start!r} for numbers; leave it out.")
    level = _level(network) or ("symbol" if _apart(network.categories) else "character")
    refusal = f"--start must be made of symbols of the network, got no {level} of it in {start!r}; leave it out."
    try:
        if level == "symbol":  # of a table, with spaces between them as they are printed
            codes = pd.Index(network.categories).get_indexer(pd.Index(start.split()))
            values = torch.from_numpy(codes.clip(0).astype(np.int32))
            lengths, seen = torch.tensor([len(codes)]), torch.from_numpy(codes >= 0)
            begun = Sequences(values, lengths, observed=seen, categories=network.categories)
        else:
            begun = read_prose(text=start, level=level, categories=network.categories)
    except DataError as error:
        raise DataError(refusal) from error
    missing = [number for number, there in enumerate(begun.step_observed.tolist()) if not there]
    if missing:
        raise DataError(
            f"--start must be made of symbols of the network, got an unknown {level} at place {missing[0]} of "
            f"{start!r}; leave it out."
        )
    return begun
