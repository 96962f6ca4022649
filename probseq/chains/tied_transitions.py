"""Moves that share their probabilities: a pattern of labels says which.

In row i the moves of label l have together the share q_l, and each of them the same part of it:
a_ij = q_l / n_l for the n_l moves j of label l. Rows that hold the same labels equally often share one q. The expected
complete log-likelihood is then that of a multinomial for each group of rows, so that the M-step adds up the counts of
each label (parameter tying, Rabiner 1989, section V.A; Young and Woodland 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences


@dataclass(frozen=True)
class TiedTransitions(TransitionLaw):
    """A matrix with equal entries where a pattern has equal labels within a row; alike rows are the same law.

    The parameter is `shares` (G, L): of each group of alike rows, the probability of each label.

    Args:
        pattern: K rows of K labels, whole numbers; -1 forbids a move.
        prior: concentration of the share of each label.

    >>> circle = TiedTransitions(((0, 1, 2), (2, 0, 1), (1, 2, 0)))
    >>> circle.tables({"shares": torch.tensor([[0.7, 0.2, 0.1]])}, None)[0][0]
    tensor([[0.7000, 0.2000, 0.1000],
            [0.1000, 0.7000, 0.2000],
            [0.2000, 0.1000, 0.7000]])
    """

    pattern: tuple[tuple[int, ...], ...]
    prior: float = 1.1

    def __post_init__(self) -> None:
        rows = tuple(tuple(int(label) for label in row) for row in self.pattern)
        for number, row in enumerate(rows):
            if len(row) != len(rows) or min(row) < -1 or max(row) < 0:
                raise ModelError(
                    f"A pattern of tied moves must be square, of labels from 0 on or -1, each row with a move that is "
                    f"allowed, got {row} in row {number} of {len(rows)}; give K rows of K labels."
                )
        object.__setattr__(self, "pattern", rows)

    @cached_property
    def _labels(self) -> np.ndarray:
        """The labels that occur, in order."""
        return np.setdiff1d(np.array(self.pattern), [-1])

    @cached_property
    def _counts(self) -> np.ndarray:
        """(K, L) how many moves of each row have each label."""
        return (np.array(self.pattern)[:, :, None] == self._labels).sum(1)

    @cached_property
    def _groups(self) -> np.ndarray:
        """(K,) the group of each row."""
        _, first, group = np.unique(self._counts, axis=0, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[group.reshape(-1)]  # numbered as the rows come

    @cached_property
    def _membership(self) -> Tensor:
        """(G L, K K) how much of a move's probability each share gives."""
        states, labels = len(self.pattern), len(self._labels)
        result = np.zeros((self._groups.max() + 1, labels, states, states))
        for i, j in np.ndindex(states, states):
            if self.pattern[i][j] >= 0:
                label = int(np.searchsorted(self._labels, self.pattern[i][j]))
                result[self._groups[i], label, i, j] = 1.0 / self._counts[i, label]
        return torch.from_numpy(result).reshape(-1, states * states)

    @cached_property
    def concentration(self) -> Tensor:
        """(G, L) of the Dirichlet prior of the shares; zero where a group has no move of the label."""
        occurs = np.stack([self._counts[self._groups == g][0] > 0 for g in range(self._groups.max() + 1)])
        return torch.where(torch.from_numpy(occurs), self.prior, 0.0).double()

    def parameters(self, states: int) -> dict[str, Parameter]:
        self._require(states)
        return {"shares": Parameter(constraints.simplex, tuple(self.concentration.shape), shared=True)}

    def sample(self, states: int) -> dict[str, Tensor]:
        self._require(states)
        return {"shares": pyro.sample("shares", SparseDirichlet(self.concentration))}

    def log_prior(self, parameters: Parameters) -> Tensor:
        return SparseDirichlet(self.concentration).log_prob(parameters["shares"])

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        shares, states = parameters["shares"], len(self.pattern)
        matrix = shares.flatten(-2) @ self._membership.to(shares.dtype)
        return matrix.unflatten(-1, (1, states, states)), None

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """In closed form; the shares of a group of states that are never left are kept."""
        belongs = (self._membership > 0).double()
        total = (belongs @ counts.moves[0].reshape(-1)).reshape(self.concentration.shape)
        if with_prior:
            total = torch.where(self.concentration > 0, total + self.concentration - 1.0, 0.0).clamp_min(0.0)
        size = total.sum(-1, keepdim=True)
        shares = total / torch.where(size > 0, size, 1.0)
        return {"shares": shares if bool((size > 0).all()) else torch.where(size > 0, shares, parameters["shares"])}

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        """The shares that come closest to staying with the given probability."""
        self._require(states)
        allowed = torch.tensor(self.pattern) >= 0
        off = torch.where(allowed, jitter, 0.0).fill_diagonal_(0.0)
        off = off / off.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        moves = torch.where(allowed, stay.diag() + (1.0 - stay).unsqueeze(-1) * off, 0.0)
        none = torch.zeros(0, dtype=torch.float64)
        return self.maximise(ChainCounts(none, none, moves.unsqueeze(0), none), {}, False, series)

    def n_parameters(self, states: int) -> int:
        """Labels less one for each group of alike rows."""
        self._require(states)
        return int(((self.concentration > 0).sum(-1) - 1).sum())

    def _require(self, states: int) -> None:
        if len(self.pattern) != states:
            raise ModelError(
                f"A pattern of tied moves must have one row a state, {states}, got {len(self.pattern)}; give K rows."
            )
