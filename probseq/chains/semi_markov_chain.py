"""The semi-Markov chain with explicit durations as a Pyro distribution over whole paths.

    z_1..z_T = k_1 (d_1 times), k_2 (d_2 times), ...:   k_1 ~ initial,  k_{m+1} ~ transition[k_m],  d_m ~ duration[k_m]

No state follows itself, so that a path determines its segments. `duration[k, d - 1]` is the probability of d steps, the
last entry that of D steps or more, of which each further one comes with probability `stay[k]`: zero makes D the most
that a segment can last, and D = 1 makes an ordinary Markov chain (Langrock & Zucchini 2011).

Both ends are censored. The data stop somewhere in the last segment, which counts with the probability of lasting at
least as long as was seen. The first one begins with the data; or, `in_progress`, it was on its way, and what is left of
it has the law of the residual life of a stationary renewal process, P(d' >= d) / mean (Cox 1962; Guédon 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.chains.laws import log_probability
from probseq.chains.semi_markov_evidence import counted, kernel_arguments, semi_markov_evidence, together
from probseq.chains.semi_markov_posterior import SemiMarkovPosterior
from probseq.chains.state_sequence import ChainCounts, StateSequence, weighted_sum
from probseq.errors import ModelError
from probseq.kernels import semi_markov
from probseq.kernels.reference import logsumexp


@dataclass(frozen=True, eq=False)
class SegmentCounts:
    """What a law of segments is learned from: expected numbers, weighted by sequence.

    Args:
        transition: (K, K) moves between segments.
        duration: (K, D) segments after the first by length, the last entry those of D steps or more; what the data
            cut off is counted by its law given that it lasted as long as was seen.
        first: (K, D) first segments by what is left of them.
        stay, leave: (K,) steps beyond D, and ends of segments of D or more, within the data.
    """

    transition: Tensor
    duration: Tensor
    first: Tensor
    stay: Tensor
    leave: Tensor


class SemiMarkovChain(StateSequence):
    """Law of flat ragged state paths under a semi-Markov chain.

    Args:
        initial: (*batch, K) law of the state of the first segment; rows sum to one; K is at least 2.
        transition: (*batch, K, K) law of the next segment's state; rows sum to one, with zeros on the diagonal.
        duration: (*batch, K, D) law of the steps of a segment, see the module; rows sum to one.
        lengths: (N,) steps of each sequence, or one int for a single sequence.
        stay: (*batch, K) in [0, 1), probability of each step beyond D; None means that D is the most.
        in_progress: whether the first segment was on its way when the data began; else it begins with them.
        weights: (N,) what each sequence counts in log-probabilities; None means one each.

    The last batch dim is the place of the steps and must have size 1 (see `StateSequence`).

    Raises:
        ModelError: shapes that do not fit, rows that do not sum to one, a state that follows itself.

    >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> chain = SemiMarkovChain(torch.tensor([0.6, 0.4]), swap, torch.tensor([[0.7, 0.3], [0.4, 0.6]]), 3)
    >>> chain.log_prob(torch.tensor([0, 0, 1])).exp()  # 0.6 x 0.3, and a last segment of one step or more
    tensor(0.1800)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        duration: Tensor,
        lengths: Tensor | Sequence[int] | int,
        *,
        stay: Tensor | None = None,
        in_progress: bool = False,
        weights: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        lengths = torch.as_tensor([lengths] if isinstance(lengths, int) else lengths, dtype=torch.int64)
        stay = torch.zeros_like(duration[..., 0]) if stay is None else stay
        _check(initial, transition, duration, stay, lengths, weights)
        logs = (log_probability(table) for table in (initial, transition, duration, stay, 1.0 - stay))
        self._fill(tuple(logs), in_progress, lengths, weights)
        if self._validate_args if validate_args is None else validate_args:
            _check_probabilities({"initial": initial, "transition": transition, "duration": duration}, transition, stay)

    @classmethod
    def of_logarithms(
        cls, logs: tuple[Tensor, ...], in_progress: bool, lengths: Tensor, weights: Tensor | None
    ) -> SemiMarkovChain:
        """The chain of log-probabilities: log initial, transition, duration, stay and 1 - stay; nothing is checked."""
        new = cls.__new__(cls)
        new._fill(logs, in_progress, lengths, weights)
        return new

    def _fill(
        self,
        logs: tuple[Tensor, ...],
        in_progress: bool,
        lengths: Tensor,
        weights: Tensor | None,
        batch: torch.Size | None = None,
    ) -> None:
        self.log_initial, self.log_transition, self.log_duration, self.log_stay, self.log_leave = logs
        self.in_progress, self.lengths, self.weights = in_progress, lengths, weights
        self.states = int(self.log_initial.shape[-1])
        if batch is None:
            leads = (x.shape[: x.dim() - n] for x, n in zip(logs, (1, 2, 2, 1, 1), strict=True))
            batch = torch.broadcast_shapes(*leads)
        if batch and batch[-1] != 1:
            raise ModelError(
                f"The batch dims of a semi-Markov chain's parameters must end in a dim of size 1, the place of the "
                f"steps, got batch shape {tuple(batch)}; insert it, e.g. initial.unsqueeze(-2)."
            )
        StateSequence.__init__(self, batch, torch.Size([int(lengths.sum())]), validate_args=False)

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.states - 1), 1)

    def expand(self, batch_shape: torch.Size | Sequence[int], _instance: Any = None) -> SemiMarkovChain:
        batch, new = torch.Size(batch_shape), type(self).__new__(type(self))
        initial = self.log_initial.expand(batch + self.log_initial.shape[-1:])
        logs = initial, self.log_transition, self.log_duration, self.log_stay, self.log_leave
        new._fill(logs, self.in_progress, self.lengths, self.weights, batch)
        return new

    # ---- the law of segments ---------------------------------------------------------------------------------------

    @cached_property
    def log_survivor(self) -> Tensor:
        """(*batch, K, D) nats: log P(a segment lasts at least d steps)."""
        return _log_survivor(self.log_duration)

    @cached_property
    def log_first(self) -> Tensor:
        """(*batch, K, D) nats: law of the first segment's steps, the last entry of D or more; `log_duration` or not."""
        if not self.in_progress:
            return self.log_duration
        last = self.log_survivor[..., -1:] - self.log_leave.unsqueeze(-1)
        unscaled = torch.cat([self.log_survivor[..., :-1], last], -1)
        return unscaled - logsumexp(unscaled, -1).unsqueeze(-1)

    @property
    def mean_duration(self) -> Tensor:
        """(*batch, K) expected steps of a whole segment, the sum of its survivor function."""
        last = self.log_survivor[..., -1:] - self.log_leave.unsqueeze(-1)
        return torch.cat([self.log_survivor[..., :-1], last], -1).exp().sum(-1)

    @property
    def _tables(self) -> tuple[Tensor, ...]:
        """log_initial, log_transition, log_duration, log_first, log_stay, log_leave as the kernels take them."""
        initial, transition = self._slotless(self.log_initial, 1), self._slotless(self.log_transition, 2)
        durations = (self._slotless(table, 2) for table in (self.log_duration, self.log_first))
        tails = (self._slotless(table, 1) for table in (self.log_stay, self.log_leave))
        return initial.unsqueeze(-2), transition.unsqueeze(-3), *durations, *tails

    # ---- the law of paths ------------------------------------------------------------------------------------------

    def log_prob(self, value: Tensor) -> Tensor:
        """(*batch) log-probability of flat paths (*batch, T), all sequences together, weighted."""
        total = weighted_sum(self.sequence_log_prob(value), self.weights)
        lead = torch.broadcast_shapes(value.shape[:-1], self.batch_shape[:-1])
        return total.reshape(lead + torch.Size([1]) if self.batch_shape else lead)

    def sequence_log_prob(self, path: Tensor) -> Tensor:
        """(*batch[:-1], N) log-probability of each sequence's part of the flat path (*batch[:-1], T)."""
        log_initial, log_transition, log_duration, log_first, log_stay, log_leave = self._tables
        longest = log_duration.shape[-1]
        batch = torch.broadcast_shapes(path.shape[:-1], *(x.shape[:-1] for x in (log_stay, log_leave)))
        batch = torch.broadcast_shapes(batch, log_duration.shape[:-2], log_initial.shape[:-2])
        path = path.long().expand(batch + path.shape[-1:])
        opens, ends = self.offsets[:-1], self.offsets[1:] - 1
        at = torch.arange(self.total_steps)
        first, last = torch.zeros(2, self.total_steps, dtype=torch.bool)
        first[opens], last[ends] = True, True
        begins = first | torch.cat([torch.ones_like(path[..., :1]), path[..., 1:] != path[..., :-1]], -1).bool()
        closes = last | begins.roll(-1, -1)
        begun = torch.where(begins, at, 0).cummax(-1).values
        beyond = at - begun + 1 - longest
        cell = path * longest + (at - begun).clamp_max(longest - 1)

        def chosen(table: Tensor) -> Tensor:
            """Entries [state, steps] of a table (*batch, K, D)."""
            return table.expand(batch + table.shape[-2:]).flatten(-2).gather(-1, cell)

        def of_state(table: Tensor) -> Tensor:
            return table.expand(batch + table.shape[-1:]).gather(-1, path)

        whole = torch.where(first[begun], chosen(log_first), chosen(log_duration))
        whole = whole + torch.where(beyond >= 0, of_state(log_leave), 0.0)
        cut = torch.where(first[begun], chosen(_log_survivor(log_first)), chosen(_log_survivor(log_duration)))
        longer = torch.where(beyond > 0, beyond * of_state(log_stay), 0.0)
        after = path.roll(-1, -1)
        moves = log_transition.squeeze(-3).expand(batch + log_transition.shape[-2:]).flatten(-2)
        moved = moves.gather(-1, path * self.states + after)
        steps = torch.where(closes, longer + torch.where(last, cut, whole + moved), 0.0)
        start = log_initial.squeeze(-2).expand(batch + log_initial.shape[-1:]).gather(-1, path[..., opens])
        sequence = torch.arange(len(self.lengths)).repeat_interleave(self.lengths).expand(steps.shape)
        return start.scatter_add(-1, sequence, steps)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        """(*sample, *batch[:-1], T) int64 paths; three uniforms of torch's generator a step."""
        shape = self.shape(torch.Size(sample_shape))
        with torch.no_grad():
            tables, batch = (*self._tables, torch.zeros(1, self.states, dtype=torch.float64)), shape[:-1]
            flat, _ = together((tables[0].expand(batch + tables[0].shape[-2:]), *tables[1:]))
            laws = kernel_arguments([table.double() for table in flat], self.lengths, None)["laws"]
            uniforms = torch.rand((batch.numel(), self.total_steps, 3), dtype=torch.float64)
            paths = semi_markov.simulate_paths(laws, self.offsets.numpy(), uniforms=uniforms.numpy())
        return torch.from_numpy(paths).long().reshape(shape)

    # ---- given the data --------------------------------------------------------------------------------------------

    def evidence(self, log_table: Tensor, emission_index: Tensor | np.ndarray | None = None) -> Tensor:
        return semi_markov_evidence((*self._tables, log_table), self.lengths, emission_index)

    def expected(
        self,
        log_table: Tensor | np.ndarray,
        emission_index: Tensor | np.ndarray | None = None,
        weights: Tensor | None = None,
    ) -> ChainCounts:
        index = None if emission_index is None else np.asarray(emission_index)
        with torch.no_grad():
            flat, _ = together((*self._tables, torch.as_tensor(log_table)))
        arguments = kernel_arguments(flat, self.lengths, index)
        counts = semi_markov.expected_counts(**arguments, weights=None if weights is None else weights.numpy()[None])
        initial, transition, duration, first, stay, leave, emission = (part[0] for part in counted(counts))
        moves = SegmentCounts(transition[0], duration, first, stay, leave)
        return ChainCounts(torch.from_numpy(counts.evidence[0]), initial[0], moves, emission)

    def complete_log_prob(self, counts: ChainCounts) -> Tensor:
        moves: SegmentCounts = counts.moves
        log_initial, log_transition, log_duration, log_first, log_stay, log_leave = self._tables
        pairs = (
            (counts.initial, log_initial[..., 0, :]),
            (moves.transition, log_transition[..., 0, :, :]),
            (moves.duration, log_duration),
            (moves.first, log_first),
            (moves.stay, log_stay),
            (moves.leave, log_leave),
        )
        terms = [torch.where(count > 0, count * log, 0.0).sum() for count, log in pairs]
        return torch.stack(terms).sum()

    def posterior(
        self, log_table: Tensor | np.ndarray, emission_index: Tensor | np.ndarray | None = None
    ) -> SemiMarkovPosterior:
        with torch.no_grad():
            flat, batch = together((*self._tables, torch.as_tensor(log_table)))
        index = None if emission_index is None else np.asarray(emission_index)
        arguments = kernel_arguments([table.double() for table in flat], self.lengths, index)
        return SemiMarkovPosterior(batch=tuple(batch), arguments=arguments | {"transition_index": None})

    def _slotless(self, parameter: Tensor, event_dims: int) -> Tensor:
        """A parameter without the batch dim that stands for the steps."""
        return parameter.squeeze(-1 - event_dims) if parameter.dim() > event_dims else parameter


