"""Choosing the number of states: the lowest criterion wins, failures are passed over, interrupts keep what there is."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from probseq import HMM, Fit, FitError, ModelError, Sequences, datasets, em, families
from probseq.chains.initial_laws import StationaryInitial
from probseq.inference.criteria import CRITERIA, criteria, icl
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
    with pytest.raises(FitError, match="criterion must be one of aic, aicc, bic, hqic, icl, got 'waic'"):
        select(MODELS, datasets.earthquakes(), criterion="waic")


def test_an_interrupt_keeps_what_there_is() -> None:
    found = select(MODELS, datasets.earthquakes(), method=failing(2, error=KeyboardInterrupt))
    assert [candidate.model.states for candidate in found.candidates] == [1]
    with pytest.raises(KeyboardInterrupt):
        select(MODELS, datasets.earthquakes(), method=failing(1, error=KeyboardInterrupt))


def test_a_warning_names_its_model() -> None:
    with pytest.warns(UserWarning, match="^2 states: EM did not converge"):
        select(MODELS[1:2], datasets.earthquakes(), restarts=1, max_iterations=1, polished=False)


def test_criteria_by_their_definitions() -> None:
    """AIC, AICc, BIC and HQIC from log L, p and n."""
    fits = {str(model.states): em(model, datasets.earthquakes(), restarts=3) for model in MODELS}
    table = criteria(fits)
    assert table.columns.tolist() == ["log_likelihood", "n_parameters", "observations", *CRITERIA]
    for name, fit in fits.items():
        p, n, deviance = fit.n_parameters, 107, -2.0 * fit.log_likelihood
        row = table.loc[name]
        assert (row["observations"], row["n_parameters"]) == (n, p)
        assert row["aic"] == pytest.approx(deviance + 2 * p)
        assert row["aicc"] == pytest.approx(deviance + 2 * p * n / (n - p - 1))  # the other way to write it
        assert row["bic"] == pytest.approx(deviance + p * math.log(n))
        assert row["hqic"] == pytest.approx(deviance + 2 * p * math.log(math.log(n)))
    assert table["icl"]["1"] == pytest.approx(table["bic"]["1"])  # one state leaves nothing in doubt
    assert (table["icl"] >= table["bic"] - 1e-9).all()


def test_icl_completes_the_likelihood_with_the_best_of_all_paths() -> None:
    """-2 max_z log p(y, z) + p log n, the maximum over all 2^9 paths, by numpy and scipy; a sequence counts twice."""
    values, weights = [[0.0, 6, 7, math.nan, 1, 0], [5.0, 0, 1]], torch.tensor([1.0, 2.0])
    series = Sequences.from_arrays(values, weights=weights)
    fit = em(HMM(2, families.Poisson()), series, restarts=2, priors=True)
    initial, moves, rate = (fit.parameters[name].numpy() for name in ("initial", "transition", "rate"))
    total = 0.0
    for sequence, weight in zip(values, weights.tolist(), strict=True):
        best = -math.inf
        for path in itertools.product(range(2), repeat=len(sequence)):
            joint = np.log(initial[path[0]]) + sum(np.log(moves[i, j]) for i, j in itertools.pairwise(path))
            seen = [(y, rate[k]) for y, k in zip(sequence, path, strict=True) if not math.isnan(y)]
            best = max(best, joint + sum(stats.poisson.logpmf(y, mean) for y, mean in seen))
        total += weight * best
    assert fit.observations == 11
    assert icl(fit) == pytest.approx(fit.n_parameters * math.log(11) - 2 * total, rel=1e-10)


def test_too_few_steps_for_the_correction_is_infinity() -> None:
    series = Sequences.from_arrays([[0.0, 9.0, 1.0, 8.0, 0.0]])
    fit = em(HMM(2, families.Poisson()), series, restarts=1, priors=True)
    assert fit.n_parameters == 5 and criteria(fit)["aicc"]["fit"] == math.inf


def test_icl_may_choose_fewer_states_than_bic() -> None:
    """Two rates that overlap: BIC takes both for what they add to the likelihood, ICL none it cannot tell apart."""
    rng = np.random.default_rng(1)
    series = Sequences.from_arrays([rng.poisson(np.where(rng.random(600) < 0.5, 4.0, 7.0))])
    by = {name: select(MODELS[:2], series, criterion=name, restarts=1) for name in ("bic", "icl")}
    assert by["bic"].best.model.states == 2 and by["icl"].best.model.states == 1  # type: ignore[union-attr]
    assert by["icl"].table["chosen"].tolist() == [True, False]


def test_models_of_other_steps_are_not_compared() -> None:
    series = Sequences.from_arrays([np.random.default_rng(0).normal(size=50)])
    short, long = HMM(1, families.Autoregression(1)), HMM(1, families.Autoregression(2))
    rule = r"select must compare models that score the same steps, got 49 steps of model 0 .* and 48 of model 1"
    with pytest.raises(ModelError, match=rule):
        select([short, long], series)
    fits = {"one lag": em(short, series, restarts=1), "two lags": em(long, series, restarts=1)}
    with pytest.raises(ModelError, match="criteria must .* got 49 steps of one lag and 48 of two lags"):
        criteria(fits)
    fits["one lag"] = em(short, series.split(1)[1], restarts=1)  # what the message asks for
    assert criteria(fits)["observations"].tolist() == [48, 48]
    assert select([short, HMM(2, families.Autoregression(1))], series, restarts=1, priors=True).best.observations == 49
