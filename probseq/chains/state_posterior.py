"""The law of a hidden path given the data: filtered, smoothed, Viterbi and sampled paths from one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from probseq import kernels
from probseq.chains import two_filters
from probseq.chains.digits import Digit
from probseq.chains.path_questions import accuracy_scores, allowed_states, constrained, known_states
from probseq.errors import DataError

UNIFORMS = 1 << 21
"""Random numbers held at a time while paths are drawn."""


@dataclass(frozen=True, eq=False)
class StatePosterior:
    """p(z | x) of one hidden chain; every answer is computed when first asked for and kept.

    N sequences, T steps in all, K states; draws of the parameters, if any, are leading dims `batch`.

    Args:
        batch: leading dims of every answer; () for one set of parameters.
        arguments: what `probseq.kernels` takes: log tables, offsets and indices.
        digit: which part of a value of the chain is the state that is asked for, where a value is a code of several
            (`chains.digits`); None where it is the state. Paths of all parts are decoded together.
    """

    recursions: ClassVar[Any] = kernels  # what answers: a module with `evidence`, `filtered`, `smoothed`, `viterbi`

    batch: tuple[int, ...]
    arguments: dict[str, Any] = field(repr=False)
    digit: Digit | None = None

    @property
    def states(self) -> int:
        """K."""
        return int(self.arguments["log_initial"].shape[-1]) if self.digit is None else self.digit.size

    def of(self, digit: Digit) -> StatePosterior:
        """The same law, answered for one part of its values."""
        return replace(self, digit=digit)

    def remembering(self, memory: int) -> StatePosterior:
        """The same law, whose values are codes of the last m states (`chains.composite`), answered in states."""
        stride = 1 if self.digit is None else self.digit.stride
        return self if memory == 1 else self.of(Digit(stride, round(self.states ** (1.0 / memory))))

    @cached_property
    def log_evidence(self) -> Tensor:
        """(*batch, N) nats: log p(x_n); -inf where the sequence is impossible."""
        return self._shaped(self.recursions.evidence(**self.arguments))

    @cached_property
    def _filter(self) -> tuple[Tensor, Tensor]:
        filtered, predictive = self.recursions.filtered(**self.arguments)
        return self._states(filtered), self._shaped(predictive)

    @property
    def filtered(self) -> Tensor:
        """(*batch, T, K): p(z_t | x_1:t)."""
        self._require_possible()
        return self._filter[0]

    @cached_property
    def predicted(self) -> Tensor:
        """(*batch, T, K): p(z_t | x_<t), before its own observation; the initial law at the start of a sequence."""
        self._require_possible()
        return self._states(two_filters.predicted(self.arguments, self.recursions.filtered(**self.arguments)[0]))

    @property
    def predictive_log_prob(self) -> Tensor:
        """(*batch, T) nats: log p(x_t | x_<t); they sum to the log evidence."""
        return self._filter[1]

    @cached_property
    def smoothed(self) -> Tensor:
        """(*batch, T, K): p(z_t | x_1:T of its sequence), gamma in Rabiner (1989)."""
        self._require_possible()
        return self._states(self.recursions.smoothed(**self.arguments))

    @cached_property
    def _left_out(self) -> tuple[Tensor, Tensor]:
        cavity, log_prob = self.recursions.left_out(**self.arguments)
        return self._states(np.exp(cavity)), self._shaped(log_prob)

    @property
    def cavity(self) -> Tensor:
        """(*batch, T, K): p(z_t | x of all other steps of its sequence), the smoothed law without what step t says."""
        self._require_possible()
        return self._left_out[0]

    @property
    def leave_one_out_log_prob(self) -> Tensor:
        """(*batch, T) nats: log p(x_t | x of all other steps), zero at a missing step; -inf in an impossible sequence.

        It is -log sum_k gamma_t(k) / p(x_t | z_t = k), taken from the cavity law so that it is exact where a likelihood
        is zero. What is left out is the row of step t: observation and, if there is one, label. An observation that is
        a lag in later rows stays there, so this is no predictive density of autoregressive emissions.
        """
        return self._left_out[1]

    @cached_property
    def expected_transitions(self) -> Tensor:
        """(*batch, S, K, K): expected number of moves i -> j under each transition matrix, sum of xi."""
        self._require_possible()
        return self._moves(kernels.expected_counts(**self.arguments).transition)

    @cached_property
    def pairwise(self) -> Tensor:
        """(*batch, T, K, K): p(z_t = i, z_{t+1} = j | x), xi in Rabiner (1989); zero at a sequence's last step.

        Made as the expected counts of a chain whose every step has a transition matrix of its own.
        """
        self._require_possible()
        return self._moves(kernels.expected_counts(**two_filters.own_matrices(self.arguments)).transition)

    @cached_property
    def _viterbi(self) -> tuple[Tensor, Tensor]:
        paths, log_prob = self.recursions.viterbi(**self.arguments)
        if np.isneginf(log_prob).any():
            self._require_possible()
        return self._current(paths), self._shaped(log_prob)

    @property
    def viterbi(self) -> Tensor:
        """(*batch, T) int64: the most probable path of each sequence (Viterbi 1967)."""
        return self._viterbi[0]

    @property
    def viterbi_log_prob(self) -> Tensor:
        """(*batch, N) nats: log p(x_n, its Viterbi path)."""
        return self._viterbi[1]

    @property
    def viterbi_log_probability(self) -> Tensor:
        """(*batch, N) nats: log p(its Viterbi path | x_n); zero where that path is certain."""
        return (self.viterbi_log_prob - self.log_evidence).clamp_max(0.0)

    @property
    def local(self) -> Tensor:
        """(*batch, T) int64: the most probable state of each step on its own (posterior decoding)."""
        return self.smoothed.argmax(-1)

    @cached_property
    def most_accurate(self) -> Tensor:
        """(*batch, T) int64: the possible path with the most steps expected right, argmax sum_t gamma_t(z_t).

        Where every move and emission is possible this is `local`; else `local` may be a path that cannot be, and this
        is the best that can (Käll, Krogh and Sonnhammer 2005; after the posterior-Viterbi of Fariselli et al. 2005).
        """
        gamma = self.smoothed.reshape(-1, int(self.arguments["offsets"][-1]), self.states).numpy()
        paths, _ = kernels.viterbi(**accuracy_scores(self.arguments, self._values(gamma)))
        return self._current(paths)

    def k_best(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` most probable paths of each sequence, the best first (Seshadri and Sundberg 1994).

        Of one part of a coupled or remembering chain, they are that part of its best paths, and may be equal.

        Args:
            count: at least 1.

        Returns:
            (*batch, count, T) int64 paths, -1 throughout a sequence at ranks beyond its number of possible paths, and
            (*batch, count, N) nats, log p(x_n, its path), -inf there.
        """
        self._require_possible()
        paths, log_prob = kernels.k_best(**self.arguments, count=count)
        return self._current(paths), self._shaped(log_prob)

    def given(
        self,
        states: Tensor | np.ndarray | Mapping[int, int] | None = None,
        *,
        allowed: Tensor | np.ndarray | None = None,
    ) -> StatePosterior:
        """The law of the path given the data and what else is known of it: p(z | x, z in what is allowed).

        Its `log_evidence` less that of this one is the log-probability of what is known given the data.

        Args:
            states: (T,) integers: the state of a step that is known, -1 of one that is not; or {step: state}.
            allowed: (T, K) bool: the states that each step may be in; both must hold where both are given.

        Raises:
            DataError: shapes or values that do not fit. Knowledge that the model makes impossible raises when the
                answer is decoded.

        >>> from probseq.chains.markov_chain import MarkovChain
        >>> half = torch.full((2,), 0.5, dtype=torch.float64)
        >>> free = MarkovChain(half, half.expand(2, 2), 3).posterior(torch.zeros(3, 2, dtype=torch.float64))
        >>> bound = free.given(torch.tensor([1, -1, 0]))
        >>> bound.viterbi.tolist(), float((bound.log_evidence - free.log_evidence).exp())
        ([1, 0, 0], 0.25)
        """
        arguments, steps = self.arguments, int(self.arguments["offsets"][-1])
        if states is not None:
            arguments = constrained(arguments, self._values(known_states(states, self.states, steps)))
        if allowed is not None:
            arguments = constrained(arguments, self._values(allowed_states(allowed, self.states, steps)))
        return replace(self, arguments=arguments)

    # ---- what is not known of the path -----------------------------------------------------------------------------

    @property
    def step_entropy(self) -> Tensor:
        """(*batch, T) nats: uncertainty of each step's state, -sum_k gamma log gamma."""
        return torch.special.entr(self.smoothed).sum(-1)

    @property
    def entropy(self) -> Tensor:
        """(*batch, N) nats: uncertainty of each sequence's whole path, -sum_z p(z | x) log p(z | x), exact.

        It is H(z_1) + sum_t H(z_t+1 | z_t), all given the data (Hernando, Crespi & Cybenko 2005). Of one part of a
        coupled or remembering chain it is that of all parts together, whose paths are decoded together.
        """
        return self._uncertain[0]

    @property
    def change_probability(self) -> Tensor:
        """(*batch, T): p(z_t != z_t+1 | x); zero at a sequence's last step."""
        return self._uncertain[1]

    @cached_property
    def _uncertain(self) -> tuple[Tensor, Tensor]:
        """`entropy` and `change_probability`, without a matrix of moves for every step at once."""
        self._require_possible()
        filtered = self.recursions.filtered(**self.arguments)[0]
        by_step, change = np.zeros(filtered.shape[:2]), np.zeros(filtered.shape[:2])
        after = two_filters.coming(self.arguments)
        for steps, pairs in two_filters.moves(self.arguments, filtered, after):
            by_step[:, steps] = two_filters.move_entropy(pairs)
            own = self._moves(pairs).numpy().reshape(*by_step[:, steps].shape, self.states, self.states)
            change[:, steps] = (own * (1.0 - np.eye(self.states))).sum((-2, -1))
        offsets = self.arguments["offsets"]
        first = self.recursions.smoothed(**self.arguments)[:, offsets[:-1]]
        by_step[:, offsets[1:] - 1] = torch.special.entr(torch.from_numpy(first)).sum(-1)
        return self._shaped(np.add.reduceat(by_step, offsets[:-1], axis=1)), self._shaped(change.clip(0.0, 1.0))

    def sample(self, draws: int = 1, *, seed: int | torch.Generator) -> Tensor:
        """(draws, *batch, T) int64 paths from p(z | x), by backward sampling (Chib 1996).

        Args:
            draws: number of paths for each set of parameters.
            seed: an int, or a generator that goes on from where it is.
        """
        self._require_possible()
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        rows, steps = self.arguments["log_initial"].shape[0], int(self.arguments["offsets"][-1])
        paths = np.empty((draws, rows, steps), dtype=np.int64)
        at_once = max(1, UNIFORMS // max(1, rows * steps))
        for first in range(0, draws, at_once):
            count = min(at_once, draws - first)
            uniforms = torch.rand((count, rows, steps), generator=generator, dtype=torch.float64)
            found = kernels.sample_paths(**self.arguments, uniforms=uniforms.transpose(0, 1).contiguous().numpy())
            paths[first : first + count] = found.swapaxes(0, 1)
        found = torch.from_numpy(paths).reshape((draws, *self.batch, steps))
        return found if self.digit is None else self.digit.of(found)

    def first_impossible_step(self) -> tuple[int, int] | None:
        """(sequence, step within it) where log p(x_1:t) first falls to -inf, or None if all is possible."""
        impossible = torch.isneginf(self._filter[1]).reshape(-1, self._filter[1].shape[-1]).any(0).nonzero()
        if impossible.numel() == 0:
            return None
        step = int(impossible[0])
        sequence = int(np.searchsorted(self.arguments["offsets"], step, side="right")) - 1
        return sequence, step - int(self.arguments["offsets"][sequence])

    def _require_possible(self) -> None:
        if not bool(torch.isneginf(self.log_evidence).any()):
            return
        where = self.first_impossible_step()
        place = "" if where is None else f" at step {where[1]} (from 0) of sequence {where[0]} (from 0)"
        raise DataError(
            f"A series to decode must be possible under the model, got probability zero{place}; check the value "
            "there, or allow the transition or emission that it needs."
        )

    def _states(self, laws: np.ndarray) -> Tensor:
        """Laws (..., C) of a value as laws (..., K) of the state."""
        found = self._shaped(laws)
        return found if self.digit is None else self.digit.law(found)

    def _moves(self, moves: np.ndarray) -> Tensor:
        """Counts (..., C, C) of moves between values as counts (..., K, K) between states."""
        found = self._shaped(moves)
        return found if self.digit is None else self.digit.moves(found)

    def _current(self, paths: np.ndarray) -> Tensor:
        """Paths of values as int64 paths of states; -1 stays."""
        found = self._shaped(paths.astype(np.int64))
        return found if self.digit is None else self.digit.of(found)

    def _values(self, by_state: np.ndarray) -> np.ndarray:
        """(..., T, K) of a state as (..., T, C) of a value."""
        if self.digit is None:
            return by_state
        return by_state[..., self.digit.of(torch.arange(self.arguments["log_initial"].shape[-1])).numpy()]

    def _shaped(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array)).reshape(self.batch + array.shape[1:])
