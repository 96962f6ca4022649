"""Where a Markov chain of order k settles, how long it stays and when it arrives, all exact.

The chain is given by its rows (C, M): the law of the next of M symbols after each of the C = M^k contexts, numbered
c = x_t + M x_{t-1} + ... (the latest symbol is the least significant digit); a first-order chain is its own transition
matrix. Contexts form a first-order chain that moves from c to (c mod M^(k-1)) M + x, of which all of this is linear
algebra (Kemeny & Snell 1976, chapters 3-4; Norris 1997, theorem 1.3.5).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from probseq.chains.laws import stationary_law
from probseq.errors import ModelError

DENSE_CONTEXTS = 2048
"""Up to this many contexts linear systems are solved directly; above, by iteration."""

TOLERANCE = 1e-13
MOST_ITERATIONS = 100_000


def stationary_contexts(rows: Tensor) -> Tensor:
    """(C,) the stationary law of the contexts.

    Args:
        rows: (C, M) float64, each summing to one.

    Raises:
        ModelError: several closed classes, so that it is not unique, or no convergence.

    >>> stationary_contexts(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    contexts, symbols = rows.shape
    if contexts == 1:
        return torch.ones(1, dtype=torch.float64)
    if contexts <= DENSE_CONTEXTS:
        return stationary_law(_moves(rows))
    law = np.full(contexts, 1.0 / contexts)
    chances = rows.numpy()
    for _ in range(MOST_ITERATIONS):
        moved = 0.5 * (law + advance(law, chances))  # half a move at a time, so that no period keeps it from settling
        if np.abs(moved - law).sum() < TOLERANCE:
            return torch.from_numpy(moved / moved.sum())
        law = moved
    raise ModelError(
        f"the stationary law must be reached within {MOST_ITERATIONS} moves, got none at {contexts} contexts; lower the"
        " order, or use a law in which every symbol can follow every context."
    )


def stationary_symbols(rows: Tensor) -> Tensor:
    """(M,) the long-run share of each symbol."""
    contexts, symbols = rows.shape
    if contexts == 1:
        return rows[0]
    return stationary_contexts(rows).reshape(-1, symbols).sum(0)


def occupancy(rows: Tensor, start: Tensor, steps: int) -> Tensor:
    """(M,) expected number of the next `steps` steps that each symbol takes.

    Args:
        rows: (C, M).
        start: (C,) law of the context that has been seen.
        steps: at least 1.
    """
    chances, law = rows.numpy(), start.numpy()
    total = np.zeros(chances.shape[1])
    for _ in range(_at_least_one(steps)):
        total += law @ chances
        law = advance(law, chances)
    return torch.from_numpy(total)


def hitting_law(rows: Tensor, target: Collection[int], start: Tensor, steps: int) -> Tensor:
    """(steps,) P(a symbol of the target comes for the first time at the h-th next step), h = 1 .. steps.

    Args:
        rows: (C, M).
        target: symbols.
        start: (C,) law of the context that has been seen; what it holds itself does not count.
        steps: at least 1.
    """
    chances, wanted = rows.numpy(), _wanted(rows, target)
    law, result = start.numpy(), np.empty(_at_least_one(steps))
    for step in range(steps):
        result[step] = (law @ chances)[wanted].sum()
        law = advance(law, np.where(wanted, 0.0, chances))
    return torch.from_numpy(result)


def hitting_times(rows: Tensor, target: Collection[int]) -> Tensor:
    """(C,) mean number of steps until a symbol of the target comes, after each context; inf where it may never come.

    Args:
        rows: (C, M).
        target: symbols.
    """
    wanted = _wanted(rows, target)
    chances = torch.where(torch.from_numpy(wanted), 0.0, rows)
    certain = _certain(rows.numpy(), wanted)
    result = np.full(len(rows), np.inf)
    if not certain.any():
        return torch.from_numpy(result)
    size = int(certain.sum())
    if len(rows) <= DENSE_CONTEXTS:
        inside = _moves(chances).numpy()[np.ix_(certain, certain)]
        result[certain] = np.linalg.solve(np.eye(size) - inside, np.ones(size))
        return torch.from_numpy(result)
    from scipy.sparse.linalg import LinearOperator, gmres

    moves, kept = _next(*chances.shape), chances.numpy()

    def left(inner: np.ndarray) -> np.ndarray:
        whole = np.zeros(len(rows))
        whole[certain] = inner.reshape(-1)
        return inner.reshape(-1) - (kept * whole[moves]).sum(1)[certain]

    operator = LinearOperator((size, size), matvec=left, dtype=np.float64)  # type: ignore[call-arg]
    result[certain], failed = gmres(operator, np.ones(size), rtol=1e-12, restart=60, maxiter=200)
    if failed:
        raise ModelError(
            f"mean hitting times must be solvable, got no convergence at {size} contexts; lower the order."
        )
    return torch.from_numpy(result)


def advance(law: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """The law (C,) of the context after one more symbol, from the law before it; chances are the rows (C, M)."""
    contexts, symbols = chances.shape
    if contexts == 1:
        return law * chances.sum()
    joint = (law[:, None] * chances).reshape(symbols, -1, symbols)  # oldest symbol, the others, the new one
    return joint.sum(0).reshape(contexts)


def _next(contexts: int, symbols: int) -> np.ndarray:
    """(C, M) the context that follows each context and symbol."""
    gram = np.arange(contexts)[:, None] * symbols + np.arange(symbols)
    return gram % contexts


def _moves(rows: Tensor) -> Tensor:
    """(C, C) the matrix of the first-order chain of the contexts."""
    contexts = len(rows)
    columns = torch.from_numpy(_next(*rows.shape))
    return rows.new_zeros(contexts, contexts).scatter_add(1, columns, rows)


def _certain(chances: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(C,) contexts after which the target comes with probability one."""
    following, possible = _next(*chances.shape), (chances > 0) & ~wanted
    reaches = _leading(np.any(chances[:, wanted] > 0, axis=1), possible, following)
    return ~_leading(~reaches, possible, following)


def _leading(found: np.ndarray, possible: np.ndarray, following: np.ndarray) -> np.ndarray:
    """(C,) the contexts that are found already, or may lead to one by moves that are possible (C, M)."""
    while True:
        more = found | np.any(possible & found[following], axis=1)
        if bool(np.all(more == found)):
            return found
        found = more


def _wanted(rows: Tensor, target: Collection[int]) -> np.ndarray:
    """(M,) bool: the symbols of the target."""
    symbols = rows.shape[1]
    if len(target) == 0 or min(target) < 0 or max(target) >= symbols:
        raise ModelError(f"a target must name symbols among 0..{symbols - 1}, got {sorted(target)}; name one or more.")
    wanted = np.zeros(symbols, dtype=bool)
    wanted[list(target)] = True
    return wanted


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise ModelError(f"steps must be at least 1, got {steps}; ask for one step or more.")
    return steps
