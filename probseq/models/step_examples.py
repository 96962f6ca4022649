"""A network's view of ragged series: tensors by step and by sequence, cut into batches and windows together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from probseq.recurrent import Ragged


@dataclass(frozen=True, eq=False)
class WholeExamples:
    """N sequences of T steps in all, for networks that must see a sequence as a whole.

    Args:
        steps: name -> (T, ...), one sequence after the other.
        each: name -> (N, ...).
        lengths: (N,) int64 on the CPU, 0 where a window has no steps of a sequence.
    """

    steps: Mapping[str, Tensor]
    each: Mapping[str, Tensor]
    lengths: Tensor

    @property
    def count(self) -> int:
        """N."""
        return len(self.lengths)

    @cached_property
    def shape(self) -> Ragged:
        """How the steps stand, as numbers from 0."""
        return Ragged(torch.arange(int(self.lengths.sum())), self.lengths)

    @cached_property
    def sequence(self) -> Tensor:
        """(T,) the sequence of each step."""
        return torch.repeat_interleave(torch.arange(self.count), self.lengths)

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return self.shape.longest

    def padded(self, flat: Tensor) -> Tensor:
        """(N, L, ...): steps (T, ...) with zeros after the end of each sequence."""
        return self.ragged(flat).padded()

    def flat(self, padded: Tensor) -> Tensor:
        """(T, ...): the steps of (N, L, ...)."""
        return self.shape.flat(padded)

    def ragged(self, flat: Tensor) -> Ragged:
        """Steps (T, ...) with the lengths of these sequences."""
        return Ragged(flat, self.lengths)

    def by_sequence(self, flat: Tensor) -> Tensor:
        """(N,) sums over the steps (T,) of each sequence."""
        if self.count and bool((self.lengths == self.lengths[0]).all()):
            return flat.reshape(self.count, -1).sum(1)
        return flat.new_zeros(self.count).index_add(0, self.sequence.to(flat.device), flat)

    def take(self, index: Tensor) -> Self:
        """The sequences of these numbers, in this order."""
        chosen = self.shape.take(index)
        each = {name: value[index.to(value.device)] for name, value in self.each.items()}
        return replace(self, steps=self._chosen(chosen.values), each=each, lengths=chosen.lengths)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; lengths stay on the CPU."""
        steps = {name: value.to(device) for name, value in self.steps.items()}
        return replace(self, steps=steps, each={name: value.to(device) for name, value in self.each.items()})

    def _chosen(self, index: Tensor) -> dict[str, Tensor]:
        return {name: value[index.to(value.device)] for name, value in self.steps.items()}


@dataclass(frozen=True, eq=False)
class StepExamples(WholeExamples):
    """The same for causal networks, whose sequences may be cut into windows that follow each other."""

    def window(self, start: int, stop: int) -> StepExamples:
        """Steps start to stop of every sequence; of one that ended before, none."""
        chosen = self.shape.window(start, stop)
        return replace(self, steps=self._chosen(chosen.values), lengths=chosen.lengths)


def pieces(examples: WholeExamples, batch: int, window: int) -> Iterator[tuple[WholeExamples, bool]]:
    """So many sequences at a time, a window after the other where they may be cut; and whether it is a first window."""
    for index in torch.arange(examples.count).split(batch):
        chosen = examples.take(index)
        if not isinstance(chosen, StepExamples):
            yield chosen, True
            continue
        for start in range(0, chosen.longest, window):
            yield chosen.window(start, start + window), start == 0
