"""Forecasts and simulation of autoregressions, against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import HMM, DataError, Fit, Sequences, datasets, em, families
from probseq.chains import StationaryInitial
from probseq.inference.simulation import FUTURES

SIGMAS = 5 / np.sqrt(FUTURES)  # five standard errors of a mean of that many futures, a unit of spread


@pytest.fixture(scope="module")
def growth() -> Fit:
    model = HMM(2, families.DeviationAutoregression(2), initial=StationaryInitial())
    return em(model, datasets.gnp(), restarts=1, tolerance=1e-6)


def test_one_regime_forecasts_like_an_autoregression():
    """Mean a + phi y and so on, variance s^2 (1 + phi^2 + ...)."""
    rng = np.random.default_rng(0)
    values = [0.0]
    for _ in range(300):
        values.append(1.0 + 0.6 * values[-1] + rng.normal())
    series = Sequences.from_arrays(values)
    fit = em(HMM(1, families.Autoregression(1)), series, restarts=1)
    intercept, slope, spread = (
        fit.parameters[name].reshape(-1)[0].item() for name in ("intercept", "coefficients", "scale")
    )
    frame = fit.forecast(series, 4, quantiles=(0.1, 0.5))
    mean, variance = values[-1], 0.0
    for step in range(4):
        mean, variance = intercept + slope * mean, slope**2 * variance + spread**2
        assert frame["mean"].iloc[step] == pytest.approx(mean, abs=SIGMAS * np.sqrt(variance))
        lower = mean - 1.2816 * np.sqrt(variance)
        assert frame["q0.1"].iloc[step] == pytest.approx(lower, abs=2 * SIGMAS * np.sqrt(variance))
    with pytest.raises(DataError, match="must know the last 1 observations"):
        fit.forecast(Sequences.from_arrays([1.0, np.nan]), 1)


def test_hamiltons_forecast_one_step_ahead(growth):
    """The mean over the filtered law of the last states, which is a mean of closed forms."""
    series = datasets.gnp()
    frame = growth.forecast(series, 1)
    states = growth.posterior(series.future(1)).sample(50_000, seed=3)[:, -3:]
    loc, slopes, values = growth.parameters["loc"], growth.parameters["coefficients"], series.values
    mean = (
        loc[states[:, 2]] + slopes[0] * (values[-1] - loc[states[:, 1]]) + slopes[1] * (values[-2] - loc[states[:, 0]])
    )
    assert frame["mean"].iloc[0] == pytest.approx(float(mean.mean()), abs=2 * SIGMAS)  # spread about 1 per cent
    assert frame["probability_0"].iloc[0] + frame["probability_1"].iloc[0] == pytest.approx(1.0)


def test_simulated_series_are_of_the_model(growth):
    new = growth.simulate([6000, 7], seed=1, labelled=True)
    assert new.lengths.tolist() == [6000, 7] and torch.equal(new.values, growth.simulate([6000, 7], seed=1).values)
    assert new.labels is not None
    loc, slopes = growth.parameters["loc"], growth.parameters["coefficients"]
    deviation = new.values[:6000] - loc[new.labels[:6000]]
    design = torch.stack([deviation[1:-1], deviation[:-2]], 1)
    found = torch.linalg.lstsq(design, deviation[2:].unsqueeze(1)).solution.squeeze(1)
    torch.testing.assert_close(found, slopes, rtol=0, atol=5 / np.sqrt(6000))
    residual = deviation[2:] - design @ found
    assert residual.std().item() == pytest.approx(growth.parameters["scale"].item(), rel=0.05)


def test_words_are_simulated_with_wide_codes():
    words = Sequences.from_text(text=" ".join(f"w{number}" for number in range(300)) * 2, level="word")
    new = em(HMM(1, families.Categorical()), words, restarts=1).simulate(50, seed=0)
    assert new.values.dtype == torch.int32 and new.categories == words.categories
