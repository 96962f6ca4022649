"""Real series to learn and test on: five that come with probseq, and the Hong Kong rainfall that is downloaded.

Each function returns `Sequences`; `frame(name)` gives the whole table behind a bundled series, and `path(name)` its
file, which the command line reads too. Sources and licences are in `catalogue`, and at length in data/README.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from probseq.errors import DataError
from probseq.io.csv import read_text
from probseq.sequences import Sequences

HONG_KONG_URL = "https://data.weather.gov.hk/cis/csvfile/HKO/ALL/daily_HKO_RF_ALL.csv"


@dataclass(frozen=True)
class Dataset:
    """One entry of the catalogue; `file` is None where the data are downloaded."""

    name: str
    what: str
    steps: str
    source: str
    licence: str
    file: str | None


catalogue: tuple[Dataset, ...] = (
    Dataset(
        "rainfall",
        "Daily precipitation (mm) at Seattle and New York, 2012-2015",
        "2 x 1,461 days",
        "NOAA, through vega-datasets",
        "public domain / BSD-3-Clause",
        "rain_seattle_newyork_2012_2015.csv",
    ),
    Dataset(
        "exchange_rates",
        "Twelve currencies per euro, weekdays, 1999-2026",
        "7,126 days",
        "European Central Bank",
        "free with the source named",
        "fx_ecb_daily_1999_2026.csv",
    ),
    Dataset(
        "earthquakes",
        "Earthquakes of magnitude 7 or more in the world per year, 1900-2006",
        "107 years",
        "USGS; Zucchini, MacDonald & Langrock (2016)",
        "public domain",
        "earthquakes_1900_2006.csv",
    ),
    Dataset(
        "gnp",
        "US real GNP growth, per cent a quarter, 1951Q2-1984Q4",
        "135 quarters",
        "US BEA; Hamilton (1989)",
        "public domain",
        "hamilton_rgnp.csv",
    ),
    Dataset(
        "phage_lambda",
        "Genome of Enterobacteria phage lambda",
        "48,502 bases",
        "NCBI RefSeq NC_001416.1",
        "public domain",
        "lambda_NC_001416.fa",
    ),
    Dataset(
        "hong_kong_rainfall",
        "Daily rainfall (mm) at the Hong Kong Observatory since 1884; downloaded when asked for",
        "about 52,000 days",
        "Hong Kong Observatory",
        "the Observatory's terms; not redistributed",
        None,
    ),
)


def path(name: str) -> Path:
    """The file of a bundled data set.

    >>> path("earthquakes").name
    'earthquakes_1900_2006.csv'
    """
    files = {entry.name: entry.file for entry in catalogue if entry.file is not None}
    if name not in files:
        raise DataError(f"a bundled data set must be one of {', '.join(files)}, got {name!r}; see `probseq datasets`.")
    package = Path(__file__).parent
    for folder in (package / "_data", package.parent / "data"):  # in a wheel; in a checkout
        if (folder / files[name]).is_file():
            return folder / files[name]
    raise DataError(f"bundled data must come with the package, got no {files[name]} beside it; reinstall probseq.")


def frame(name: str) -> pd.DataFrame:
    """The whole table of a bundled data set, indexed by its time where it has one column of times."""
    if name == "phage_lambda":
        return phage_lambda().to_frame()
    table = pd.read_csv(path(name))
    if name == "gnp":
        return table.set_index(pd.date_range("1951-04-01", periods=len(table), freq="QS", name="quarter"))
    dates = {"rainfall": "date", "exchange_rates": "Date"}
    if name in dates:
        table[dates[name]] = pd.to_datetime(table[dates[name]])
    return table if name == "rainfall" else table.set_index(dates.get(name, "year"))


def rainfall(station: str | None = None) -> Sequences:
    """Daily precipitation (mm), 2012-2015, at "Seattle" or "New York"; both, a sequence each, when None.

    >>> rainfall("Seattle")
    Sequences(1 sequence, 1,461 steps, column 'precipitation', 2012-01-01 to 2015-12-31)
    """
    table = frame("rainfall")
    stations = table["location"].unique().tolist()
    if station is not None:
        if station not in stations:
            raise DataError(f"station must be one of {', '.join(stations)}, got {station!r}; choose one of them.")
        table = table[table["location"] == station]
    return Sequences.from_frame(table, "precipitation", time="date", group="location")


def exchange_rates(currencies: str | Sequence[str] = "USD") -> Sequences:
    """Daily log returns, in per cent, of currencies against the euro (units of currency per euro), 1999-2026.

    A day without a quote, before or after it, is missing; weekends and holidays are not steps.
    """
    names = [currencies] if isinstance(currencies, str) else list(currencies)
    rates = frame("exchange_rates")
    unknown = [name for name in names if name not in rates.columns]
    if unknown or not names:
        raise DataError(
            f"currencies must be among {', '.join(rates.columns)}, got {unknown or 'none'}; choose among them."
        )
    returns = 100 * rates[names].transform(np.log).diff().iloc[1:]
    return Sequences.from_frame(returns, names)


def earthquakes() -> Sequences:
    """Earthquakes of magnitude 7 or more in the world, per year, 1900-2006 (Zucchini et al., 2016, table 1.1)."""
    return Sequences.from_frame(frame("earthquakes"), "count", time="year")


def gnp() -> Sequences:
    """US real GNP growth, per cent a quarter, 1951Q2-1984Q4 (Hamilton, 1989)."""
    return Sequences.from_frame(frame("gnp"), "rgnp_growth")


def phage_lambda() -> Sequences:
    """The genome of phage lambda, 48,502 bases as codes of A, C, G, T."""
    return Sequences.from_fasta(path("phage_lambda"))


def hong_kong_rainfall(file: str | Path | None = None, trace: float = 0.0) -> Sequences:
    """Daily rainfall (mm) at the Hong Kong Observatory since 1884-03-01, one sequence.

    The Observatory's file names its columns in two languages, writes "Trace" for less than 0.05 mm and *** for a day
    without data, holds a 29 February 1900, and has no rows for 1940 to 1946: those days are missing, as are days whose
    total the Observatory marks incomplete.

    Args:
        file: the Observatory's file; None downloads it, once, into a cache folder: PROBSEQ_CACHE, or
            the platform's own.
        trace: what "Trace" stands for, in mm.

    Raises:
        DataError: if it cannot be downloaded, or is not in the Observatory's format.
    """
    source = _download() if file is None else file
    daily = _observatory_days(read_text(source), trace, source)
    if daily.index.is_unique:
        daily = daily.reindex(pd.date_range(daily.index.min(), daily.index.max(), name="date"))
    return Sequences.from_frame(daily.to_frame(), "rainfall")


def _download() -> Path:
    import pooch  # only a download needs it

    folder = os.environ.get("PROBSEQ_CACHE") or pooch.os_cache("probseq")
    try:
        fetched = pooch.retrieve(HONG_KONG_URL, known_hash=None, fname="daily_HKO_RF_ALL.csv", path=folder)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise DataError(
            f"the Hong Kong rainfall must be downloaded first, got {type(error).__name__} from {HONG_KONG_URL}; go"
            " online, or download it with a browser and give its path."
        ) from error
    return Path(fetched)


def _observatory_days(text: str, trace: float, source: str | Path) -> pd.Series:
    """The days (T,) of the Observatory's file, in mm, NaN where missing."""
    rows = [line.split(",") for line in text.splitlines()]
    rows = [[cell.strip() for cell in row] for row in rows if len(row) == 5 and row[0].strip().isdigit()]
    if not rows:
        raise DataError(
            "the Hong Kong rainfall must be the Observatory's CSV of year, month, day, value and completeness, got no"
            f" such line at {source}; delete it and download {HONG_KONG_URL} again."
        )
    table = pd.DataFrame(rows, columns=["year", "month", "day", "value", "completeness"])
    date = pd.to_datetime(table[["year", "month", "day"]], errors="coerce")
    value = pd.to_numeric(table["value"].replace({"Trace": str(trace), "***": None, "": None}), errors="coerce")
    text_row = (value.isna() & ~table["value"].isin(["***", ""])).to_numpy()
    if text_row.any():
        row = rows[int(text_row.argmax())]
        raise DataError(
            f"rainfall must be a number, Trace or ***, got {row[3]!r} at {'-'.join(row[:3])} of {source}; download the"
            " file again."
        )
    value = value.where(table["completeness"] == "C")
    real = date.notna()  # 29 February 1900 was never a day
    return pd.Series(value[real].to_numpy(), index=pd.DatetimeIndex(date[real], name="date"), name="rainfall")
