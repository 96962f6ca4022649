"""Explicit durations for a hidden chain: HMM(..., transition=SemiMarkovTransitions(ShiftedPoisson(max=60)))."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.durations import DurationCounts, DurationLaw, ShiftedPoisson
from probseq.chains.laws import log_probability, stationary_law
from probseq.chains.semi_markov_chain import SegmentCounts, SemiMarkovChain
from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.chains.state_sequence import ChainCounts
from probseq.chains.stationary_step import maximise_numerically
from probseq.chains.transition_laws import Parameters, TransitionLaw
from probseq.errors import ModelError
from probseq.families.family import Parameter
from probseq.sequences import Sequences

_ALTERNATE = 1.0 - torch.eye(2, dtype=torch.float64)


@dataclass(frozen=True)
class SemiMarkovTransitions(TransitionLaw):
    """Segments whose lengths have a law of their own, and moves between them; `SemiMarkovChain`.

    The parameters are `transition` (K, K), with zeros on its diagonal (known for two states, which alternate), and
    those of the duration law, state first.

    Args:
        duration: the law of the steps of a segment.
        in_progress: whether the first segment of a sequence was on its way when the data began, so that what is left of
            it has the law of the residual life; else it begins with the data. The last one is always cut off by them.
        prior: concentration of the Dirichlet prior of each move.
    """

    duration: DurationLaw = field(default_factory=ShiftedPoisson)
    in_progress: bool = False
    prior: float = 1.1
    exchangeable = True
    lengthens = False

    def __post_init__(self) -> None:
        if not isinstance(self.duration, DurationLaw):
            raise ModelError(
                f"duration must be a law of durations, got {self.duration!r}; pass one such as ShiftedPoisson(max=60)."
            )

    # ---- the program ----

    def parameters(self, states: int) -> dict[str, Parameter]:
        self._concentration(states)
        moves = {"transition": Parameter(constraints.simplex, (states, states), shared=True)} if states > 2 else {}
        durations = self.duration.parameters().items()
        return moves | {name: Parameter(one.constraint, (states, *one.shape), shared=True) for name, one in durations}

    def structural_zeros(self, states: int) -> dict[str, Tensor]:
        return {"transition": torch.eye(states, dtype=torch.bool)}

    def known(self, states: int) -> dict[str, Tensor]:
        return {} if states > 2 else {"transition": _ALTERNATE}

    def sample(self, states: int) -> dict[str, Tensor]:
        moves = self.known(states) or {
            "transition": pyro.sample("transition", SparseDirichlet(self._concentration(states)))
        }
        priors = self.duration.priors()
        return moves | {name: pyro.sample(name, prior.expand([states]).to_event(1)) for name, prior in priors.items()}

    def log_prior(self, parameters: Parameters) -> Tensor:
        density, states = self.duration.log_prior(parameters), _moves_of(parameters).shape[-1]
        if states == 2:
            return density
        return density + SparseDirichlet(self._concentration(states)).log_prob(parameters["transition"])

    def chain(self, initial: Tensor, parameters: Parameters, series: Sequences) -> SemiMarkovChain:
        table = self.duration.table(parameters)
        moves = log_probability(_moves_of(parameters))
        logs = log_probability(initial), moves, table.log_duration, table.log_stay, table.log_leave
        return SemiMarkovChain.of_logarithms(logs, self.in_progress, series.lengths, series.weights)

    def tables(self, parameters: Parameters, series: Sequences | None) -> tuple[Tensor, np.ndarray | None]:
        """One matrix, p(z_t+1 = j | z_t = i) where the chain has run for long: it stays with 1 - 1 / mean duration."""
        leave = 1.0 / self.duration.mean(parameters)
        matrix = leave.unsqueeze(-1) * _moves_of(parameters) + torch.diag_embed(1.0 - leave)
        return matrix.unsqueeze(-3), None

    def stationary(self, parameters: Parameters) -> Tensor:
        """(*batch, K) the share of time in each state: that of segments times their mean duration."""
        share = stationary_law(_moves_of(parameters)) * self.duration.mean(parameters)
        return share / share.sum(-1, keepdim=True)

    # ---- learning ----

    def maximise(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        moves: SegmentCounts = counts.moves
        transition = self._moves(moves.transition, _moves_of(parameters), with_prior)
        current = {name: parameters[name] for name in self.duration.parameters()}
        segments = moves.duration if self.in_progress else moves.duration + moves.first
        durations = DurationCounts(segments, moves.stay, moves.leave)
        learn = self.duration.maximise_posterior if with_prior else self.duration.maximise
        candidate = {"transition": transition, **learn(durations, current)}
        if not self.in_progress:
            return candidate
        found = maximise_numerically(self, counts, [candidate, parameters], with_prior, series)
        return self.known(len(transition)) | found

    def maximise_stationary(
        self, counts: ChainCounts, parameters: Parameters, with_prior: bool, series: Sequences
    ) -> dict[str, Tensor]:
        found = super().maximise_stationary(counts, parameters, with_prior, series)
        return self.known(len(counts.initial)) | found

    def start(self, states: int, stay: Tensor, jitter: Tensor, series: Sequences) -> dict[str, Tensor]:
        moves = jitter * (1.0 - torch.eye(states, dtype=torch.float64))
        self._concentration(states)
        return {"transition": moves / moves.sum(-1, keepdim=True), **self.duration.start(1.0 / (1.0 - stay))}

    def n_parameters(self, states: int) -> int:
        return states * (states - 2) + self.duration.n_parameters(states)

    def relabelled(self, parameters: Parameters, order: Tensor) -> dict[str, Tensor]:
        durations = {name: parameters[name][order] for name in self.duration.parameters()}
        return {"transition": parameters["transition"][order][:, order], **durations}

    def _concentration(self, states: int) -> Tensor:
        """(K, K) of the Dirichlet prior of the rows; zero on the diagonal."""
        if states < 2:
            raise ModelError(f"A semi-Markov chain must have at least two states, got {states}; give two or more.")
        return self.prior * (1.0 - torch.eye(states, dtype=torch.float64))

    def _moves(self, counts: Tensor, current: Tensor, with_prior: bool) -> Tensor:
        """(K, K) the moves of the M-step; the row of a state that is never left is kept."""
        if len(counts) == 2:
            return current
        if with_prior:
            counts = (counts + self._concentration(len(counts)) - 1.0).clamp_min(0.0)
            counts = counts * (1.0 - torch.eye(len(counts), dtype=torch.float64))
        total = counts.sum(-1, keepdim=True)
        return torch.where(total > 0, counts / torch.where(total > 0, total, 1.0), current)


def _moves_of(parameters: Parameters) -> Tensor:
    """(*batch, K, K) the moves between segments; two states, whose moves are known, alternate."""
    return parameters.get("transition", _ALTERNATE)
