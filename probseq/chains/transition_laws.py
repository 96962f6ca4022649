"""What may be said about a transition matrix: free, sticky, left-right, with forbidden moves, or fixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pyro
import torch
from torch import Tensor

from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.errors import ModelError


class TransitionLaw(ABC):
    """The rows of a transition matrix, as a part of a Pyro program and of an M-step."""

    exchangeable: bool = False
    """Whether relabelling the states leaves the model what it is."""

    @abstractmethod
    def concentration(self, states: int) -> Tensor:
        """(K, K) of the Dirichlet prior of the rows; zero where a move is forbidden."""

    def sample(self, states: int) -> Tensor:
        """(..., K, K) the matrix, inside a Pyro program, at the site `transition`."""
        return pyro.sample("transition", SparseDirichlet(self.concentration(states)))

    def log_prior(self, transition: Tensor) -> Tensor:
        """() nats: log prior density of the matrix; zero where it is not sampled."""
        return SparseDirichlet(self.concentration(transition.shape[-1])).log_prob(transition)

    def maximise(self, counts: Tensor, current: Tensor, with_prior: bool) -> Tensor:
        """(K, K) the matrix that maximises sum counts log A, plus the log prior where asked.

        Args:
            counts: (K, K) expected number of moves.
            current: (K, K) kept for the row of a state that is never left.
            with_prior: add the log prior.
        """
        if with_prior:  # a forbidden move is never counted, so maximum likelihood need not be told of it
            concentration = self.concentration(len(counts))
            counts = torch.where(concentration > 0, counts + concentration - 1.0, 0.0).clamp_min(0.0)
        pseudo = counts.numpy()  # small arrays: numpy has the smaller overhead
        total = pseudo.sum(-1, keepdims=True)
        left = total[:, 0] > 0
        if left.all():
            return torch.from_numpy(pseudo / total)
        return torch.where(
            torch.from_numpy(left).unsqueeze(-1), torch.from_numpy(pseudo / np.where(total > 0, total, 1.0)), current
        )

    def start(self, states: int, stay: Tensor, jitter: Tensor) -> Tensor:
        """(K, K) a start for EM that stays with probability `stay` and honours what is forbidden.

        Args:
            states: K.
            stay: (K,) probability on the diagonal, in (0, 1).
            jitter: (K, K) positive weights of the moves.
        """
        allowed = (self.concentration(states) > 0).double()
        off = allowed * jitter * (1.0 - torch.eye(states, dtype=torch.float64))
        off = off / off.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        matrix = allowed * (stay.diag() + (1.0 - stay).unsqueeze(-1) * off)
        return matrix / matrix.sum(-1, keepdim=True)

    def n_parameters(self, states: int) -> int:
        """Free parameters: allowed moves less one a row."""
        return int(((self.concentration(states) > 0).sum(-1) - 1).sum())


@dataclass(frozen=True)
class FreeTransitions(TransitionLaw):
    """Any matrix, symmetric Dirichlet rows; just above 1 keeps the mode inside the simplex.

    Args:
        prior: concentration of each entry.
    """

    prior: float = 1.1
    exchangeable = True

    def concentration(self, states: int) -> Tensor:
        return torch.full((states, states), self.prior, dtype=torch.float64)


@dataclass(frozen=True)
class StickyTransitions(TransitionLaw):
    """Rows whose prior favours staying (the finite form of Fox et al. 2011).

    Args:
        extra: prior count added to each diagonal entry.
        prior: concentration of each entry.
    """

    extra: float = 10.0
    prior: float = 1.1
    exchangeable = True

    def concentration(self, states: int) -> Tensor:
        return self.prior + self.extra * torch.eye(states, dtype=torch.float64)


@dataclass(frozen=True)
class LeftRightTransitions(TransitionLaw):
    """Stay or move right by at most `max_jump` states (Bakis chain, Rabiner 1989, section IV.A).

    Args:
        max_jump: the longest move.
        prior: concentration of each allowed entry.
    """

    max_jump: int = 1
    prior: float = 1.1

    def concentration(self, states: int) -> Tensor:
        move = torch.arange(states) - torch.arange(states).unsqueeze(-1)
        return torch.where((move >= 0) & (move <= self.max_jump), self.prior, 0.0).double()


@dataclass(frozen=True)
class ForbiddenTransitions(TransitionLaw):
    """Some moves never happen.

    Args:
        forbidden: pairs (from, to).
        prior: concentration of each allowed entry.
    """

    forbidden: tuple[tuple[int, int], ...]
    prior: float = 1.1

    def concentration(self, states: int) -> Tensor:
        matrix = torch.full((states, states), self.prior, dtype=torch.float64)
        for left, entered in self.forbidden:
            if not (0 <= left < states and 0 <= entered < states):
                raise ModelError(f"A forbidden move must join states 0..{states - 1}, got {(left, entered)}.")
            matrix[left, entered] = 0.0
        if bool((matrix.sum(-1) == 0).any()):
            raise ModelError("Every state must have a move that is allowed, got a row that is all forbidden.")
        return matrix


@dataclass(frozen=True)
class FixedTransitions(TransitionLaw):
    """A known matrix.

    Args:
        matrix: K rows of K probabilities.
    """

    matrix: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        rows = tuple(tuple(float(value) for value in row) for row in self.matrix)
        for row in rows:
            if len(row) != len(rows) or min(row) < 0 or abs(sum(row) - 1.0) > 1e-8:
                raise ModelError(f"A fixed transition matrix must be square with rows that sum to 1, got row {row}.")
        object.__setattr__(self, "matrix", rows)

    def _tensor(self, states: int) -> Tensor:
        if len(self.matrix) != states:
            raise ModelError(f"A fixed transition matrix must be {states} x {states}, got {len(self.matrix)} rows.")
        return torch.tensor(self.matrix, dtype=torch.float64)

    def concentration(self, states: int) -> Tensor:
        return (self._tensor(states) > 0).double()

    def sample(self, states: int) -> Tensor:
        return self._tensor(states)

    def log_prior(self, transition: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def maximise(self, counts: Tensor, current: Tensor, with_prior: bool) -> Tensor:
        return self._tensor(len(counts))

    def start(self, states: int, stay: Tensor, jitter: Tensor) -> Tensor:
        return self._tensor(states)

    def n_parameters(self, states: int) -> int:
        return 0
