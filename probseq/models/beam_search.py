"""Beam search: the most probable sentences, or those of the best score where length is made up for.

A sentence y of |y| symbols, its end counted, is ranked by

    log p(y | v) / penalty(|y|),   penalty 1, |y|, or ((5 + |y|) / 6)^alpha   (Wu et al. 2016, equation 14)

At each step the best W continuations of all live beginnings are looked at, as in Sutskever, Vinyals & Le (2014): those
that end are sentences found, and the best W that do not end live on. The search of a sentence stops when no
continuation of what lives can still enter the best, which is known since log p only falls and the penalty only grows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from probseq.errors import ModelError
from probseq.models.decoder import Decoder, Given
from probseq.models.network import answering
from probseq.models.sentence_search import Hypothesis, Search, require_longest
from probseq.recurrent import State


class LengthPenalty(ABC):
    """What log p is divided by."""

    @abstractmethod
    def divisor(self, length: int) -> float:
        """For a sentence of `length` symbols, its end counted; grows with the length."""


@dataclass(frozen=True)
class AverageLength(LengthPenalty):
    """Sentences are ranked by nats per symbol.

    >>> AverageLength().divisor(7)
    7.0
    """

    def divisor(self, length: int) -> float:
        return float(length)


@dataclass(frozen=True)
class WuLength(LengthPenalty):
    """((5 + length) / 6)^alpha; alpha 0 is no penalty, 0.6 to 0.7 was best in Wu et al. (2016).

    >>> WuLength(0.5).divisor(19)
    2.0
    """

    alpha: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ModelError(f"alpha must be at least 0, got {self.alpha} at WuLength; 0.6 is usual.")

    def divisor(self, length: int) -> float:
        return ((5 + length) / 6) ** self.alpha


@dataclass(frozen=True)
class Beam(Search):
    """The best sentences of a beam of beginnings.

    With W at least M^longest + M^(longest - 1) the search is exhaustive.

    Args:
        width: W, beginnings kept at each step.
        best: sentences returned, where so many were found; at most W.
        penalty: of length; None ranks by log p.
        longest: symbols allowed.
    """

    width: int = 5
    best: int = 1
    penalty: LengthPenalty | None = None
    longest: int = 100

    def __post_init__(self) -> None:
        require_longest(self)
        if not 1 <= self.best <= self.width:
            raise ModelError(
                f"best must be 1 to width, {self.width}, got {self.best} at Beam; widen the beam, or ask for fewer."
            )

    def find(self, decoder: Decoder, given: Given) -> list[list[Hypothesis]]:
        with answering(decoder):
            return _Beams(self, decoder, given).run()

    def divisor(self, length: int) -> float:
        """Of a sentence of `length` symbols, its end counted."""
        return 1.0 if self.penalty is None else self.penalty.divisor(length)


class _Beams:
    """The beams of B sentences while they grow: W rows each, those not filled with log p = -inf.

    Attributes:
        rows: (b,) which of the B sentences are still searched for.
        codes: (b, W, t) int64, the beginnings.
        totals: (b, W) float64, their log p.
        state: of the cell, (b W, ...), after what was read before the last code.
    """

    def __init__(self, search: Beam, decoder: Decoder, given: Given) -> None:
        self.search, self.decoder = search, decoder
        self.found: list[list[Hypothesis]] = [[] for _ in range(given.count)]
        self.rows = torch.arange(given.count)
        self.state: State = _repeated(decoder.before(given), search.width)
        self.given = given.take(torch.arange(given.count).repeat_interleave(search.width))
        device = self.state[0].device
        self.codes = torch.zeros(given.count, search.width, 0, dtype=torch.int64, device=device)
        self.totals = torch.full((given.count, search.width), -math.inf, dtype=torch.float64, device=device)
        self.totals[:, 0] = 0.0  # one empty beginning each

    def run(self) -> list[list[Hypothesis]]:
        for length in range(1, self.search.longest + 2):  # of the sentences that end now, with their end
            if len(self.rows) == 0:
                break
            totals, slots, symbols = self._continuations(length)
            self._keep_ended(totals, slots, symbols, length)
            self._live_on(totals, slots, symbols)
            self._drop_finished(length)
        return self.found

    def _continuations(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best 2 W continuations, best first: their log p, the slot that they continue and the symbol, (b, 2 W).

        At most W of them end, so that W are there to live on.
        """
        width, end = self.search.width, self.decoder.end
        last = self.codes[..., -1] if self.codes.shape[-1] else torch.full_like(self.totals, end, dtype=torch.int64)
        logs, self.state = self.decoder.step(last.flatten(), self.state, self.given)
        totals = self.totals.unsqueeze(-1) + logs.unflatten(0, (-1, width))
        if length > self.search.longest:
            totals[..., :end] = -math.inf
        best = totals.flatten(1).topk(2 * width, dim=-1)
        return best.values, best.indices // (end + 1), best.indices % (end + 1)

    def _keep_ended(self, totals: Tensor, slots: Tensor, symbols: Tensor, length: int) -> None:
        """Those of the best W that end are found; of all found, the best stay."""
        search, width = self.search, self.search.width
        ended = (symbols[:, :width] == self.decoder.end) & (totals[:, :width] > -math.inf)
        for i, j in ended.nonzero().tolist():
            row, total = int(self.rows[i]), float(totals[i, j])
            codes = tuple(self.codes[i, slots[i, j]].tolist())
            self.found[row].append(Hypothesis(codes, total, total / search.divisor(length), length > search.longest))
        for row in {int(self.rows[i]) for i in ended.any(dim=1).nonzero()[:, 0].tolist()}:
            self.found[row] = sorted(self.found[row], key=lambda one: -one.score)[: search.best]

    def _live_on(self, totals: Tensor, slots: Tensor, symbols: Tensor) -> None:
        """The best W that do not end, in the order of their log p."""
        width = self.search.width
        chosen = (symbols == self.decoder.end).to(torch.int8).argsort(dim=-1, stable=True)[:, :width]
        self.totals = totals.gather(-1, chosen)
        slots, symbols = slots.gather(-1, chosen), symbols.gather(-1, chosen)
        kept = self.codes.gather(1, slots.unsqueeze(-1).expand(-1, -1, self.codes.shape[-1]))
        self.codes = torch.cat([kept, symbols.unsqueeze(-1)], dim=-1)
        index = (torch.arange(len(slots), device=slots.device).unsqueeze(-1) * width + slots).flatten()
        self.state = tuple(one[index] for one in self.state)

    def _drop_finished(self, length: int) -> None:
        """Search no more for a sentence whose best no continuation can beat."""
        search = self.search
        largest = search.divisor(search.longest + 1)
        bounds = (self.totals[:, 0] / largest).tolist()  # of any sentence that continues what lives
        searched = [
            i
            for i, (row, bound) in enumerate(zip(self.rows.tolist(), bounds, strict=True))
            if bound > (self.found[row][-1].score if len(self.found[row]) == search.best else -math.inf)
        ]
        if length > search.longest or len(searched) == len(self.rows):
            return
        index = torch.tensor(searched, dtype=torch.int64)
        beams = (index.unsqueeze(-1) * search.width + torch.arange(search.width)).flatten()
        self.rows, self.codes, self.totals = self.rows[index], self.codes[index], self.totals[index]
        self.state = tuple(one[beams] for one in self.state)
        self.given = self.given.take(beams)


def _repeated(state: State, width: int) -> State:
    return tuple(one.repeat_interleave(width, dim=0) for one in state)
