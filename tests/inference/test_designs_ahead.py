"""Forecasts and simulations of models that depend on covariates: against a filter written out in numpy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from probseq import HMM, DataError, Design, Sequences, families
from probseq.chains import LogitTransitions
from probseq.inference import em
from probseq.inference.fit import Fit

WIND = Design(("wind",))
MODEL = HMM(2, families.Regression(families.Poisson(), WIND), transition=LogitTransitions(WIND))
RATE = np.array([[0.5, 0.3], [2.0, -0.4]])
MOVE = np.array([[-1.0, 0.8], [0.2, -0.5]])
POINT = {
    "initial": torch.tensor([0.4, 0.6], dtype=torch.float64),
    "transition_coefficients": torch.from_numpy(MOVE).unsqueeze(1),
    "rate_coefficients": torch.from_numpy(RATE),
}
BLOWN = [np.array([0.1, -1.0, 0.7, 1.2]), np.array([0.0, 2.0, -0.3])]
AHEAD = [np.array([0.5, -2.0, 1.0]), np.array([1.5, 0.2, -0.8])]
COUNTS = [np.array([1.0, 9.0, math.nan, 4.0]), np.array([2.0, 1.0, 6.0])]


def series() -> Sequences:
    return Sequences.from_arrays(COUNTS, covariates=[part[:, None] for part in BLOWN], covariate_names=["wind"])


@pytest.fixture(scope="module")
def fit() -> Fit:
    with pytest.warns(UserWarning, match="did not converge"):
        rough = em(MODEL, series(), priors=True, restarts=1, max_iterations=1, polished=False)
    return replace(rough, parameters=POINT, draws={name: torch.stack([value, value]) for name, value in POINT.items()})


def rates(wind: float) -> np.ndarray:
    return np.exp(RATE @ [1.0, wind])


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """(N * 3, K) state probabilities and (N * 3, K) rates of the steps ahead."""
    laws, means = [], []
    for counts, blown, ahead in zip(COUNTS, BLOWN, AHEAD, strict=True):
        law = np.array([0.4, 0.6])
        for step, wind in enumerate([*blown, *ahead]):
            if step:
                leave = 1 / (1 + np.exp(-(MOVE @ [1.0, wind])))
                law = law @ np.array([[1 - leave[0], leave[0]], [leave[1], 1 - leave[1]]])
            if step < len(counts) and not math.isnan(counts[step]):
                law = law * stats.poisson.pmf(counts[step], rates(wind))
                law = law / law.sum()
            if step >= len(counts):
                laws.append(law)
                means.append(rates(wind))
    return np.array(laws), np.array(means)


def test_forecasts_take_the_covariates_to_come(fit):
    laws, means = by_hand()
    frame = pd.DataFrame({"wind": np.concatenate(AHEAD), "other": 0.0})
    found = fit.forecast(series(), 3, (0.1, 0.5), covariates=frame)
    assert found.equals(fit.forecast(series(), 3, (0.1, 0.5), covariates=np.concatenate(AHEAD)))
    np.testing.assert_allclose(found[["probability_0", "probability_1"]], laws, rtol=1e-10)
    np.testing.assert_allclose(found["mean"], (laws * means).sum(1), rtol=1e-10)
    for probability in (0.1, 0.5):
        for at, value in enumerate(found[f"q{probability}"]):
            below = [float((laws[at] * stats.poisson.cdf(y, means[at])).sum()) for y in (value - 1, value)]
            assert below[0] < probability <= below[1]


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (None, "given what the model depends on at the steps ahead, wind, got nothing"),
        (pd.DataFrame({"rain": np.zeros(6)}), "got no column 'wind'"),
        (np.zeros(5), r"row for each of the 6 steps ahead.*got shape \(5, 1\)"),
        (np.full(6, math.nan), "must be finite"),
    ],
)
def test_covariates_to_come_that_do_not_fit(fit, covariates, message):
    with pytest.raises(DataError, match=message):
        fit.forecast(series(), 3, covariates=covariates)


def test_simulations_go_along_a_series(fit):
    """Means of many simulated series against the chain's own law, step by step."""
    along = series()
    many = along.take([0] * 4000)
    drawn = fit.simulate(many, seed=1, labelled=True)
    assert drawn.covariates is not None and drawn.observed is None and drawn.labels is not None
    values, states = drawn.values.reshape(4000, 4).numpy(), drawn.labels.reshape(4000, 4).numpy()
    law = np.array([0.4, 0.6])
    for step, wind in enumerate(BLOWN[0]):
        if step:
            leave = 1 / (1 + np.exp(-(MOVE @ [1.0, wind])))
            law = law @ np.array([[1 - leave[0], leave[0]], [leave[1], 1 - leave[1]]])
        assert abs(states[:, step].mean() - law[1]) < 4 * math.sqrt(0.25 / 4000)
        expected = float(law @ rates(wind))
        assert abs(values[:, step].mean() - expected) < 4 * values[:, step].std() / math.sqrt(4000)
    with pytest.raises(DataError, match="simulated along a series"):
        fit.simulate(10, seed=0)


def test_the_future_goes_on_from_each_sequence():
    data = Sequences.from_frame(
        pd.DataFrame(
            {
                "day": [*pd.date_range("2024-02-25", periods=3), *pd.date_range("2024-12-30", periods=2)],
                "place": ["a"] * 3 + ["b"] * 2,
                "y": [1.0, math.nan, 3.0, 4.0, 5.0],
                "state": [0, -1, 1, -1, 0],
            }
        ),
        "y",
        time="day",
        group="place",
        label="state",
    )
    longer = data.future(2)
    assert longer.lengths.tolist() == [5, 4]
    assert longer.step_observed.tolist() == [True, False, True, False, False, True, True, False, False]
    assert longer.values[longer.step_observed].tolist() == [1.0, 3.0, 4.0, 5.0]
    assert longer.time is not None and longer.labels is not None
    assert [str(day.date()) for day in longer.time[3:5]] == ["2024-02-28", "2024-02-29"]
    assert [str(day.date()) for day in longer.time[7:]] == ["2025-01-01", "2025-01-02"]
    assert longer.labels.tolist() == [0, -1, 1, -1, -1, -1, 0, -1, -1]
