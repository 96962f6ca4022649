"""`probseq fit --label --weight`: what is known of the states, and what each sequence counts."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import HMM, Fit, Sequences, em, families


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Two sequences, of which the first counts twice; every third state is known."""
    rng = np.random.default_rng(1)
    state = rng.integers(2, size=60)
    frame = pd.DataFrame({"site": np.repeat(["a", "b"], 30), "events": rng.poisson(np.where(state == 1, 9.0, 1.0))})
    frame["weight"], frame["regime"] = np.repeat([2.0, 1.0], 30), pd.array(state, dtype="Int64")
    frame.loc[frame.index % 3 > 0, "regime"] = pd.NA
    frame.to_csv(tmp_path / "events.csv", index=False)
    return tmp_path / "events.csv"


OPTIONS = ("--column", "events", "--group", "site", "--states", "2", "--family", "poisson", "--restarts", "1")


def test_labels_and_weights_are_those_of_python(run: Callable, counts: Path, tmp_path: Path) -> None:
    known = ("--label", "regime", "--weight", "weight")
    done = run("fit", counts, *OPTIONS, *known, "--out", tmp_path / "fit", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    series = Sequences.from_csv(counts, "events", group="site", weight="weight", label="regime")
    assert series.labels is not None and series.weights is not None
    expected = em(HMM(2, families.Poisson()), series, restarts=1)
    assert found["log_likelihood"] == pytest.approx(expected.log_likelihood, abs=1e-9)
    torch.testing.assert_close(Fit.load(tmp_path / "fit").parameters, expected.parameters)
    diagnosed = run("diagnose", tmp_path / "fit", counts, "--replicates", "20", "--json")
    assert (diagnosed.code, diagnosed.err) == (0, "")  # of another likelihood it would be no maximum, with a warning
    plain = json.loads(run("fit", counts, *OPTIONS, "--json").out)
    assert found["log_likelihood"] < plain["log_likelihood"] - 10
    # other files have no such columns, and are decoded by what is seen in them
    alone = tmp_path / "alone.csv"
    pd.read_csv(counts)[["site", "events"]].to_csv(alone, index=False)
    decoded = pd.read_csv(io.StringIO(run("decode", tmp_path / "fit", alone).out))
    free = Sequences.from_csv(alone, "events", group="site")
    assert decoded["state"].tolist() == expected.decode(free)["state"].tolist()


def test_numbers_of_states_below_the_known_ones_are_passed_over(run: Callable, counts: Path) -> None:
    known = ("--label", "regime", "--weight", "weight", "--priors")
    ranged = ("--states", "1:3")
    done = run("select", counts, *OPTIONS, *known, *ranged)
    assert (done.code, done.err) == (0, "")
    assert "1 state: the labels name state 1, which it lacks" in done.out
    found = json.loads(run("select", counts, *OPTIONS, *known, *ranged, "--json").out)["candidates"]
    assert [bool(row["failed"]) for row in found] == [True, False, False]
    series = Sequences.from_csv(counts, "events", group="site", weight="weight", label="regime")
    expected = em(HMM(2, families.Poisson()), series, priors=True, restarts=1)
    assert found[1]["bic"] == pytest.approx(expected.bic, abs=1e-9)
    fit = json.loads(run("fit", counts, *OPTIONS, *known, *ranged, "--json").out)
    assert fit["candidates"] == found
    refused = run("select", counts, *OPTIONS, *known, "--states", "1:1")
    assert refused.code == 2 and "labels must lie in 0..0" in refused.err


def test_columns_that_cannot_be(run: Callable, counts: Path, tmp_path: Path) -> None:
    refused = run("fit", counts, *OPTIONS, "--label", "state")
    assert refused.code == 2 and "state" in refused.err and "regime" in refused.err
    genome = tmp_path / "genome.fa"
    genome.write_text(">one\nACGTACGT\n")
    refused = run("fit", genome, "--states", "1", "--family", "categorical", "--weight", "weight")
    assert refused.code == 2 and "must be read without columns, got 'weight'" in refused.err


@pytest.mark.parametrize(
    ("option", "cell", "message"),
    [
        ("--label", "wet", "label 'known' must hold numbers, got 'wet' at line 2; write a number, or leave it empty"),
        ("--label", "2", "labels must lie in 0..1, .* got 2 at step 0 .*; use more states, or leave --label out."),
        ("--label", "-2", "label 'known' must be a state's number from 0, .* got -2 at line 2;"),
        ("--label", "1e30", r"label 'known' must be a state's number from 0, .* got 1e\+30 at line 2;"),
        ("--weight", "x", "weight 'known' must hold numbers, got 'x' at line 2; write a number"),
        ("--weight", "-1", "weight 'known' must be a number not below 0, got -1.0 at line 2;"),
        ("--weight", "0", "weights must not all be zero"),
        ("--column", "x", "value 'known' must hold numbers, got 'x' at line 2; --family categorical reads the texts"),
    ],
)
def test_cells_that_cannot_be(run: Callable, counts: Path, option: str, cell: str, message: str) -> None:
    pd.read_csv(counts).assign(known=cell).to_csv(counts, index=False)
    refused = run("fit", counts, *OPTIONS[2 if option == "--column" else 0 :], option, "known")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert re.search(message, refused.err)
