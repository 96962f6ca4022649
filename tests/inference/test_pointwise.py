"""Answers for several draws at once are those of each on its own, for every family and kind of chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from probseq import HMM, Fit, Sequences, em, families
from probseq.chains import (
    HigherOrderTransitions,
    LogitTransitions,
    SemiMarkovTransitions,
    ShiftedPoisson,
    StationaryInitial,
)
from probseq.design import Design, Season
from probseq.inference import pointwise
from probseq.inference.pointwise import per_draw
from probseq.inference.simulation import draw_of

ANSWERS = ("log_evidence", "predictive_log_prob", "leave_one_out_log_prob")


def check(fit: Fit, series: Sequences) -> None:
    for answer in ANSWERS:
        single = [getattr(fit.model.posterior(draw_of(fit.draws, s), series), answer) for s in range(fit.n_draws)]
        torch.testing.assert_close(per_draw(fit, series, answer), torch.stack(single), rtol=1e-11, atol=1e-11)


def as_fit(model: HMM, points: list[dict[str, Tensor]], series: Sequences) -> Fit:
    """A fit to nothing, with these draws."""
    draws = {name: torch.stack([point[name] for point in points]) for name in points[0]}
    return Fit(
        model=model,
        parameters=points[0],
        draws=draws,
        method="none",
        with_priors=True,
        log_likelihood=0.0,
        observations=1,
        n_parameters=1,
        objective=torch.zeros(1),
        converged=True,
        stop_reason="",
        seconds=0.0,
        fingerprint=series.fingerprint(),
        series=series,
    )


def test_of_every_family(case, monkeypatch) -> None:
    model = case.model.bind(case.series, with_priors=True)
    points = [model.complete(model.start(case.series, attempt, 0)) for attempt in (1, 2, 3)]
    fit = as_fit(model, points, case.series)
    check(fit, case.series)
    monkeypatch.setattr(pointwise, "ENTRIES", 1)  # one draw at a time
    check(fit, case.series)


SERIES = Sequences.from_arrays(
    [torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()]
)
CHAINS = {
    "stationary": HMM(2, families.Gaussian(), initial=StationaryInitial()),
    "second order": HMM(2, families.Gaussian(), transition=HigherOrderTransitions(2)),
    "seasonal": HMM(2, families.Gaussian(), transition=LogitTransitions(Design(seasons=(Season(7.0),)))),
    "semi-Markov": HMM(2, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedPoisson(max=6))),
    "autoregressive": HMM(2, families.Autoregression(2)),
    "deviations": HMM(2, families.DeviationAutoregression(1)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_of_every_chain(name) -> None:
    model = CHAINS[name].bind(SERIES, with_priors=True)
    points = [model.complete(model.start(SERIES, attempt, 0)) for attempt in (1, 2, 3)]
    check(as_fit(model, points, SERIES), SERIES)


def test_a_point_is_one_draw() -> None:
    fit = em(HMM(2, families.Gaussian()), SERIES, restarts=1, priors=True)
    found = per_draw(fit, SERIES, "log_evidence")
    torch.testing.assert_close(found[0].sum(), torch.tensor(fit.log_likelihood, dtype=torch.float64))
    assert found.shape == (1, 1) and replace(fit, series=None).data(SERIES) is SERIES
