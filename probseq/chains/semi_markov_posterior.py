"""The law of a hidden semi-Markov path given the data, in states and in segments."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.chains.digits import Digit
from probseq.chains.path_questions import without_step, without_weights
from probseq.chains.segment_ages import by_age
from probseq.chains.state_posterior import StatePosterior
from probseq.errors import ModelError
from probseq.kernels import semi_markov
from probseq.kernels.semi_markov import SemiMarkovLaws

KEPT = 600.0
"""Nats that a state may fall behind at a step without its smoothed probability leaving the range of doubles."""


class SemiMarkovPosterior(StatePosterior):
    """p(z | x) of one hidden semi-Markov chain: a `StatePosterior` that also knows segments.

    The moves between steps that it counts include those from a state to itself, within a segment.
    """

    recursions = semi_markov

    @cached_property
    def states(self) -> int:
        """K."""
        return int(self.arguments["log_table"].shape[-1])

    @cached_property
    def expected_durations(self) -> Tensor:
        """(*batch, K, D): expected number of segments by their length, the last entry those of D steps or more."""
        self._require_possible()
        counts = semi_markov.expected_counts(**self.arguments)
        return self._shaped(counts.duration + counts.first)

    @cached_property
    def expected_transitions(self) -> Tensor:
        """(*batch, 1, K, K): expected number of moves i -> j from one step to the next."""
        self._require_possible()
        moves = self._shaped(semi_markov.expected_counts(**self.arguments).transition)
        return moves + self._stays(moves.sum(-1), self._inside().sum(-2).unsqueeze(-2))

    @cached_property
    def pairwise(self) -> Tensor:
        """(*batch, T, K, K): p(z_t = i, z_{t+1} = j | x); zero at a sequence's last step."""
        self._require_possible()
        laws, steps = self.arguments["laws"], int(self.arguments["offsets"][-1])
        matrices = np.ascontiguousarray(np.repeat(laws.log_transition, steps, axis=1))
        tables = laws.log_initial, matrices, laws.log_duration, laws.log_first, laws.log_stay, laws.log_leave
        arguments = self.arguments | {"laws": SemiMarkovLaws(*tables), "transition_index": np.arange(steps)}
        moves = self._shaped(semi_markov.expected_counts(**arguments).transition)
        return moves + self._stays(moves.sum(-1), self._inside())

    def sample(self, draws: int = 1, *, seed: int | torch.Generator) -> Tensor:
        """(draws, *batch, T) int64 paths from p(z | x), segment by segment from the last.

        Args:
            draws: number of paths for each set of parameters.
            seed: an int, or a generator that goes on from where it is.
        """
        self._require_possible()
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        rows, steps = self.arguments["log_table"].shape[0], int(self.arguments["offsets"][-1])
        paths = np.empty((draws, rows, steps), dtype=np.int64)
        for draw in range(draws):
            uniforms = torch.rand((rows, steps, 3), generator=generator, dtype=torch.float64)
            paths[draw] = semi_markov.sample_paths(**self.arguments, uniforms=uniforms.numpy())
        return torch.from_numpy(paths).reshape((draws, *self.batch, steps))

    def segments(self, path: Tensor | None = None) -> pd.DataFrame:
        """The segments of a path: columns sequence, start, end and state, one row each.

        `start` and `end` count steps within the sequence from 0, `end` being the first step after the segment.

        Args:
            path: (T,) int64; None means the Viterbi path of one set of parameters.

        Raises:
            ModelError: there are several paths.
        """
        states = self.viterbi if path is None else path
        if states.dim() != 1:
            raise ModelError(
                f"The segments must be of one path, got shape {tuple(states.shape)}; pass one, such as viterbi[0]."
            )
        return segments_of(states, torch.from_numpy(self.arguments["offsets"]))

    @cached_property
    def predicted(self) -> Tensor:
        """(*batch, T, K): p(z_t | x_<t), before its own observation.

        Filtered over likelihood, where every state keeps its digits; else by passing the step over.
        """
        self._require_possible()
        laws, scores = self.recursions.filtered(**self.arguments)[0], self._by_step()
        scores = scores - scores.max(-1, keepdims=True)
        clear = ((scores > -KEPT / 2) & (laws > np.exp(-KEPT / 2))).all((0, 2))
        found = laws / np.exp(np.where(clear[:, None], scores, 0.0))
        sequence = np.searchsorted(self.arguments["offsets"], np.arange(len(clear)), side="right") - 1
        for step in np.flatnonzero(~clear):
            alone, at = without_step(self.arguments, self._by_step(), int(sequence[step]), int(step))
            found[:, step] = self.recursions.filtered(**alone)[0][:, at]
        return self._shaped(found / found.sum(-1, keepdims=True))

    @property
    def change_probability(self) -> Tensor:
        """(*batch, T): p(z_t != z_t+1 | x); zero at a sequence's last step."""
        moves = self.pairwise
        return (moves.sum((-2, -1)) - moves.diagonal(dim1=-2, dim2=-1).sum(-1)).clamp(0.0, 1.0)

    @property
    def entropy(self) -> Tensor:
        """(*batch, N) nats: uncertainty of each sequence's whole path, exact; see `StatePosterior.entropy`."""
        return self._by_age.entropy

    @property
    def most_accurate(self) -> Tensor:
        """(*batch, T) int64: the possible path with the most steps expected right; see `StatePosterior`."""
        return self._by_age.most_accurate

    def k_best(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` most probable paths of each sequence, the best first; see `StatePosterior.k_best`."""
        return self._by_age.k_best(count)

    @cached_property
    def _by_age(self) -> StatePosterior:
        """The same law, of a Markov chain of states and their ages: for what the recursions in segments do not say."""
        self._require_possible()
        return StatePosterior(self.batch, by_age(self.arguments), Digit(1, self.states))

    @cached_property
    def _left_out(self) -> tuple[Tensor, Tensor]:
        """By the identity where the smoothed law keeps every state; else without the step, one pass for each of those.

        The smoothed law has every digit down to 1e-300, so that gamma_t(k) / b_t(k) has too where no likelihood is much
        below the others.
        """
        arguments, log_likelihood = without_weights(self.arguments), self._by_step()
        evidence, smoothed = semi_markov.evidence(**arguments), semi_markov.smoothed(**arguments)
        sequence = np.repeat(np.arange(evidence.shape[1]), np.diff(arguments["offsets"]))
        with np.errstate(divide="ignore", invalid="ignore"):
            cavity = np.log(smoothed) - log_likelihood
            left = np.logaddexp.reduce(cavity, -1)
            cavity, log_prob = np.exp(cavity - left[..., None]), np.where((log_likelihood == 0).all(-1), 0.0, -left)
            near = log_likelihood.max(-1) - log_likelihood.min(-1) < KEPT
        for step in np.flatnonzero(~(near & np.isfinite(evidence[:, sequence])).all(0)):
            alone, at = without_step(arguments, log_likelihood, int(sequence[step]), int(step))
            rest = semi_markov.evidence(**alone)[:, 0]
            cavity[:, step] = semi_markov.smoothed(**alone)[:, at]
            possible = np.isfinite(rest)
            log_prob[:, step] = np.where(possible, evidence[:, sequence[step]] - np.where(possible, rest, 0.0), -np.inf)
        return self._states(cavity), self._shaped(log_prob)

    def _by_step(self) -> np.ndarray:
        """(B, T, K) nats: log-likelihood of each step."""
        arguments = without_weights(self.arguments)
        table, index = np.asarray(arguments["log_table"]), arguments["emission_index"]
        return table if index is None else table[:, index]

    def _inside(self) -> Tensor:
        """(*batch, T, K) p(z_t | x) of the steps that another one of the sequence follows, zero at the others."""
        inside = torch.ones(self.smoothed.shape[-2], dtype=torch.float64)
        inside[torch.from_numpy(self.arguments["offsets"][1:]) - 1] = 0.0
        return self.smoothed * inside.unsqueeze(-1)

    def _stays(self, moved: Tensor, inside: Tensor) -> Tensor:
        """Diagonal matrices of what was in a state and has not moved on."""
        return torch.diag_embed((inside - moved).clamp_min(0.0))


def segments_of(path: Tensor, offsets: Tensor) -> pd.DataFrame:
    """The runs of equal states of a flat path (T,), sequence by sequence; see `SemiMarkovPosterior.segments`.

    >>> segments_of(torch.tensor([1, 1, 0, 0, 0]), torch.tensor([0, 3, 5]))
       sequence  start  end  state
    0         0      0    2      1
    1         0      2    3      0
    2         1      0    2      0
    """
    values, bounds = path.numpy(), offsets.numpy()
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    begins[bounds[:-1][bounds[:-1] < len(values)]] = True
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(values))
    sequence = np.searchsorted(bounds, start, side="right") - 1
    columns: dict[str, Any] = {"sequence": sequence, "start": start - bounds[sequence], "end": end - bounds[sequence]}
    return pd.DataFrame(columns | {"state": values[start]})
