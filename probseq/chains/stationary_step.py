"""M-steps without a closed form: of a matrix whose stationary law is also the law of the first state, and of any law.

It maximises sum_ij xi_ij log a_ij + sum_k gamma_1k log delta_k(A) (Zucchini, MacDonald & Langrock 2016, 4.2.5),
which has no closed form, because delta depends on A. L-BFGS on row-wise softmax coordinates, from the better of the
current matrix and the closed form that leaves delta out; never lower than at the current matrix.

The gradient is exact: delta (I - A + U) = 1 gives d delta = delta dA M with M = (I - A + U)^-1, so that
d/da_ij of sum_k gamma_1k log delta_k is delta_i (M g)_j with g = gamma_1 / delta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probseq.chains.state_sequence import ChainCounts
from probseq.errors import ModelError
from probseq.families.coordinates import Coordinates

if TYPE_CHECKING:
    from probseq.chains.transition_laws import TransitionLaw
    from probseq.sequences import Sequences

MAX_ITERATIONS = 6


def maximise_numerically(
    law: TransitionLaw,
    counts: ChainCounts,
    starts: Sequence[Mapping[str, Tensor]],
    with_prior: bool,
    series: Sequences,
    stationary: bool = False,
    iterations: int = 20,
    known: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The M-step of any transition law, by L-BFGS on its chain's own expected log-probability.

    Args:
        law: whose chain is differentiable in its parameters.
        counts: of the E-step.
        starts: parameters; the best of them is where it starts, and what is returned where nothing is better.
        with_prior: add the log prior.
        series: the data.
        stationary: whether the first state follows the law's stationary law, so that `counts.initial` counts too.
        iterations: at most so many.
        known: values that are given, NaN where free.
    """
    from scipy.optimize import minimize

    states = round(len(counts.initial) ** (1.0 / law.order))
    scored = counts if stationary else replace(counts, initial=torch.zeros_like(counts.initial))
    flat = torch.full_like(counts.initial, 1.0 / len(counts.initial))

    def objective(parameters: Mapping[str, Tensor]) -> Tensor:
        try:
            initial = law.stationary(parameters) if stationary else flat
            value = law.chain(initial, parameters, series).complete_log_prob(scored)
        except ModelError:
            return torch.tensor(-torch.inf, dtype=torch.float64)
        return value + law.log_prior(parameters) if with_prior else value

    declared = law.parameters(states)
    start = max(starts, key=lambda parameters: float(objective(parameters).nan_to_num(nan=-torch.inf)))
    kept = {name: start[name].detach() for name in declared}
    coordinates = Coordinates(declared, kept, known or {})
    first = coordinates.pack()
    if len(first) == 0:
        return kept

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(point.copy()).requires_grad_()
        with torch.enable_grad():
            value = -objective(coordinates.unpack(u)) / series.total_steps
            if not bool(torch.isfinite(value)):
                return np.inf, np.zeros_like(point)
            (gradient,) = torch.autograd.grad(value, u)
        return float(value.detach()), np.nan_to_num(gradient.numpy())

    options = {"maxiter": iterations, "gtol": 1e-10, "ftol": 1e-15}
    found = minimize(loss, first.numpy(), jac=True, method="L-BFGS-B", options=options)
    better = np.isfinite(found.fun) and found.fun < loss(first.numpy())[0]
    return coordinates.unpack(torch.from_numpy(found.x)) if better else kept


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
