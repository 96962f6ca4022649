"""`probseq fit`: published values, the JSON object, tables, and what it reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import datasets
from probseq.cli.fitting import parse_states
from probseq.inference import Fit

EARTHQUAKES = datasets.path("earthquakes")
QUAKES = ("fit", EARTHQUAKES, "--column", "count", "--time", "year", "--family", "poisson")
KEYS = {
    "log_likelihood",
    "n_parameters",
    "aic",
    "bic",
    "states",
    "converged",
    "stop_reason",
    "iterations",
    "seconds",
    "initial",
    "transition",
    "emission",
}


def test_stationary_earthquakes_have_the_published_likelihoods(run: Callable) -> None:
    """Zucchini, MacDonald & Langrock (2016), tables 3.1 and 3.2, to the four digits printed."""
    done = run(*QUAKES, "--states", "1:3", "--stationary", "--restarts", "3", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert [row["states"] for row in found["candidates"]] == [1, 2, 3]
    likelihoods = [row["log_likelihood"] for row in found["candidates"]]
    assert likelihoods == pytest.approx([-391.9189, -342.3183, -329.4603], abs=6e-5)  # four printed digits
    assert [row["aic"] for row in found["candidates"]][1:] == pytest.approx([692.6365, 676.9206], abs=1e-4)
    assert [row["bic"] for row in found["candidates"]][1:] == pytest.approx([703.3278, 700.9760], abs=1e-4)
    assert (found["states"], found["n_parameters"]) == (3, 9)
    assert found["emission"]["rate"] == pytest.approx([13.1457, 19.7211, 29.7144], abs=6e-4)  # a flat optimum


@pytest.mark.slow
def test_four_states_and_free_initial_laws_have_the_published_likelihoods(run: Callable) -> None:
    four = json.loads(run(*QUAKES, "--states", "4", "--stationary", "--restarts", "20", "--json").out)
    assert four["log_likelihood"] == pytest.approx(-327.8316, abs=6e-5)
    free = json.loads(run(*QUAKES, "--states", "2:4", "--restarts", "50", "--json").out)
    likelihoods = [row["log_likelihood"] for row in free["candidates"]]
    assert likelihoods == pytest.approx([-341.8787, -328.5275, -326.2850], abs=6e-5)


def test_json_is_one_object_and_nothing_else(run: Callable) -> None:
    done = run(*QUAKES, "--states", "2", "--restarts", "1", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert set(found) >= KEYS
    assert "candidates" not in found
    assert np.shape(found["transition"]) == (2, 2)
    assert np.sum(found["transition"], axis=1) == pytest.approx([1, 1])
    assert sum(found["initial"]) == pytest.approx(1)
    assert len(found["emission"]["rate"]) == found["states"] == 2
    assert found["converged"] is True
    assert found["aic"] == pytest.approx(2 * found["n_parameters"] - 2 * found["log_likelihood"])


def test_the_same_seed_gives_the_same_numbers(run: Callable) -> None:
    first, second = (
        json.loads(run(*QUAKES, "--states", "2", "--restarts", "2", "--seed", "7", "--json").out) for _ in range(2)
    )
    assert first.pop("seconds") > 0 and second.pop("seconds") > 0
    assert first == second


def test_the_table_reads_each_state_in_plain_words(run: Callable, tmp_path: Path) -> None:
    table = datasets.frame("rainfall").query("location == 'Seattle'").head(400)
    table.to_csv(tmp_path / "rain.csv", index=False)
    options = ("--states", "1:2", "--family", "hurdle-gamma", "--unit", "mm", "--priors", "--restarts", "1")
    done = run("fit", tmp_path / "rain.csv", "-c", "precipitation", "--time", "date", *options)
    assert (done.code, done.err) == (0, "")
    for said in ("400 days, 2012-01-01 to 2013-02-03", "lowest BIC", "dry spell: ", "% wet days", "mm on a wet day"):
        assert said in " ".join(done.out.split()), said
    assert "from one day to the next" in done.out
    assert all(len(line) <= 120 for line in done.out.splitlines())


def test_repeated_columns_are_one_multivariate_series(run: Callable, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    level = np.repeat([0.0, 5.0, 0.0, 5.0], 40)
    table = pd.DataFrame({"a": level, "b": -level}) + generator.normal(size=(160, 2))
    table.to_csv(tmp_path / "two.csv", index=False)
    place = tmp_path / "fit"
    options = ("--states", "2", "--family", "multivariate-gaussian", "--restarts", "1", "--out", place, "--json")
    found = json.loads(run("fit", tmp_path / "two.csv", "--column", "a", "--column", "b", *options).out)
    locations = np.array(found["emission"]["loc"])
    assert locations == pytest.approx(np.array([[0, 0], [5, -5]]), abs=0.6)  # 5 standard errors of 80 draws
    assert Fit.load(place).columns == ("a", "b")
    decoded = run("decode", place, tmp_path / "two.csv").out
    states = pd.read_csv(__import__("io").StringIO(decoded))["state"]
    assert states.tolist() == np.repeat([0, 1, 0, 1], 40).tolist()


def test_groups_and_gaps(run: Callable, tmp_path: Path) -> None:
    days = [f"2020-01-{day:02d}" for day in range(1, 21)]
    rows = [(name, day, number % 5) for name in "ab" for number, day in enumerate(days) if (name, number) != ("b", 8)]
    pd.DataFrame(rows, columns=["who", "day", "n"]).to_csv(tmp_path / "gap.csv", index=False)
    command = ("fit", tmp_path / "gap.csv", "-c", "n", "--time", "day", "--group", "who", "--states", "1")
    refused = run(*command, "--family", "poisson")
    assert refused.code == 2 and "--fill-gaps inserts missing steps" in refused.err
    done = run(*command, "--family", "poisson", "--fill-gaps")
    assert done.code == 0 and "2 sequences, 40 days, 2020-01-01 to 2020-01-20, 1 missing" in done.out


def test_fasta_needs_no_column(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "dna.fa").write_text(">one\n" + "ATATTA" * 30 + "GGCGCC" * 30 + "\n")
    place = tmp_path / "fit"
    done = run(
        "fit", tmp_path / "dna.fa", "--states", "2", "--family", "categorical", "--restarts", "1", "--out", place
    )
    assert done.code == 0, done.err
    assert "AT-rich" in done.out and "GC-rich" in done.out and "360 bases" in done.out
    decoded = run("decode", place, tmp_path / "dna.fa")
    assert decoded.out.splitlines()[0].startswith("record,base,state")


def test_symbols_of_a_csv_keep_their_codes(run: Callable, tmp_path: Path) -> None:
    pd.DataFrame({"w": ["sun", "rain", "rain"] * 10}).to_csv(tmp_path / "w.csv", index=False)
    place = tmp_path / "fit"
    found = json.loads(
        run("fit", tmp_path / "w.csv", "-c", "w", "--states", "1", "--family", "categorical", "--json", "-o", place).out
    )
    assert found["emission"]["probabilities"][0] == pytest.approx([2 / 3, 1 / 3])  # rain, sun
    pd.DataFrame({"w": ["sun", "sun"]}).to_csv(tmp_path / "new.csv", index=False)  # codes must stay those of the fit
    decoded = run("decode", place, tmp_path / "new.csv").out.splitlines()
    assert float(decoded[1].split(",")[-1]) == pytest.approx(np.log(1 / 3))


def test_a_model_that_fails_is_passed_over(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import probseq.cli.fitting as fitting
    from probseq import FitError

    honest = fitting.em

    def stubborn(model, series, **options):
        if model.states == 2:
            raise FitError("A fit must end, got none: it refused.")
        return honest(model, series, **options)

    monkeypatch.setattr(fitting, "em", stubborn)
    found = json.loads(run(*QUAKES, "--states", "1:2", "--restarts", "1", "--json").out)
    assert found["states"] == 1
    failed = found["candidates"][1]
    assert failed["bic"] is None and failed["failed"] == "A fit must end, got none: it refused."
    assert not failed["chosen"] and found["candidates"][0]["chosen"]
    table = run(*QUAKES, "--states", "1:2", "--restarts", "1")
    assert table.code == 0 and "it refused" in table.out


def test_svi(run: Callable) -> None:
    """AutoDelta climbs to the mode of the posterior, close to the maximum of the likelihood on 107 years."""
    found = json.loads(run(*QUAKES, "--states", "2", "--method", "svi", "--restarts", "1", "--json").out)
    assert found["method"] == "svi"
    assert found["log_likelihood"] == pytest.approx(-341.8787, abs=0.5)  # a prior worth less than half a nat


@pytest.mark.parametrize(("text", "numbers"), [("1", [1]), ("3", [3]), ("2:2", [2]), ("1:4", [1, 2, 3, 4])])
def test_ranges_of_states(text: str, numbers: list[int]) -> None:
    assert list(parse_states(text)) == numbers