def _log_survivor(log_duration: Tensor) -> Tensor:
    """(*batch, K, D) log P(at least d steps) from log P(d steps)."""
    longest = log_duration.shape[-1]
    later = torch.ones(longest, longest, dtype=torch.bool).triu()
    return logsumexp(torch.where(later, log_duration.unsqueeze(-2), -torch.inf), -1)


def _check(
    initial: Tensor, transition: Tensor, duration: Tensor, stay: Tensor, lengths: Tensor, weights: Tensor | None
) -> None:
    """Shapes that must agree, each with the remedy."""
    states = initial.shape[-1] if initial.dim() else 0
    if states < 2:
        raise ModelError(
            f"A semi-Markov chain must have at least two states, since none follows itself, got initial of shape "
            f"{tuple(initial.shape)}; give two or more."
        )
    for name, table, shape in (
        ("transition", transition, (states, states)),
        ("duration", duration, (states, max(1, duration.shape[-1] if duration.dim() else 1))),
        ("stay", stay, (states,)),
    ):
        if tuple(table.shape[table.dim() - len(shape) :]) != shape:
            raise ModelError(
                f"{name} must end in {shape} to match initial, got shape {tuple(table.shape)}; reshape it."
            )
    if bool((lengths < 1).any()):
        raise ModelError(f"lengths must be at least 1 each, got {int(lengths.min())}; drop empty sequences.")
    if weights is not None and tuple(weights.shape) != tuple(lengths.shape):
        raise ModelError(
            f"weights must hold one weight a sequence, shape ({len(lengths)},), got {tuple(weights.shape)}; give one "
            "number for each sequence."
        )


def _check_probabilities(rows: dict[str, Tensor], transition: Tensor, stay: Tensor) -> None:
    for name, table in rows.items():
        if not bool(((table.sum(-1) - 1.0).abs() < 1e-6).all() and (table >= 0).all()):
            raise ModelError(f"{name} must hold probabilities whose rows sum to 1, got {table.tolist()}; rescale them.")
    if bool((transition.diagonal(dim1=-2, dim2=-1) != 0).any()):
        raise ModelError(
            "transition must have zeros on its diagonal, since a state does not follow itself, got "
            f"{transition.diagonal(dim1=-2, dim2=-1).tolist()}; let the durations say how long a state lasts."
        )
    if not bool(((stay >= 0) & (stay < 1)).all()):
        raise ModelError(f"stay must hold probabilities below 1, got {stay.tolist()}; a segment must end some day.")
