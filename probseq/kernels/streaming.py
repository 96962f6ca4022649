"""The smoother of one long sequence, block after block from its start: no table of all steps is ever made.

    w_t(k) = b_t(k) sum_j A(k, j) w_t+1(j),   w_T = b_T      p_t(j) = sum_i alpha_t-1(i) A(i, j)      gamma_t ~ p_t w_t

First the backward recursion, which is the forward one of the reversed sequence under A', keeps w at the first step of
each block. Then each block is smoothed as a sequence of its own: it begins in the law p that the block before predicts,
and ends with one more step that only w of the block after observes. The result is that of `recursions.smoothed`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from probseq.kernels.inputs import Floats
from probseq.kernels.recursions import filtered, smoothed

NUMBERS = 1 << 22
"""Entries of a block's table; each takes eight bytes, a few times over."""


def smoothed_blocks(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    *,
    block: int | None = None,
) -> Iterator[tuple[int, Floats]]:
    """p(z_t = k | x_1:T) of one sequence under one set of parameters and one matrix, in blocks.

    Args:
        log_initial .. transition_index: as in `recursions`, with B = N = S = 1 and an emission index.
        block: steps of a block; None takes as many as keep its table small.

    Yields:
        (first step of the block, gamma (steps of it, K)); zeros throughout an impossible sequence.
    """
    table, rows = np.asarray(log_table), np.asarray(emission_index)
    initial, moves = np.asarray(log_initial), np.asarray(log_transition)
    if (
        table.shape[0] != 1
        or moves.shape[:2] != (1, 1)
        or len(np.asarray(offsets)) != 2
        or rows.shape != (np.asarray(offsets)[-1],)
        or transition_index is not None
    ):
        raise ValueError(
            f"blocks must be of one sequence with an emission index and one matrix, got {table.shape[0]} draws, "
            f"{len(np.asarray(offsets)) - 1} sequences and {moves.shape[1]} matrices; smooth it whole."
        )
    size = block or max(256, NUMBERS // table.shape[-1])
    starts = range(0, len(rows), size)
    A = np.exp(moves[0, 0])
    later = _backward(moves, table, rows, starts, size)
    law = initial[:, :1]
    for number, start in enumerate(starts):
        index = rows[start : start + size]
        if number + 1 == len(starts):
            yield start, smoothed(law, moves, table, [0, len(index)], index)[0]
            return
        with np.errstate(divide="ignore"):
            after = np.log(later[number + 1])
        longer = np.concatenate([table, after[None, None]], axis=1)
        index = np.append(index.astype(np.int64), table.shape[1])
        gamma = smoothed(law, moves, longer, [0, len(index)], index)[0, :-1]
        yield start, gamma
        beta = A @ later[number + 1]
        alpha = np.where(beta > 0, gamma[-1] / np.where(beta > 0, beta, 1.0), 0.0)
        with np.errstate(divide="ignore"):
            law = np.log(alpha / max(alpha.sum(), np.finfo(float).tiny) @ A)[None, None]


def _backward(moves: Floats, table: Floats, rows: np.ndarray, starts: range, size: int) -> Floats:
    """(blocks, K) w at the first step of each block, scaled to sum to one; zero where the rest is impossible."""
    A, kept = np.exp(moves[0, 0]), np.zeros((len(starts), table.shape[-1]))
    law = np.zeros((1, 1, table.shape[-1]))
    against = np.ascontiguousarray(moves.swapaxes(-1, -2))
    for number in reversed(range(1, len(starts))):
        index = np.ascontiguousarray(rows[starts[number] : starts[number] + size][::-1])
        messages, _ = filtered(law, against, table, [0, len(index)], index)
        kept[number] = messages[0, -1]
        with np.errstate(divide="ignore"):
            law = np.log(A @ kept[number])[None, None]
    return kept
