"""`probseq generate`: text and tables from a network that was trained, and refusals in one line."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import LengthLaw, Pairs, RecurrentModel, SequenceClassifier, Sequences, families, train

LINES = Sequences.from_text(text="\n".join(["abab", "ba", "abba", "b"] * 2), separator="\n")


def saved(folder: Path, series: Sequences, family: str, **options: object) -> Path:
    network = RecurrentModel.for_series(series, family, "gru", 4, seed=1, **options)
    return train(network, series, epochs=1, seed=1).save(folder / "fit")


def test_lines_end_by_themselves_and_repeat_with_their_seed(run: Callable, tmp_path: Path) -> None:
    place = saved(tmp_path, LINES, "categorical", stopping="end")
    first = run("generate", place, "--count", 5, "--seed", 2)
    assert (first.code, first.err) == (0, "")
    assert len(first.out.splitlines()) == 5 and set(first.out) <= set("ab\n")
    assert run("generate", place, "--count", 5, "--seed", 2).out == first.out
    assert run("generate", place, "--count", 5, "--seed", 3).out != first.out
    begun = run("generate", place, "--count", 4, "--start", "bba")
    assert all(line.startswith("bba") for line in begun.out.splitlines())
    fixed = run("generate", place, "--length", 7, "--start", "ab", "--count", 2)
    assert [len(line) for line in fixed.out.splitlines()] == [9, 9]
    table = pd.read_csv(io.StringIO(run("generate", place, "--count", 3, "--csv").out))
    assert set(table.columns) == {"sequence", "step", "character"} and set(table["character"]) <= {"a", "b"}
    file = tmp_path / "drawn.txt"
    assert run("generate", place, "--count", 5, "--seed", 2, "--out", file).out == ""
    assert file.read_text() == first.out


def test_a_law_of_length_and_words(run: Callable, tmp_path: Path) -> None:
    series = Sequences.from_text(text="one two\ntwo one two\none", level="word", separator="\n")
    place = saved(tmp_path, series, "categorical", stopping=LengthLaw(families.Categorical(3)))
    lines = run("generate", place, "--count", 20).out.splitlines()
    assert {len(line.split()) for line in lines} <= {1, 2, 3} and {word for line in lines for word in line.split()} == {
        "one",
        "two",
    }
    done = run("generate", place, "--start", "one")
    assert done.code != 0 and "knows its length" in done.err


@pytest.mark.parametrize(("level", "symbols"), [("character", ["<rare>", "a", "b"]), ("word", ["a", "b"])])
def test_words_stand_apart_and_characters_do_not(run: Callable, tmp_path: Path, level: str, symbols: list) -> None:
    """Whatever the length of the names: rare characters are one symbol of six letters, and "a" can be a word."""
    series = Sequences(torch.tensor([0, 1, 1, 0]), torch.tensor([2, 2]), columns=(level,), categories=tuple(symbols))
    place = saved(tmp_path, series, "categorical")
    (line,) = run("generate", place, "--length", 12).out.splitlines()
    assert line.count(" ") == (11 if level == "word" else 0)


def test_symbols_of_a_table_begin_as_they_are_printed(run: Callable, tmp_path: Path) -> None:
    frame = pd.DataFrame({"moved": ["up", "down", "down", "up"], "who": list("aabb")})
    place = saved(tmp_path, Sequences.from_frame(frame, "moved", group="who", symbols=True), "categorical")
    done = run("generate", place, "--length", 3, "--start", "up down")
    assert done.code == 0 and done.out.startswith("up down ") and len(done.out.split()) == 5
    done = run("generate", place, "--length", 3, "--start", "up sideways")
    assert done.code == 2 and "unknown symbol at place 1 of 'up sideways'" in done.err
    for start in ("sideways", "sideways and back", " "):
        assert run("generate", place, "--length", 3, "--start", start).err.startswith(
            "probseq: --start must be made of"
        )


def test_numbers_come_as_csv_given_a_vector(run: Callable, tmp_path: Path) -> None:
    frame = pd.DataFrame({"rain": np.arange(8.0), "who": list("aaaabbbb"), "v": [1.0] * 4 + [2.0] * 4})
    series = Sequences.from_frame(frame, "rain", group="who", covariates=["v"])
    place = saved(tmp_path, series, "gaussian", vector=("v",))
    done = run("generate", place, "--length", 3, "--count", 2, "--vector", "1.5")
    table = pd.read_csv(io.StringIO(done.out))
    assert done.code == 0 and table["rain"].notna().all() and table["step"].tolist() == [0, 1, 2] * 2
    for options, words in (
        (("--length", 3), "--vector must be 1 numbers"),
        (("--vector", "1"), "--length must be given"),
        (("--vector", "1", "--length", 2, "--start", "a"), "network of symbols"),
    ):
        done = run("generate", place, *options)
        assert done.code != 0 and words in done.err and done.err.count("\n") == 1


def test_refusals(run: Callable, tmp_path: Path) -> None:
    place = saved(tmp_path, LINES, "categorical", stopping="end")
    done = run("generate", place, "--start", "abx")
    assert done.code != 0 and "unknown character at place 2" in done.err
    pairs = Pairs(LINES, torch.tensor([0, 1] * 4))
    other = train(SequenceClassifier.for_pairs(pairs, hidden_size=2), pairs, epochs=1).save(tmp_path / "other")
    done = run("generate", other)
    assert done.code != 0 and "sequence_classifier" in done.err
    frame = pd.DataFrame({"y": np.arange(4.0), "x": np.arange(4.0) % 2})
    (tmp_path / "text.txt").write_text("ab")
    done = run("generate", tmp_path / "text.txt")
    assert done.code == 2 and "a saved network must hold network.json" in done.err
    with_x = saved(tmp_path / "x", Sequences.from_frame(frame, "y", covariates=["x"]), "gaussian", covariates=("x",))
    done = run("generate", with_x, "--length", 2)
    assert done.code != 0 and "with covariates (x)" in done.err


@pytest.mark.parametrize("option", [("--count", 0), ("--length", 0)])
def test_nothing_to_draw_is_refused(run: Callable, tmp_path: Path, option: tuple) -> None:
    assert run("generate", tmp_path, *option).code == 2
