"""`probseq fit --method nuts` and `gibbs`: draws, their table, and options that belong to other methods."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from probseq import datasets
from probseq.inference import Fit

EARTHQUAKES = datasets.path("earthquakes")
QUAKES = ("fit", EARTHQUAKES, "--column", "count", "--time", "year", "--family", "poisson")
GIBBS = (*QUAKES, "--states", "2", "--method", "gibbs", "--draws", "300", "--tune", "200", "--chains", "2")


def test_the_posterior_is_printed_saved_and_read_back(run: Callable, tmp_path: Path) -> None:
    done = run(*GIBBS, "--out", tmp_path / "fit")
    assert done.code == 0
    assert "2 chains of 300 draws" in done.out and "matched by" in done.out
    assert "R-hat" in done.out and "transition[0, 1]" in done.out
    assert "BIC" not in done.out  # of a posterior it says nothing
    fit = Fit.load(tmp_path / "fit")
    assert fit.sampling is not None and fit.sampling.chains == 2 and fit.n_draws == 600
    assert bool((fit.draws["rate"][:, 0] < fit.draws["rate"][:, 1]).float().mean() > 0.99)
    decoded = run("decode", tmp_path / "fit", EARTHQUAKES)
    assert decoded.code == 0 and decoded.out.count("\n") == 108


def test_nuts_finds_the_same_posterior(run: Callable) -> None:
    """Means within a third of a standard deviation: 600 draws of each, effective sizes of a hundred or more."""
    short = ("--draws", "300", "--tune", "200", "--chains", "2", "--json")
    both = [json.loads(run(*QUAKES, "--states", "2", "--method", name, *short).out) for name in ("nuts", "gibbs")]
    for name, row in both[0]["posterior"].items():
        assert row["mean"] == pytest.approx(both[1]["posterior"][name]["mean"], abs=0.35 * row["sd"]), name


def test_json_has_the_posterior_by_name(run: Callable) -> None:
    found = json.loads(run(*GIBBS, "--json").out)
    rate = found["posterior"]["rate[0]"]
    assert rate["q5"] < rate["mean"] < rate["q95"]
    assert {"sd", "rhat", "ess_bulk", "ess_tail"} <= set(rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "gibbs", "--restarts", "3"), "--restarts must belong to the method, got 3 with --method gibbs"),
        (("--chains", "2"), "--chains must belong to the method, got 2 with --method em"),
        (("--method", "svi", "--tune", "2"), "--tune must belong to the method, got 2 with --method svi"),
        (("--draws", "2"), "--draws must belong to the method, got 2 with --method em"),
    ],
)
def test_an_option_of_another_method_is_refused(run: Callable, options: tuple[str, ...], message: str) -> None:
    done = run(*QUAKES, "--states", "2", *options)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_a_sampler_wants_one_number_of_states(run: Callable) -> None:
    done = run(*QUAKES, "--states", "1:3", "--method", "gibbs")
    assert done.code == 2 and "states must be one number with --method gibbs" in done.err
