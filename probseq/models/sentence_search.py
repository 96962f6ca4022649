"""From the laws of a decoder to sentences: the greedy one, and samples.

Every sentence found is a whole one, with its end symbol: its `log_prob` is that of `Decoder.log_prob`. A sentence that
has grown to the longest allowed is ended there, and says so.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from probseq.errors import ModelError
from probseq.models.decoder import Decoder, Given
from probseq.models.network import answering
from probseq.recurrent import Ragged

Choice = Callable[[Tensor], Tensor]
"""From log p (B, M + 1) of the next symbol to its code (B,)."""


@dataclass(frozen=True)
class Hypothesis:
    """A sentence that was found.

    Args:
        codes: its symbols, without the end.
        log_prob: nats, of its symbols and its end.
        score: by which it was ranked: `log_prob`, over its length penalty where there is one.
        cut: whether it has the most symbols that the search allowed, so that it may lack its end.
    """

    codes: tuple[int, ...]
    log_prob: float
    score: float
    cut: bool


class Search(ABC):
    """A way to find sentences.

    Attributes:
        longest: symbols of the longest sentence allowed, without its end.
    """

    longest: int

    @abstractmethod
    def find(self, decoder: Decoder, given: Given) -> list[list[Hypothesis]]:
        """For each of the B sentences asked for, what was found, best first."""

    def of_batch(self, number: int) -> Search:
        """The search of batch `number`, from 0, of sentences found a batch at a time; itself, if it is not random."""
        return self


@dataclass(frozen=True)
class Greedy(Search):
    """The most probable next symbol, again and again until it is the end.

    >>> from probseq.recurrent import GRU
    >>> found = Greedy(longest=4).find(Decoder(5, 4, GRU(4, 8)), Given(state=(torch.zeros(2, 8),)))
    >>> [len(sentences) for sentences in found], found[0] == found[1]
    ([1, 1], True)
    """

    longest: int = 100

    def __post_init__(self) -> None:
        require_longest(self)

    def find(self, decoder: Decoder, given: Given) -> list[list[Hypothesis]]:
        with answering(decoder):
            return _one_by_one(decoder, given, self.longest, lambda logs: logs.argmax(dim=-1))


@dataclass(frozen=True)
class Sampling(Search):
    """Sentences drawn from the decoder's law, or from one sharper or flatter.

    Args:
        count: sentences for each that is asked for, best first.
        temperature: symbols are drawn from p^(1 / temperature), normalised; `log_prob` is that of p in any case.
        seed: of the draws.
        longest: symbols allowed.
    """

    count: int = 1
    temperature: float = 1.0
    seed: int = 0
    longest: int = 100

    def __post_init__(self) -> None:
        require_longest(self)
        if self.count < 1 or not 0 < self.temperature < math.inf:
            raise ModelError(
                f"count must be at least 1 and temperature above 0, got {self.count} and {self.temperature} at "
                "Sampling; for the most probable symbols take Greedy or Beam."
            )

    def of_batch(self, number: int) -> Sampling:
        """With draws of its own: one seed for all batches would draw the same sentences in each."""
        if number == 0:
            return self
        return replace(
            self, seed=int(np.random.SeedSequence([self.seed % 2**64, number]).generate_state(1, np.uint64)[0] >> 1)
        )

    def find(self, decoder: Decoder, given: Given) -> list[list[Hypothesis]]:
        generator = torch.Generator().manual_seed(self.seed)

        def draw(logs: Tensor) -> Tensor:
            chances = (logs / self.temperature).softmax(dim=-1)
            return torch.multinomial(chances.cpu(), 1, generator=generator).squeeze(-1).to(logs.device)

        index = torch.arange(given.count).repeat_interleave(self.count)
        with answering(decoder):
            found = [one for (one,) in _one_by_one(decoder, given.take(index), self.longest, draw)]
        batches = (found[start : start + self.count] for start in range(0, len(found), self.count))
        return [sorted(batch, key=lambda one: -one.log_prob) for batch in batches]


def sentences_of(found: list[Hypothesis]) -> Ragged:
    """The codes of sentences as a ragged tensor, without ends."""
    codes = [code for one in found for code in one.codes]
    return Ragged(torch.tensor(codes, dtype=torch.int64), torch.tensor([len(one.codes) for one in found]))


def require_longest(search: Search) -> None:
    """Refuse a search that allows no symbol."""
    if search.longest < 1:
        raise ModelError(
            f"longest must be at least 1, got {search.longest} at {type(search).__name__}; allow a symbol or more."
        )


def _one_by_one(decoder: Decoder, given: Given, longest: int, choose: Choice) -> list[list[Hypothesis]]:
    """One sentence each, by a rule that chooses its next symbol."""
    rows = torch.arange(given.count)  # of those not yet ended
    codes: list[list[int]] = [[] for _ in rows]
    totals = torch.zeros(given.count, dtype=torch.float64)
    state = decoder.before(given)
    read = torch.full((given.count,), decoder.end, device=state[0].device)
    for t in range(longest + 1):
        logs, state = decoder.step(read, state, given)
        read = choose(logs) if t < longest else torch.full_like(read, decoder.end)
        totals[rows] += logs.gather(-1, read.unsqueeze(-1)).squeeze(-1).cpu()
        goes_on = (read != decoder.end).nonzero()[:, 0]
        rows, read, given = rows[goes_on.cpu()], read[goes_on], given.take(goes_on)
        state = tuple(one[goes_on] for one in state)
        for row, code in zip(rows.tolist(), read.tolist(), strict=True):
            codes[row].append(code)
        if len(rows) == 0:
            break
    return [
        [Hypothesis(tuple(sentence), total, total, len(sentence) == longest)]
        for sentence, total in zip(codes, totals.tolist(), strict=True)
    ]
