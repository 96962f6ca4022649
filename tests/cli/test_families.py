"""Families by their longer names on the command line, from a small file to a forecast: angles, columns of all kinds."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    """Two regimes of 120 days: cool and wet around north, warm and dry around south; entries missing one by one."""
    rng = np.random.default_rng(0)
    state = np.repeat([0, 1, 0, 1], 30)
    frame = pd.DataFrame(
        {
            "date": pd.date_range("2020-01-01", periods=120),
            "heat": rng.normal(10 + 8 * state, 2).round(1),
            "rain": np.where(rng.random(120) < 0.8 - 0.6 * state, rng.gamma(1.0, 5.0, 120), 0).round(1),
            "wind": (np.rad2deg(rng.vonmises(0, 5, 120)) + 180 * state).round() % 360,
        }
    )
    for column in ("heat", "rain", "wind"):
        frame.loc[rng.random(120) < 0.1, column] = np.nan
    path = tmp_path / "weather.csv"
    frame.to_csv(path, index=False)
    return path


def test_wind_in_degrees(run: Callable, weather: Path, tmp_path: Path) -> None:
    place = tmp_path / "fit"
    options = ("--states", 2, "-c", "wind", "--time", "date", "--restarts", 1)
    done = run("fit", weather, "--family", "von-mises-360", *options, "--unit", "deg", "--out", place)
    assert done.code == 0 and ("direction 17" in done.out or "direction 18" in done.out)
    ahead = pd.read_csv(StringIO(run("forecast", place, weather, "--horizon", 1).out))
    assert abs(ahead["mean"][0] - 180) < 15  # the last regime's, though a share of the other's is near 0 and 360
    refused = run("fit", weather, "--family", "von-mises", *options)
    assert refused.code != 0 and "von-mises-360 by name, for degrees" in refused.err and refused.err.count("\n") == 1


def test_a_family_for_each_column(run: Callable, weather: Path, tmp_path: Path) -> None:
    place = tmp_path / "fit"
    columns = ("-c", "heat", "-c", "rain", "-c", "wind", "--time", "date")
    names = ("--family", "gaussian,hurdle-gamma,von-mises-360")
    done = run("fit", weather, *names, *columns, "--states", 2, "--restarts", 1, "--json", "--out", place)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["emission"]["heat_loc"] == pytest.approx([10, 18], abs=1.5)  # four standard errors
    assert found["emission"]["rain_nonzero"] == pytest.approx([0.8, 0.2], abs=0.25)
    decoded = pd.read_csv(StringIO(run("decode", place, weather).out))
    assert (decoded["state"] == np.repeat([0, 1, 0, 1], 30)).mean() > 0.95  # steps missing in part are decoded too


@pytest.mark.parametrize("name, column", [("mixture-2-gaussian", "heat"), ("hurdle-exponential", "rain")])
def test_longer_names(run: Callable, weather: Path, name: str, column: str) -> None:
    done = run("fit", weather, "--family", name, "-c", column, "--states", 1, "--restarts", 1, "--json")
    assert (done.code, done.err) == (0, "") and json.loads(done.out)["states"] == 1
