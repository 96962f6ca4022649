"""Annotated genomes: counting where all is known, both strands, known bases that stay, and precedence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from probseq import DataError, ModelError, Sequences, segment
from probseq.genome.training import Annotation, annotated_records, reverse_complement

SITE = "GCGCGGCC"


@pytest.fixture
def genes(tmp_path: Path) -> Path:
    """dna.fa and other.fa, in each a record with 60 exons on alternating strands that begin with SITE; their .bed."""
    complement = str.maketrans("ACGT", "TGCA")
    for name, seed in (("dna", 0), ("other", 1)):
        rng = np.random.default_rng(seed)
        text, lines = "", []
        for number in range(60):
            text += "".join(rng.choice(list("ACGT"), 300, p=[0.35, 0.15, 0.15, 0.35]))
            exon = SITE + "".join(rng.choice(list("ACGT"), 90, p=[0.15, 0.15, 0.6, 0.1]))
            strand = "+-"[number % 2]
            exon = exon if strand == "+" else exon.translate(complement)[::-1]
            lines.append(f"one\t{len(text)}\t{len(text) + len(exon)}\texon\t0\t{strand}\n")
            text += exon
        (tmp_path / f"{name}.fa").write_text(f">one\n{text}\n>two\nACGTNNACGGGT\n")
        (tmp_path / f"{name}.bed").write_text("".join(lines))
    return tmp_path


def truth(place: Path, length: int) -> np.ndarray:
    """(length,) 0 in an exon of +, 1 of -, 2 elsewhere."""
    found = np.full(length, 2)
    for line in place.read_text().splitlines():
        _, start, end, *_, strand = line.split("\t")
        found[int(start) : int(end)] = "+-".index(strand)
    return found


def states_of(found, record: str) -> np.ndarray:
    part = found.segments[found.segments["record"] == record]
    return np.repeat(part["state"].to_numpy(), part["end"] - part["start"])


def test_all_known_is_counting(genes: Path) -> None:
    """Shares of bases after each base, and of moves, with a tenth of an observation added; decoding is free again."""
    found = segment(genes / "dna.fa", order=1, labels=genes / "dna.bed")
    assert found.names == ("exon", "background") and found.fit_bases == 60 * 398
    codes = Sequences.from_fasta(genes / "dna.fa").values.numpy()[: 60 * 398]
    labels = np.minimum(truth(genes / "dna.bed", len(codes)), 1 + (truth(genes / "dna.bed", len(codes)) == 2)) // 2
    emission, moves = np.zeros((2, 4, 4)), np.zeros((2, 2))
    np.add.at(emission, (labels[1:], codes[:-1], codes[1:]), 1)
    np.add.at(moves, (labels[:-1], labels[1:]), 1)
    emission, moves = emission + 0.1, moves + 0.1
    for name, counts in (("probabilities", emission), ("transition", moves)):
        expected = torch.from_numpy(counts / counts.sum(-1, keepdims=True))
        torch.testing.assert_close(found.fit.parameters[name], expected, rtol=0, atol=1e-9)
    call = states_of(found, "one")
    assert 0.9 < (call == labels).mean() < 1.0  # what it has learned, not what it was told
    assert len(states_of(found, "two")) == 12


def test_strands_are_learned_from_both(genes: Path) -> None:
    """A model of strands tells the strands of other genes, and reads either strand of them."""
    known = Annotation(genes / "dna.bed", stranded=True)
    found = segment(genes / "other.fa", order=2, labels=known, training=genes / "dna.fa", out=genes / "out.bed")
    assert found.names == ("exon+", "exon-", "background")
    expected = truth(genes / "other.bed", 60 * 398)
    assert (states_of(found, "one") == expected).mean() > 0.97
    strands = {line.split("\t")[3]: line.split("\t")[5] for line in (genes / "out.bed").read_text().splitlines()}
    assert strands == {"exon+": "+", "exon-": "-", "background": "."}
    assert (genes / "out.exon+.bedGraph").exists()
    record = Sequences.from_fasta(genes / "other.fa").take([0])
    turned = found.fit.posterior(reverse_complement(record, (1, 0, 2))).viterbi.numpy()[::-1]
    assert (np.array([1, 0, 2])[turned] == states_of(found, "one")).mean() > 0.98


def test_known_bases_stay_known_where_others_are_not(genes: Path) -> None:
    """Ten of the sixty exons are named; the fit finds the others, and the named ones stay."""
    lines = (genes / "dna.bed").read_text().splitlines(keepends=True)
    (genes / "few.bed").write_text("".join(lines[:10]))
    known = Annotation(genes / "few.bed", partial=True)
    found = segment(genes / "dna.fa", 2, labels=known, restarts=2)
    assert found.names == ("exon", "state1")
    call, exons = states_of(found, "one"), truth(genes / "dna.bed", 60 * 398) < 2
    first = truth(genes / "few.bed", len(call)) < 2
    assert (call[first] == 0).all()
    assert ((call == 0) == exons).mean() > 0.9
    free = segment(genes / "dna.fa", 2, labels=known, training=genes / "dna.fa", restarts=2)
    assert not (states_of(free, "one")[first] == 0).all()


def test_the_reverse_complement() -> None:
    record = Sequences.from_arrays(np.array([0, 1, 1, 3], np.uint8), categories=list("ACGT"), ids=["r"])
    labelled = Sequences(record.values, record.lengths, labels=torch.tensor([0, -1, 1, 2]), ids=record.ids)
    turned = reverse_complement(labelled, (1, 0, 2))
    assert turned.values.tolist() == [0, 2, 2, 3] and turned.labels is not None
    assert turned.labels.tolist() == [2, 0, -1, 1] and turned.ids.tolist() == ["r reversed"]
    seen = torch.tensor([True, True, False, True])
    gap = reverse_complement(Sequences(record.values, record.lengths, observed=seen, ids=record.ids), ())
    assert gap.step_observed.tolist() == [True, False, True, True]


def test_refusals(genes: Path) -> None:
    (genes / "x.csv").write_text("type,start,end,record\nintron,1,10,one\nexon,3,8,one\n")
    with pytest.raises(DataError, match="must be seen at least once, got none of 'exon'"):
        annotated_records(genes / "dna.fa", Annotation(genes / "x.csv", ("intron", "exon")))
    with pytest.raises(DataError, match="must have the strand . or - to tell strands apart, got none for 'intron'"):
        annotated_records(genes / "dna.fa", Annotation(genes / "x.csv", stranded=True))
    with pytest.raises(ModelError, match="states must be the 2 that the labels name .exon, background., got 4"):
        segment(genes / "dna.fa", 4, labels=genes / "dna.bed")
