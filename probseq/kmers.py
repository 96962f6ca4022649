"""Symbols with the k symbols before them as rows of a table: M^(k + 1) rows and one index, in a block's memory.

The row of step t is y_t + M y_(t-1) + ... + M^k y_(t-k). Hashing is not needed, and 100 million bases are 256 rows
for k = 3 and an index of two bytes a base.
"""

import numpy as np
import torch

from probseq.distinct import Distinct

_BLOCK = 1 << 20
MOST_ROWS = 1 << 24
"""Rows of a table beyond which it is no longer small beside its series."""


def find_kmers(codes: np.ndarray, missing: np.ndarray | None, offsets: np.ndarray, lags: int, symbols: int) -> Distinct:
    """The distinct rows [y_t, y_(t-1), .., y_(t-lags)] of a series of codes, and the row of each step.

    Args:
        codes: (T,) uint8, below `symbols` wherever they are not missing.
        missing: (T,) bool, or None where nothing is.
        offsets: (N + 1,) where the sequences begin and end.
        lags: k, how many symbols before a step belong to its row; at least 1.
        symbols: M.

    Returns:
        rows (M^(k + 1) + 1, k + 1) float64, in the order of their numbers; the last is that of each step which is
        missing, lacks one of the k before it, or has one of them missing.

    >>> found = find_kmers(np.array([1, 0, 1], np.uint8), None, np.array([0, 3]), lags=1, symbols=2)
    >>> found.index.tolist(), found.rows[1].tolist(), found.missing_row
    ([4, 2, 1], [1.0, 0.0], 4)
    """
    count = symbols ** (lags + 1)
    index = np.empty(len(codes), np.uint8 if count < 256 else np.uint16 if count < 65536 else np.uint32)
    for start in range(0, len(codes), _BLOCK):
        end = min(start + _BLOCK, len(codes))
        first = max(start - lags, 0)
        code = np.concatenate([np.zeros(first + lags - start, np.int64), codes[first:end]])
        row = code[lags:].copy()
        for lag in range(1, lags + 1):
            row += code[lags - lag : len(code) - lag] * symbols**lag
        if missing is not None:
            gone = np.concatenate([np.zeros(first + lags - start, bool), missing[first:end]])
            row[np.logical_or.reduce([gone[lags - lag : len(gone) - lag] for lag in range(lags + 1)])] = count
        index[start:end] = row
    begins = (offsets[:-1, None] + np.arange(lags))[np.arange(lags) < np.diff(offsets)[:, None]]
    index[begins] = count
    numbers = np.arange(count + 1) % count
    rows = np.stack([numbers // symbols**lag % symbols for lag in range(lags + 1)], axis=1)
    return Distinct(torch.from_numpy(rows).to(torch.float64), index, count, dense=False)
