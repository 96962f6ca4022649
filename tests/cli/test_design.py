"""`probseq fit --season --covariates`: the moves follow them, and decode reads the file the same way."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import HMM, Design, Season, Sequences, em, families
from probseq.chains import LogitTransitions
from probseq.inference import Fit


@pytest.fixture
def rain(tmp_path: Path) -> Path:
    """A year of counts that are often high in summer, with a covariate."""
    rng = np.random.default_rng(1)
    time = pd.date_range("2001-01-01", periods=400)
    rate = np.where(rng.uniform(size=400) < 0.5 - 0.4 * np.cos(2 * np.pi * time.day_of_year.to_numpy() / 366), 9.0, 1.0)
    frame = pd.DataFrame({"day": time, "events": rng.poisson(rate), "wind": rng.normal(size=400).round(2)})
    frame.to_csv(tmp_path / "events.csv", index=False)
    return tmp_path / "events.csv"


def test_moves_follow_seasons_and_covariates(run: Callable, rain: Path, tmp_path: Path) -> None:
    options = ("--column", "events", "--time", "day", "--states", "2", "--family", "poisson", "--restarts", "1")
    done = run("fit", rain, *options, "--season", "year", "--covariates", "wind", "--out", tmp_path / "fit", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    series = Sequences.from_csv(rain, "events", time="day", covariates=["wind"])
    law = LogitTransitions(Design(("wind",), (Season("year"),)))
    expected = em(HMM(2, families.Poisson(), transition=law), series, restarts=1)
    assert found["log_likelihood"] == pytest.approx(expected.log_likelihood, abs=1e-9)
    assert found["n_parameters"] == 1 + 2 * 4 + 2
    assert np.shape(found["transition_coefficients"]) == (2, 1, 4)
    assert Fit.load(tmp_path / "fit").model == expected.model
    decoded = pd.read_csv(io.StringIO(run("decode", tmp_path / "fit", rain).out))
    assert decoded["state"].tolist() == expected.decode(series)["state"].tolist()
    printed = run("fit", rain, *options, "--season", "year").out
    assert "moves by year_cos_1, year_sin_1" in printed and "to the next, on average" in printed
    ahead = tmp_path / "ahead.csv"
    pd.DataFrame({"wind": [0.5, -1.0]}).to_csv(ahead, index=False)
    forecast = run("forecast", tmp_path / "fit", rain, "--horizon", "2", "--covariates", ahead)
    wanted = expected.forecast(series, 2, covariates=np.array([[0.5], [-1.0]]))
    assert pd.read_csv(io.StringIO(forecast.out))["mean"].to_numpy() == pytest.approx(wanted["mean"].to_numpy())
    refused = run("forecast", tmp_path / "fit", rain, "--horizon", "2")
    assert refused.code == 2 and "wind" in refused.err
    lacking = tmp_path / "lacking.csv"
    pd.read_csv(rain).drop(columns="wind").to_csv(lacking, index=False)
    refused = run("decode", tmp_path / "fit", lacking)
    assert refused.code == 2 and "wind" in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--season", "month"), "a season must be year, week, day or a number of steps"),
        (("--season", "year:two"), "got 'year:two'; write --season year"),
        (("--season", "week:9"), "the harmonics of a season must be"),
        (("--covariates", "sun"), "sun"),
        (("--season", "year", "--stationary"), "same at every step"),
    ],
)
def test_what_is_refused(run: Callable, rain: Path, options: tuple[str, ...], words: str) -> None:
    common = ("--column", "events", "--time", "day", "--states", "2", "--family", "poisson", "--restarts", "1")
    done = run("fit", rain, *common, *options)
    assert done.code == 2 and done.err.count("\n") == 1 and words in done.err
