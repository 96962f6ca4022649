"""The seasonal hurdle-gamma model of daily rainfall: does BIC want it, and does it rain like the city?

The statistics and both 90% bands are those of examples/seasonal_rainfall.py, where they are defined: 29 of them, of
which a perfect model is expected to hold 26. Everything is seeded; the bounds leave room for another stream of numbers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from probseq import HMM, Design, Season, datasets, em, families
from probseq.chains import LogitTransitions

RUNS = 200


@pytest.fixture(scope="module")
def example() -> Any:
    file = Path(__file__).resolve().parents[2] / "examples" / "seasonal_rainfall.py"
    spec = importlib.util.spec_from_file_location("seasonal_rainfall", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def held(example: Any, fit: Any, rain: Any) -> tuple[int, int]:
    """How many statistics hold by each band."""
    table = example.compare(rain, example.simulate(fit, rain, RUNS))
    assert len(table) == 29
    return int(table["observed in sim"].sum()), int(table["sim in observed"].sum())


def test_seattle_has_a_year_in_it(example: Any) -> None:
    rain = datasets.rainfall("Seattle")
    fits = example.fits(rain)
    assert fits["one matrix"].bic - fits["seasonal"].bic > 20  # 5347.3 and 5320.2
    seasonal, plain = held(example, fits["seasonal"], rain), held(example, fits["one matrix"], rain)
    assert min(seasonal) >= 25 and max(plain) <= 21  # 28 and 27, against 19 and 18


def test_new_york_has_none_that_four_years_could_show(example: Any) -> None:
    """The season gains 2.4 nats with 4 parameters: its rain hardly depends on the month, and BIC says so."""
    rain = datasets.rainfall("New York")
    fits = example.fits(rain)
    assert 0 < fits["seasonal"].log_likelihood - fits["one matrix"].log_likelihood < 5
    assert fits["one matrix"].bic < fits["seasonal"].bic  # 4714.1 and 4738.3
    assert held(example, fits["seasonal"], rain)[0] >= 24  # 26


@pytest.mark.slow
def test_hong_kong_has_a_monsoon(example: Any, shared_data: Any) -> None:
    """30 years, three states; the bands of so long a series are narrow, and 29 numbers cannot all be met."""
    whole = datasets.hong_kong_rainfall(shared_data("hko_daily_rainfall_raw.csv"))
    rain = whole.split("1991-01-01")[1].split("2021-01-01")[0]
    fits = {}
    for name, law in {
        "one matrix": {},
        "seasonal": {"transition": LogitTransitions(Design((), (Season("year"),)))},
    }.items():
        fits[name] = em(HMM(3, families.Hurdle(families.Gamma()), **law), rain, priors=True, restarts=1)
    assert fits["one matrix"].bic - fits["seasonal"].bic > 400  # 40821.7 and 40318.7
    seasonal, plain = held(example, fits["seasonal"], rain), held(example, fits["one matrix"], rain)
    assert min(seasonal) >= 20 and max(plain) <= 15  # 23 and 23, against 11 and 12
