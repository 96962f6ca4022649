"""`probseq select`: published criteria, the JSON object, the table, failures and bad input."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import FitError, datasets, em
from probseq.cli import fitting

QUAKES = ("select", datasets.path("earthquakes"), "--column", "count", "--time", "year", "--family", "poisson")
RANGE = (*QUAKES, "--states", "1:3", "--stationary", "--restarts", "3")


def test_the_criteria_are_the_published_ones(run: Callable) -> None:
    """Zucchini, MacDonald & Langrock (2016), table 6.3; both of theirs are lowest at three states."""
    done = run(*RANGE, "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    found = json.loads(done.out)
    assert (found["criterion"], found["states"]) == ("bic", 3)
    assert [row["states"] for row in found["candidates"]] == [1, 2, 3]
    assert [row["aic"] for row in found["candidates"]] == pytest.approx([785.84, 692.64, 676.92], abs=0.01)
    assert [row["bic"] for row in found["candidates"]] == pytest.approx([788.51, 703.33, 700.98], abs=0.01)
    assert [row["chosen"] for row in found["candidates"]] == [False, False, True]


def test_another_criterion_takes_another_number(run: Callable) -> None:
    found = json.loads(run(*RANGE, "--criterion", "icl", "--json").out)
    icl = [row["icl"] for row in found["candidates"]]
    assert (found["criterion"], found["states"]) == ("icl", 2) and icl[1] == min(icl)


def test_the_table_marks_the_best_and_says_what_others_would_take(run: Callable, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    done = run(*RANGE, "--out", out)
    assert done.code == 0 and "3 rows written to" in done.err
    assert "107 observed steps" in done.out and "AICc" in done.out
    (marked,) = [line for line in done.out.splitlines() if "lowest BIC" in line]
    assert marked.split()[:3] == ["3", "-329.46", "9"]
    assert "3 states by BIC; ICL would take 2." in done.out and "--states 3" in done.out
    table = pd.read_csv(out)
    assert table["states"].tolist() == [1, 2, 3] and table["chosen"].tolist() == [False, False, True]
    assert table["bic"][2] == pytest.approx(700.98, abs=0.01)


def test_numbers_that_are_hardly_told_apart_are_named(run: Callable, tmp_path: Path) -> None:
    """Counts that are as even as can be: what a second state gains is about what AIC asks for it."""
    file = tmp_path / "steps.csv"
    rng = np.random.default_rng(3)
    pd.DataFrame({"y": np.concatenate([rng.poisson(4, 40), rng.poisson(6, 15)])}).to_csv(file, index=False)
    command = ("select", file, "-c", "y", "--states", "1:2", "--family", "poisson", "--priors", "--restarts", "2")
    gaps = {}
    for criterion in ("aic", "bic", "hqic", "icl"):
        one, two = json.loads(run(*command, "--json").out)["candidates"]
        gaps[criterion] = abs(one[criterion] - two[criterion])
        assert ("hardly worth a mention" in run(*command, "--criterion", criterion).out) == (gaps[criterion] < 2)
    assert min(gaps.values()) < 2 < max(gaps.values())  # both cases were met


def test_a_number_that_cannot_be_fitted_says_why(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(model, series, **options):
        if model.states == 2:
            raise FitError("A fit must end, got none: it refused.")
        return em(model, series, **options)

    monkeypatch.setattr(fitting, "em", refusing)
    done = run(*RANGE)
    assert done.code == 0 and "2 states: A fit must end, got none: it refused." in done.out
    (row,) = [line for line in done.out.splitlines() if "failed" in line]
    assert row.split() == ["2", *["-"] * 7, "failed"]
    (record,) = [row for row in json.loads(run(*RANGE, "--json").out)["candidates"] if row["failed"]]
    assert record["bic"] is None and record["icl"] is None


def test_an_interrupt_prints_what_there_is(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(model, series, **options):
        if model.states == 3:
            raise KeyboardInterrupt
        return em(model, series, **options)

    monkeypatch.setattr(fitting, "em", interrupted)
    done = run(*RANGE)
    assert done.code == 130 and "2 states by BIC" in done.out and done.err == "probseq: interrupted.\n"


def test_several_sequences_with_gaps_are_read(run: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"site": ["a"] * 40 + ["b"] * 30, "y": rng.poisson(np.where(np.arange(70) % 20 < 10, 2, 20))})
    frame.loc[3, "y"] = np.nan
    frame.to_csv(tmp_path / "sites.csv", index=False)
    done = run("select", tmp_path / "sites.csv", "-c", "y", "--group", "site", "--states", "1:2", "--family", "poisson")
    assert "y: 69 observed steps in 2 sequences" in done.out and "2 states by BIC" in done.out


def test_bad_input_is_one_line(run: Callable, tmp_path: Path) -> None:
    done = run(*QUAKES, "--states", "4:2")
    assert (done.code, done.out) == (2, "") and "states must be K or K1:K2" in done.err
    done = run(*RANGE, "--criterion", "waic")
    assert done.code == 2 and "'waic' is not one of" in done.err
    done = run(*RANGE, "--out", tmp_path)
    assert done.code == 2 and done.err.count("\n") == 1
    done = run(*QUAKES, "--states", "1:200")
    assert done.code == 2 and "states must not be more than the observed steps, 107, got 200" in done.err
