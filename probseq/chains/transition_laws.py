"""What is said about the moves of a hidden chain: the interface that a model knows, and nothing of any one law.

A law names its parameters, samples them inside a Pyro program, makes the chain out of them, and finds them again from
expected counts. The laws of one matrix are in `chains.matrix_laws`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from probseq.chains.laws import stationary_law
from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_sequence import ChainCounts, StateSequence
from probseq.chains.stationary_step import maximise_numerically
from probseq.design import Design
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences

Parameters = Mapping[str, Tensor]


class TransitionLaw(ABC):
    """The moves of a hidden chain, as a part of a Pyro program and of an M-step.

    K states; a law of order o moves codes of the last o states, C = K^o (`chains.composite`). Every method that takes
    `parameters` is given all of the model's and picks its own by name. Concrete laws are frozen dataclasses of plain
    values, which are how a fit stores them, and are exported from `probseq.chains`.
    """

    exchangeable: bool = False
    """Whether relabelling the states leaves the model what it is; such a law has `relabelled`."""

    progressive: bool = False
    """Whether states follow each other in time, so that a start cuts the series into stretches."""

    order: int = 1
    """o, how many states the next one depends on."""

    lengthens: bool = True
    """Whether `tables` says all of the moves, so that a chain of longer memory can be built on them."""

    design: Design = Design()
    """What the moves depend on besides; empty means the same moves at every step."""

    # ---- the program ----

    @abstractmethod
    def parameters(self, states: int) -> dict[str, Parameter]:
        """What is learned: name -> constraint and shape, each `shared`; nothing for a law that is known."""

    def known(self, states: int) -> dict[str, Tensor]:
        """Values that are given and have no site, by name."""
        return {}

    def structural_zeros(self, states: int) -> dict[str, Tensor]:
        """Which entries of a learned parameter the structure makes zero: bool masks of its shape, by name."""
        return {}

    @abstractmethod
    def sample(self, states: int) -> dict[str, Tensor]:
        """Every parameter by name, drawn at a site of that name inside a Pyro program, and what is known.

        Vectorised particles come as leading dims that end in one of size 1: (P, 1, *shape).
        """

    @abstractmethod
    def log_prior(self, parameters: Parameters) -> Tensor:
        """() nats: log prior density of what `sample` draws; zero where it draws nothing. Differentiable."""

    @abstractmethod
    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        """Every matrix that moves the chain, and which one each move has.

        Args:
            parameters: values, maybe with leading dims (batch, 1) as `MarkovChain` takes them.
            series: the data, for its design; None will do without one.

        Returns:
            (*batch, S, C, C) matrices, and (T,) unsigned integers: the matrix of the move from step t to t + 1, or
            None where S = 1.
        """

    def chain(self, initial: Tensor, parameters: Parameters, series: Sequences) -> StateSequence:
        """The law of the hidden path over a series; differentiable in `initial` (..., C) and the parameters."""
        return MarkovChain.over(initial, *self.tables(parameters, series), series)

    def stationary(self, parameters: Parameters) -> Tensor:
        """(*batch, C) the law that the moves leave as it is.

        Raises:
            ModelError: there is none, or not just one.
        """
        if self.design:
            raise ModelError(
                f"A stationary law must belong to moves that are the same at every step, got moves that depend on "
                f"{', '.join(self.design.names[1:])}; use FreeInitial or FixedInitial for the first state."
            )
        return stationary_law(self.tables(parameters, None)[0].squeeze(-3))

    # ---- learning ----

    @abstractmethod
    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """The M-step: parameters with the highest expected complete log-likelihood of the moves; never lower.

        Args:
            counts: of the E-step; `moves` is what the law's own chain counted, (S, C, C) for matrices.
            parameters: those of the E-step.
            with_prior: add the log prior.
            series: the data.

        Returns:
            every parameter that `sample` returns.
        """

    def maximise_stationary(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        """The M-step where the first state follows the stationary law: `counts.initial` (C,) speaks of the moves too.

        By L-BFGS from `maximise`; never lower than at `parameters`.
        """
        candidate = self.maximise(counts, parameters, with_prior, series)
        return maximise_numerically(self, counts, [candidate, parameters], with_prior, series, stationary=True)

    @abstractmethod
    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        """Parameters to start EM from, which stay with about probability `stay` and honour what is known.

        Args:
            states: K.
            stay: (K,) probability of staying, in (0, 1).
            jitter: (K, K) positive weights of the moves.
            series: the data.
        """

    @abstractmethod
    def n_parameters(self, states: int) -> int:
        """Free parameters, for AIC and BIC."""

    def relabelled(self, parameters: Parameters, order: Tensor) -> dict[str, Tensor]:
        """The same law with new state k for the old state order[k]; asked of exchangeable laws only."""
        raise NotImplementedError
