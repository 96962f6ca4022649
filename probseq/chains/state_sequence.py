"""Laws of hidden state sequences: the one discrete site of a probseq program.

A `StateSequence` is a Pyro distribution over a whole path z_1..z_T, laid flat for N ragged sequences. It is an
ordinary distribution (sample, log_prob), and in addition it can sum itself out: given the log-likelihood of every
step under every state it returns log p(x) (`evidence`) and the law of the path given the data (`posterior`).

Batch dimensions. The steps of a path take the place of batch dim -1, the dim of the program's step plate, so that
`rate[state]` and `pyro.plate("step", T)` line up. Parameters with batch dimensions therefore leave dim -1 free with
size 1, which is how Pyro's vectorised particles arrive: initial (P, 1, K) gives batch_shape (P, 1) and paths (P, T).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

if TYPE_CHECKING:
    from probseq.chains.state_posterior import StatePosterior


@dataclass(frozen=True, eq=False)
class ChainCounts:
    """What an M-step needs to know of a hidden path: expected counts given the data, weighted by sequence.

    Args:
        evidence: (N,) nats: log p(x_n), not weighted.
        initial: (C,) expected number of sequences that start in each value.
        moves: what the chain's transition law is learned from; (S, C, C) expected moves i -> j under each matrix for
            Markov chains.
        emission: (R, C) expected number of steps in each value that met each row of the table.
    """

    evidence: Tensor
    initial: Tensor
    moves: Any
    emission: Tensor


def weighted_sum(per_sequence: Tensor, weights: Tensor | None) -> Tensor:
    """(...,) sum over sequences of (..., N), each times its weight; weight zero leaves out even an impossible one."""
    if weights is None:
        return per_sequence.sum(-1)
    return torch.where(weights > 0, per_sequence * weights, 0.0).sum(-1)


class StateSequence(TorchDistribution):
    """A law over flat, ragged state paths; final classes are `MarkovChain` and its siblings.

    The values of a chain that remembers m states are codes z_t + K z_{t-1} + ... (`chains.composite`).
    """

    has_rsample = False
    has_enumerate_support = False

    states: int
    """C, the number of values of one step of the path: the states, or codes of the last few states."""
    lengths: Tensor
    """(N,) int64: steps of each sequence; their sum is T."""
    weights: Tensor | None
    """(N,) float64: what each sequence counts in the log-probability; None means one each."""

    @property
    def total_steps(self) -> int:
        """T, the number of steps of all sequences together."""
        return int(self.event_shape[0])

    @cached_property
    def offsets(self) -> Tensor:
        """(N + 1,) int64: sequence n is steps offsets[n] .. offsets[n + 1] - 1."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @property
    def path_shape(self) -> torch.Size:
        """Shape of one draw: the batch without its step dim, then T."""
        return torch.Size(self.batch_shape[:-1]) + self.event_shape

    def shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008  (the signature of torch)
        return torch.Size(sample_shape) + self.path_shape

    def step_weights(self) -> Tensor | None:
        """(T,) the weight of the sequence that each step belongs to, or None where all are one."""
        return None if self.weights is None else self.weights.repeat_interleave(self.lengths)

    @abstractmethod
    def evidence(self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None) -> Tensor:
        """log p(x_n) with the path summed out.

        Args:
            log_table: (*batch, R, K) nats: log p(x | z = k) of each distinct row; -inf is legal.
            emission_index: (T,) integers: the row of each step; None means R = T, one row a step.

        Returns:
            (*batch, N) nats, not weighted; -inf for a sequence that the model makes impossible.
        """

    @abstractmethod
    def expected(
        self,
        log_table: Tensor | np.ndarray,
        emission_index: Tensor | np.ndarray | None = None,
        weights: Tensor | None = None,
    ) -> ChainCounts:
        """Expected counts given the data, for one set of parameters, without a graph: the E-step.

        Args:
            log_table: (R, C) nats, as for `evidence`.
            emission_index: (T,) as for `evidence`.
            weights: (N,) what each sequence counts; None means one each.
        """

    @abstractmethod
    def complete_log_prob(self, counts: ChainCounts) -> Tensor:
        """() nats: expected log-probability of the path under this law, sum of counts times log probabilities.

        Differentiable in the law's parameters: what an M-step maximises.
        """

    @abstractmethod
    def posterior(
        self, log_table: Tensor | np.ndarray, emission_index: Tensor | np.ndarray | None = None
    ) -> StatePosterior:
        """The law of the path given the data; arguments as for `evidence`."""
