"""Transitions of order k: the next state depends on the last k, with a Dirichlet prior on each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.composite import entering, over_codes
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences


@dataclass(frozen=True)
class HigherOrderTransitions(TransitionLaw):
    """Any law of the next state given the last k: `transition` (K, .., K), k + 1 dims, the oldest state first.

    Args:
        order: k, at least 1.
        prior: concentration of each entry; just above 1 keeps the mode inside the simplex.
    """

    order: int = 2
    prior: float = 1.1
    exchangeable = True

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order < 1:
            raise ModelError(f"order must be an integer of at least 1, got {self.order!r}; 1 is FreeTransitions().")

    def parameters(self, states: int) -> dict[str, Parameter]:
        return {"transition": Parameter(constraints.simplex, (states,) * (self.order + 1), shared=True)}

    def _prior(self, states: int) -> dist.TorchDistribution:
        rows = dist.Dirichlet(torch.full((states,) * (self.order + 1), self.prior, dtype=torch.float64))
        return rows.to_event(self.order)

    def sample(self, states: int) -> dict[str, Tensor]:
        return {"transition": pyro.sample("transition", self._prior(states))}

    def log_prior(self, parameters: Parameters) -> Tensor:
        return self._prior(parameters["transition"].shape[-1]).log_prob(parameters["transition"])

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        transition = parameters["transition"]
        states = transition.shape[-1]
        rows = transition.reshape(transition.shape[: -self.order - 1] + (states**self.order, states))
        return over_codes(rows, states, self.order).unsqueeze(-3), None

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """In closed form; the row of a past that never occurs is kept."""
        current = parameters["transition"]
        pseudo = entering(counts.moves[0], current.shape[-1], self.order).reshape(current.shape)
        if with_prior:
            pseudo = (pseudo + self.prior - 1.0).clamp_min(0.0)
        total = pseudo.sum(-1, keepdim=True)
        return {"transition": torch.where(total > 0, pseudo / torch.where(total > 0, total, 1.0), current)}

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        off = jitter * (1.0 - torch.eye(states, dtype=torch.float64))
        off = off / off.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        matrix = stay.diag() + (1.0 - stay).unsqueeze(-1) * off
        rows = matrix / matrix.sum(-1, keepdim=True)
        return {"transition": rows.expand((states,) * (self.order + 1)).clone()}

    def n_parameters(self, states: int) -> int:
        """K^k (K - 1)."""
        return states**self.order * (states - 1)

    def relabelled(self, parameters: Parameters, order: Tensor) -> dict[str, Tensor]:
        transition = parameters["transition"]
        for dim in range(self.order + 1):
            transition = transition.index_select(transition.dim() - 1 - dim, order)
        return {"transition": transition}
