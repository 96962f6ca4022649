"""Ragged tensors, flat, as a network's data: gathered by sequence, padded only where a network needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ragged:
    """N sequences of T steps in all, one after the other.

    Args:
        values: (T, ...), any type.
        lengths: (N,) int64 >= 0 on the CPU, with sum T.

    >>> pairs = Ragged(torch.arange(5), torch.tensor([2, 3]))
    >>> pairs.padded().tolist()
    [[0, 1, 0], [2, 3, 4]]
    >>> pairs.take(torch.tensor([1])).values.tolist()
    [2, 3, 4]
    """

    values: Tensor
    lengths: Tensor

    @property
    def count(self) -> int:
        """N."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """(N,) int64: the first step of each sequence."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return int(self.lengths.max()) if self.count else 0

    @cached_property
    def mask(self) -> Tensor:
        """(N, longest) bool: True at the steps of each sequence."""
        return torch.arange(self.longest) < self.lengths.unsqueeze(-1)

    @cached_property
    def places(self) -> Tensor:
        """(T,) int64: where each step stands among N times `longest`; quicker than the mask, backwards above all."""
        rows = torch.arange(self.count) * self.longest - self.offsets
        return torch.arange(len(self.values)) + rows.repeat_interleave(self.lengths)

    def padded(self) -> Tensor:
        """(N, longest, ...): zeros stand after the end of each sequence."""
        if bool((self.lengths == self.longest).all()):
            return self.values.reshape(self.count, self.longest, *self.values.shape[1:])
        blank = self.values.new_zeros(self.count * self.longest, *self.values.shape[1:])
        return blank.index_copy(0, self.places.to(blank.device), self.values).unflatten(0, (self.count, self.longest))

    def flat(self, padded: Tensor) -> Tensor:
        """(T, ...): the steps of a padded (N, longest, ...), without its padding."""
        if bool((self.lengths == self.longest).all()):
            return padded.flatten(0, 1)
        return padded.flatten(0, 1).index_select(0, self.places.to(padded.device))

    def take(self, index: Tensor) -> Ragged:
        """The sequences of these numbers, in this order."""
        lengths = self.lengths[index]
        starts = self.offsets[index] - (lengths.cumsum(0) - lengths)
        steps = torch.arange(int(lengths.sum())) + starts.repeat_interleave(lengths)
        return Ragged(self.values[steps.to(self.values.device)], lengths)

    def window(self, start: int, stop: int) -> Ragged:
        """Steps start to stop of every sequence; of one that ended before, none."""
        lengths = (self.lengths.clamp(max=stop) - start).clamp(min=0)
        begins = self.offsets + start - (lengths.cumsum(0) - lengths)
        steps = torch.arange(int(lengths.sum())) + begins.repeat_interleave(lengths)
        return Ragged(self.values[steps.to(self.values.device)], lengths)

    def to(self, device: torch.device | str) -> Ragged:
        """The same with its values on another device; lengths stay on the CPU, where packing wants them."""
        return Ragged(self.values.to(device), self.lengths)
