"""The symbols that a network of sentences knows, and what becomes of those that it does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.io.text import RARE
from probseq.recurrent import Ragged
from probseq.sequences import Sequences


@dataclass(frozen=True)
class Vocabulary:
    """Names of the codes 0..M-1, and whether they are words or characters.

    Args:
        names: M of them; "<rare>" among them stands for all that are not.
        level: "word" or "character".

    >>> known = Vocabulary.of(Sequences.from_text(text="the cat sat"))
    >>> known.names
    (' ', 'a', 'c', 'e', 'h', 's', 't')
    >>> known.text([2, 1, 6])
    'cat'
    """

    names: tuple[str, ...]
    level: str = "word"

    @staticmethod
    def of(sentences: Sequences) -> Vocabulary:
        """That of sentences read by `Sequences.from_text` or `read_parallel`."""
        return Vocabulary(_categories(sentences), "character" if sentences.columns == ("character",) else "word")

    @staticmethod
    def described(description: dict[str, Any]) -> Vocabulary:
        """From the plain values of `description`."""
        return Vocabulary(tuple(description["names"]), description["level"])

    def description(self) -> dict[str, Any]:
        """Plain values."""
        return {"names": list(self.names), "level": self.level}

    @property
    def size(self) -> int:
        """M."""
        return len(self.names)

    @property
    def rare(self) -> int | None:
        """The code of "<rare>", where it is one of the names."""
        return self.names.index(RARE) if RARE in self.names else None

    def text(self, codes: Iterable[int]) -> str:
        """Words with spaces between them, or characters without."""
        return (" " if self.level == "word" else "").join(self.names[code] for code in codes)

    def codes(self, sentences: Sequences, what: str, unknown: int | None = None) -> Ragged:
        """The sentences in these codes, int64, whatever codes they came in.

        Args:
            sentences: symbols with categories.
            what: they are, for messages.
            unknown: the code of a symbol that is missing or is none of the names, where "<rare>" is none either; None
                refuses it.
        """
        table = pd.Index(self.names).get_indexer(pd.Index(_categories(sentences)))
        found = torch.from_numpy(table.astype(np.int64))[sentences.values.long()]
        found[~sentences.step_observed] = -1
        unknown = self.rare if self.rare is not None else unknown
        strange = (found < 0).nonzero()[:, 0]
        if unknown is None and len(strange):
            place = int(strange[0])
            raise DataError(
                f"a symbol of {what} must be one of the {self.size} that the network knows, got "
                f"{_shown(sentences, place)} at sentence {int(sentences.step_sequence[place])}; read the text that the "
                "network is made for with rare=2 or more, so that it knows of rare symbols."
            )
        if unknown is not None:
            found[strange] = unknown
        return Ragged(found, sentences.lengths)

    def unknown(self, sentences: Sequences) -> list[str]:
        """For each sentence, its symbols that are none of the names, with spaces between them; "" where all are."""
        known = set(self.names)
        strange = np.array([name not in known for name in _categories(sentences)])
        found: list[list[str]] = [[] for _ in range(sentences.count)]
        steps = torch.from_numpy(strange)[sentences.values.long()] | ~sentences.step_observed
        for place in steps.nonzero()[:, 0].tolist():
            found[int(sentences.step_sequence[place])].append(_shown(sentences, place))
        return [" ".join(dict.fromkeys(symbols)) for symbols in found]


def _categories(sentences: Sequences) -> tuple[str, ...]:
    if sentences.categories is None or sentences.values.ndim != 1:
        raise DataError(
            "sentences must be of symbols with categories, got numbers; read them with Sequences.from_text or "
            "read_parallel, or name the codes by categories=."
        )
    if sentences.weights is not None:
        raise DataError("sentences must count once each, got weights; repeat a sentence that counts more often.")
    return sentences.categories


def _shown(sentences: Sequences, place: int) -> str:
    if not sentences.step_observed[place]:
        return "a missing one"
    return repr(_categories(sentences)[int(sentences.values[place])])


def reversed_order(sentences: Ragged) -> Ragged:
    """Each sentence from its last symbol to its first.

    >>> reversed_order(Ragged(torch.tensor([1, 2, 3, 4, 5]), torch.tensor([3, 2]))).values.tolist()
    [3, 2, 1, 5, 4]
    """
    lengths = sentences.lengths
    last = (sentences.offsets + lengths - 1).repeat_interleave(lengths)
    place: Tensor = torch.arange(len(sentences.values)) - sentences.offsets.repeat_interleave(lengths)
    return Ragged(sentences.values[(last - place).to(sentences.values.device)], lengths)
