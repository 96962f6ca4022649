"""Arrays in: one array, or a list of arrays with a sequence each; numpy, masked numpy, torch, or nested lists."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.io.times import check_order
from probseq.sequences import Sequences


def read_arrays(
    arrays: Any,
    lengths: Any = None,
    ids: Sequence[Any] | pd.Index | None = None,
    time: pd.Index | None = None,
    columns: Sequence[str] | None = None,
    covariates: Any = None,
    covariate_names: Sequence[str] | None = None,
    weights: Any = None,
    labels: Any = None,
    categories: Sequence[str] | None = None,
) -> Sequences:
    """Sequences from arrays in memory.

    A uint8 array holds symbol codes, is kept as it is and, alone, is not copied: leave it unchanged afterwards. Every
    other type becomes float64, where NaN means missing. A masked array's masked entries are missing. An array of one
    column, (T, 1), is read as (T,).

    Args:
        arrays: one (T,) or (T, D) array; a list of such, one per sequence; or an (N, T, D) array.
        lengths: (N,), to cut one flat array into sequences.
        ids: (N,), names of the sequences.
        time: (T,), times of all steps, increasing within each sequence.
        columns: (D,), names of the columns.
        covariates: as `arrays`, in the same shape of steps; complete.
        covariate_names: (C,).
        weights: (N,), not negative.
        labels: as `arrays`: the known state of each step, -1 where unknown; or the likelihood of what is known of the
            step under each state, (T, K).
        categories: what the codes 0, 1, ... stand for.

    Raises:
        DataError: if a value is not a number, or infinite; if shapes disagree; if a column has no observed value.
    """
    values, observed, sizes = _flat(arrays, "values")
    if lengths is not None:
        sizes = _lengths(lengths)
    if observed is not None:
        _refuse_empty_column(observed, columns)
    optional: dict[str, Any] = {
        "ids": None if ids is None else pd.Index(ids),
        "columns": None if columns is None else tuple(columns),
        "covariate_names": None if covariate_names is None else tuple(covariate_names),
    }
    series = Sequences(
        values=_tensor(values),
        lengths=torch.from_numpy(sizes),
        observed=None if observed is None else torch.from_numpy(observed),
        time=None if time is None else pd.Index(time),
        covariates=None if covariates is None else _side(covariates, "covariates"),
        weights=None if weights is None else torch.from_numpy(_numbers(weights, "weights", 0)),
        labels=None if labels is None else _side(labels, "labels"),
        categories=None if categories is None else tuple(categories),
        **optional,
    )
    if series.time is not None:
        check_order(series.time, sizes, series.ids, lambda step: f"step {step}")
    return series


def _flat(arrays: Any, what: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The arrays end to end, (T,) or (T, D); their observed mask, or None when complete; their lengths (N,)."""
    parts = [np.ma.asarray(part) if _is_masked(part) else _raw(part) for part in _parts(arrays, what)]
    codes = all(part.dtype == np.uint8 for part in parts)
    values, masks = [], []
    for number, part in enumerate(parts):
        plain = np.ma.getdata(part)
        value = plain if codes else _numbers(plain, what, number)
        mask = np.ma.getmaskarray(part) if _is_masked(part) else np.zeros((), dtype=bool)
        if not codes:
            mask = mask | np.isnan(value)
            _refuse_infinite(value, mask, what, number)
        values.append(_one_column(value, what, number))
        masks.append(np.broadcast_to(mask, value.shape).reshape(values[-1].shape) if mask.any() else None)
        if values[-1].shape[1:] != values[0].shape[1:]:
            raise DataError(
                f"{what} must have the same columns in every sequence, got {_width(values[-1])} at sequence {number}"
                f" after {_width(values[0])} before; give every array the same number of columns."
            )
    sizes = np.array([len(value) for value in values], dtype=np.int64)
    flat = values[0] if len(values) == 1 else np.concatenate(values)
    if all(mask is None for mask in masks):
        return flat, None, sizes
    pairs = zip(values, masks, strict=True)
    missing = np.concatenate([np.zeros(value.shape, dtype=bool) if mask is None else mask for value, mask in pairs])
    return flat, ~missing, sizes


