"""How well the coding part of a sequence was found, base by base and exon by exon (Burset & Guigo 1996).

>>> import numpy as np
>>> truth, call = np.zeros(40, bool), np.zeros(40, bool)
>>> truth[5:15] = truth[20:30] = call[5:15] = call[21:30] = True
>>> base_scores(truth, call)["sensitivity"]
0.95
>>> exon_scores(runs(truth), runs(call))["sensitivity"]
0.5
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from probseq.errors import DataError


def base_scores(truth: ArrayLike, call: ArrayLike) -> dict[str, float]:
    """Base-level scores of a call.

    Args:
        truth: (T,) bool, whether each base codes.
        call: (T,) bool, whether it was said to.

    Returns:
        accuracy: share of bases called rightly. sensitivity: of coding bases, the share called. specificity: of other
        bases, the share not called. precision: of called bases, the share that code (what Burset & Guigo call
        specificity). MCC: Matthews's (1975) correlation, 0 where truth or call is all of one kind. A share of no bases
        is NaN.
    """
    known, said = _flags(truth, "truth"), _flags(call, "call")
    if known.ndim != 1 or known.shape != said.shape:
        raise DataError(
            f"truth and call must have one entry a base each, got shapes {known.shape} and {said.shape}; give two "
            "arrays of one length."
        )
    hit, miss, false, right = (int(((known == a) & (said == b)).sum()) for a in (True, False) for b in (True, False))
    root = math.sqrt(hit + miss) * math.sqrt(hit + false) * math.sqrt(right + miss) * math.sqrt(right + false)
    return {
        "accuracy": _share(hit + right, len(known)),
        "sensitivity": _share(hit, hit + miss),
        "specificity": _share(right, right + false),
        "precision": _share(hit, hit + false),
        "MCC": (hit * right - false * miss) / root if root else 0.0,
    }


def exon_scores(truth: ArrayLike, call: ArrayLike) -> dict[str, float]:
    """Exon-level scores of a call; an exon is found where both of its ends are.

    Args:
        truth: (n, 2) start and end of each true exon, from 0 and half open, as `runs` gives them.
        call: (m, 2) of each one that is called.

    Returns:
        exact: how many are found. sensitivity: their share of the true exons. specificity: their share of the called
        ones (Burset & Guigo's word). missed: share of the true exons that no called one overlaps. wrong: share of the
        called exons that overlap no true one. A share of no exons is NaN.
    """
    known, said = _intervals(truth, "truth"), _intervals(call, "call")
    exact = len(set(map(tuple, known.tolist())) & set(map(tuple, said.tolist())))
    return {
        "exact": exact,
        "sensitivity": _share(exact, len(known)),
        "specificity": _share(exact, len(said)),
        "missed": _share(len(known) - _overlapped(known, said), len(known)),
        "wrong": _share(len(said) - _overlapped(said, known), len(said)),
    }


def runs(call: ArrayLike) -> np.ndarray:
    """(n, 2) int64 start and end, from 0 and half open, of each run of True.

    >>> runs([False, True, True, False, True]).tolist()
    [[1, 3], [4, 5]]
    """
    flags = _flags(call, "call")
    if flags.ndim != 1:
        raise DataError(f"call must have one entry a base, got shape {flags.shape}; give one sequence at a time.")
    inside = np.concatenate([[False], flags, [False]])
    return np.flatnonzero(inside[1:] != inside[:-1]).reshape(-1, 2)


def _flags(given: ArrayLike, what: str) -> np.ndarray:
    """Bool; a probability is not taken for True."""
    found = np.asarray(given)
    if found.dtype != bool and not bool(np.isin(found, (0, 1)).all()):
        raise DataError(f"{what} must be True or False at each base, got {found.dtype} of other values; give p > 0.5.")
    return found.astype(bool)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _overlapped(exons: np.ndarray, others: np.ndarray) -> int:
    """How many exons share a base with any of the others; exons may overlap each other."""
    begun = np.searchsorted(np.sort(others[:, 0]), exons[:, 1], side="left")
    ended = np.searchsorted(np.sort(others[:, 1]), exons[:, 0], side="right")
    return int((begun > ended).sum())


def _intervals(given: ArrayLike, what: str) -> np.ndarray:
    """(n, 2) int64, each once."""
    read = np.asarray(given)
    if read.dtype.kind == "f" and not bool((read == np.rint(read)).all()):
        raise DataError(
            f"exons must have whole starts and ends, got {read.dtype} of other values at {what}; round them."
        )
    found = read.astype(np.int64)
    if found.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if found.ndim != 2 or found.shape[1] != 2 or bool((found[:, 0] >= found[:, 1]).any()):
        raise DataError(
            f"exons must have a start below their end, (n, 2), got shape {found.shape} at {what}; count from 0 and "
            "leave the end out."
        )
    return np.unique(found, axis=0)
