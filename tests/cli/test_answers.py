"""decode, forecast, simulate, report and datasets: the numbers of the Python interface, read and written as CSV."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import datasets
from probseq.inference import Fit

EARTHQUAKES = datasets.path("earthquakes")


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def test_decode_is_the_fits_own(run: Callable, saved: Path, tmp_path: Path) -> None:
    expected = Fit.load(saved).decode(datasets.earthquakes())
    printed = run("decode", saved, EARTHQUAKES)
    assert (printed.code, printed.err) == (0, "")
    found = table(printed.out).set_index("year")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False)
    written = run("decode", saved, EARTHQUAKES, "--out", tmp_path / "states.csv")
    assert written.out == "" and "107 rows written" in written.err
    assert (tmp_path / "states.csv").read_text() == printed.out


def test_forecast_is_the_fits_own(run: Callable, saved: Path) -> None:
    expected = Fit.load(saved).forecast(datasets.earthquakes(), 5, (0.1, 0.9))
    found = table(run("forecast", saved, EARTHQUAKES, "--horizon", "5", "--quantiles", "0.1,0.9").out).set_index("year")
    assert found.index.tolist() == [2007, 2008, 2009, 2010, 2011]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False)


def test_simulate(run: Callable, saved: Path) -> None:
    fit = Fit.load(saved)
    one = table(run("simulate", saved).out)
    assert len(one) == 107  # as long as the data
    assert one.columns.tolist() == ["step", "count", "state"]
    expected = fit.simulate(107, seed=0, labelled=True)
    assert one["count"].tolist() == expected.values.tolist()
    assert expected.labels is not None and one["state"].tolist() == expected.labels.tolist()
    several = table(run("simulate", saved, "--steps", "4", "--sequences", "3", "--seed", "5").out)
    assert several["step"].tolist() == [0, 1, 2, 3] * 3
    assert several["sequence"].tolist() == np.repeat([0, 1, 2], 4).tolist()


def test_report(run: Callable, saved: Path, tmp_path: Path) -> None:
    done = run("report", saved, EARTHQUAKES, "--title", "Shocks", "--horizon", "4", "--out", tmp_path / "page.html")
    assert (done.code, done.err) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert "<title>Shocks</title>" in page and "The next 4 years" in page
    assert "probseq fit" in page  # the command of the fit was saved beside it


def test_a_fit_of_the_python_interface_is_read_by_its_columns(run: Callable, saved: Path, tmp_path: Path) -> None:
    place = Fit.load(saved).save(tmp_path / "plain")
    assert not (place / "source.json").exists()
    assert run("decode", place, EARTHQUAKES).out.splitlines()[0].startswith("count,state")


def test_the_source_is_kept_beside_the_fit(saved: Path) -> None:
    source = json.loads((saved / "source.json").read_text())
    assert source["columns"] == ["count"] and source["time"] == "year" and source["steps"] == 107
    assert source["command"].startswith("probseq fit ")


def test_datasets(run: Callable, tmp_path: Path) -> None:
    listed = run("datasets")
    assert listed.code == 0 and all(entry.name in listed.out for entry in datasets.catalogue)
    assert "107 years" in run("datasets", "earthquakes").out
    written = run("datasets", "phage-lambda", "--out", tmp_path / "lambda.fa")  # hyphens will do
    assert written.code == 0
    assert (tmp_path / "lambda.fa").read_bytes() == datasets.path("phage_lambda").read_bytes()


def test_hong_kong_is_downloaded_and_written_as_a_plain_table(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("年/Year,月/Month,日/Day,數值/Value,\n1900,2,27,0.4,C\n1900,2,28,Trace,C\n1900,3,1,***,\n")
    monkeypatch.setattr(datasets, "_download", lambda: raw)
    done = run("datasets", "hong-kong", "--out", tmp_path / "hk.csv")
    assert done.code == 0
    assert (tmp_path / "hk.csv").read_text() == "date,rainfall\n1900-02-27,0.4\n1900-02-28,0.0\n1900-03-01,\n"


@pytest.mark.slow
def test_demo(run: Callable, tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path / "demo")
    assert done.code == 0 and "Report: " in done.out
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"report.html", "figures", "seattle", "new-york"}
    assert Fit.load(tmp_path / "demo" / "seattle").model.states == 3  # type: ignore[union-attr]