def _parts(arrays: Any, what: str) -> list[Any]:
    if isinstance(arrays, list | tuple):
        if len(arrays) == 0:
            raise DataError(f"{what} must hold at least one sequence, got an empty list; give one array or more.")
        return [arrays] if np.ndim(arrays[0]) == 0 else list(arrays)
    return list(arrays) if getattr(arrays, "ndim", 1) == 3 else [arrays]


def _is_masked(part: Any) -> bool:
    return isinstance(part, np.ma.MaskedArray)


def _raw(part: Any) -> np.ndarray:
    if isinstance(part, Tensor):
        part = part.detach().cpu().numpy()
    try:
        return np.asarray(part)
    except ValueError:  # rows of unequal length
        return np.asarray(part, dtype=object)


def _numbers(array: Any, what: str, number: int) -> np.ndarray:
    """A float64 copy, with None and pandas' NA as NaN."""
    raw = _raw(array)
    if raw.dtype.kind in "biuf":
        return raw.astype(np.float64)
    if raw.dtype.kind == "O":
        try:
            return np.asarray(pd.to_numeric(pd.Series(raw.ravel())), dtype=np.float64).reshape(raw.shape)
        except (ValueError, TypeError):
            pass
    sample = raw.ravel()[:1].tolist()[0] if raw.size else "nothing"
    raise DataError(
        f"{what} must be numbers in a regular array, got {sample!r} ({raw.dtype}) at sequence {number}; convert them,"
        " or give uint8 codes with their categories."
    )


def _one_column(array: np.ndarray, what: str, number: int) -> np.ndarray:
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise DataError(
            f"every sequence must be a non-empty (steps,) or (steps, columns) array, got shape {array.shape} of {what}"
            f" at sequence {number}; leave it out, or give a list with one array per sequence."
        )
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _width(array: np.ndarray) -> int:
    return 1 if array.ndim == 1 else array.shape[1]


def _refuse_infinite(values: np.ndarray, mask: np.ndarray, what: str, number: int) -> None:
    bad = ~np.isfinite(values) & ~mask
    if bad.any():
        entry = np.argwhere(bad)[0].tolist()
        raise DataError(
            f"{what} must be finite, got {values[tuple(entry)]} at step {entry[0]} of sequence {number}; replace it, or"
            " write NaN where it is missing."
        )


def _refuse_empty_column(observed: np.ndarray, columns: Sequence[str] | None) -> None:
    empty = ~np.atleast_1d(observed.any(axis=0))
    if empty.any():
        name = repr(columns[int(empty.argmax())]) if columns else int(empty.argmax())
        raise DataError(
            f"values must have at least one observed entry per column, got only missing at column {name}; leave the"
            " column out."
        )


def _lengths(lengths: Any) -> np.ndarray:
    sizes = _numbers(lengths, "lengths", 0)
    if sizes.ndim != 1 or (sizes != np.rint(sizes)).any():
        raise DataError(f"lengths must be whole numbers, one per sequence, got {sizes.tolist()}; give a flat list.")
    return sizes.astype(np.int64)


def _side(arrays: Any, what: str) -> Tensor:
    """Covariates (T, C) float64, hard labels (T,) int64 or soft ones (T, K) float64, complete."""
    values, observed, _ = _flat(arrays, what)
    if observed is not None:
        step = int(np.argwhere(~observed)[0][0])
        raise DataError(f"{what} must be known at every step, got a missing one at step {step}; fill it in.")
    if what == "labels":
        if values.ndim == 2:
            return torch.from_numpy(values.astype(np.float64))
        if (values != np.rint(values)).any():
            raise DataError(f"labels must be one whole number per step, got shape {values.shape}; use -1 for unknown.")
        return torch.from_numpy(values.astype(np.int64))
    return torch.from_numpy(values.astype(np.float64).reshape(len(values), -1))


def _tensor(values: np.ndarray) -> Tensor:
    """The array as a tensor without a copy; a read-only one too, since nothing here ever writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(values))
