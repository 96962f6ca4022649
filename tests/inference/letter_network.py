"""A small network to train: the law of the next letter given those before, by a GRU, with a share of them dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probseq import Sequences
from probseq.models.network import Network, Scored
from probseq.recurrent import Ragged, State

LETTERS = 3


@dataclass(frozen=True, eq=False)
class Letters:
    """Inputs (the letter before, LETTERS at the first step) and targets."""

    before: Ragged
    target: Ragged

    @property
    def lengths(self) -> Tensor:
        return self.target.lengths

    def take(self, index: Tensor) -> Letters:
        return Letters(self.before.take(index), self.target.take(index))

    def window(self, start: int, stop: int) -> Letters:
        return Letters(self.before.window(start, stop), self.target.window(start, stop))

    def to(self, device: torch.device | str) -> Letters:
        return Letters(self.before.to(device), self.target.to(device))


class LetterNetwork(Network):
    """softmax(W h_t), h_t of a GRU over the letters before t."""

    kind = "letters"

    def __init__(self, hidden: int = 8, dropped: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.hidden, self.dropped = hidden, dropped
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(LETTERS + 1, hidden)
            self.gru = nn.GRU(hidden, hidden, batch_first=True)
            self.head = nn.Linear(hidden, LETTERS)
        self.dropout = nn.Dropout(dropped)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def prepare(self, data: Sequences) -> None:
        self.seen += data.total_steps  # type: ignore[operator]

    def encode(self, data: Sequences) -> Letters:
        target = Ragged(data.values.long(), data.lengths)
        before = target.values.roll(1)
        before[target.offsets[data.lengths > 0]] = LETTERS
        return Letters(Ragged(before, data.lengths), target)

    def score(self, examples: Letters, state: State | None = None) -> Scored:
        inputs = self.dropout(self.embedding(examples.before.padded()))
        h = inputs.new_zeros(len(inputs), self.hidden) if state is None else state[0]
        outputs = []
        for t in range(inputs.shape[1]):
            new = self.gru(inputs[:, t : t + 1], h.unsqueeze(0))[1][0]
            h = torch.where((examples.lengths > t).unsqueeze(-1), new, h)
            outputs.append(h)
        log_law = self.head(torch.stack(outputs, 1)).double().log_softmax(-1)
        each = log_law.gather(-1, examples.target.padded().unsqueeze(-1)).squeeze(-1) * examples.target.mask
        return Scored(each.sum(1), examples.lengths, (h,))

    def program(self, data: Sequences) -> None:
        raise NotImplementedError("no test asks for it")

    def description(self) -> dict[str, Any]:
        return {"hidden": self.hidden, "dropped": self.dropped}

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> LetterNetwork:
        return cls(**description)


def letters(count: int = 24, seed: int = 0) -> Sequences:
    """Sequences of 4 to 12 letters, each the one before plus one, modulo LETTERS, with a tenth of them at random."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 13, (count,), generator=generator)
    arrays = []
    for length in lengths.tolist():
        steps = torch.ones(length, dtype=torch.int64)
        slips = torch.rand(length, generator=generator) < 0.1
        steps[slips] = torch.randint(0, LETTERS, (int(slips.sum()),), generator=generator)
        arrays.append((steps.cumsum(0) % LETTERS).numpy())
    return Sequences.from_arrays(arrays, categories=("a", "b", "c"))
