"""How each state moves on given all the data, from two filters that meet.

    filtered_t(i) = p(z_t = i | x_1:t),   coming_t(j) ∝ p(x_t:T | z_t = j),
    p(z_t = j | x_<t) = sum_i filtered_t-1(i) A(i, j),
    p(z_t = i, z_t+1 = j | x) ∝ filtered_t(i) A(i, j) coming_t+1(j)

(Bresler 1986; Kitagawa 1994). The second filter is the first one's recursion over the sequence read backwards, so that
the moves of a stretch of steps are at hand without those of all steps.

`arguments` are what `probseq.kernels` takes, for B draws, T steps and C values of the chain; moves whose two filters
have no state in common within the range of a double are found again by recursions of unlimited range.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import entr

from probseq import kernels

Arguments = dict[str, Any]

ENTRIES = 1 << 20
"""Entries of transition matrices held at a time."""

LOST = 1e-280
"""A sum of products below this may have lost digits, or terms."""


def coming(arguments: Arguments) -> np.ndarray:
    """(B, T, C) proportional to p(x_t:T | z_t = c), rows summing to one."""
    order, index = _reversed(arguments["offsets"]), arguments["emission_index"]
    moves = arguments["transition_index"]
    backwards = arguments | {
        "log_initial": np.zeros_like(arguments["log_initial"][:, :1]),
        "log_transition": np.ascontiguousarray(np.swapaxes(arguments["log_transition"], -1, -2)),
        "emission_index": order if index is None else np.ascontiguousarray(index[order]),
        "transition_index": None if moves is None else np.ascontiguousarray(moves[np.maximum(order - 1, 0)]),
    }
    return kernels.filtered(**backwards)[0][:, order]


def predicted(arguments: Arguments, filtered: np.ndarray) -> np.ndarray:
    """(B, T, C): p(z_t = c | x_<t), from filtered (B, T, C); at the start of a sequence the initial law."""
    laws = np.empty_like(filtered)
    for steps, matrices in _matrices(arguments):
        laws[:, steps + 1] = np.einsum("bti,btij->btj", filtered[:, steps], matrices)
    laws[:, arguments["offsets"][:-1]] = np.exp(arguments["log_initial"])
    return laws


def moves(arguments: Arguments, filtered: np.ndarray, after: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Steps (t,) that another one follows, a stretch at a time, and p(z_t, z_t+1 | x) (B, t, C, C) there.

    Args:
        arguments: of the recursions.
        filtered: (B, T, C).
        after: (B, T, C), `coming`.
    """
    exact = None
    for steps, matrices in _matrices(arguments):
        pairs = filtered[:, steps, :, None] * matrices * after[:, steps + 1, None, :]
        total = pairs.sum((-2, -1), keepdims=True)
        if (total < LOST).any():
            exact = kernels.expected_counts(**own_matrices(arguments)).transition if exact is None else exact
            yield steps, exact[:, steps]
        else:
            yield steps, pairs / total


def move_entropy(pairs: np.ndarray) -> np.ndarray:
    """(...) nats: the entropy of the next state given this one, from their joint law (..., C, C)."""
    return np.maximum(entr(pairs).sum((-2, -1)) - entr(pairs.sum(-1)).sum(-1), 0.0)


def own_matrices(arguments: Arguments) -> Arguments:
    """The same chain with a matrix of its own for every step, whose expected counts are those of one move."""
    steps = int(arguments["offsets"][-1])
    index = arguments["transition_index"]
    own = np.zeros(steps, dtype=np.int64) if index is None else index.astype(np.int64)
    return arguments | {
        "log_transition": np.ascontiguousarray(arguments["log_transition"][:, own]),
        "transition_index": np.arange(steps, dtype=np.int64),
    }


def _reversed(offsets: np.ndarray) -> np.ndarray:
    """(T,) the steps with every sequence read backwards, which is its own inverse."""
    lengths = np.diff(offsets)
    return np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(int(offsets[-1]))


def _matrices(arguments: Arguments) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Steps (t,) that another one follows, a stretch at a time, and their matrices (B, t or 1, C, C)."""
    offsets, index, logs = arguments["offsets"], arguments["transition_index"], arguments["log_transition"]
    inside = np.ones(int(offsets[-1]), dtype=bool)
    inside[offsets[1:] - 1] = False
    followed = np.flatnonzero(inside)
    draws, size = max(len(logs), len(arguments["log_initial"])), logs.shape[-1]
    at_once = max(1, ENTRIES // (draws * size * size))
    for first in range(0, len(followed), at_once):
        steps = followed[first : first + at_once]
        yield steps, np.exp(logs if index is None else logs[:, index[steps].astype(np.int64)])
