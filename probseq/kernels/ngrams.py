"""Counting n-grams: each symbol together with the k before it, in one pass over ragged sequences with gaps.

With M symbols the context of step t is the number c_t = x_{t-1} + M x_{t-2} + ... + M^(k-1) x_{t-k}, latest symbol
first, so that the context of a shorter order j is c_t mod M^j. The gram is g_t = c_t M + x_t, and the next context is
g_t mod M^k: the pass is one multiplication and one remainder a step. A missing symbol breaks every context that would
hold it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.errors import ModelError
from probseq.kernels.jit import entry

DENSE_CELLS = 1 << 22
"""Up to this many possible grams they are counted in an array of all of them; above, by sorting."""

_LARGEST = 2**63 - 1
_NOTHING = np.zeros(0, dtype=bool)


def require_codes(symbols: int, order: int) -> None:
    """Refuse an order at which the grams have no 64-bit numbers."""
    if symbols ** (order + 1) > _LARGEST:
        most = 0
        while symbols ** (most + 2) <= _LARGEST:
            most += 1
        raise ModelError(
            f"order must be at most {most} with {symbols} symbols, got {order}; lower it, or merge rare symbols."
        )


def gram_codes(
    values: np.ndarray, observed: np.ndarray | None, offsets: np.ndarray, symbols: int, order: int, given: int
) -> NDArray[np.int64]:
    """(T,) the gram of each step, context times M plus symbol; -1 where it is not scored.

    Args:
        values: (T,) codes 0 .. M-1, of any number type.
        observed: (T,) bool, or None when nothing is missing.
        offsets: (N + 1,) where the sequences start and end.
        symbols: M.
        order: k.
        given: a step is scored when at least this many symbols right before it are known; k or more.
    """
    require_codes(symbols, order)
    codes = np.empty(len(values), dtype=np.int64)
    mask = _NOTHING if observed is None else observed
    _passes()[0](values, mask, offsets, symbols, symbols**order, given, codes)
    return codes


def count_grams(
    values: np.ndarray,
    observed: np.ndarray | None,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    symbols: int,
    order: int,
    given: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The grams that occur, ascending (G,), and how often, each sequence counted by its weight (G,).

    Args:
        weights: (N,), or None for once each.
        values, observed, offsets, symbols, order, given: as for `gram_codes`.
    """
    require_codes(symbols, order)
    weight = np.ones(len(offsets) - 1) if weights is None else weights
    if symbols ** (order + 1) <= DENSE_CELLS:
        counts = np.zeros(symbols ** (order + 1))
        mask = _NOTHING if observed is None else observed
        _passes()[1](values, mask, offsets, weight, symbols, symbols**order, given, counts)
        codes = np.flatnonzero(counts)
        return codes, counts[codes]
    grams = gram_codes(values, observed, offsets, symbols, order, given)
    each = np.repeat(weight, np.diff(offsets))
    kept = (grams >= 0) & (each > 0)
    codes, place = np.unique(grams[kept], return_inverse=True)
    return codes, np.bincount(place, weights=each[kept], minlength=len(codes)).astype(np.float64)


@cache
def _passes() -> tuple[Any, Any]:
    return entry(_fill), entry(_tally)


def _fill(values, observed, offsets, symbols, contexts, given, codes):
    for n in range(len(offsets) - 1):
        context, run = 0, 0
        for t in range(offsets[n], offsets[n + 1]):
            codes[t] = -1
            if len(observed) > 0 and not observed[t]:
                context, run = 0, 0
                continue
            gram = context * symbols + np.int64(values[t])
            if run >= given:
                codes[t] = gram
            context, run = gram % contexts, run + 1


def _tally(values, observed, offsets, weights, symbols, contexts, given, counts):
    for n in range(len(offsets) - 1):
        context, run = 0, 0
        for t in range(offsets[n], offsets[n + 1]):
            if len(observed) > 0 and not observed[t]:
                context, run = 0, 0
                continue
            gram = context * symbols + np.int64(values[t])
            if run >= given:
                counts[gram] += weights[n]
            context, run = gram % contexts, run + 1
