"""pandas in and out: a long frame with one row a step becomes `Sequences`, and answers become a frame again."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.calendar import show_time
from probseq.errors import DataError
from probseq.io.cells import read_labels, read_numbers, read_symbols
from probseq.io.times import Locate, check_order, fill, missing_steps, read_times
from probseq.sequences import Sequences


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        value: the column, or columns, that the model describes.
        time: when each row was observed; without it, a DatetimeIndex or PeriodIndex of the frame is the time.
        group: which sequence each row belongs to.
        covariates: known inputs, complete.
        weight: how often each sequence counts, the same at all of its rows.
        label: the known state of a row, from 0; missing or -1 where unknown. A categorical column gives its codes.
    """

    value: str | Sequence[str]
    time: str | None = None
    group: str | None = None
    covariates: Sequence[str] = ()
    weight: str | None = None
    label: str | None = None

    @property
    def values(self) -> tuple[str, ...]:
        several = isinstance(self.value, list | tuple | pd.Index | np.ndarray)
        return tuple(self.value) if several else (cast(str, self.value),)

    @property
    def all(self) -> tuple[str, ...]:
        single = (self.time, self.group, self.weight, self.label)
        covariates = (self.covariates,) if isinstance(self.covariates, str) else tuple(self.covariates)
        return (*self.values, *covariates, *(name for name in single if name is not None))


def read_frame(
    frame: pd.DataFrame,
    columns: Columns,
    fill_gaps: bool = False,
    symbols: bool | Sequence[str] = False,
    locate: Locate | None = None,
) -> Sequences:
    """Sequences from a long frame, one row a step; rows of one group need not be adjacent, but must be in order.

    Args:
        frame: the table; a Series is read as a table of one column.
        columns: which columns hold what.
        fill_gaps: insert the steps that a regular calendar misses, as missing.
        symbols: read the one value column as category names: True takes the names in sorted order, a sequence of
            names fixes their order (and may hold names that do not occur). A categorical column needs no flag.
        locate: says where a row is, for messages; by default its position and its index label.

    Raises:
        DataError: with the first offending cell, for anything that cannot be read as it stands.
    """
    frame = _table(frame, columns)
    where = locate or _frame_row(frame)
    groups, order, lengths = _groups(frame, columns.group, where)
    unnamed_rows = columns.time is None and isinstance(frame.index, pd.RangeIndex)
    if order is not None:
        frame = frame.iloc[order]

    def located(step: int) -> str:
        return where(step if order is None else int(order[step]))

    time, checked = (None, False) if unnamed_rows else _time(frame, columns.time, located)
    source = None
    if checked:
        clock = cast(pd.Index, time)
        check_order(clock, lengths, groups, located)
        missing = missing_steps(clock, lengths, located, fill_gaps)
        if missing.any():
            time, source = fill(clock, lengths, missing)
            lengths = lengths + np.add.reduceat(missing, np.cumsum(lengths) - lengths)
    elif fill_gaps:
        raise DataError("fill_gaps must have a time column to go by, got none; name it with time.")
    values, observed, categories = _values(frame, columns.values, symbols, located)
    covariates = _covariates(frame, tuple(columns.covariates), located, source, time)
    return Sequences(
        values=_spread(values, source),
        lengths=torch.from_numpy(lengths),
        observed=None if observed is None and source is None else _spread_mask(values, observed, source),
        ids=groups,
        time=time,
        columns=tuple(str(name) for name in columns.values),
        covariates=covariates,
        covariate_names=tuple(columns.covariates),
        weights=None if columns.weight is None else _weights(frame[columns.weight], lengths, groups, source, located),
        labels=None if columns.label is None else _spread(read_labels(frame[columns.label], located), source, -1),
        categories=categories,
    )


