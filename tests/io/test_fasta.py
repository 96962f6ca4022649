"""FASTA in: records, case, ambiguity codes, gzip, and blocks that cut lines and headers anywhere."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from probseq import DataError, Sequences
from probseq.io import fasta

TEXT = ">chr1 first of all\nACGT\nacgu\n>chr2\nNNA\n\nc-g\n"


def read(tmp_path: Path, text: bytes, name: str = "x.fa") -> Sequences:
    file = tmp_path / name
    file.write_bytes(text)
    return Sequences.from_fasta(file)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_records(tmp_path: Path, ends: str, packed: bool) -> None:
    raw = TEXT.replace("\n", ends).encode()
    series = read(tmp_path, gzip.compress(raw) if packed else raw)
    assert series.ids.tolist() == ["chr1", "chr2"]
    assert series.ids.name == "record"
    assert series.lengths.tolist() == [8, 6]
    assert series.values.dtype == torch.uint8
    assert series.values[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert series.step_observed[8:].tolist() == [False, False, True, True, False, True]
    assert series.values[8:][series.step_observed[8:]].tolist() == [0, 1, 2]
    assert series.categories == ("A", "C", "G", "T")
    assert series.to_frame()["base"].tolist()[:4] == ["A", "C", "G", "T"]


@pytest.mark.parametrize("block", range(1, 20))
def test_any_block_size_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    expected = read(tmp_path, TEXT.encode()).fingerprint()
    monkeypatch.setattr(fasta, "_BLOCK", block)
    series = read(tmp_path, TEXT.encode())
    assert series.ids.tolist() == ["chr1", "chr2"]
    assert series.fingerprint() == expected


def test_no_newline_at_the_end_and_a_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf>r\nAC").values.tolist() == [0, 1]


def test_a_large_file_is_streamed_without_touching_each_letter(tmp_path: Path) -> None:
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, 5_000_000)]
    lines = np.insert(bases, np.arange(70, len(bases), 70), ord("\n"))
    series = read(tmp_path, b">big\n" + lines.tobytes())
    assert torch.bincount(series.values).tolist() == np.unique(bases, return_counts=True)[1].tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "a FASTA file must hold at least one record, got an empty file at .*x.fa; "),
        (b"\n \n", "a FASTA file must hold at least one record, got an empty file at .*x.fa; "),
        (b"ACGT\n", "a FASTA file must start with '>', got b'ACGT.*' at .*x.fa; "),
        (b">a\nACGT\n>b\n>c\nA\n", "every record must have at least one base, got none in 'b' at .*x.fa; "),
        (b">a\nACGT\n>b", "every record must have at least one base, got none in 'b' at .*x.fa; "),
        (b">a\nAC\n>a\nGT\n", "record names must be unique, got 'a' twice at .*x.fa; "),
        (
            b">p\nACG\nTMLK\n",
            "a DNA sequence must hold A, C, G, T or an ambiguity code, got 'L' at base 5 of record 'p'; ",
        ),
        (b">n\nNNNN\n", "a FASTA file must hold at least one base A, C, G or T, got none at .*x.fa; "),
        (b"\x1f\x8b\x08\x00truncated", "the file must be readable, got .* at .*x.fa; "),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the input must be an existing file, got none at .*none.fa; check the path"):
        Sequences.from_fasta(tmp_path / "none.fa")
    with pytest.raises(DataError, match="the input must be a file, got a directory at"):
        Sequences.from_fasta(tmp_path)


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_records_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(fasta, "_BLOCK", block)
    text = TEXT + ">gap\nNNN\n"
    whole = read(tmp_path, text.encode())
    parts = list(fasta.read_records(tmp_path / "x.fa"))
    assert [part.ids[0] for part in parts] == ["chr1", "chr2", "gap"]
    assert fasta.record_lengths(tmp_path / "x.fa") == {"chr1": 8, "chr2": 6, "gap": 3}
    for number, part in enumerate(parts):
        expected = whole.take([number])
        seen = expected.step_observed
        assert torch.equal(part.step_observed, seen) and torch.equal(part.values[seen], expected.values[seen])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "got an empty file"),
        (b">a\nAC\n>b\n>c\nA\n", "got none in 'b'"),
        (b">a\nAC\n>a\nGT\n", "got 'a' twice"),
        (b">\nAC\n>\nGT\n", "got '' twice"),
        (b">n\nNNNN\n>m\nN\n", "must hold at least one base"),
        (b">n\nAC\n>m\nAXQ\n", "got 'Q' at base 2 of record 'm'"),
    ],
)
def test_bad_files_are_refused_record_by_record(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "x.fa").write_bytes(text)
    for reader in (fasta.record_lengths, lambda path: list(fasta.read_records(path))):
        with pytest.raises(DataError, match=words):
            reader(tmp_path / "x.fa")
