"""What may be said about the law of the first state: free, fixed, or the chain's own stationary law."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import ModelError
from probseq.families.family import Parameter


class InitialLaw(ABC):
    """The law of the first state of each sequence, as a part of a Pyro program and of an M-step.

    Of a chain that remembers m states it is the law of the first code, (C,) with C = K^m (`chains.composite`).
    """

    exchangeable: bool = True
    """Whether relabelling the states leaves the model what it is."""

    follows_moves: bool = False
    """Whether it is computed from the transition law, so that an M-step must find both together."""

    def parameters(self, size: int) -> dict[str, Parameter]:
        """What is learned: `initial` (C,), or nothing."""
        return {}

    @abstractmethod
    def sample(self, size: int, stationary: Callable[[], Tensor]) -> Tensor:
        """(..., C) the law, inside a Pyro program; named `initial` where it is sampled.

        Args:
            size: C.
            stationary: gives the chain's stationary law (..., C); ModelError where there is none.
        """

    @abstractmethod
    def maximise(self, counts: Tensor, stationary: Callable[[], Tensor], with_prior: bool) -> Tensor:
        """(C,) the law that maximises the expected complete log-likelihood, plus the log prior where asked.

        Args:
            counts: (C,) expected number of sequences that start in each state.
            stationary: gives the stationary law (C,) of the moves that the same M-step found.
            with_prior: add the log prior.
        """

    def log_prior(self, initial: Tensor) -> Tensor:
        """() nats: log prior density of the law; zero where it is not sampled."""
        return torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def n_parameters(self, size: int) -> int:
        """Free parameters."""


@dataclass(frozen=True)
class FreeInitial(InitialLaw):
    """Any law, with a symmetric Dirichlet prior; just above 1 keeps its mode inside the simplex.

    Args:
        concentration: of the prior, at least 1 for a maximum a posteriori fit.
    """

    concentration: float = 1.1

    def parameters(self, size: int) -> dict[str, Parameter]:
        return {"initial": Parameter(constraints.simplex, (size,), shared=True)}

    def sample(self, size: int, stationary: Callable[[], Tensor]) -> Tensor:
        return pyro.sample("initial", self._prior(size))

    def log_prior(self, initial: Tensor) -> Tensor:
        return self._prior(initial.shape[-1]).log_prob(initial)

    def _prior(self, size: int) -> dist.Dirichlet:
        return dist.Dirichlet(torch.full((size,), self.concentration, dtype=torch.float64))

    def maximise(self, counts: Tensor, stationary: Callable[[], Tensor], with_prior: bool) -> Tensor:
        counts = (counts + self.concentration - 1.0).clamp_min(0.0) if with_prior else counts
        return counts / counts.sum()

    def n_parameters(self, size: int) -> int:
        return size - 1


@dataclass(frozen=True)
class StationaryInitial(InitialLaw):
    """The stationary law of the moves: the series was running long before it was watched."""

    follows_moves = True

    def sample(self, size: int, stationary: Callable[[], Tensor]) -> Tensor:
        return stationary()

    def maximise(self, counts: Tensor, stationary: Callable[[], Tensor], with_prior: bool) -> Tensor:
        return stationary()

    def n_parameters(self, size: int) -> int:
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

    def sample(self, size: int, stationary: Callable[[], Tensor]) -> Tensor:
        if len(self.probabilities) != size:
            raise ModelError(
                f"A fixed initial law must have one probability a state, {size}, got {len(self.probabilities)}."
            )
        return torch.tensor(self.probabilities, dtype=torch.float64)

    def maximise(self, counts: Tensor, stationary: Callable[[], Tensor], with_prior: bool) -> Tensor:
        return self.sample(len(counts), stationary)

    def n_parameters(self, size: int) -> int:
        return 0