def write_frame(series: Sequences, extra: Mapping[str, Any]) -> pd.DataFrame:
    """One row a step: the group column if there is one, values (symbols by name, missing as NaN), then `extra`.

    Args:
        series: the sequences; their time, where there is one, is the index.
        extra: (T,) columns, or (T, K) blocks that become name_0 to name_{K-1}.
    """
    steps = series.total_steps
    frame: dict[Any, Any] = {}
    if series.count > 1 or series.ids.name is not None:
        frame[series.ids.name or "sequence"] = series.ids[series.step_sequence.numpy()]
    for number, name in enumerate(series.columns):
        column = series.values if series.values.ndim == 1 else series.values[:, number]
        missing = None if series.observed is None else ~series.observed.reshape(steps, -1)[:, number].numpy()
        frame[name] = _column(column.numpy(), missing, series.categories)
    if series.covariates is not None:
        frame.update(zip(series.covariate_names, series.covariates.numpy().T, strict=True))
    if series.weights is not None:
        frame["weight"] = series.weights.numpy()[series.step_sequence.numpy()]
    if series.labels is not None:
        soft = series.labels.ndim == 2
        names = [f"label_{k}" for k in range(series.labels.shape[1])] if soft else ["label"]
        for name, column in zip(names, series.labels.reshape(steps, -1).unbind(1), strict=True):
            frame[name] = column.numpy()
    for name, block in extra.items():
        array = block.detach().cpu().numpy() if isinstance(block, Tensor) else np.asarray(block)
        if array.ndim not in (1, 2) or len(array) != steps:
            raise DataError(
                f"extra column {name!r} must have one entry per step, {steps}, got shape {array.shape}; give a (T,) or"
                " (T, K) array."
            )
        blocks = {name: array} if array.ndim == 1 else {f"{name}_{k}": array[:, k] for k in range(array.shape[1])}
        frame.update(blocks)
    return pd.DataFrame(frame, index=pd.RangeIndex(steps) if series.time is None else series.time)


def _column(values: np.ndarray, missing: np.ndarray | None, categories: tuple[str, ...] | None) -> Any:
    if categories is not None:
        codes = values.astype(np.int64)
        names: Any = list(categories)
        return pd.Categorical.from_codes(codes if missing is None else np.where(missing, -1, codes), names)
    return values if missing is None else np.where(missing, np.nan, values)


def _table(frame: Any, columns: Columns) -> pd.DataFrame:
    """The frame with every wanted column present, index levels turned into columns where they are asked for."""
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(columns.values[0] if frame.name is None else frame.name)
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"frame must be a pandas DataFrame, got {type(frame).__name__}; use Sequences.from_arrays for arrays."
        )
    wanted = columns.all
    if not columns.values:
        raise DataError(f"value must name at least one column, got none; choose from {_listing(frame.columns)}.")
    repeated = {name for name in wanted if wanted.count(name) > 1}
    if repeated:
        raise DataError(f"each column must have one use, got {sorted(repeated)} named twice; name it once.")
    levels = [name for name in wanted if name not in frame.columns and name in frame.index.names]
    if levels:
        frame = frame.reset_index(level=levels)
    for name in wanted:
        if name not in frame.columns:
            close = difflib.get_close_matches(str(name), [str(known) for known in frame.columns], n=1, cutoff=0.6)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise DataError(
                f"column must be one of the table's, got {name!r}; {hint}choose from {_listing(frame.columns)}."
            )
        if isinstance(frame[name], pd.DataFrame):
            raise DataError(f"column names must be unique, got {name!r} more than once; rename one of them.")
    if len(frame) == 0:
        raise DataError("the table must have at least one row, got none; check the file or the filter before it.")
    return frame


def _listing(columns: pd.Index) -> str:
    return ", ".join(str(name) for name in columns[:20]) + (", ..." if len(columns) > 20 else "")


def _frame_row(frame: pd.DataFrame) -> Locate:
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0 and frame.index.step == 1
    return lambda row: f"row {row}" if plain else f"row {row} (index {frame.index[row]})"


def _groups(frame: pd.DataFrame, group: str | None, locate: Locate) -> tuple[pd.Index, np.ndarray | None, np.ndarray]:
    """The ids (N,) in order of appearance, the row order (T,) that brings each group together (None if as it is), and
    the lengths (N,)."""
    if group is None:
        return pd.RangeIndex(1), None, np.array([len(frame)])
    codes, ids = pd.factorize(frame[group])
    if (codes < 0).any():
        raise DataError(
            f"group {group!r} must be known at every row, got none at {locate(int((codes < 0).argmax()))}; fill it in"
            " or drop the row."
        )
    if isinstance(ids, pd.CategoricalIndex):
        ids = pd.Index(ids.tolist())
    lengths = np.bincount(codes, minlength=len(ids)).astype(np.int64)
    together = bool((np.diff(codes) >= 0).all())
    return pd.Index(ids, name=group), None if together else np.argsort(codes, kind="stable"), lengths


