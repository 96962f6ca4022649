"""The first-order Markov chain as a Pyro distribution over whole paths.

    p(z_1..z_T) = initial[z_1] prod_t transition[z_t, z_{t+1}]

`initial` is the law of the FIRST state, which emits the first observation; transition[i, j] is
p(z_{t+1} = j | z_t = i). Several sequences are laid end to end and are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq import kernels
from probseq.chains.chain_evidence import evidence
from probseq.chains.laws import log_probability
from probseq.chains.state_posterior import StatePosterior
from probseq.chains.state_sequence import ChainCounts, StateSequence, weighted_sum
from probseq.errors import ModelError

if TYPE_CHECKING:
    from probseq.sequences import Sequences


class MarkovChain(StateSequence):
    """Law of flat ragged state paths under a first-order Markov chain.

    Args:
        initial: (*batch, K) law of the first state of each sequence; rows sum to one.
        transition: (*batch, K, K) rows sum to one; with `transition_index`, (*batch, S, K, K).
        lengths: (N,) steps of each sequence, or one int for a single sequence.
        transition_index: (T,) integers in 0..S-1: the matrix of the move from step t to step t + 1. The entry of a
            sequence's last step is never read. Time-varying transitions are always said this way.
        weights: (N,) what each sequence counts in log-probabilities; None means one each.

    The last batch dim is the place of the steps and must have size 1 (see `StateSequence`).

    Raises:
        ModelError: shapes that do not fit, probabilities that do not sum to one, an index out of range.

    >>> chain = MarkovChain(torch.tensor([0.6, 0.4]), torch.tensor([[0.7, 0.3], [0.4, 0.6]]), 3)
    >>> chain.log_prob(torch.tensor([0, 0, 1])).exp()
    tensor(0.1260)
    """

    arg_constraints = {  # pyright: ignore[reportAssignmentType]
        "initial": constraints.simplex,
        "transition": constraints.independent(constraints.simplex, 1),
    }

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        lengths: Tensor | Sequence[int] | int,
        *,
        transition_index: Tensor | np.ndarray | None = None,
        weights: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        lengths = torch.as_tensor([lengths] if isinstance(lengths, int) else lengths, dtype=torch.int64)
        matrix_dims = 2 if transition_index is None else 3
        _check_shapes(initial, transition, lengths, transition_index, weights)
        batch = torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-matrix_dims])
        if batch and batch[-1] != 1:
            raise ModelError(
                f"The batch dims of initial and transition must end in a dim of size 1, the place of the steps, got "
                f"batch shape {tuple(batch)}; insert it, e.g. initial.unsqueeze(-2), and give time-varying "
                "transitions through transition_index."
            )
        self.initial, self.transition, self.transition_index = initial, transition, transition_index
        self.lengths, self.weights, self.states = lengths, weights, int(initial.shape[-1])
        super().__init__(batch, torch.Size([int(lengths.sum())]), validate_args=validate_args)
        if self._validate_args:
            _check_index(transition_index, transition)

    @classmethod
    def over(
        cls, initial: Tensor, matrices: Tensor, transition_index: np.ndarray | None, series: Sequences
    ) -> MarkovChain:
        """The chain of a model over its series, nothing checked: an EM iteration of a short series is overhead.

        Args:
            initial: (*batch, K).
            matrices: (*batch, S, K, K).
            transition_index: (T,) as in the class; None means S = 1.
            series: gives lengths and weights.
        """
        new = cls.__new__(cls)
        new.initial, new.transition_index = initial, transition_index
        new.transition = matrices.squeeze(-3) if transition_index is None else matrices
        new.lengths, new.weights, new.states = series.lengths, series.weights, int(initial.shape[-1])
        new.__dict__["offsets"] = series.offsets
        batch = initial.shape[:-1]
        if batch or matrices.dim() > 3:
            batch = torch.broadcast_shapes(batch, matrices.shape[:-3])
        super(MarkovChain, new).__init__(batch, torch.Size([series.total_steps]), validate_args=False)
        return new

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.states - 1), 1)

    def expand(self, batch_shape: torch.Size | Sequence[int], _instance: Any = None) -> MarkovChain:
        batch = torch.Size(batch_shape)
        new = type(self).__new__(type(self))
        new.initial = self.initial.expand(batch + self.initial.shape[-1:])
        new.transition, new.transition_index = self.transition, self.transition_index
        new.lengths, new.weights, new.states = self.lengths, self.weights, self.states
        super(MarkovChain, new).__init__(batch, self.event_shape, validate_args=False)
        return new

    @property
    def log_initial(self) -> Tensor:
        """(*batch, K) nats."""
        return log_probability(self.initial)

    @property
    def log_transitions(self) -> Tensor:
        """(*batch, S, K, K) nats, S = 1 for a homogeneous chain."""
        log_transition = log_probability(self.transition)
        return log_transition.unsqueeze(-3) if self.transition_index is None else log_transition

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch) log-probability of flat paths (*batch, T), all sequences together, weighted."""
        return self._weighted(self.sequence_log_prob(value)).reshape(self._summed_shape(value))

    def sequence_log_prob(self, path: Tensor) -> Tensor:
        """(*batch[:-1], N) log-probability of each sequence's part of the flat path (*batch[:-1], T)."""
        path = path.long()
        first = self.lengths.cumsum(0) - self.lengths
        log_initial, log_transition = self._slotless(self.log_initial, 1), self._slotless(self.log_transitions, 3)
        batch = torch.broadcast_shapes(log_initial.shape[:-1], log_transition.shape[:-3], path.shape[:-1])
        path = path.expand(batch + path.shape[-1:])
        start = log_initial.expand(batch + log_initial.shape[-1:]).gather(-1, path[..., first])
        inside = torch.ones(self.total_steps, dtype=torch.bool)
        inside[first] = False
        move = inside.nonzero().squeeze(-1)  # the steps that are moved into
        index = self.transition_index
        table = (
            torch.zeros_like(move) if index is None else torch.from_numpy(np.asarray(index).astype(np.int64))[move - 1]
        )
        cell = (table * self.states + path[..., move - 1]) * self.states + path[..., move]
        flat = log_transition.expand(batch + log_transition.shape[-3:]).flatten(-3)
        sequence = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)[move].expand(cell.shape)
        return start.scatter_add(-1, sequence, flat.gather(-1, cell))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        """(*sample, *batch[:-1], T) int64 paths; one uniform of torch's generator a step."""
        shape = self.shape(torch.Size(sample_shape))
        with torch.no_grad():
            log_initial, log_transition = self._slotless(self.log_initial, 1), self._slotless(self.log_transitions, 3)
            batch = shape[:-1]
            index = self.transition_index
            uniforms = torch.rand((batch.numel(), self.total_steps), dtype=torch.float64)
            paths = kernels.simulate_paths(
                _flat(log_initial.unsqueeze(-2).numpy(), batch, 2),
                _flat(log_transition.numpy(), batch, 3),
                self.offsets.numpy(),
                None if index is None else np.asarray(index),
                uniforms=uniforms.numpy(),
            )
        return torch.from_numpy(paths).long().reshape(shape)

    def evidence(self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None) -> Tensor:
        return evidence(
            self._slotless(self.log_initial, 1).unsqueeze(-2),
            self._slotless(self.log_transitions, 3),
            log_table,
            self.lengths,
            emission_index,
            self.transition_index,
        )

    def expected(
        self,
        log_table: Tensor | np.ndarray,
        emission_index: Tensor | np.ndarray | None = None,
        weights: Tensor | None = None,
    ) -> ChainCounts:
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            log_initial = np.log(self.initial.detach().numpy())
            log_transition = np.log(self.transition.detach().numpy())
        index = self.transition_index
        counts = kernels.expected_counts(
            log_initial.reshape(1, 1, self.states),
            log_transition.reshape(1, -1, self.states, self.states),
            (log_table if isinstance(log_table, np.ndarray) else log_table.detach().numpy())[None],
            self.offsets.numpy(),
            None if emission_index is None else np.asarray(emission_index),
            None if index is None else np.asarray(index),
            None if weights is None else weights.numpy()[None],
        )
        found = (counts.evidence[0], counts.initial[0, 0], counts.transition[0], counts.emission[0])
        return ChainCounts(*map(torch.from_numpy, found))

    def complete_log_prob(self, counts: ChainCounts) -> Tensor:
        first, moves = counts.initial, counts.moves
        total = torch.where(first > 0, first * self.log_initial, 0.0).sum()
        return total + torch.where(moves > 0, moves * self.log_transitions, 0.0).sum()

    def posterior(
        self, log_table: Tensor | np.ndarray, emission_index: Tensor | np.ndarray | None = None
    ) -> StatePosterior:
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant; numpy, because short series are made of overhead
            log_initial = np.log(self._slotless(self.initial, 1).detach().numpy())
            matrices = self.transition.unsqueeze(-3) if self.transition_index is None else self.transition
            log_transition = np.log(self._slotless(matrices, 3).detach().numpy())
        table = log_table if isinstance(log_table, np.ndarray) else log_table.detach().numpy()
        batch = np.broadcast_shapes(log_initial.shape[:-1], log_transition.shape[:-3], table.shape[:-2])
        index = self.transition_index
        arguments = {
            "log_initial": _flat(log_initial[..., None, :], batch, 2),
            "log_transition": _flat(log_transition, batch, 3),
            "log_table": _flat(table, batch, 2),
            "offsets": self.offsets.numpy(),
            "emission_index": None if emission_index is None else np.asarray(emission_index),
            "transition_index": None if index is None else np.asarray(index),
        }
        return StatePosterior(batch=batch, arguments=arguments)

    def _slotless(self, parameter: Tensor, event_dims: int) -> Tensor:
        """A parameter without the batch dim that stands for the steps."""
        has_slot = parameter.dim() > event_dims
        return parameter.squeeze(-1 - event_dims) if has_slot else parameter

    def _weighted(self, per_sequence: Tensor) -> Tensor:
        """(..., N) -> (...,) sum over sequences, each times its weight."""
        return weighted_sum(per_sequence, self.weights)

    def _summed_shape(self, value: Tensor) -> torch.Size:
        lead = torch.broadcast_shapes(value.shape[:-1], self.batch_shape[:-1])
        return lead + torch.Size([1]) if self.batch_shape else lead


