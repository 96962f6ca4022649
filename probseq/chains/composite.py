"""Chains that remember: the code of a step holds the last m states, c_t = z_t + K z_{t-1} + K^2 z_{t-2} + ...

The current state is the least significant digit, so z_t = c_t mod K, and the next code is z_{t+1} + K (c_t mod
K^(m-1)). A first-order chain over these codes is a chain of order m over the states (Hamilton 1994, section 22.4).
Everything here is differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor


def digits(codes: Tensor, states: int, memory: int) -> tuple[Tensor, ...]:
    """(z_t, z_{t-1}, ..., z_{t-m+1}), each in the shape of `codes`.

    >>> [part.tolist() for part in digits(torch.tensor([0, 1, 2, 3]), 2, 2)]
    [[0, 1, 0, 1], [0, 0, 1, 1]]
    """
    if memory == 1:
        return (codes,)
    return tuple(torch.div(codes, states**power, rounding_mode="floor") % states for power in range(memory))


def next_codes(states: int, memory: int) -> Tensor:
    """(C, K) int64: the code that follows code c when state k is entered."""
    codes = torch.arange(states**memory)
    return torch.arange(states) + states * (codes % states ** (memory - 1)).unsqueeze(-1)


def entering(matrices: Tensor, states: int, memory: int) -> Tensor:
    """(..., C, K) the chance of entering each state from each code, out of matrices (..., C, C) over codes."""
    if memory == 1:
        return matrices
    columns = next_codes(states, memory)
    return matrices.gather(-1, columns.expand(matrices.shape[:-1] + columns.shape[-1:]))


def over_codes(chances: Tensor, states: int, memory: int) -> Tensor:
    """(..., C, C) matrices over codes out of the chances (..., C, K) of entering each state; C = K^m."""
    if memory == 1:
        return chances
    columns = next_codes(states, memory)
    matrices = chances.new_zeros(chances.shape[:-1] + (states**memory,))
    return matrices.scatter(-1, columns.expand(chances.shape), chances)


def remember(matrices: Tensor, states: int, order: int, memory: int) -> Tensor:
    """Matrices (..., K^o, K^o) of a chain of order o as matrices (..., K^m, K^m) over longer codes, m >= o."""
    if memory == order:
        return matrices
    chances = entering(matrices, states, order)
    repeats = (1,) * (chances.dim() - 2) + (states ** (memory - order), 1)
    return over_codes(chances.repeat(repeats), states, memory)


def remember_law(law: Tensor, matrix: Tensor, states: int, order: int, memory: int) -> Tensor:
    """The joint law (..., K^m) of m states in a row, whose first o follow `law` (..., K^o).

    Args:
        law: of the code of the first o states.
        matrix: (..., K^o, K^o) of the homogeneous chain that goes on from there.
        states: K.
        order: o.
        memory: m >= o.
    """
    chances = entering(matrix, states, order)
    for length in range(order, memory):
        seen = law.unsqueeze(-1)  # (..., K^l, 1): z_t is the least significant digit of the code
        last = chances.repeat((1,) * (chances.dim() - 2) + (states ** (length - order), 1))
        law = (seen * last).flatten(-2)  # (z_{t-1} .., z_t): row-major makes the new state the least significant digit
    return law


def forget(moves: Tensor, states: int, order: int, memory: int) -> Tensor:
    """Counts of moves (..., K^m, K^m) between codes as counts (..., K^o, K^o) between shorter codes, o <= m."""
    if memory == order:
        return moves
    small, large = states**order, states ** (memory - order)
    return moves.reshape(moves.shape[:-2] + (large, small, large, small)).sum((-4, -2))


def unfold(first: Tensor, states: int, order: int, memory: int) -> tuple[Tensor, Tensor]:
    """Counts of the first code (K^m) as counts of the code o states after the start, and of the moves since.

    Returns:
        (K^o,) the oldest o of the m states, and (K^o, K^o) the moves between them and the first step.
    """
    small = states**order
    moves = first.new_zeros(small, small)
    for _ in range(order, memory):
        codes = torch.arange(len(first))
        left, entered = (codes // states) % small, codes % small
        moves = moves.index_put((left, entered), first, accumulate=True)
        first = first.reshape(-1, states).sum(-1)  # forget the newest state
    return first, moves


def by_state(law: Tensor, states: int) -> Tensor:
    """(..., K) the law of the current state out of a law (..., C) of the code."""
    size = law.shape[-1]
    return law if size == states else law.reshape(law.shape[:-1] + (size // states, states)).sum(-2)


def relabelled_codes(order: Tensor, memory: int) -> Tensor:
    """(C,) the old code of each new one, when new state k is the old state order[k]."""
    states = len(order)
    parts = digits(torch.arange(states**memory), states, memory)
    return torch.stack([order[part] * states**power for power, part in enumerate(parts)]).sum(0)
