"""`probseq train`: texts and tables, what is printed and saved, runs in pieces, and refusals in one line."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from probseq import NetworkFit, datasets
from probseq.inference import training_run

EARTHQUAKES = ("train", datasets.path("earthquakes"), "--column", "count", "--time", "year")
SMALL = ("--hidden", 4, "--epochs", 2, "--validation", 0.25)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(["abcabc", "bcab", "cabcabca", "abc"] * 3) + "\n")
    return file


def test_a_text_by_lines_ends_by_itself_and_is_saved_with_its_curves(run: Callable, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run("train", text, "--text", "characters", *SMALL, "--batch-size", 3, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "lstm network" in done.out and "all 2 epochs are done" in done.out and "bits per step" in done.out
    assert {"network.json", "network.safetensors", "checkpoint.safetensors", "curves.csv", "curves.png"} == {
        file.name for file in out.iterdir()
    }
    fit = NetworkFit.load(out)
    assert fit.network.categories == ("a", "b", "c") and len(fit.simulate(seed=0, count=3).lengths) == 3
    shown = fit.curves["validation"].iloc[fit.best_epoch - 1]
    assert f"{shown:.4f}" in done.out and f"{shown / math.log(2):.4f}" in done.out


def test_json_is_one_object_of_nats_and_bits(run: Callable, text: Path) -> None:
    done = run("train", text, "--text", "words", "--cell", "gru", "--layers", 2, *SMALL, "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    found = json.loads(done.out)
    assert found["bits_per_step"]["train"] == pytest.approx(found["nats_per_step"]["train"] / math.log(2))
    assert found["epochs"] == 2 and found["kind"] == "recurrent" and found["options"]["batch_size"] == 32


def test_a_table_has_a_family_and_columns_that_enter(run: Callable, tmp_path: Path) -> None:
    done = run(*EARTHQUAKES, "--family", "poisson", *SMALL, "--truncate", 20, "--json")
    assert done.code == 0 and json.loads(done.out)["options"]["truncate"] == 20
    file = tmp_path / "two.csv"
    pd.DataFrame({"y": range(8), "x": [0.5, 1.0] * 4, "who": list("aaaabbbb")}).to_csv(file, index=False)
    options = ["--value", "y", "--group", "who", "--covariate", "x", "--family", "gaussian", "--feedback", "none"]
    done = run("train", file, *options, *SMALL, "--json")
    assert done.code == 0 and set(json.loads(done.out)["nats_per_step"]) == {"train", "validation"}


def test_a_run_in_pieces_is_the_run_in_one(run: Callable, text: Path, tmp_path: Path, monkeypatch) -> None:
    options = ("train", text, "--text", "characters", "--hidden", 4, "--epochs", 4, "--batch-size", 4, "--json")
    whole = json.loads(run(*options).out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training_run.Run, "_late", lambda run: run.epoch == 2)
        assert run(*options, "--out", tmp_path / "run").code == 0
    pieces = json.loads(run(*options, "--out", tmp_path / "run", "--resume").out)
    for name in ("nats_per_step", "epochs", "best_epoch", "stop_reason"):
        assert whole[name] == pieces[name]


def test_an_interrupt_keeps_what_there_is(run: Callable, text: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "update", interrupted)
    done = run("train", text, "--text", "characters", *SMALL, "--out", tmp_path / "run")
    assert (done.code, done.err) == (130, "probseq: interrupted.\n") and (tmp_path / "run" / "network.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "must be a text or have a family"),
        (["--text", "characters", "--column", "x"], "must be read by --text alone, got columns"),
        (["--text", "characters", "--family", "gaussian"], "must be read by --text alone, got --family"),
        (["--text", "letters"], "'letters' is not one of"),
        (["--text", "characters", "--resume"], "name it with --out"),
        (["--text", "characters", "--cell", "elman"], "got 'elman'"),
        (["--text", "characters", "--validation", "2"], "validation must be"),
        (["--text", "characters", "--time-limit", "-1"], "time_limit must be at least 0"),
        (["--text", "characters", "--seed", str(2**70)], "--seed"),
        (["--text", "characters", "--feedback", "predicted"], "or --no-stop"),
        (["--column", "x", "--family", "gaussian", "--each", "paragraph"], "--each and --rare must come with --text"),
        (["--column", "x", "--family", "gaussian", "--rare", "2"], "--each and --rare must come with --text"),
        (["--text", "characters", "--learning-rate", "0"], "learning_rate must be a finite number above 0"),
        (["--column", "x", "--family", "gaussian"], "x"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(run: Callable, text: Path, options: list, said: str) -> None:
    done = run("train", text, *options)
    assert done.code == 2 and done.out == "" and done.err.count("\n") == 1
    assert done.err.startswith("probseq: ") and said in done.err


def test_a_directory_with_another_run_is_refused_in_the_words_of_the_command_line(
    run: Callable, text: Path, tmp_path: Path
) -> None:
    options = ("train", text, "--text", "characters", "--hidden", 3, "--epochs", 1, "--out", tmp_path / "run")
    assert run(*options).code == 0
    again = run(*options)
    assert again.code == 2 and "must hold no other one" in again.err and "with --resume" in again.err
