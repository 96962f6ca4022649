"""Starts and their ends: collapse, interrupts, restarts in one process and in two, seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from probseq import HMM, FitError, Sequences, em, families
from probseq.chains import (
    FixedInitial,
    FixedTransitions,
    ForbiddenTransitions,
    FreeInitial,
    LeftRightTransitions,
    SemiMarkovTransitions,
    ShiftedPoisson,
    StationaryInitial,
    StickyTransitions,
    stationary_law,
)
from probseq.inference.climbing import remaining_gain

SPIKE = [0.0] * 12 + [1.3, 1.9, 0.7, 1.1, 1.6, 0.4, 2.2, 1.0, 0.9, 1.4]
"""Twelve equal values, on which a Gaussian state may collapse."""


# ---- collapse ------------------------------------------------------------------------------------------------------


def spike() -> Sequences:
    return Sequences.from_arrays(np.array(SPIKE))


def test_maximum_likelihood_that_collapses_everywhere_raises_with_the_remedy():
    with pytest.raises(FitError, match=r"every state usable, got a collapsed state from each of 3 starts.*priors=True"):
        em(HMM(2, families.Gaussian()), spike(), priors=False, restarts=3, workers=1)


def test_priors_prevent_the_collapse():
    fit = em(HMM(2, families.Gaussian()), spike(), priors=True, restarts=3, workers=1)
    assert (fit.parameters["scale"] > 1e-3).all()
    assert fit.with_priors and all(math.isfinite(attempt.objective) for attempt in fit.attempts)


def test_unless_refused_the_fit_falls_back_on_priors_and_says_so():
    with pytest.warns(UserWarning, match=r"collapsed from every start.*fitted with the model's priors"):
        fit = em(HMM(2, families.Gaussian()), spike(), restarts=2, workers=1)
    asked = em(HMM(2, families.Gaussian()), spike(), priors=True, restarts=2, workers=1)
    assert fit.with_priors and fit.log_likelihood == pytest.approx(asked.log_likelihood, abs=1e-9)


def test_one_collapsed_start_among_others_is_reported_and_passed_over(monkeypatch):
    """The second start has a state on a single point; the others are sound."""
    values = np.concatenate([np.random.default_rng(0).normal(m, 1.0, 60) for m in (0.0, 4.0)])
    model, series = HMM(2, families.Gaussian()), Sequences.from_arrays(values)
    plain = HMM.start

    def start(self, data, attempt, seed):
        found = plain(self, data, attempt, seed)
        if attempt != 1:
            return found
        loc = torch.tensor([float(values[7]), 2.0], dtype=torch.float64)
        return found | {"loc": loc, "scale": torch.tensor([1e-9, 2.0], dtype=torch.float64)}

    monkeypatch.setattr(HMM, "start", start)
    fit = em(model, series, restarts=3, workers=1)
    assert [math.isnan(attempt.objective) for attempt in fit.attempts] == [False, True, False]
    assert "state 0" in fit.attempts[1].stop_reason
    assert (fit.parameters["scale"] > 0.5).all()


def test_a_fall_of_the_objective_in_a_collapsed_state_is_a_collapse(monkeypatch):
    """However a climb ends, its last state is looked at: rounding may lower the objective once a state is a point."""
    plain, calls = HMM.expect, [0]

    def expect(self, *args):
        calls[0] += 1
        found = plain(self, *args)
        return replace(found, log_likelihood=found.log_likelihood - 1e3 * (calls[0] > 1))

    monkeypatch.setattr(HMM, "expect", expect)
    start = {
        "initial": torch.tensor([0.5, 0.5], dtype=torch.float64),
        "transition": torch.full((2, 2), 0.5, dtype=torch.float64),
        "loc": torch.tensor([0.0, 1.3], dtype=torch.float64),
        "scale": torch.tensor([1e-8, 0.5], dtype=torch.float64),
    }
    with pytest.raises(FitError, match="state 0 has collapsed onto one value"):
        em(HMM(2, families.Gaussian()), spike(), start=start, priors=False)
    assert calls[0] == 2


# ---- interrupts ----------------------------------------------------------------------------------------------------


def interrupted_at(monkeypatch, call: int) -> None:
    """The E-step raises Ctrl-C at its call of this number."""
    plain, calls = HMM.expect, [0]

    def expect(self, *args):
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(HMM, "expect", expect)


def test_an_interrupt_returns_the_fit_so_far(monkeypatch, poisson):
    options = {"start": poisson.truth, "tolerance": 0.0}
    with pytest.warns(UserWarning, match="max_iterations = 4"):
        four = em(poisson.model, poisson.series, max_iterations=4, polished=False, **options)
    interrupted_at(monkeypatch, 5)
    with pytest.warns(UserWarning, match="EM did not converge: interrupted"):
        fit = em(poisson.model, poisson.series, **options)
    assert (fit.stop_reason, fit.converged, fit.iterations) == ("interrupted", False, 4)
    assert fit.log_likelihood == four.log_likelihood
    for name, value in four.parameters.items():
        assert torch.equal(fit.parameters[name], value)


def test_an_interrupt_in_a_later_start_keeps_the_best(monkeypatch, poisson):
    alone = em(poisson.model, poisson.series, restarts=1, polished=False, tolerance=1e-5)
    interrupted_at(monkeypatch, alone.iterations + 3)
    fit = em(poisson.model, poisson.series, restarts=4, workers=1, polished=False, tolerance=1e-5)
    assert fit.log_likelihood == alone.log_likelihood
    assert [attempt.stop_reason for attempt in fit.attempts][1:] == ["interrupted"]


def test_an_interrupt_before_anything_is_known_goes_through(monkeypatch, poisson):
    interrupted_at(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        em(poisson.model, poisson.series, restarts=1)


# ---- restarts ------------------------------------------------------------------------------------------------------


def test_restarts_are_reported_and_the_best_is_kept(poisson):
    fit = em(poisson.model, poisson.series, restarts=4, workers=1, polished=False, tolerance=1e-5)
    assert [attempt.number for attempt in fit.attempts] == [0, 1, 2, 3]
    best = max(attempt.objective for attempt in fit.attempts)
    assert float(fit.objective[-1]) >= best
    for attempt in fit.attempts:
        assert attempt.iterations > 0 and attempt.stop_reason.startswith("converged")


def test_the_first_start_is_the_same_for_every_seed_and_the_others_are_not(poisson):
    with pytest.warns(UserWarning, match="max_iterations = 2"):
        fits = [
            em(poisson.model, poisson.series, restarts=3, seed=seed, max_iterations=2, workers=1, polished=False)
            for seed in (0, 1, 0)
        ]
    objectives = [[attempt.objective for attempt in fit.attempts] for fit in fits]
    assert objectives[0] == objectives[2]
    assert objectives[0][0] == objectives[1][0]
    assert objectives[0][1] != objectives[1][1] and objectives[0][2] != objectives[1][2]


@pytest.mark.slow
def test_two_processes_give_the_fit_of_one(case):
    one, two = (em(case.model, case.series, restarts=4, seed=7, workers=workers, priors=True) for workers in (1, 2))
    assert [a.objective for a in one.attempts] == pytest.approx([a.objective for a in two.attempts], abs=1e-9)
    for name, value in one.parameters.items():
        torch.testing.assert_close(two.parameters[name], value, rtol=1e-9, atol=1e-12)


def test_restarts_must_be_at_least_one(poisson):
    with pytest.raises(FitError, match="restarts must be at least 1, got 0"):
        em(poisson.model, poisson.series, restarts=0)


def test_the_gain_still_to_come_of_a_geometric_series():
    """Partial sums of 1 + r + r^2 + ...: Aitken's rule finds the rest of it exactly."""
    for rate in (0.1, 0.5, 0.99):
        sums = np.cumsum(rate ** np.arange(8)).tolist()
        rest = rate**8 / (1 - rate)
        assert remaining_gain(sums) == pytest.approx(rest, rel=1e-6)
    assert remaining_gain([0.0, 1.0, 3.0]) == math.inf  # still speeding up
    assert remaining_gain([1.0, 1.0]) == 0.0


