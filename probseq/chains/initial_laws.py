"""What may be said about the law of the first state: free, fixed, or the chain's own stationary law."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from probseq.chains.laws import stationary_law
from probseq.errors import ModelError


class InitialLaw(ABC):
    """The law of the first state of each sequence, as a part of a Pyro program and of an M-step."""

    exchangeable: bool = True
    """Whether relabelling the states leaves the model what it is."""

    @abstractmethod
    def sample(self, states: int, transition: Tensor) -> Tensor:
        """(..., K) the law, inside a Pyro program; named `initial` where it is sampled."""

    @abstractmethod
    def maximise(self, counts: Tensor, transition: Tensor, with_prior: bool) -> Tensor:
        """(K,) the law that maximises the expected complete log-likelihood, plus the log prior where asked.

        Args:
            counts: (K,) expected number of sequences that start in each state.
            transition: (K, K) the transition matrix of the same M-step.
            with_prior: add the log prior.
        """

    def log_prior(self, initial: Tensor) -> Tensor:
        """() nats: log prior density of the law; zero where it is not sampled."""
        return torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def n_parameters(self, states: int) -> int:
        """Free parameters."""


@dataclass(frozen=True)
class FreeInitial(InitialLaw):
    """Any law, with a symmetric Dirichlet prior; just above 1 keeps its mode inside the simplex.

    Args:
        concentration: of the prior, at least 1 for a maximum a posteriori fit.
    """

    concentration: float = 1.1

    def sample(self, states: int, transition: Tensor) -> Tensor:
        return pyro.sample("initial", self._prior(states))

    def log_prior(self, initial: Tensor) -> Tensor:
        return self._prior(initial.shape[-1]).log_prob(initial)

    def _prior(self, states: int) -> dist.Dirichlet:
        return dist.Dirichlet(torch.full((states,), self.concentration, dtype=torch.float64))

    def maximise(self, counts: Tensor, transition: Tensor, with_prior: bool) -> Tensor:
        counts = (counts + self.concentration - 1.0).clamp_min(0.0) if with_prior else counts
        return counts / counts.sum()

    def n_parameters(self, states: int) -> int:
        return states - 1


@dataclass(frozen=True)
class StationaryInitial(InitialLaw):
    """The stationary law of the transition matrix: the series was running long before it was watched."""

    def sample(self, states: int, transition: Tensor) -> Tensor:
        return stationary_law(transition)

    def maximise(self, counts: Tensor, transition: Tensor, with_prior: bool) -> Tensor:
        return stationary_law(transition)

    def n_parameters(self, states: int) -> int:
        return 0


@dataclass(frozen=True)
class FixedInitial(InitialLaw):
    """A known law.

    Args:
        probabilities: K numbers that sum to one.
    """

    probabilities: tuple[float, ...]
    exchangeable = False

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.probabilities)
        if min(values, default=-1.0) < 0 or abs(sum(values) - 1.0) > 1e-8:
            raise ModelError(f"A fixed initial law must be probabilities that sum to 1, got {values}; rescale them.")
        object.__setattr__(self, "probabilities", values)

    def sample(self, states: int, transition: Tensor) -> Tensor:
        if len(self.probabilities) != states:
            raise ModelError(
                f"A fixed initial law must have one probability a state, {states}, got {len(self.probabilities)}."
            )
        return torch.tensor(self.probabilities, dtype=torch.float64)

    def maximise(self, counts: Tensor, transition: Tensor, with_prior: bool) -> Tensor:
        return self.sample(len(counts), transition)

    def n_parameters(self, states: int) -> int:
        return 0
