"""The smoothed probabilities of the states of every draw, a block of draws at a time.

All of them are S x T x K numbers. Where those are few they are kept; where they are many each pass over them runs the
compiled smoother again, so that memory stays bounded whatever the length of the series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

KEPT = 1 << 25
"""Numbers that are kept between passes: 256 MB."""

BLOCK = 1 << 21
"""Numbers of a block: 16 MB."""


class StateProbabilities:
    """p(z_t = k | x, parameters of draw s), to iterate over in blocks of draws, as often as wanted.

    Args:
        model: of one hidden chain.
        draws: site -> (S, ...).
        series: the data.
        states: K.
    """

    def __init__(self, model: HMM | ProgramModel, draws: Mapping[str, Tensor], series: Sequences, states: int) -> None:
        self.model, self.draws, self.series = model, draws, series
        self.shape = (len(next(iter(draws.values()))), series.total_steps, states)
        self._kept: list[Tensor] | None = None

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """The draws of each block, and their probabilities (B, T, K)."""
        if self._kept is not None:
            yield from zip(self._blocks(), self._kept, strict=True)
            return
        keep = self.shape[0] * self.shape[1] * self.shape[2] <= KEPT
        kept = []
        for block in self._blocks():
            found = self._smoothed(block)
            if keep:
                kept.append(found)
            yield block, found
        self._kept = kept if keep else None

    def _blocks(self) -> list[slice]:
        draws, steps, states = self.shape
        each = max(1, BLOCK // (steps * states))
        return [slice(first, min(first + each, draws)) for first in range(0, draws, each)]

    def _smoothed(self, block: slice) -> Tensor:
        some = {name: value[block] for name, value in self.draws.items()}
        if isinstance(self.model, HMM):
            return self.model.posterior(some, self.series).smoothed
        each = [self.model.posterior(draw_of(some, s), self.series).smoothed for s in range(block.stop - block.start)]
        return torch.stack(each)
