"""Parallel text in: lines of a sentence, a tab, and its translation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probseq.errors import DataError
from probseq.io.csv import read_text
from probseq.io.text import read_prose
from probseq.pairs import Pairs
from probseq.sequences import Sequences


def read_parallel(
    path: str | Path | None = None, *, text: str | None = None, level: str = "word", rare: int = 1
) -> Pairs:
    """Sentences beside their translations, as symbol codes.

    Args:
        path: a UTF-8 file, plain or gzipped, a pair a line: a sentence, a tab, its translation. What stands after
            another tab is not read, nor are empty lines.
        text: the text itself, instead.
        level: "word" (words and punctuation marks, as in `Sequences.from_text`) or "character".
        rare: a symbol that occurs less often than this on its side is read as "<rare>".

    Raises:
        DataError: a line without a tab, or with nothing on one side of it.

    >>> read_parallel(text="one cat\\tun chat\\none dog\\tun chien\\n")
    Pairs(2 pairs: Sequences(2 sequences, 4 steps, column 'word', symbols cat/dog/one)
    to Sequences(2 sequences, 4 steps, column 'word', symbols chat/chien/un))
    """
    if (path is None) == (text is None):
        raise DataError("parallel text must come from a path or from text=, one of the two; give one.")
    source = "the text" if path is None else str(path)
    whole = read_text(path) if path is not None else str(text)
    sides: tuple[list[str], list[str]] = [], []
    for number, line in enumerate(whole.split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) < 2 or not fields[0].strip() or not fields[1].strip():
            raise DataError(
                f"a line of parallel text must be a sentence, a tab and its translation, got {line.strip()[:60]!r} at "
                f"line {number} of {source}; separate the two by one tab."
            )
        for side, field in zip(sides, fields, strict=False):
            side.append(field.strip())
    if not sides[0]:
        raise DataError(f"parallel text must hold at least one pair, got none in {source}; check the file.")
    return Pairs(read_sentences(sides[0], level, rare), read_sentences(sides[1], level, rare))


def read_sentences(sentences: Sequence[str], level: str = "word", rare: int = 1) -> Sequences:
    """Sentences as symbol codes, a sequence each, each with a symbol at least; see `Sequences.from_text`.

    >>> read_sentences(["one cat", "two cats"]).categories
    ('cat', 'cats', 'one', 'two')
    """
    if isinstance(sentences, str):
        raise DataError(f"sentences must be a list of texts, got the text {sentences[:40]!r} alone; write [text].")
    lines = [" ".join(sentence.split()) for sentence in sentences]
    for number, line in enumerate(lines):
        if not line:
            raise DataError(f"a sentence must hold at least one symbol, got none at sentence {number}; leave it out.")
    return read_prose(text="\n".join(lines), level=level, separator="\n", rare=rare)
