"""Parallel text: what is read, and what is refused with the line where it stands."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from probseq.errors import DataError
from probseq.io.parallel import read_parallel, read_sentences
from probseq.sequences import Sequences


def words(sentences: object) -> list[list[str]]:
    assert isinstance(sentences, Sequences) and sentences.categories is not None
    flat = [sentences.categories[code] for code in sentences.values.tolist()]
    offsets = sentences.offsets.tolist()
    return [flat[start:stop] for start, stop in zip(offsets, offsets[1:], strict=False)]


def test_words_and_punctuation_of_both_sides_in_order(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv.gz"
    file.write_bytes(gzip.compress(b"Go!\tVa !\tby someone\r\n\n twenty-one \tvingt et  un\n"))
    pairs = read_parallel(file)
    assert words(pairs.inputs) == [["Go", "!"], ["twenty-one"]]
    assert words(pairs.targets) == [["Va", "!"], ["vingt", "et", "un"]]


def test_characters_and_rare_symbols() -> None:
    pairs = read_parallel(text="ab\ta b\nac\ta b", level="character", rare=2)
    assert words(pairs.inputs) == [["a", "<rare>"], ["a", "<rare>"]]
    assert words(pairs.targets) == [["a", " ", "b"]] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nno tab", "a sentence, a tab and its translation, got 'no tab' at line 2 of the text"),
        ("a\t \n", "got 'a' at line 1 of the text"),
        ("\n\n", "parallel text must hold at least one pair, got none in the text"),
    ],
)
def test_what_is_no_parallel_text(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_parallel(text=text)


def test_one_source_of_text_and_no_empty_sentence() -> None:
    with pytest.raises(DataError, match="one of the two"):
        read_parallel()
    with pytest.raises(DataError, match="got none at sentence 1"):
        read_sentences(["a", " "])


def test_one_text_alone_is_not_read_letter_by_letter() -> None:
    with pytest.raises(DataError, match="sentences must be a list of texts, got the text 'cats' alone"):
        read_sentences("cats")
