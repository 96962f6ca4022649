"""Leave-future-out against integrals over a table of the one unknown number, exact and by weighted draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from probseq import ModelError, Sequences
from probseq.diagnostics import leave_future_out, leave_future_out_exact
from tests.diagnostics.one_rate import FEW, counting, fit_hmm, fit_program, lists, log_evidence, point

NAN = math.nan
SERIES = Sequences.from_arrays([[0, 2, 9, 12, 7, 8, 1, 0, NAN, 1, 11, 6, 0, 1, 3, 22, 24, 9, 2, 1, 0, 8, 10, 2]])
PANEL = Sequences.from_arrays([[0, 2, 9, 12, 8, 1], [1, 0, 7, 11], [2, 8, NAN, 10, 1, 0, 1]])


def ahead(series: Sequences, step: int, horizon: int) -> float:
    """log p(the next steps of those that have them in full | the first steps of all), the rate integrated out."""
    past = [values[:step] for values in lists(series)]
    seen = [values[: step + horizon] if len(values) >= step + horizon else values[:step] for values in lists(series)]
    return log_evidence(seen) - log_evidence(past)


@pytest.mark.parametrize("horizon", [1, 3])
def test_exactly(horizon) -> None:
    counted, seen = counting(fit_hmm)
    found = leave_future_out_exact(counted, SERIES, first=18, horizon=horizon)
    steps = list(range(18, 25 - horizon))
    assert found.table["step"].tolist() == steps == [part.total_steps for part in seen]
    expected = [ahead(SERIES, step, horizon) for step in steps]
    np.testing.assert_allclose(found.table["elpd"], expected, atol=4e-3)  # of 2000 quantiles
    assert found.elpd == pytest.approx(sum(expected), abs=2e-2) and found.fits == len(steps)
    assert found.table["fitted"].all() and (found.table["pareto_k"] == 0.0).all()


def test_of_a_program() -> None:
    found = leave_future_out(fit_program, SERIES, first=21)
    expected = leave_future_out(lambda past: fit_hmm(past, draws=FEW), SERIES, first=21)
    np.testing.assert_allclose(found.table["elpd"], expected.table["elpd"], rtol=1e-9)


@pytest.mark.parametrize("horizon", [1, 2])
def test_by_weighted_draws_with_few_fits(horizon) -> None:
    """The outliers, 22 and 24, move the posterior; a k that these draws can bear is asked not to be borne."""
    counted, seen = counting(fit_hmm)
    found = leave_future_out(counted, SERIES, first=6, horizon=horizon, largest_shape=0.3)
    exact = leave_future_out_exact(fit_hmm, SERIES, first=6, horizon=horizon)
    assert found.table["step"].tolist() == exact.table["step"].tolist()
    # a stretch of 22 and 24 hangs on the last few of the quantiles, of which weighted ones are other than fitted ones
    np.testing.assert_allclose(found.table["elpd"], exact.table["elpd"], atol=0.1)
    assert found.elpd == pytest.approx(exact.elpd, abs=0.1)
    assert 2 <= found.fits <= 6 and found.fits == len(seen) and seen[0].total_steps == 6
    assert found.table["fitted"][0] and (found.table["pareto_k"] <= 0.3).all()
    assert found.table["pareto_k"][found.table["fitted"]].tolist() == [0.0] * found.fits
    always = leave_future_out(fit_hmm, SERIES, first=18, horizon=horizon, largest_shape=-math.inf)
    torch.testing.assert_close(
        torch.tensor(always.table["elpd"].tolist()),
        torch.tensor(exact.table["elpd"][exact.table["step"] >= 18].tolist()),
    )


def test_a_gap_is_not_foretold_and_moves_nothing() -> None:
    found = leave_future_out(fit_hmm, SERIES, first=7, horizon=1)
    assert 8 not in found.table["step"].tolist() and (found.table["observations"] == 1).all()
    start = leave_future_out(fit_hmm, SERIES.split(10)[0], first=8, horizon=1)
    assert start.table["step"].tolist() == [9] and start.table["pareto_k"].tolist() == [0.0] and start.fits == 0


def test_several_sequences_are_cut_at_the_same_step() -> None:
    """A sequence takes part where it has all of the stretch, and is known whole once it has ended."""
    expected = [ahead(PANEL, step, 2) for step in (2, 3, 4, 5)]
    exact = leave_future_out_exact(fit_hmm, PANEL, first=2, horizon=2)
    np.testing.assert_allclose(exact.table["elpd"], expected, atol=5e-3)
    assert exact.table["observations"].tolist() == [5, 4, 4, 2]
    found = leave_future_out(fit_hmm, PANEL, first=2, horizon=2)
    np.testing.assert_allclose(found.table["elpd"], expected, atol=0.05)


def test_a_point_is_plugged_in_exactly_and_refused_otherwise() -> None:
    found = leave_future_out_exact(point, SERIES, first=22)
    for row in found.table.itertuples():
        fit = point(SERIES.split(row.step)[0])
        seen = SERIES if row.step == 23 else SERIES.split(row.step + 1)[0]
        assert row.elpd == pytest.approx(float(fit.predictive_log_prob(seen)[-1]))
    with pytest.raises(ModelError, match="^leave_future_out must have draws"):
        leave_future_out(point, SERIES, first=22)


def test_an_interrupt_keeps_what_there_is() -> None:
    def stopping(past: Sequences):
        fit = fit_hmm(past)
        return replace(fit, stop_reason="interrupted") if past.total_steps > 20 else fit

    found = leave_future_out_exact(stopping, SERIES, first=19)
    assert found.interrupted and found.table["step"].tolist() == [19, 20]
    with pytest.raises(KeyboardInterrupt):
        leave_future_out_exact(stopping, SERIES, first=22)


def test_what_leaves_nothing_to_foretell_is_refused() -> None:
    with pytest.raises(ModelError, match="first and horizon must be at least 1, got 0 and 1"):
        leave_future_out(fit_hmm, SERIES, first=0)
    with pytest.raises(ModelError, match=r"at most the steps of the longest sequence, 24, got 20 \+ 5"):
        leave_future_out_exact(fit_hmm, SERIES, first=20, horizon=5)
    with pytest.raises(ModelError, match="count once each, got weights"):
        leave_future_out(fit_hmm, replace(SERIES, weights=torch.ones(1)), first=20)
