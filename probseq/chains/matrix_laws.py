"""The laws of one transition matrix: free, sticky, left-right, with forbidden moves, or fixed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.stationary_step import maximise_stationary
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences


class MatrixLaw(TransitionLaw):
    """One matrix (K, K), the parameter `transition`, with Dirichlet rows."""

    @abstractmethod
    def concentration(self, states: int) -> Tensor:
        """(K, K) of the Dirichlet prior of the rows; zero where a move is forbidden."""

    def parameters(self, states: int) -> dict[str, Parameter]:
        return {"transition": Parameter(constraints.simplex, (states, states), shared=True)}

    def structural_zeros(self, states: int) -> dict[str, Tensor]:
        return {"transition": self.concentration(states) == 0}

    def sample(self, states: int) -> dict[str, Tensor]:
        return {"transition": pyro.sample("transition", SparseDirichlet(self.concentration(states)))}

    def log_prior(self, parameters: Parameters) -> Tensor:
        transition = parameters["transition"]
        return SparseDirichlet(self.concentration(transition.shape[-1])).log_prob(transition)

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        return parameters["transition"].unsqueeze(-3), None

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """In closed form; the row of a state that is never left is kept."""
        moves, current = counts.moves[0], parameters["transition"]
        if with_prior:  # a forbidden move is never counted, so maximum likelihood need not be told of it
            concentration = self.concentration(len(moves))
            moves = torch.where(concentration > 0, moves + concentration - 1.0, 0.0).clamp_min(0.0)
        pseudo = moves.numpy()  # small arrays: numpy has the smaller overhead
        total = pseudo.sum(-1, keepdims=True)
        left = total[:, 0] > 0
        if left.all():
            return {"transition": torch.from_numpy(pseudo / total)}
        rows = torch.from_numpy(pseudo / np.where(total > 0, total, 1.0))
        return {"transition": torch.where(torch.from_numpy(left).unsqueeze(-1), rows, current)}

    def maximise_stationary(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        candidate = self.maximise(counts, parameters, with_prior, series)["transition"]
        current, concentration = parameters["transition"], self.concentration(len(candidate))
        matrix = maximise_stationary(counts.initial, counts.moves[0], current, candidate, concentration, with_prior)
        return {"transition": matrix}

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        allowed = (self.concentration(states) > 0).double()
        off = allowed * jitter * (1.0 - torch.eye(states, dtype=torch.float64))
        off = off / off.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        matrix = allowed * (stay.diag() + (1.0 - stay).unsqueeze(-1) * off)
        return {"transition": matrix / matrix.sum(-1, keepdim=True)}

    def n_parameters(self, states: int) -> int:
        """Allowed moves less one a row."""
        return int(((self.concentration(states) > 0).sum(-1) - 1).sum())

    def relabelled(self, parameters: Parameters, order: Tensor) -> dict[str, Tensor]:
        return {"transition": parameters["transition"][order][:, order]}


@dataclass(frozen=True)
class FreeTransitions(MatrixLaw):
    """Any matrix, symmetric Dirichlet rows; just above 1 keeps the mode inside the simplex.

    Args:
        prior: concentration of each entry.
    """

    prior: float = 1.1
    exchangeable = True

    def concentration(self, states: int) -> Tensor:
        return torch.full((states, states), self.prior, dtype=torch.float64)


@dataclass(frozen=True)
class StickyTransitions(MatrixLaw):
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
class LeftRightTransitions(MatrixLaw):
    """Stay or move right by at most `max_jump` states (Bakis chain, Rabiner 1989, section IV.A).

    Args:
        max_jump: the longest move.
        prior: concentration of each allowed entry.
    """

    max_jump: int = 1
    prior: float = 1.1
    progressive = True

    def concentration(self, states: int) -> Tensor:
        move = torch.arange(states) - torch.arange(states).unsqueeze(-1)
        return torch.where((move >= 0) & (move <= self.max_jump), self.prior, 0.0).double()


@dataclass(frozen=True)
class ForbiddenTransitions(MatrixLaw):
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
class FixedTransitions(MatrixLaw):
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

    def parameters(self, states: int) -> dict[str, Parameter]:
        return {}

    def known(self, states: int) -> dict[str, Tensor]:
        return {"transition": self._tensor(states)}

    def sample(self, states: int) -> dict[str, Tensor]:
        return self.known(states)

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        return self._tensor(len(self.matrix)).unsqueeze(0), None

    def log_prior(self, parameters: Parameters) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        return self.known(len(self.matrix))

    def maximise_stationary(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        return self.known(len(self.matrix))

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        return self.known(states)

    def n_parameters(self, states: int) -> int:
        return 0
