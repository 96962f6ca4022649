"""Tables and indices: the distinct rows of a series, and which row each step holds.

Emission log-likelihoods are needed once per distinct row: 4 for DNA, a few hundred for rounded rainfall. Rows are
found by hashing, in O(T); symbol codes are their own index and cost nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

_SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Distinct:
    """The distinct rows of a series.

    Attributes:
        rows: (R,) or (R, D), the distinct values; the missing row holds a placeholder.
        index: (T,), `values[t] == rows[index[t]]` wherever step t is observed. A numpy array of the smallest type that
            holds R: uint8, uint16, int32 or int64. (torch would read a uint8 index as a mask.)
        missing_row: the row of every missing step, or None when nothing is missing.
        dense: True when each step is its own row (index = 0..T-1): the values hardly repeat.
    """

    rows: Tensor
    index: np.ndarray
    missing_row: int | None
    dense: bool


def find_distinct(values: Tensor, step_observed: Tensor | None, symbols: int | None) -> Distinct:
    """The distinct rows of `values` (T,) or (T, D); a step that is not observed gets the one missing row.

    Args:
        values: float64, or uint8 codes.
        step_observed: (T,) bool, or None when every step is observed.
        symbols: how many codes there are, for a uint8 series of one column; None finds it.
    """
    missing = None if step_observed is None else ~step_observed.cpu().numpy()
    data = values.detach().cpu().numpy()
    if values.dtype == torch.uint8 and values.ndim == 1:
        return _codes(data, missing, symbols)
    index, first = _hashed(data)
    if index is None:
        if missing is None:
            return Distinct(values, _smallest(np.arange(len(data)), len(data)), None, dense=True)
        index, first = np.arange(len(data)), np.arange(len(data))
    rows = values[torch.from_numpy(first)]
    if missing is None:
        return Distinct(rows, _smallest(index, len(rows)), None, dense=False)
    index = np.where(missing, len(rows), index)
    rows = torch.cat([rows, rows[:1]])
    return Distinct(rows, _smallest(index, len(rows)), len(rows) - 1, dense=False)


def _codes(codes: np.ndarray, missing: np.ndarray | None, symbols: int | None) -> Distinct:
    count = symbols if symbols is not None else int(codes.max()) + 1
    rows = torch.arange(count, dtype=torch.uint8)
    if missing is None:
        return Distinct(rows, codes, None, dense=False)
    index = codes.astype(np.uint8 if count < 256 else np.uint16)
    index[missing] = count
    return Distinct(torch.cat([rows, rows[:1]]), index, count, dense=False)


def _hashed(data: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Row numbers (T,) in order of first appearance, and the step where each row first stands.

    The row numbers are None when a table would save nothing: more than half of the steps are rows of their own, or,
    in a long series, nearly all of an evenly spaced sample.
    """
    steps = len(data)
    none = None, np.empty(0, dtype=np.int64)
    index, count = np.zeros(steps, dtype=np.int64), 1
    for column in data.reshape(steps, -1).T:
        if steps > 25 * _SAMPLE and len(pd.unique(column[:: steps // _SAMPLE])) > 0.99 * _SAMPLE:
            return none
        codes, found = pd.factorize(column, use_na_sentinel=False)
        if count > 1:
            codes, found = pd.factorize(index * len(found) + codes)
        index, count = codes, len(found)
        if count > steps // 2:
            return none
    first = np.empty(count, dtype=np.int64)
    first[index[::-1]] = np.arange(steps - 1, -1, -1)
    return index, first


def _smallest(index: np.ndarray, rows: int) -> np.ndarray:
    if rows <= 256:
        return index.astype(np.uint8)
    if rows <= 65536:
        return index.astype(np.uint16)
    return index.astype(np.int32 if rows < 2**31 else np.int64)
