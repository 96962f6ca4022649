"""Choosing the number of states: the lowest criterion wins, failures are passed over, interrupts keep what there is."""

import math
from collections.abc import Callable

import pytest

from probseq import HMM, Fit, FitError, datasets, em, families
from probseq.chains.initial_laws import StationaryInitial
from probseq.inference.selection import select

MODELS = [HMM(states, families.Poisson(), initial=StationaryInitial()) for states in (1, 2, 3)]


def test_the_criteria_choose_as_published() -> None:
    """Zucchini, MacDonald & Langrock (2016), table 6.3: BIC and AIC of 1 to 3 states; both are lowest at three."""
    found = select(MODELS, datasets.earthquakes(), restarts=3, seed=0)
    table = found.table.set_index("states")
    assert table["bic"].tolist() == pytest.approx([788.51, 703.33, 700.98], abs=0.01)
    assert table["aic"].tolist() == pytest.approx([785.84, 692.64, 676.92], abs=0.01)
    assert table["chosen"].tolist() == [False, False, True]
    assert found.best.model.states == 3  # type: ignore[union-attr]
    assert len(found.fits) == 3 and (table["failed"] == "").all()


def failing(*states: int, error: type[BaseException] = FitError) -> Callable[..., Fit]:
    def method(model: HMM, series, **options) -> Fit:
        if model.states in states:
            raise error(f"{model.states} failed")
        return em(model, series, restarts=1)

    return method


def test_a_failure_is_passed_over() -> None:
    found = select(MODELS, datasets.earthquakes(), method=failing(1, 3))
    assert found.best.model.states == 2  # type: ignore[union-attr]
    assert found.table["failed"].tolist() == ["1 failed", "", "3 failed"]
    assert math.isnan(found.table["bic"][0]) and found.table["chosen"].tolist() == [False, True, False]


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(FitError, match="^1 failed"):
        select(MODELS, datasets.earthquakes(), method=failing(1, 2, 3))
    with pytest.raises(FitError, match="at least one model"):
        select([], datasets.earthquakes())
    with pytest.raises(FitError, match="criterion must be 'aic' or 'bic', got 'waic'"):
        select(MODELS, datasets.earthquakes(), criterion="waic")


def test_an_interrupt_keeps_what_there_is() -> None:
    found = select(MODELS, datasets.earthquakes(), method=failing(2, error=KeyboardInterrupt))
    assert [candidate.model.states for candidate in found.candidates] == [1]
    with pytest.raises(KeyboardInterrupt):
        select(MODELS, datasets.earthquakes(), method=failing(1, error=KeyboardInterrupt))


def test_a_warning_names_its_model() -> None:
    with pytest.warns(UserWarning, match="^2 states: EM did not converge"):
        select(MODELS[1:2], datasets.earthquakes(), restarts=1, max_iterations=1, polished=False)
