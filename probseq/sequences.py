"""The container of every series: ragged sequences held flat, validated once.

N sequences of T steps in all stand one after the other: values (T,) or (T, D) and lengths (N,) with sum T. Nothing is
padded and nothing is imputed: a missing entry is False in `observed`, and its value is a placeholder that no
computation reads.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.calendar import show_time
from probseq.distinct import Distinct
from probseq.errors import DataError
from probseq.invariants import check_fields, check_flat, with_placeholders

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from probseq.context import Context

_DEFAULT = cast(Any, None)  # stands for a default that __post_init__ works out from the other fields


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """Ragged series, flat.

    Attributes:
        values: (T,) or (T, D), float64, or codes for symbols: uint8, or int32 for more than 256 categories.
            Placeholders stand at missing entries.
        lengths: (N,) int64, steps of each sequence, each at least 1, with sum T.
        observed: bool in the shape of values, True where measured; None when nothing is missing.
        ids: (N,), the name of each sequence; the index's own name is the group column's.
        time: (T,), the original index, or None when steps have no time.
        columns: the names of the D value columns.
        covariates: (T, C) float64, known at every step, or None.
        covariate_names: the names of the C covariates.
        weights: (N,) float64 >= 0, how often each sequence counts, or None for once each.
        labels: what is known of the states, or None: (T,) int64, the state of a step, -1 where unknown; or (T, K)
            float64 >= 0, the likelihood of what is known under each state. Fits, scores and decoding honour them.
        categories: what the codes 0, 1, ... stand for; None for numbers.

    >>> rain = Sequences.from_arrays([[0.0, 2.5, float("nan")], [1.0, 0.0]])
    >>> rain
    Sequences(2 sequences, 5 steps, column 'value', 1 step missing)
    >>> rain.lengths.tolist(), rain.step_observed.tolist()
    ([3, 2], [True, True, False, True, True])
    """

    values: Tensor
    lengths: Tensor
    observed: Tensor | None = None
    ids: pd.Index = _DEFAULT
    time: pd.Index | None = None
    columns: tuple[str, ...] = _DEFAULT
    covariates: Tensor | None = None
    covariate_names: tuple[str, ...] = _DEFAULT
    weights: Tensor | None = None
    labels: Tensor | None = None
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.values)
        if values.dtype != torch.uint8 and not (values.dtype == torch.int32 and self.categories is not None):
            values = values.to(torch.float64)
        lengths = torch.as_tensor(self.lengths).to("cpu", torch.int64)
        check_flat(values, lengths, self.observed)
        observed = None if self.observed is None or bool(self.observed.all()) else self.observed
        width = 1 if values.ndim == 1 else values.shape[1]
        covariate_width = 0 if self.covariates is None else self.covariates.shape[-1]
        settled = {
            "values": with_placeholders(values, observed),
            "lengths": lengths,
            "observed": observed,
            "ids": pd.RangeIndex(len(lengths)) if self.ids is None else self.ids,
            "columns": self.columns or _numbered("value", width),
            "covariates": _typed(self.covariates, torch.float64),
            "weights": _typed(self.weights, torch.float64),
            "labels": _labels(self.labels),
            "covariate_names": self.covariate_names or _numbered("covariate", covariate_width),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        check_fields(self)

    # ---- readers -----------------------------------------------------------------------------------------------

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        value: str | Sequence[str],
        time: str | None = None,
        group: str | None = None,
        covariates: Sequence[str] = (),
        weight: str | None = None,
        label: str | None = None,
        fill_gaps: bool = False,
        symbols: bool | Sequence[str] = False,
    ) -> "Sequences":
        """Read a long pandas frame, one row a step. See `probseq.io.frames.read_frame`."""
        from probseq.io.frames import Columns, read_frame

        return read_frame(frame, Columns(value, time, group, covariates, weight, label), fill_gaps, symbols)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        value: str | Sequence[str],
        time: str | None = None,
        group: str | None = None,
        covariates: Sequence[str] = (),
        weight: str | None = None,
        label: str | None = None,
        fill_gaps: bool = False,
        symbols: bool | Sequence[str] = False,
    ) -> "Sequences":
        """Read a CSV file with a header line, one row a step. See `probseq.io.csv.read_csv`."""
        from probseq.io.csv import read_csv
        from probseq.io.frames import Columns

        return read_csv(path, Columns(value, time, group, covariates, weight, label), fill_gaps, symbols)

    @classmethod
    def from_arrays(
        cls,
        arrays: "ArrayLike | Tensor | Sequence[ArrayLike | Tensor]",
        *,
        lengths: "Sequence[int] | ArrayLike | None" = None,
        ids: Sequence[Any] | pd.Index | None = None,
        time: pd.Index | None = None,
        columns: Sequence[str] | None = None,
        covariates: Any = None,
        covariate_names: Sequence[str] | None = None,
        weights: "ArrayLike | None" = None,
        labels: Any = None,
        categories: Sequence[str] | None = None,
    ) -> "Sequences":
        """Read one array, or a list of arrays with a sequence each. See `probseq.io.arrays.read_arrays`."""
        from probseq.io.arrays import read_arrays

        return read_arrays(
            arrays, lengths, ids, time, columns, covariates, covariate_names, weights, labels, categories
        )

    @classmethod
    def from_fasta(cls, path: str | Path) -> "Sequences":
        """Read DNA from a FASTA file, plain or gzipped, a sequence per record. See `probseq.io.fasta.read_fasta`."""
        from probseq.io.fasta import read_fasta

        return read_fasta(path)

    @classmethod
    def from_text(
        cls,
        path: str | Path | None = None,
        *,
        text: str | None = None,
        level: str = "character",
        separator: str | None = None,
        rare: int = 1,
        categories: Sequence[str] | None = None,
    ) -> "Sequences":
        """Read a text file, or a text, by characters or words. See `probseq.io.text.read_prose`."""
        from probseq.io.text import read_prose

        return read_prose(path, text, level, separator, rare, categories)

    # ---- shape -------------------------------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """T, the steps of all sequences together."""
        return len(self.values)

    @property
    def count(self) -> int:
        """N, how many sequences there are."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """(N + 1,) int64: sequence n is steps offsets[n] to offsets[n + 1]."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def step_observed(self) -> Tensor:
        """(T,) bool: True where every column of the step was measured."""
        if self.observed is None:
            return torch.ones(self.total_steps, dtype=torch.bool)
        return self.observed if self.observed.ndim == 1 else self.observed.all(dim=1)

    @cached_property
    def step_sequence(self) -> Tensor:
        """(T,) int64: the sequence that each step belongs to."""
        return torch.repeat_interleave(torch.arange(self.count), self.lengths.cpu())

    # ---- parts -------------------------------------------------------------------------------------------------

    def take(self, sequence_indices: "ArrayLike | Tensor | slice") -> "Sequences":
        """The chosen sequences, in the order given (a repeat repeats); integers, a boolean mask, or a slice."""
        numbers = np.arange(self.count)
        if isinstance(sequence_indices, slice):
            chosen = numbers[sequence_indices]
        else:
            wanted = np.atleast_1d(np.asarray(sequence_indices))
            if wanted.dtype != bool and len(wanted) and (wanted.max() >= self.count or wanted.min() < -self.count):
                bad = wanted[(wanted >= self.count) | (wanted < -self.count)][0]
                raise DataError(
                    f"a sequence number must lie between 0 and {self.count - 1}, got {bad} in take; choose among the"
                    f" {self.count} sequences."
                )
            chosen = numbers[wanted if wanted.dtype == bool else wanted.astype(np.int64)]
        if len(chosen) == 0:
            raise DataError("take must choose at least one sequence, got none; give at least one sequence number.")
        offsets = self.offsets.numpy()
        return self.pieces(chosen, offsets[chosen], offsets[chosen + 1])

    def split(self, at: str | float | pd.Timestamp) -> tuple["Sequences", "Sequences"]:
        """Cut every sequence in two: (before, after).

        Args:
            at: an int is a number of steps from the start of each sequence, or from its end when negative; a float
                between 0 and 1 is a share of each sequence; a time, or its text ("2015-01-01", or "1990" for years),
                is the first time of the second part.

        A sequence that lies wholly on one side is in that part only.
        """
        from probseq.cutting import cut_steps

        cut = cut_steps(self, at)
        offsets = self.offsets.numpy()
        starts, stops = offsets[:-1], offsets[1:]
        parts = []
        for first, last, name in ((starts, cut, "before"), (cut, stops, "after")):
            kept = np.flatnonzero(last > first)
            if len(kept) == 0:
                raise DataError(
                    f"split must leave steps on both sides, got none {name} {at!r}; choose a point within the series."
                )
            parts.append(self.pieces(kept, first[kept], last[kept]))
        return parts[0], parts[1]

    def pieces(self, chosen: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> "Sequences":
        """Flat steps starts[i] to stops[i], within sequence chosen[i], as a sequence each; a view where adjacent."""
        lengths = stops - starts
        if np.array_equal(starts[1:], stops[:-1]):
            steps: Any = slice(int(starts[0]), int(stops[-1]))
        else:
            shift = starts - np.concatenate([[0], np.cumsum(lengths)[:-1]])
            steps = np.arange(lengths.sum()) + np.repeat(shift, lengths)

        def part(field: Tensor | None) -> Tensor | None:
            return None if field is None else field[steps]

        return replace(
            self,
            values=self.values[steps],
            lengths=torch.from_numpy(lengths),
            observed=part(self.observed),
            ids=self.ids[chosen],
            time=None if self.time is None else self.time[steps],
            covariates=part(self.covariates),
            weights=None if self.weights is None else self.weights[chosen],
            labels=part(self.labels),
        )

    def unlabelled(self) -> "Sequences":
        """The same series with nothing known of its states."""
        return replace(self, labels=None)

    # ---- answers -----------------------------------------------------------------------------------------------

    def distinct(self, context: "Context | None" = None, partly: bool = False) -> Distinct:
        """The distinct rows and the row of each step, as the kernels want them; steps without a score share a row.

        Args:
            context: what stands beside an observation in its row; see `probseq.context`.
            partly: whether a vector measured in part keeps a row of its own, with NaN in it; else it is missing.
        """
        key = (context or None, partly and self.observed is not None)
        if key not in self._distinct:
            from probseq.context import NO_CONTEXT
            from probseq.rows import find_rows

            self._distinct[key] = find_rows(self, context or NO_CONTEXT, partly)
        return self._distinct[key]

    @cached_property
    def _distinct(self) -> dict[Any, Distinct]:
        return {}

    def future(self, horizon: int, covariates: Any = None) -> "Sequences":
        """The series with `horizon` steps to come, missing, after the end of each sequence; the times go on.

        Args:
            horizon: steps ahead, at least 1.
            covariates: (N * horizon, C) frame or array of the covariates of the steps ahead, one sequence after the
                other; None leaves the series without covariates.
        """
        from probseq.future import continue_series

        return continue_series(self, horizon, covariates)

    def to_frame(self, extra: "Mapping[str, ArrayLike | Tensor] | None" = None) -> pd.DataFrame:
        """A pandas frame with the original index; see `probseq.io.frames.write_frame`."""
        from probseq.io.frames import write_frame

        return write_frame(self, extra or {})

    def future_index(self, horizon: int) -> pd.Index:
        """The times of the next `horizon` steps of each sequence, (N * horizon,), one sequence after the other.

        On a regular calendar they go on from the last time; without times, from the last step's number; for irregular
        times they are the steps ahead, 1 to horizon.
        """
        from probseq.future import future_times

        return future_times(self, horizon)

    def fingerprint(self) -> str:
        """SHA-256, in hex, of values, lengths, mask, and of covariates, weights and labels where there are any."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in ("values", "lengths", "observed", "covariates", "weights", "labels"):
            field: Tensor | None = getattr(self, name)
            if field is not None:
                digest.update(f"{name} {field.dtype} {tuple(field.shape)};".encode())
                array: Any = field.detach().cpu().contiguous().numpy()
                digest.update(memoryview(array).cast("B"))
        return digest.hexdigest()

    def __repr__(self) -> str:
        names = ", ".join(repr(name) for name in self.columns[:4]) + (", ..." if len(self.columns) > 4 else "")
        parts = [
            _plural(self.count, "sequence"),
            _plural(self.total_steps, "step"),
            f"{'column' if len(self.columns) == 1 else 'columns'} {names}",
        ]
        if self.categories is not None:
            parts.append(f"symbols {'/'.join(self.categories[:6])}{'/...' if len(self.categories) > 6 else ''}")
        if self.observed is not None:
            parts.append(f"{_plural(int((~self.step_observed).sum()), 'step')} missing")
        if self.time is not None:
            start, end = show_time(self.time[0]), show_time(self.time[-1])
            parts.append(f"{start} to {end}" if self.count == 1 else f"from {start}")
        if self.covariate_names:
            parts.append(f"covariates {', '.join(self.covariate_names)}")
        parts += [name for name in ("weights", "labels") if getattr(self, name) is not None]
        return f"Sequences({', '.join(parts)})"


def _plural(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}_{number}" for number in range(count))


def _labels(field: Tensor | None) -> Tensor | None:
    return None if field is None else _typed(field, torch.int64 if torch.as_tensor(field).ndim < 2 else torch.float64)


def _typed(field: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if field is None else torch.as_tensor(field).to(dtype)
