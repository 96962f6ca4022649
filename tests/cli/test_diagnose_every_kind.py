"""`probseq diagnose` of data that are not one dated column of numbers: every section has an answer."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq.report.diagnosis import objections

CASES: dict[str, tuple[str, ...]] = {
    "two sequences": (
        "--column",
        "rain",
        "--time",
        "day",
        "--group",
        "place",
        "--fill-gaps",
        "--family",
        "hurdle-gamma",
    ),
    "angles": ("--column", "direction", "--family", "von-mises"),
    "symbols": ("--column", "symbol", "--family", "categorical"),
    "two columns": ("-c", "rain", "-c", "warmth", "--time", "day", "--fill-gaps", "--family", "hurdle-gamma,gaussian"),
    "a year": ("--column", "rain", "--time", "day", "--fill-gaps", "--season", "year", "--family", "hurdle-gamma"),
    "one state": ("--column", "warmth", "--family", "student-t", "--states", "1"),
    "draws": ("--column", "rain", "--group", "place", "--family", "hurdle-gamma", "--method", "gibbs"),
}
SAMPLER = ("--draws", "60", "--tune", "30", "--chains", "1")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred days of two regimes, some not measured and some without a row."""
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.random(300) < 0.08) % 2
    wet = rng.random(300) < np.where(state, 0.8, 0.2)
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2015-01-01", periods=300),
            "rain": np.where(wet, rng.gamma(1.5, 4.0, 300), 0.0).round(1),
            "direction": rng.vonmises(np.where(state, 0.0, 2.5), 3.0),
            "warmth": rng.normal(3.0 * state, 1.0),
            "symbol": np.where(rng.random(300) < np.where(state, 0.7, 0.2), "x", "y"),
            "place": np.where(np.arange(300) < 160, "A", "B"),
        }
    )
    frame.loc[10:16, ["rain", "direction", "warmth"]] = np.nan
    frame.loc[40, "warmth"] = np.nan
    path = tmp_path_factory.mktemp("data") / "days.csv"
    frame.drop(index=range(100, 105)).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", CASES)
def test_every_section_has_an_answer(name: str, run: Callable, table: Path, tmp_path: Path) -> None:
    options = CASES[name] if "--states" in CASES[name] else (*CASES[name], "--states", "2")
    options += SAMPLER if "gibbs" in options else ("--restarts", "1")
    done = run("fit", table, *options, "--out", tmp_path / "fit")
    assert done.code == 0, done.err
    done = run("diagnose", tmp_path / "fit", table, "--replicates", "20", "--json", "--out", tmp_path / "page.html")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert not [section["verdict"] for section in found.values() if section["verdict"].startswith("Not known")]
    assert ("states" in found) == (name != "one state") and "chains" in found or name != "draws"
    checks = found["checks"]["table"]
    assert len(checks) >= 4 and all(row["q0.05"] is not None for row in checks if row["observed"] is not None)
    assert "look" not in found["checks"]["verdict"] and (tmp_path / "page.html").exists()
    assert run("diagnose", tmp_path / "fit", table, "--replicates", "20").code == 0


def test_a_dozen_tests_object_together() -> None:
    """At 5% each, four of ten right models with eleven independent tests would be objected to."""
    rng = np.random.default_rng(0)
    frames = [pd.DataFrame({"test": "T", "of": range(11), "p_value": rng.random(11)}) for _ in range(1000)]
    assert np.mean([bool(objections(one)) for one in frames]) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    wrong = pd.DataFrame({"test": "Ljung-Box", "of": "normal", "p_value": [0.04, 1e-4, 1e-6, np.nan]})
    assert objections(wrong) == ["Ljung-Box of normal"]


def test_dna(run: Callable, tmp_path: Path) -> None:
    """Two records, a stretch of one unknown."""
    rng = np.random.default_rng(1)
    one, other = ("".join(rng.choice(list("ACGT"), size=size, p=[0.4, 0.1, 0.1, 0.4])) for size in (400, 150))
    (tmp_path / "two.fa").write_text(f">a\n{one[:200]}NNNN{one[200:]}\n>b\n{other}\n")
    fit = ("fit", tmp_path / "two.fa", "--states", "2", "--family", "categorical", "--restarts", "1", "--priors")
    assert run(*fit, "--out", tmp_path / "fit").code == 0
    done = run("diagnose", tmp_path / "fit", tmp_path / "two.fa", "--replicates", "20", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert "log posterior" in found["parameters"]["verdict"]
    assert {row["statistic"] for row in found["checks"]["table"]} >= {"share of A", "moves A to A", "state 0, share"}