def _flat(values: np.ndarray, batch: tuple[int, ...], event_dims: int) -> np.ndarray:
    """(draws, *event) float64 array for the kernels."""
    event = values.shape[values.ndim - event_dims :]
    return np.broadcast_to(values, batch + event).reshape((-1, *event)).astype(np.float64, copy=False)


def _check_shapes(
    initial: Tensor,
    transition: Tensor,
    lengths: Tensor,
    transition_index: Tensor | np.ndarray | None,
    weights: Tensor | None,
) -> None:
    """Shapes that must agree, each with the remedy."""
    states = initial.shape[-1] if initial.dim() else 0
    matrix_dims = 2 if transition_index is None else 3
    if states == 0:
        raise ModelError(f"initial must be a law over at least one state, got shape {tuple(initial.shape)}; pass (K,).")
    if transition.dim() < matrix_dims or tuple(transition.shape[-2:]) != (states, states):
        expected = f"({states}, {states})" if transition_index is None else f"(S, {states}, {states})"
        raise ModelError(
            f"transition must end in {expected} to match initial, got shape {tuple(transition.shape)}; rows are the "
            "state left, columns the state entered."
        )
    if bool((lengths < 1).any()):
        raise ModelError(f"lengths must be at least 1 each, got {int(lengths.min())}; drop empty sequences.")
    total = int(lengths.sum())
    if transition_index is not None and tuple(transition_index.shape) != (total,):
        raise ModelError(
            f"transition_index must hold one entry a step, shape ({total},), got {tuple(transition_index.shape)}; the "
            "entry of step t picks the matrix of the move from t to t + 1."
        )
    if weights is not None and tuple(weights.shape) != tuple(lengths.shape):
        raise ModelError(
            f"weights must hold one weight a sequence, shape ({len(lengths)},), got {tuple(weights.shape)}; give one "
            "number for each sequence."
        )


def _check_index(transition_index: Tensor | np.ndarray | None, transition: Tensor) -> None:
    if transition_index is None or len(transition_index) == 0:
        return
    low, high, tables = int(transition_index.min()), int(transition_index.max()), transition.shape[-3]
    if low < 0 or high >= tables:
        raise ModelError(
            f"transition_index must lie in 0..{tables - 1}, the matrices given, got {low if low < 0 else high}; pass "
            "one matrix for each index."
        )
