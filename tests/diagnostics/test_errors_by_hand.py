"""Standard errors and sandwiches against second differences of a likelihood that is written out here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import gammaln

from probseq import HMM, Fit, Sequences, em, families, standard_errors
from probseq.chains import StationaryInitial
from probseq.diagnostics import derived, sandwich_errors

WEIGHTS = [1.0, 2.0, 1.0, 3.0]
NAMES = ["transition[0, 1]", "transition[1, 0]", "rate[0]", "rate[1]"]


def counts() -> list[np.ndarray]:
    """Four sequences of two regimes with gaps, one of them at the start."""
    rng = np.random.default_rng(0)
    found = []
    for length in (60, 90, 40, 70):
        state = np.cumsum(rng.random(length) < 0.15) % 2
        found.append(rng.poisson(np.where(state == 0, 3.0, 9.0)).astype(float))
    found[0][5:9], found[2][0] = np.nan, np.nan
    return found


def steps(values: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(T,) log p(x_t | x_<t) of a chain that starts in its stationary law; point = (a, b, rates)."""
    a, b, *rates = point
    moves = np.array([[1 - a, a], [b, 1 - b]])
    law, found = np.array([b, a]) / (a + b), []
    for step, value in enumerate(values):
        law = law @ moves if step else law
        if not np.isnan(value):
            law = law * np.exp(value * np.log(rates) - np.array(rates) - gammaln(value + 1))
        found.append(np.log(law.sum()))
        law = law / law.sum()
    return np.array(found)


def slopes(function: Callable[[np.ndarray], np.ndarray], point: np.ndarray, size: float = 1e-5) -> np.ndarray:
    """(4, ...) central differences."""
    moves = size * np.eye(len(point))
    return np.array([(function(point + move) - function(point - move)) / (2 * size) for move in moves])


@pytest.fixture(scope="module")
def fit() -> Fit:
    series = replace(Sequences.from_arrays(counts()), weights=torch.tensor(WEIGHTS))
    return em(HMM(2, families.Poisson(), initial=StationaryInitial()), series, restarts=2)


def test_gaps_weights_and_a_stationary_start(fit: Fit) -> None:
    """Differences of differences of 1e-4 are good to six digits of the information; sandwiches as well."""
    data = counts()
    table = standard_errors(fit).table
    point = table.loc[NAMES, "estimate"].to_numpy()

    def total(at: np.ndarray) -> np.ndarray:
        return np.array(sum(w * steps(one, at).sum() for w, one in zip(WEIGHTS, data, strict=True)))

    assert float(total(point)) == pytest.approx(fit.log_likelihood, rel=1e-10)
    bread = np.linalg.inv(-slopes(lambda at: slopes(total, at, 1e-4), point, 1e-4))
    np.testing.assert_allclose(table.loc[NAMES, "standard_error"], np.sqrt(np.diag(bread)), rtol=1e-4)

    by_sequence, by_step = np.zeros((4, 4)), np.zeros((4, 4))
    for weight, one in zip(WEIGHTS, data, strict=True):
        own = slopes(lambda at, one=one: steps(one, at), point)
        by_sequence += weight * np.outer(own.sum(1), own.sum(1))
        by_step += weight * own @ own.T
        for lag in (1, 2, 3):
            cross = own[:, lag:] @ own[:, :-lag].T
            by_step += weight * (1 - lag / 4) * (cross + cross.T)
    for meat, options in ((by_sequence, {"per": "sequence"}), (by_step, {"per": "step", "lags": 3})):
        found = sandwich_errors(fit, **options).table.loc[NAMES, "standard_error"]
        np.testing.assert_allclose(found, np.sqrt(np.diag(bread @ meat @ bread)), rtol=1e-4)

    def share(at: np.ndarray) -> np.ndarray:
        return np.array(at[1] / (at[0] + at[1]))

    slope = slopes(share, point)
    law = derived(fit, "stationary_law").table["standard_error"].iloc[0]
    assert law == pytest.approx(np.sqrt(slope @ bread @ slope), rel=1e-4)
