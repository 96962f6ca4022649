"""M-step of a transition matrix whose stationary law is also the law of the first state.

It maximises sum_ij xi_ij log a_ij + sum_k gamma_1k log delta_k(A) (Zucchini, MacDonald & Langrock 2016, 4.2.5),
which has no closed form, because delta depends on A. L-BFGS on row-wise softmax coordinates, from the better of the
current matrix and the closed form that leaves delta out; never lower than at the current matrix.

The gradient is exact: delta (I - A + U) = 1 gives d delta = delta dA M with M = (I - A + U)^-1, so that
d/da_ij of sum_k gamma_1k log delta_k is delta_i (M g)_j with g = gamma_1 / delta.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAX_ITERATIONS = 6


def maximise_stationary(
    initial_counts: Tensor, counts: Tensor, current: Tensor, candidate: Tensor, concentration: Tensor, with_prior: bool
) -> Tensor:
    """(K, K) the matrix of the M-step.

    Args:
        initial_counts: (K,) expected number of sequences that start in each state.
        counts: (K, K) expected number of moves.
        current: (K, K) the matrix of the E-step.
        candidate: (K, K) the maximiser of the second sum alone.
        concentration: (K, K) of the Dirichlet prior of the rows; zero where a move is forbidden.
        with_prior: add the log prior.
    """
    from scipy.optimize import minimize

    extra = torch.where(concentration > 0, concentration - 1.0, 0.0) if with_prior else torch.zeros_like(counts)
    first, moves = initial_counts.numpy(), (counts + extra).numpy()
    start = max((current.numpy(), candidate.numpy()), key=lambda matrix: _objective(matrix, first, moves)[0])
    free = start > 0
    if len(start) == 1 or not (free.sum(1) > 1).any():
        return torch.from_numpy(start.copy())
    scale = moves.sum() + first.sum()

    def matrix_of(coordinates: np.ndarray) -> np.ndarray:
        logits = np.full(start.shape, -np.inf)
        logits[free] = coordinates
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)

    def loss(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = matrix_of(coordinates)
        value, weighted = _objective(matrix, first, moves)
        gradient = weighted - matrix * weighted.sum(1, keepdims=True)
        return -value / scale, -gradient[free] / scale

    options = {"maxiter": MAX_ITERATIONS, "gtol": 1e-9, "ftol": 1e-16}
    found = minimize(loss, np.log(start[free]), jac=True, method="L-BFGS-B", options=options)
    matrix = matrix_of(found.x)
    better = _objective(matrix, first, moves)[0] > _objective(start, first, moves)[0]
    return torch.from_numpy(matrix if better else start.copy())


def _objective(matrix: np.ndarray, first: np.ndarray, moves: np.ndarray) -> tuple[float, np.ndarray]:
    """The sum to maximise, and (K, K) its derivative times the matrix, entry by entry."""
    states = len(matrix)
    try:
        inverse = np.linalg.inv(np.eye(states) - matrix + 1.0)
    except np.linalg.LinAlgError:
        return -np.inf, np.zeros_like(matrix)
    law = inverse.sum(0)
    if not np.isfinite(law).all() or (law < -1e-10).any() or ((law <= 0) & (first > 0)).any():
        return -np.inf, np.zeros_like(matrix)
    used, begun = moves != 0, first > 0
    if (matrix[used] <= 0).any():
        return -np.inf, np.zeros_like(matrix)
    value = float((moves[used] * np.log(matrix[used])).sum() + (first[begun] * np.log(law[begun])).sum())
    ratio = np.where(begun, first / np.where(begun, law, 1.0), 0.0)
    return value, moves + matrix * np.outer(law, inverse @ ratio)