def _time(frame: pd.DataFrame, name: str | None, locate: Locate) -> tuple[pd.Index, bool]:
    """The index to give back, and whether it is a time to be checked."""
    if name is not None:
        return read_times(cast(pd.Series, frame[name]), locate), True
    index = frame.index
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex | pd.TimedeltaIndex):
        return read_times(index.to_series(name=index.name), locate), True
    return index, False


def _values(
    frame: pd.DataFrame, names: tuple[str, ...], symbols: bool | Sequence[str], locate: Locate
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """The values (T,) or (T, D), their observed mask or None, and the categories of symbols."""
    cells = [cast(pd.Series, frame[name]) for name in names]
    if symbols is not False and len(names) > 1:
        raise DataError(f"symbols must stand in one column, got {len(names)} columns {list(names)}; name one.")
    if symbols is not False or (len(cells) == 1 and isinstance(cells[0].dtype, pd.CategoricalDtype)):
        return read_symbols(cells[0], symbols, locate)
    read = [read_numbers(column, "value", locate) for column in cells]
    for name, column in zip(names, read, strict=True):
        if np.isnan(column).all():
            raise DataError(
                f"value {name!r} must have at least one observed row, got only missing ones in {len(frame)}; choose"
                " another column, or check how missing values are written."
            )
    values = read[0] if len(read) == 1 else np.stack(read, axis=1)
    missing = np.isnan(values)
    return values, ~missing if missing.any() else None, None


def _covariates(
    frame: pd.DataFrame, names: tuple[str, ...], locate: Locate, source: np.ndarray | None, time: pd.Index | None
) -> Tensor | None:
    if not names:
        return None
    columns = []
    for name in names:
        column = read_numbers(cast(pd.Series, frame[name]), "covariate", locate)
        if np.isnan(column).any():
            raise DataError(
                f"covariate {name!r} must be known at every row, got none at {locate(int(np.isnan(column).argmax()))};"
                " fill it in, or drop the row."
            )
        columns.append(column)
    if source is not None:
        at = show_time(cast(pd.Index, time)[int((source < 0).argmax())])
        raise DataError(
            f"covariates must be known at every step, got none for the inserted step {at}; insert the missing rows"
            " yourself, with their covariates."
        )
    return torch.from_numpy(np.stack(columns, axis=1))


def _weights(
    column: pd.Series, lengths: np.ndarray, groups: pd.Index, source: np.ndarray | None, locate: Locate
) -> Tensor:
    """One weight per sequence (N,)."""
    weights = read_numbers(column, "weight", locate)
    bad = np.isnan(weights) | (weights < 0)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"weight {column.name!r} must be a number not below 0, got {weights[row]} at {locate(row)}; give 0 to leave"
            " a sequence out."
        )
    if source is not None:
        kept = np.add.reduceat((source >= 0).astype(np.int64), np.cumsum(lengths) - lengths)
    else:
        kept = lengths
    starts = np.cumsum(kept) - kept
    first = weights[starts]
    differs = weights != np.repeat(first, kept)
    if differs.any():
        row = int(differs.argmax())
        sequence = int(np.searchsorted(np.cumsum(kept), row, side="right"))
        raise DataError(
            f"weight {column.name!r} must be the same at all rows of a sequence, got {weights[row]:g} after"
            f" {first[sequence]:g} at {locate(row)} of sequence {str(groups[sequence])!r}; give each group one weight."
        )
    return torch.from_numpy(first)


def _spread(values: np.ndarray, source: np.ndarray | None, blank: float = 0) -> Tensor:
    """values with `blank` at inserted rows; placeholders replace what is missing later."""
    if source is None:
        return torch.from_numpy(np.array(values))
    spread = values[np.maximum(source, 0)]
    spread[source < 0] = blank
    return torch.from_numpy(spread)


def _spread_mask(values: np.ndarray, observed: np.ndarray | None, source: np.ndarray | None) -> Tensor:
    mask = np.ones(values.shape, dtype=bool) if observed is None else observed
    if source is not None:
        mask = mask[np.maximum(source, 0)]
        mask[source < 0] = False
    return torch.from_numpy(mask)
