"""The bundled series against their published facts, and the Observatory's file against the Observatory's normals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from probseq import DataError, Sequences, datasets


def test_catalogue() -> None:
    assert [entry.name for entry in datasets.catalogue] == [
        "rainfall",
        "exchange_rates",
        "earthquakes",
        "gnp",
        "phage_lambda",
        "hong_kong_rainfall",
    ]
    for entry in datasets.catalogue:
        assert callable(getattr(datasets, entry.name))
        assert entry.file is None or datasets.path(entry.name).is_file()
        assert entry.what and entry.steps and entry.source and entry.licence


def test_every_bundled_file_is_documented() -> None:
    folder = datasets.path("rainfall").parent
    readme = (folder / "README.md").read_text()
    files = {file.name for file in folder.iterdir()} - {"README.md"}
    assert files == {entry.file for entry in datasets.catalogue if entry.file}
    assert all(f"`{name}`" in readme for name in files)


def test_rainfall() -> None:
    both = datasets.rainfall()
    assert both.ids.tolist() == ["Seattle", "New York"]
    assert both.lengths.tolist() == [1461, 1461]
    seattle = datasets.rainfall("Seattle")
    assert seattle.values[:4].tolist() == [0.0, 10.9, 0.8, 20.3]
    assert seattle.time is not None and str(seattle.time[-1].date()) == "2015-12-31"
    with pytest.raises(DataError, match="station must be one of Seattle, New York, got 'London'"):
        datasets.rainfall("London")


def test_earthquakes_have_the_published_mean_and_likelihood() -> None:
    """One state: the Poisson log-likelihood at the sample mean is -391.9189 (Zucchini et al., 2016)."""
    series = datasets.earthquakes()
    assert series.time is not None and (series.time[0], series.time[-1]) == (1900, 2006)
    log_prob = torch.distributions.Poisson(series.values.mean()).log_prob(series.values).sum()
    assert log_prob.item() == pytest.approx(-391.9189, abs=5e-5)  # the four digits printed


def test_gnp() -> None:
    series = datasets.gnp()
    assert series.total_steps == 135
    assert series.time is not None
    assert [str(series.time[n].date()) for n in (0, -1)] == ["1951-04-01", "1984-10-01"]
    assert set(datasets.frame("gnp")["nber_rec"]) == {0, 1}


def test_phage_lambda_has_the_published_length_and_likelihood() -> None:
    """Independent bases -67191.388 (the sum below is 0.005 above it), first-order chain given the first -66711.252."""
    codes = datasets.phage_lambda().values.long()
    counts = torch.bincount(codes).double()
    assert counts.sum() == 48_502
    assert (counts * (counts / counts.sum()).log()).sum().item() == pytest.approx(-67191.388, abs=6e-3)
    moves = torch.bincount(4 * codes[:-1] + codes[1:], minlength=16).reshape(4, 4).double()
    shares = moves / moves.sum(dim=1, keepdim=True)
    assert (moves * shares.log()).sum().item() == pytest.approx(-66711.252, abs=5e-4)
    assert datasets.frame("phage_lambda")["base"].tolist()[:5] == list("GGGCG")


def test_exchange_rates() -> None:
    rates = datasets.frame("exchange_rates")
    pegged = (rates["HKD"] / rates["USD"]).loc["2006":]
    outside = pegged[~pegged.between(7.74, 7.86)]  # the Hong Kong dollar's band, 7.75 to 7.85, and rounding
    assert [str(day.date()) for day in outside.index] == ["2009-03-26"]  # one odd fixing, as the source has it
    series = datasets.exchange_rates(["USD", "CNY"])
    assert series.values[0, 0].item() == pytest.approx(100 * np.log(1.1790 / 1.1789))
    assert not series.step_observed[0] and series.step_observed[-1]  # no yuan before 2005
    assert datasets.exchange_rates().values.shape == (len(rates) - 1,)
    with pytest.raises(DataError, match=r"currencies must be among USD, .*, got \['EUR'\]"):
        datasets.exchange_rates(["EUR"])


def test_path_of_no_such_set() -> None:
    with pytest.raises(DataError, match="must be one of rainfall, .*phage_lambda, got 'hong_kong_rainfall'"):
        datasets.path("hong_kong_rainfall")


# ---- Hong Kong ---------------------------------------------------------------------------------------------------

OBSERVATORY = """\ufeff日雨量(毫米) - 天文台
Daily Total Rainfall (mm) at the Hong Kong Observatory
年/Year,月/Month,日/Day,數值/Value,數據完整性/data Completeness
1900,2,27,0.4,C
1900,2,28,Trace,C
1900,2,29,***,
1900,3,1,12.5,C
1900,3,2,3.0,#
1900,3,5,***,
1900,3,6,0.0,C
*** 沒有數據/unavailable
# 數據不完整/data incomplete
微量表示少於 0.05 毫米/Trace means rainfall less than 0.05 mm
C 數據完整/data Complete
"""


def test_the_observatorys_format(tmp_path: Path) -> None:
    file = tmp_path / "hko.csv"
    file.write_text(OBSERVATORY, encoding="utf-8")
    rain = datasets.hong_kong_rainfall(file).to_frame()["rainfall"]
    nan = np.nan
    assert rain.tolist() == pytest.approx([0.4, 0.0, 12.5, nan, nan, nan, nan, 0.0], nan_ok=True)
    assert rain.index.equals(pd.date_range("1900-02-27", "1900-03-06", name="date"))  # no 29 February
    assert datasets.hong_kong_rainfall(file, trace=0.025).values[1] == 0.025


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "<html>moved</html>",
            "the Hong Kong rainfall must be the Observatory's CSV .* got no such line at .*hko.csv; ",
        ),
        (OBSERVATORY.replace("12.5", "12,5"), "got no such line|"),
        (
            OBSERVATORY.replace("12.5", "heavy"),
            "rainfall must be a number, Trace or \\*\\*\\*, got 'heavy' at 1900-3-1 of ",
        ),
    ],
)
def test_another_format_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "hko.csv"
    file.write_text(text, encoding="utf-8")
    if words.endswith("|"):  # a line of six cells is no data line: its day is missing
        assert not datasets.hong_kong_rainfall(file).step_observed[2]
        return
    with pytest.raises(DataError, match=words):
        datasets.hong_kong_rainfall(file)


def test_it_is_downloaded_once_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pooch = pytest.importorskip("pooch")
    asked: list[str] = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path) -> str:
        asked.append(url)
        (Path(path) / fname).write_text(OBSERVATORY, encoding="utf-8")
        return str(Path(path) / fname)

    monkeypatch.setenv("PROBSEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert datasets.hong_kong_rainfall().total_steps == 8
    assert asked == ["https://data.weather.gov.hk/cis/csvfile/HKO/ALL/daily_HKO_RF_ALL.csv"]


@pytest.mark.parametrize("failure", [OSError("no route"), ConnectionError("refused"), ValueError("hash")])
def test_offline_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def retrieve(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(DataError, match="must be downloaded first, got .* from https://.*; go online") as error:
        datasets.hong_kong_rainfall()
    assert "\n" not in str(error.value)


def test_an_unreachable_address_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real download code, against a port of this machine where nothing listens."""
    monkeypatch.setenv("PROBSEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "HONG_KONG_URL", "http://127.0.0.1:9/daily_HKO_RF_ALL.csv")
    with pytest.raises(DataError, match="the Hong Kong rainfall must be downloaded first, got ConnectionError from"):
        datasets.hong_kong_rainfall()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def observatory(shared_data: Callable[[str], Path]) -> Sequences:
    return datasets.hong_kong_rainfall(shared_data("hko_daily_rainfall_raw.csv"))


def test_hong_kong_normals_and_records(observatory: Sequences) -> None:
    """The Observatory's own climatological normals and extremes, to the digit they are printed with."""
    rain = observatory.to_frame()["rainfall"]
    index = pd.DatetimeIndex(rain.index)
    yearly = rain.groupby(index.year).sum(min_count=365)
    assert str(index[0].date()) == "1884-03-01"
    assert (index[1:] - index[:-1] == pd.Timedelta(days=1)).all()
    assert rain["1940":"1946"].isna().all()  # type: ignore[misc]
    assert yearly.loc[1991:2020].mean() == pytest.approx(2431.2, abs=0.05)
    assert yearly.loc[1961:1990].mean() == pytest.approx(2214.3, abs=0.05)
    assert (rain.max(), str(rain.idxmax().date())) == (534.1, "1926-07-19")  # type: ignore[union-attr]
    assert (yearly.idxmax(), yearly.max()) == (1997, pytest.approx(3343.0, abs=0.05))
    assert (yearly.idxmin(), yearly.min()) == (1963, pytest.approx(901.1, abs=0.05))


def test_hong_kong_wet_days(observatory: Sequences) -> None:
    """Wet (>= 0.1 mm) 1991-2020: P(W|D) = .2087, P(W|W) = .6638, share .383."""
    wet = (observatory.to_frame()["rainfall"]["1991":"2020"] >= 0.1).to_numpy()  # type: ignore[misc]
    today, tomorrow = wet[:-1], wet[1:]
    assert wet.mean() == pytest.approx(0.383, abs=5e-4)
    assert tomorrow[~today].mean() == pytest.approx(0.2087, abs=5e-5)
    assert tomorrow[today].mean() == pytest.approx(0.6638, abs=5e-5)