# ---- structure of the laws -----------------------------------------------------------------------------------------


def three_regimes() -> Sequences:
    """Counts of three regimes in turn, twice over."""
    rng = np.random.default_rng(4)
    return Sequences.from_arrays([np.concatenate([rng.poisson(rate, 25) for rate in (1, 6, 15)]) for _ in range(2)])


MATRIX = ((0.9, 0.1, 0.0), (0.0, 0.9, 0.1), (0.1, 0.0, 0.9))
STRUCTURES = {
    "sticky": (FreeInitial(), StickyTransitions(extra=20.0), [[1, 1, 1]] * 3, 2 + 6),
    "left-right": (FixedInitial((1.0, 0.0, 0.0)), LeftRightTransitions(), [[1, 1, 0], [0, 1, 1], [0, 0, 1]], 2),
    "left-right, free": (FreeInitial(), LeftRightTransitions(2), [[1, 1, 1], [0, 1, 1], [0, 0, 1]], 2 + 3),
    "forbidden": (FreeInitial(), ForbiddenTransitions(((0, 2), (2, 0))), [[1, 1, 0], [1, 1, 1], [0, 1, 1]], 2 + 4),
    "forbidden, stationary": (
        StationaryInitial(),
        ForbiddenTransitions(((0, 2), (2, 1))),
        [[1, 1, 0], [1, 1, 1], [1, 0, 1]],
        4,
    ),
    "fixed": (FixedInitial((1.0, 0.0, 0.0)), FixedTransitions(MATRIX), [[1, 1, 0], [0, 1, 1], [1, 0, 1]], 0),
    "stationary": (StationaryInitial(), None, [[1, 1, 1]] * 3, 6),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("priors", [False, True])
def test_structures_are_kept_from_start_to_end(name, priors):
    initial, transition, allowed, free = STRUCTURES[name]
    model = HMM(3, families.Poisson(), initial=initial)
    model = model if transition is None else replace(model, transition=transition)
    fit = em(model, three_regimes(), priors=priors, restarts=2, workers=1, tolerance=1e-5)
    assert (fit.objective.diff() >= -1e-8 * fit.objective[1:].abs()).all()
    assert (fit.parameters["transition"][~torch.tensor(allowed, dtype=torch.bool)] == 0).all()
    torch.testing.assert_close(fit.parameters["transition"].sum(-1), torch.ones(3, dtype=torch.float64))
    assert fit.n_parameters == free + 3
    if isinstance(initial, StationaryInitial):
        torch.testing.assert_close(fit.parameters["initial"], stationary_law(fit.parameters["transition"]))
    if isinstance(initial, FixedInitial):
        assert fit.parameters["initial"].tolist() == [1.0, 0.0, 0.0]
    if name == "fixed":
        assert fit.parameters["transition"].tolist() == [list(row) for row in MATRIX]


def test_a_sticky_prior_lengthens_the_stays():
    series = three_regimes()
    free = em(HMM(3, families.Poisson()), series, priors=True, restarts=1)
    sticky = em(HMM(3, families.Poisson(), transition=StickyTransitions(extra=200.0)), series, priors=True, restarts=1)
    assert (sticky.parameters["transition"].diagonal() > free.parameters["transition"].diagonal()).all()


def test_left_right_states_keep_their_order_of_time():
    """Falling counts: the states stay in the order of the chain, not of their means."""
    rng = np.random.default_rng(4)
    falling = np.concatenate([rng.poisson(rate, 25) for rate in (15, 6, 1)])
    model = HMM(3, families.Poisson(), initial=FixedInitial((1.0, 0.0, 0.0)), transition=LeftRightTransitions())
    fit = em(model, Sequences.from_arrays(falling), restarts=1)
    assert fit.parameters["rate"].tolist() == sorted(fit.parameters["rate"].tolist(), reverse=True)
    assert fit.posterior(Sequences.from_arrays(falling)).viterbi.diff().min() >= 0


# ---- impossible series ---------------------------------------------------------------------------------------------


def test_labels_that_no_duration_allows_are_named_with_their_step():
    """Twenty-two labelled steps in one state, where a segment lasts five at most: the sixth is impossible."""
    labels = np.array([0] * 4 + [1] * 22 + [0] * 4)
    values = np.random.default_rng(0).normal(size=60)
    series = Sequences.from_arrays(values, lengths=[30, 30], labels=np.concatenate([np.full(30, -1), labels]))
    model = HMM(2, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedPoisson(max=5)))
    place = f"probability zero at step 9 of sequence {series.ids[1]!r}; check the value and the label there"
    for priors in (None, False, True):
        with pytest.raises(
            FitError, match=f"A series to fit must be possible under the model's structure, got {place}"
        ):
            em(model, series, priors=priors, restarts=2, workers=1)


def test_labels_of_a_forbidden_move_are_named_where_they_count():
    """A sequence of weight zero may be impossible; the first that counts is named."""
    labels = np.array([0, 1, 2, 0] * 2 + [0, 1, -1, 2, 1])
    model = HMM(3, families.Poisson(), transition=ForbiddenTransitions(((2, 0), (2, 1))))
    options = {"lengths": [4, 4, 5], "labels": labels, "ids": ["left out", "first", "last"]}
    counts = np.arange(13) % 4
    series = Sequences.from_arrays(counts, weights=[0.0, 1.0, 1.0], **options)
    with pytest.raises(FitError, match="probability zero at step 3 of sequence 'first'"):
        em(model, series, restarts=1)
    series = Sequences.from_arrays(counts, weights=[0.0, 0.0, 1.0], **options)
    with pytest.raises(FitError, match="probability zero at step 4 of sequence 'last'"):
        em(model, series, restarts=1)


def test_a_start_that_makes_the_series_impossible_is_no_collapse(poisson):
    start = poisson.truth | {"rate": torch.tensor([0.0, 0.0], dtype=torch.float64)}
    with pytest.raises(FitError, match=r"possible under the model's structure.*zeros among given probabilities"):
        em(poisson.model, poisson.series, start=start)
