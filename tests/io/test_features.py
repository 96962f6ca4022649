"""Annotations: three formats of one set of features, precedence, and files that are wrong."""

import gzip
from pathlib import Path

import pytest

from probseq import DataError
from probseq.io.features import Features, read_features

# The same three features of two records: bases 3 to 6 and 5 to 9 (counted from 1) of a, base 1 of b.
BED = "browser position a\ntrack name=x\n#c\na\t2\t6\texon\t0\t+\na\t4\t9\tCDS\t0\t-\n\nb\t0\t1\texon\n"
GFF = (
    "##gff-version 3\n#c\na\tme\texon\t3\t6\t.\t+\t.\tID=1\na\tme\tCDS\t5\t9\t.\t-\t0\tID=2\n"
    "b\tme\texon\t1\t1\t.\t?\t.\tID=3\n##FASTA\n>a\nACGT\n"
)
CSV = "type,start,end,strand,record\nexon,3,6,+,a\nCDS,5,9,-,a\nexon,1,1,,b\n"
LENGTHS = {"a": 10, "b": 4}


def read(tmp_path: Path, text: str, name: str) -> Features:
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_features(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (BED, "x.bed"),
        (BED.replace("\n", "\r\n"), "x.bed.gz"),
        (GFF, "x.gff3"),
        (GFF, "x.gff.gz"),
        (CSV, "x.csv"),
        (CSV.replace(",", "\t").replace("record", "Chrom").replace("type", "Feature"), "x.tsv"),
    ],
)
def test_three_formats_say_the_same(tmp_path: Path, text: str, name: str) -> None:
    found = read(tmp_path, text, name)
    assert found.names == ("exon", "CDS")
    assert found.strands.tolist() == ["+", "-", "."]
    found.check(LENGTHS, ("CDS", "exon"))
    assert found.labels("a", 10, ("CDS", "exon"), -1).tolist() == [-1, -1, 1, 1, 0, 0, 0, 0, 0, -1]
    assert found.labels("a", 10, ("exon", "CDS"), 2).tolist() == [2, 2, 0, 0, 0, 0, 1, 1, 1, 2]
    assert found.labels("a", 10, ("exon",), 1).tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert found.labels("b", 4, ("CDS", "exon"), -1).tolist() == [1, -1, -1, -1]
    assert found.labels("c", 2, ("CDS",), -1).tolist() == [-1, -1]


def test_without_names_of_records_and_kinds(tmp_path: Path) -> None:
    found = read(tmp_path, "type,start,end\nexon,3,6\n", "x.csv")
    found.check({"any": 10}, ("exon",))
    assert found.labels("any", 10, ("exon",), -1).tolist().count(0) == 4
    with pytest.raises(DataError, match="features of 2 records must say which they lie on"):
        found.check(LENGTHS, ("exon",))
    assert read(tmp_path, "a 2 6\n", "x.bed").names == ("feature",)


@pytest.mark.parametrize(
    ("lengths", "kinds", "words"),
    [
        ({"a": 10, "b.1": 4}, ("exon",), "must lie on a record of the FASTA file, got 'b' in .*; did you mean 'b.1'"),
        ({"a": 8, "b": 4}, ("exon",), "must end within its record, got 9 of 8 bases of 'a'"),
        (LENGTHS, ("intron",), "must be among exon, CDS, got 'intron'"),
        (LENGTHS, (), "must be among exon, CDS, got 'none'"),
    ],
)
def test_features_of_another_genome(tmp_path: Path, lengths: dict, kinds: tuple, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, CSV, "x.csv").check(lengths, kinds)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("a\t1\n", "x.bed", "at least 3 columns, got 2 at line 1 of .*x.bed"),
        ("a\t5\t5\n", "x.bed", "0 <= start < end, got 5 and 5 at line 1"),
        ("a\t-1\t5\n", "x.bed", "got -1 and 5"),
        ("a\tx\t5\n", "x.bed", "got x and 5"),
        ("a\t1\t5\te\t0\t*\n", "x.bed", "a strand must be .*, got '\\*' at line 1"),
        ("track\n", "x.bed", "must have at least one, got none at .*x.bed"),
        ("a\tb\tc\t1\t2\n", "x.gff3", "9 columns separated by tabs, got 5 at line 1"),
        ("a\tb\tc\t0\t2\t.\t+\t.\t.\n", "x.gff3", "1 <= start <= end, got 0 and 2 at line 1"),
        ("start,end\n1,2\n", "x.csv", "columns type, start and end, got start, end"),
        ("type,start,end\n,1,2\n", "x.csv", "must have a type, got none at line 2"),
        ("type,start,end,record\ne,1,2,\n", "x.csv", "must lie on a record, got none at line 2"),
        ("type,start,end\ne,1.5,2\n", "x.csv", "got 1.5 and 2 at line 2"),
        ("x", "x.txt", "must be a .bed, .gff, .* file, got .*x.txt"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path, text, name)
    assert "\n" not in str(error.value)
