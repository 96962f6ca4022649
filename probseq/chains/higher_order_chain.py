"""The Markov chain of order k as a Pyro distribution over whole paths.

    p(z_{t+1} | z_t, z_{t-1}, ..., z_{t-k+1}) = transition[z_{t-k+1}, ..., z_t, z_{t+1}]

A value of the path is the code of the last k states, c_t = z_t + K z_{t-1} + ... + K^(k-1) z_{t-k+1}, so that the state
itself is c_t mod K (`chains.composite`). Codes follow each other as a first-order chain whose matrix is zero but for K
entries a row, which is what sums it out (Hamilton 1994, section 22.4). The first code also holds the k - 1 states
before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.composite import over_codes
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import ChainCounts, StateSequence
from probseq.errors import ModelError


class HigherOrderMarkovChain(StateSequence):
    """Law of flat ragged paths of codes under a Markov chain of order k.

    Args:
        initial: (*batch, K^k) law of the first code of each sequence; rows sum to one.
        transition: (*batch, K, .., K) with k + 1 dims of K, the oldest state first, the next one last; rows sum to one.
        lengths: (N,) steps of each sequence, or one int for a single sequence.
        order: k, at least 1.
        weights: (N,) what each sequence counts in log-probabilities; None means one each.

    The last batch dim is the place of the steps and must have size 1 (see `StateSequence`).

    Raises:
        ModelError: shapes that do not fit.

    >>> alternating = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> chain = HigherOrderMarkovChain(torch.full((4,), 0.25), alternating, 3, order=2)
    >>> chain.log_prob(torch.tensor([0, 1, 2])).exp()  # states 0, 1, 0 after a 0
    tensor(0.2500)
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]  # the chain of codes checks its own

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        lengths: Tensor | Sequence[int] | int,
        *,
        order: int,
        weights: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = int(transition.shape[-1]) if transition.dim() else 0
        inner = tuple(transition.shape[-order - 1 :]) if order >= 1 else ()
        if inner != (base,) * (order + 1) or initial.dim() == 0 or initial.shape[-1] != base**order:
            raise ModelError(
                f"A chain of order {order} over K states must have a transition of {order + 1} dims of K and an "
                f"initial law of K^{order} codes, got shapes {tuple(transition.shape)} and {tuple(initial.shape)}; "
                "the law of the next state is the last dim."
            )
        rows = transition.flatten(-order - 1, -2) if order > 1 else transition
        matrix = over_codes(rows, base, order)
        codes = MarkovChain(initial, matrix, lengths, weights=weights, validate_args=validate_args)
        self.order, self.base_states, self.transition = order, base, transition
        self._take(codes)

    def _take(self, codes: MarkovChain) -> None:
        """Stand for this first-order chain of codes."""
        self.codes, self.states = codes, codes.states
        self.lengths, self.weights = codes.lengths, codes.weights
        super().__init__(codes.batch_shape, codes.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.states - 1), 1)

    def expand(self, batch_shape: torch.Size | Sequence[int], _instance: Any = None) -> HigherOrderMarkovChain:
        new = type(self).__new__(type(self))
        new.order, new.base_states, new.transition = self.order, self.base_states, self.transition
        new._take(self.codes.expand(batch_shape))
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch) log-probability of flat paths of codes (*batch, T), all sequences together, weighted."""
        return self.codes.log_prob(value)

    def sequence_log_prob(self, path: Tensor) -> Tensor:
        """(*batch[:-1], N) log-probability of each sequence's part of the path."""
        return self.codes.sequence_log_prob(path)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        """(*sample, *batch[:-1], T) int64 paths of codes."""
        return self.codes.sample(sample_shape)

    def evidence(self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None) -> Tensor:
        return self.codes.evidence(self._over_codes(log_table), emission_index)

    def expected(
        self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None, weights: Tensor | None = None
    ) -> ChainCounts:
        return self.codes.expected(self._over_codes(log_table), emission_index, weights)

    def complete_log_prob(self, counts: ChainCounts) -> Tensor:
        return self.codes.complete_log_prob(counts)

    def posterior(self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None) -> StatePosterior:
        """The law of the path of codes; `.remembering(order)` answers in states."""
        return self.codes.posterior(self._over_codes(log_table), emission_index)

    def _over_codes(self, log_table: Tensor) -> Tensor:
        """(..., R, K^k) from a table over codes, or over states: then older states make no difference."""
        if log_table.shape[-1] == self.states:
            return log_table
        return log_table.repeat((1,) * (log_table.dim() - 1) + (self.states // log_table.shape[-1],))
