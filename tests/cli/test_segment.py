"""`probseq segment`: files, tables and one-line errors."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probseq import Fit, datasets
from tests.ucsc import check_bed, check_bedgraph

LAMBDA = datasets.path("phage_lambda")


@pytest.fixture
def genes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the folder that the commands run in: dna.fa, 40 exons of GC on 20,000 bases of AT, and its annotation."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    text = rng.choice(list("ACGT"), 20_000, p=[0.4, 0.1, 0.1, 0.4])
    rows = []
    for start in range(300, 20_000, 500):
        text[start : start + 100] = rng.choice(list("ACGT"), 100, p=[0.1, 0.4, 0.4, 0.1])
        rows.append((start, start + 100, "+" if start < 10_000 else "-"))
    Path("dna.fa").write_text(">one\n" + "".join(text) + "\n>other\nACGTACGTNN\n")
    Path("x.csv").write_text(
        "type,start,end,strand,record\n" + "".join(f"exon,{a + 1},{b},{s},one\n" for a, b, s in rows)
    )
    Path("x.bed").write_text("".join(f"one\t{a}\t{b}\texon\t0\t{s}\n" for a, b, s in rows))
    Path("x.gff3").write_text("".join(f"one\t.\texon\t{a + 1}\t{b}\t.\t{s}\t.\tID=1\n" for a, b, s in rows))
    return tmp_path


def test_a_genome(run: Callable, tmp_path: Path) -> None:
    out = tmp_path / "lambda.bed"
    done = run(
        "segment", LAMBDA, "--states", "2", "--restarts", "1", "--out", out, "--track", "--save", tmp_path / "fit"
    )
    assert (done.code, done.err) == (0, "")
    assert "1 record, 48,502 bases in 7 segments" in done.out and "AT-rich, 40.5% G+C of 49.9% overall" in done.out
    assert "log-likelihood -66,678.071" in done.out and "ns a base" in done.out and str(out) in done.out
    check_bed(out.read_text(), {"NC_001416.1": 48_502})
    for state in range(2):
        check_bedgraph((tmp_path / f"lambda.state{state}.bedGraph").read_text(), {"NC_001416.1": 48_502})
    assert Fit.load(tmp_path / "fit").model.states == 2


def test_json_and_order(run: Callable, tmp_path: Path) -> None:
    packed = tmp_path / "lambda.fna.gz"
    packed.write_bytes(gzip.compress(LAMBDA.read_bytes()))
    command = ("segment", packed, "--states", "1", "--order", "1", "--restarts", "1", "--no-bedgraph", "--json")
    done = run(*command, "--out", tmp_path / "x.bed")
    found = json.loads(done.out)
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    # The published order-1 Markov chain of the genome, conditional on its first base.
    assert found["log_likelihood"] == pytest.approx(-66711.252, abs=5.1e-4)
    assert found["segments"] == 1 and found["bases"] == 48_502 and found["files"] == [str(tmp_path / "x.bed")]
    assert found["segment_states"][0]["mean_length"] == 48_502
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lambda.fna.gz", "x.bed"]


# name of the row: (what is done first in the folder, options after `probseq segment dna.fa`, a part of the message)
REFUSED = {
    "no states": ("", "", "states must be given without labels"),
    "states of nothing": ("", "--states 0", "states must be at least 1, got 0"),
    "no integer": ("", "--states two", "--states"),
    "no FASTA": ("ACGT\n", "--states 2", "must start with '>'"),
    "a protein": (">p\nMKVL\n", "--states 2", "is it a protein"),
    "no training file": ("", "--states 2 --training none.fa", "existing file"),
    "no letters": (">a\n", "--states 2", "every record must have at least one base, got none in 'a'"),
    "only N": (">a\nNNN\n", "--states 2", "must hold at least one base"),
    "no name": (">\nACGT\n", "--states 1", "a record's name must have 1 to 255 letters"),
    "a bad order": ("", "--states 2 --order x", "--order"),
    "too high an order": ("", "--states 2 --order 20", "use a lower order"),
    "out is a folder": ("", "--states 2 --out .", "a directory is there"),
    "out is under a file": ("", "--states 2 --out dna.fa/x.bed", "dna.fa is a file"),
    "save is a file": ("", "--states 2 --save x.csv", "a file is there"),
    "kinds without labels": ("", "--states 2 --kinds exon", "--kinds must come with labels"),
    "strands without labels": ("", "--states 2 --strands", "--strands must come with labels"),
    "no such labels": ("", "--labels none.bed", "existing file"),
    "labels of another kind": ("", "--labels dna.fa", "must be a .bed, .gff"),
    "labels of another record": (">two\nACGT\n", "--labels x.bed", "must lie on a record of the FASTA file, got 'one'"),
    "labels beyond the end": (">one\nACGT\n", "--labels x.bed", "must end within its record, got 400 of 4 bases"),
    "no such kind": ("", "--labels x.bed --kinds intron", "must be among exon, got 'intron'"),
    "too few states": ("", "--labels x.bed --states 1", "must be the 2 that the labels name (exon, background), got 1"),
    "too many states": ("", "--labels x.bed --states 3", "must be the 2 that the labels name"),
    "too few beside the known": (
        "",
        "--labels x.bed --states 0 --partial",
        "must be at least the 1 that the labels name (exon), got 0",
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refusals_are_one_line(row: str, genes: Path, run: Callable) -> None:
    text, options, said = REFUSED[row]
    if text:
        Path("dna.fa").write_text(text)
    before = sorted(path.name for path in genes.iterdir())
    done = run("segment", "dna.fa", *options.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith("probseq: ") and said in done.err and "Traceback" not in done.err
    assert sorted(path.name for path in genes.iterdir()) == before


def test_labels_in_three_formats(run: Callable, genes: Path) -> None:
    found = []
    for labels in ("x.csv", "x.bed", "x.gff3"):
        done = run("segment", "dna.fa", "--labels", labels, "--order", "1", "--no-bedgraph", "--json")
        assert (done.code, done.err) == (0, ""), done.err
        found.append(json.loads(done.out))
        assert [state["name"] for state in found[-1]["segment_states"]] == ["exon", "background"]
    assert found[0]["log_likelihood"] == found[1]["log_likelihood"] == found[2]["log_likelihood"]
    rows = check_bed(Path("segments.bed").read_text(), {"one": 20_000, "other": 10})
    assert sum(row[3] == "exon" for row in rows) == pytest.approx(40, abs=4)


def test_strands_training_and_partial(run: Callable, genes: Path) -> None:
    Path("new.fa").write_text(">new\n" + "AATTA" * 50 + "GGCGC" * 20 + "TTATA" * 50 + "\n")
    options = ("--labels", "x.bed", "--strands", "--training", "dna.fa", "--out", "new.bed")
    done = run("segment", "new.fa", *options)
    assert done.code == 0 and "1 record, 600 bases" in done.out, done.err
    assert {path.name for path in genes.glob("new.*")} >= {"new.exon+.bedGraph", "new.exon-.bedGraph"}
    done = run("segment", "dna.fa", "--labels", "x.gff3", "--kinds", "exon", "--partial", "--states", "2", "--json")
    found = json.loads(done.out)
    assert [state["name"] for state in found["segment_states"]] == ["exon", "state1"]
    rows = check_bed(Path("segments.bed").read_text(), {"one": 20_000, "other": 10})
    exons = [(int(row[1]), int(row[2])) for row in rows if row[3] == "exon"]
    for line in Path("x.bed").read_text().splitlines():
        start, end = map(int, line.split("\t")[1:3])
        assert any(a <= start and end <= b for a, b in exons)  # known bases stay
