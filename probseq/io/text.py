"""Text in: each character, or each word, is a symbol."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from probseq.errors import DataError
from probseq.io.csv import read_text
from probseq.sequences import Sequences

RARE = "<rare>"
"""What stands for every word that is too rare to be a symbol of its own."""

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")  # a word with its apostrophes and hyphens, or a punctuation mark


def read_prose(
    path: str | Path | None = None,
    text: str | None = None,
    level: str = "character",
    separator: str | None = None,
    rare: int = 1,
    categories: Sequence[str] | None = None,
) -> Sequences:
    """Sequences of symbol codes from a text: uint8 for up to 256 different symbols, int32 for more.

    Args:
        path: a UTF-8 file, plain or gzipped; or else
        text: the text itself.
        level: "character", or "word": words and punctuation marks, spaces left out, upper and lower case as they are.
        separator: what stands between two sequences ("\\n" for one a line, "\\n\\n" for one a paragraph); None reads
            one sequence. It is no symbol, and an empty part is no sequence.
        rare: a symbol that occurs less often than this is read as "<rare>".
        categories: the symbols of another text, in their order, to be coded alike; what is not among them is read as
            "<rare>" if that is, and is missing otherwise. None takes those of this text, sorted.

    Raises:
        DataError: no text, or no symbol in it.
    """
    if (path is None) == (text is None):
        raise DataError("a text must come from a path or from text=, one of the two; give one.")
    if level not in ("character", "word"):
        raise DataError(f"level must be 'character' or 'word', got {level!r}; choose one of them.")
    source = "the text" if path is None else str(path)
    whole = read_text(path) if path is not None else str(text)
    parts = [whole] if separator is None else whole.split(separator)
    split: Any = list if level == "character" else _WORD.findall
    symbols = [found for part in parts if (found := split(part))]
    if not symbols:
        raise DataError(f"a text must hold at least one {level}, got none in {source}; check the file.")
    flat = pd.Series([symbol for part in symbols for symbol in part], dtype=object)
    names = _names(flat, rare) if categories is None else tuple(categories)
    codes = pd.Index(names).get_indexer(pd.Index(flat))
    if RARE in names:
        codes = np.where(codes < 0, names.index(RARE), codes)
    missing = codes < 0
    if missing.all():
        raise DataError(f"a text must hold known symbols, got none of {len(names)} categories in {source}; check both.")
    return Sequences(
        values=torch.from_numpy(np.where(missing, 0, codes).astype(np.uint8 if len(names) <= 256 else np.int32)),
        lengths=torch.tensor([len(part) for part in symbols]),
        observed=torch.from_numpy(~missing) if missing.any() else None,
        columns=(level,),
        categories=names,
    )


def _names(flat: pd.Series, rare: int) -> tuple[str, ...]:
    """The symbols, sorted; last the one that stands for all rare ones, where there are any."""
    counts = flat.value_counts()
    kept = sorted(counts.index[counts >= rare])
    return (*kept, RARE) if len(kept) < len(counts) else tuple(kept)
