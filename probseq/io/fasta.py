"""FASTA in: DNA records, plain or gzipped, streamed in blocks, one byte of memory a base."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pandas as pd
import torch

from probseq.errors import DataError
from probseq.io.csv import check_file
from probseq.sequences import Sequences

BASES = ("A", "C", "G", "T")
_BLOCK = 1 << 24
_MISSING, _FOREIGN = 254, 255


def _code_table() -> bytes:
    """The code of every byte: A, C, G, T (and U) in either case are 0 to 3; other nucleotide codes are missing."""
    table = bytearray([_FOREIGN]) * 256
    for letter in b"RYSWKMBDHVNXryswkmbdhvnx-.*":
        table[letter] = _MISSING
    for letters in (b"ACGT", b"acgt"):
        for code, letter in enumerate(letters):
            table[letter] = code
    table[ord("U")] = table[ord("u")] = 3
    return bytes(table)


_CODES = _code_table()


def read_fasta(path: str | Path) -> Sequences:
    """DNA sequences, one per record, named by the first word of its header; every letter but A, C, G, T is missing.

    Args:
        path: the file. U is read as T; N and the other ambiguity codes, X and gaps are missing.

    Returns:
        Sequences of uint8 codes with categories A, C, G, T.

    Raises:
        DataError: if the file is no FASTA file, a record is empty, a name repeats, or a letter stands for no base.
    """
    codes = bytearray()
    names: list[str] = []
    ends: list[int] = []
    for header, coded in _coded(path):
        if header is not None:
            ends.append(len(codes))
            names.append(header)
        codes += coded
    lengths = np.diff(np.array([*ends, len(codes)], dtype=np.int64))
    _check_records(names, lengths, path)
    series = _sequences(codes, lengths, names)
    if not bool(series.step_observed.any()):
        raise _no_base(path)
    return series


def read_records(path: str | Path) -> Iterator[Sequences]:
    """The records of `read_fasta` one by one, each a `Sequences` of its own: memory is that of the longest.

    A record may be all missing (an unsequenced scaffold), but not the whole file. What is wrong with the file is
    raised when its place is reached.
    """
    some = False
    for name, codes in _whole(path):
        series = _sequences(codes, np.array([len(codes)]), [name])
        some = some or bool(series.step_observed.any())
        yield series
    if not some:
        raise _no_base(path)


def record_lengths(path: str | Path) -> dict[str, int]:
    """The bases of each record by its name, in the order of the file, which is read once and checked on the way."""
    lengths: dict[str, int] = {}
    some = False
    for name, codes in _whole(path):
        lengths[name] = len(codes)
        some = some or codes.count(_MISSING) < len(codes)
    if not some:
        raise _no_base(path)
    return lengths


def _whole(path: str | Path) -> Iterator[tuple[str, bytearray]]:
    """Name and codes of each record, checked."""
    names: set[str] = set()
    name, codes = "", bytearray()

    def checked() -> tuple[str, bytearray]:
        _check_records([name, name] if name in names else [name], np.array([len(codes)]), path)
        names.add(name)
        return name, codes

    for number, (header, coded) in enumerate(_coded(path)):
        if header is not None:
            if number:
                yield checked()
            name, codes = header, bytearray()
        codes += coded
    yield checked()


def _coded(path: str | Path) -> Iterator[tuple[str | None, bytes]]:
    """Runs of codes, a byte a base, each with the name of the record it opens, or None where it continues the last."""
    check_file(path)
    name, start = "", 0
    try:
        with _open(Path(path)) as stream:
            for header, bases in _pieces(stream, path):
                if header is not None:
                    name, start = header, 0
                coded = bases.translate(_CODES, b"\r\n\t ")
                foreign = coded.find(_FOREIGN)
                if foreign >= 0:
                    _refuse_letter(bases, name, start + foreign, foreign)
                start += len(coded)
                yield header, coded
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file must be readable, got {error} at {path}; check it.") from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb")


def _pieces(stream: BinaryIO, path: str | Path) -> Iterator[tuple[str | None, bytes]]:
    """Runs of sequence bytes, each with the name of the record it opens, or None where it continues the last."""
    header: bytes | None = None  # the part read so far of a header line that the block's end cut off
    line_start, first = True, True
    while block := stream.read(_BLOCK):
        if first:
            block = block.removeprefix(b"\xef\xbb\xbf").lstrip()
            if block and not block.startswith(b">"):
                raise DataError(
                    f"a FASTA file must start with '>', got {block[:20]!r} at {path}; is it another format?"
                )
            first = not block
        at = 0
        while at < len(block):
            if header is None and line_start and block[at] == ord(">"):
                header, at = b"", at + 1
            if header is not None:
                end = block.find(b"\n", at)
                header += block[at:] if end < 0 else block[at:end]
                if end < 0:
                    break
                name, header, at, line_start = _name(header), None, end + 1, True
                stop = _next_header(block, at)
                yield name, block[at:stop]
            else:
                stop = _next_header(block, at)
                yield None, block[at:stop]
            line_start = stop == at or block[stop - 1 : stop] == b"\n"
            at = stop
    if header is not None:
        yield _name(header), b""
    if first:
        raise DataError(f"a FASTA file must hold at least one record, got an empty file at {path}; check the export.")


def _next_header(block: bytes, at: int) -> int:
    if block[at : at + 1] == b">":
        return at
    found = block.find(b"\n>", at)
    return len(block) if found < 0 else found + 1


def _name(header: bytes) -> str:
    words = header.decode("utf-8", errors="replace").split()
    return words[0] if words else ""


def _refuse_letter(bases: bytes, record: str, position: int, foreign: int) -> None:
    letter = bases.translate(None, b"\r\n\t ")[foreign : foreign + 1]
    raise DataError(
        f"a DNA sequence must hold A, C, G, T or an ambiguity code, got {letter.decode('latin-1')!r} at base"
        f" {position} of record {record!r}; is it a protein, or another format?"
    )


def _check_records(names: list[str], lengths: np.ndarray, path: str | Path) -> None:
    if (lengths == 0).any():
        record = names[int((lengths == 0).argmax())]
        raise DataError(f"every record must have at least one base, got none in {record!r} at {path}; remove it.")
    if len(set(names)) < len(names):
        repeated = pd.Index(names)
        record = repeated[repeated.duplicated()][0]
        raise DataError(f"record names must be unique, got {record!r} twice at {path}; rename one of them.")


def _no_base(path: str | Path) -> DataError:
    return DataError(f"a FASTA file must hold at least one base A, C, G or T, got none at {path}; check the file.")


def _sequences(codes: bytearray, lengths: np.ndarray, names: list[str]) -> Sequences:
    array = np.frombuffer(codes, dtype=np.uint8)
    missing = array == _MISSING
    return Sequences(
        values=torch.from_numpy(array),
        lengths=torch.from_numpy(lengths),
        observed=torch.from_numpy(~missing) if missing.any() else None,
        ids=pd.Index(names, name="record"),
        columns=("base",),
        categories=BASES,
    )
