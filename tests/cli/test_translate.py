"""`probseq train-translator` and `probseq translate`: lines in, lines or a table out, and refusals in one line."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from probseq import SequenceToSequence, datasets, train
from probseq.cli import main
from probseq.inference import NetworkFit
from probseq.models import Beam, RecurrentModel, WuLength

WORDS = {"one": "un", "two": "deux", "three": "trois", "four": "quatre"}
LINES = [(f"{a} {b}", f"{WORDS[b]} {WORDS[a]}") for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    file.write_text("".join(f"{source}\t{target}\n" for source, target in LINES))
    return file


@pytest.fixture(scope="module")
def translator(pairs: Path) -> Iterator[Path]:
    """Trained until it knows its sixteen pairs."""
    out = pairs.parent / "translator"
    options = ["--hidden", "16", "--embedding", "8", "--epochs", "80", "--batch-size", "4", "--learning-rate", "0.02"]
    assert main(["train-translator", str(pairs), "--out", str(out), *options, "--validation", "0", "--json"]) == 0
    yield out


def test_lines_become_lines_and_empty_ones_stay(run: Callable, translator: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("one two\n\nfour three\r\n two  two \n")
    done = run("translate", translator, file)
    assert (done.code, done.out, done.err) == (0, "deux un\n\ntrois quatre\ndeux deux\n", "")
    done = run("translate", translator, file, "--beam", 1, "--out", tmp_path / "out.txt")
    assert (done.code, done.out) == (0, "") and "3 sentences written" in done.err
    assert (tmp_path / "out.txt").read_text() == "deux un\n\ntrois quatre\ndeux deux\n"


def test_standard_input_and_unknown_words(
    run: Callable, translator: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one seven\nnine nine\n")))
    done = run("translate", translator)
    assert done.code == 0 and done.out.count("\n") == 2
    expected = "probseq: warning: unknown words are read as rare ones: 'seven' in line 1; 'nine' in line 2.\n"
    assert done.err == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one \xff\n")))
    done = run("translate", translator, "-")
    assert (done.code, done.err.count("\n")) == (2, 1) and "must be UTF-8 text, got byte 0xff" in done.err


def test_a_table_has_what_the_network_says(run: Callable, translator: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\none two\nthree one\n")
    done = run(
        "translate", translator, file, "--nbest", 3, "--beam", 4, "--penalty", "wu", "--alpha", 1, "--longest", 6
    )
    table = pd.read_csv(io.StringIO(done.out), sep="\t")
    assert list(table.columns) == ["line", "rank", "log_prob", "score", "translation"]
    assert table["line"].tolist() == [2, 2, 2, 3, 3, 3] and table["rank"].tolist() == [1, 2, 3] * 2
    network = NetworkFit.load(translator).network
    assert isinstance(network, SequenceToSequence)
    expected = network.translate(["one two", "three one"], Beam(4, 3, WuLength(1.0), 6))
    for name in ("log_prob", "score", "translation"):
        assert table[name].tolist() == expected[name].tolist()  # texts of float64 are exact
    assert run("translate", translator, file, "--scores").out.splitlines()[1].endswith("\tdeux un")


def test_training_says_what_it_did(run: Callable, pairs: Path, tmp_path: Path) -> None:
    small = ("--hidden", 4, "--embedding", 3, "--epochs", 2, "--validation", 0.25)
    done = run("train-translator", pairs, "--out", tmp_path / "a", *small, "--attention", "--no-reverse")
    assert (done.code, done.err) == (0, "")
    assert "16 pairs of sentences, 4 words to 4" in done.out and "nats a word" in done.out
    network = NetworkFit.load(tmp_path / "a").network
    assert isinstance(network, SequenceToSequence) and not network.reverse and network.decoder.memory_size == 4
    done = run("train-translator", pairs, "--out", tmp_path / "b", *small, "--text", "characters", "--json")
    found = json.loads(done.out)
    assert found["pairs"] == 16 and found["source"] == len(set("".join(source for source, _ in LINES)))
    again = run(
        "train-translator", pairs, "--out", tmp_path / "b", *small, "--text", "characters", "--json", "--resume"
    )
    assert json.loads(again.out)["nats_per_step"] == found["nats_per_step"]


def test_refusals_are_one_line(run: Callable, pairs: Path, translator: Path, tmp_path: Path) -> None:
    bad, empty = tmp_path / "bad.tsv", tmp_path / "empty.txt"
    bad.write_text("one\tun\ntwo deux\n")
    empty.write_text("\n \n")
    other = tmp_path / "other"
    series = datasets.earthquakes()
    train(RecurrentModel.for_series(series, "poisson", "gru", 2), series, epochs=1, directory=other)
    for command, said in [
        (("train-translator", bad, "--out", tmp_path / "x"), "got 'two deux' at line 2"),
        (("train-translator", pairs, "--out", bad), "a file is there"),
        (("train-translator", pairs, "--out", tmp_path / "x", "--dropout", 0.2), "--dropout must come with --layers 2"),
        (("translate", translator, empty), "must hold at least one sentence, got none"),
        (("translate", translator, tmp_path / "none.txt"), "none.txt"),
        (("translate", tmp_path / "nowhere", empty), "nowhere"),
        (("translate", other, empty), "got one of kind 'recurrent'"),
        (("translate", translator, pairs, "--nbest", 6), "--nbest must be at most --beam, 5, got 6"),
        (("translate", translator, pairs, "--alpha", 0.5), "--alpha must come with --penalty wu"),
        (("translate", translator, pairs, "--penalty", "wu", "--alpha", -1), "alpha must be at least 0"),
    ]:
        done = run(*command)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), command
        assert said in done.err, command
    assert not (tmp_path / "x").exists()
