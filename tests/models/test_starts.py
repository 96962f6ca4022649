"""Where EM starts, and the M-step of a stationary chain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from probseq import HMM, Sequences, families, stationary_law
from probseq.chains import FixedTransitions, ForbiddenTransitions, LeftRightTransitions, StationaryInitial
from probseq.chains.stationary_step import _objective, maximise_stationary

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(np.repeat([1.0, 6.0, 15.0], 30)).astype(float)


def starts(model: HMM, series: Sequences, seeds=(0, 1), attempts: int = 5):
    bound = model.bind(series, with_priors=True)
    return bound, {(attempt, seed): bound.start(series, attempt, seed) for attempt in range(attempts) for seed in seeds}


def test_every_start_of_every_family_is_a_usable_point(case):
    """Laws that sum to one, parameters in their support, a finite likelihood; the same again for the same seed."""
    bound, found = starts(case.model, case.series)
    for (attempt, seed), point in found.items():
        torch.testing.assert_close(point["initial"].sum(), torch.ones((), dtype=torch.float64))
        torch.testing.assert_close(point["transition"].sum(-1), torch.ones(2, dtype=torch.float64))
        assert (point["transition"] > 0).all()
        declared = bound.declared(point)
        for name, parameter in declared.items():
            assert bool(parameter.constraint.check(point[name]).all()), (name, attempt)
        again = bound.start(case.series, attempt, seed)
        assert all(torch.equal(again[name], value) for name, value in point.items())


def test_the_first_start_knows_no_seed_and_the_others_do():
    _, found = starts(HMM(3, families.Poisson()), Sequences.from_arrays(COUNTS))
    assert torch.equal(found[0, 0]["rate"], found[0, 1]["rate"])
    for attempt in range(1, 5):
        assert not torch.equal(found[attempt, 0]["transition"], found[attempt, 1]["transition"])
    stays = [found[attempt, 0]["transition"].diagonal() for attempt in range(1, 5)]
    assert all(len(set(stay.tolist())) == 3 for stay in stays)


def test_the_first_start_is_groups_of_equal_counts():
    """Thirds of the ranks: their means, mixed with a fifth of the whole, as the states are softened."""
    _, found = starts(HMM(3, families.Poisson()), Sequences.from_arrays(COUNTS), attempts=1)
    ranked = np.sort(COUNTS)
    thirds = np.array([part.mean() for part in np.split(ranked, 3)])
    # Ties may carry a few values over the edge of a third.
    soft = 0.8 * thirds + 0.2 * COUNTS.mean()
    assert found[0, 0]["rate"].tolist() == pytest.approx(soft.tolist(), rel=0.15)


@pytest.mark.parametrize(
    "transition",
    [
        LeftRightTransitions(),
        ForbiddenTransitions(((0, 2), (2, 0))),
        FixedTransitions(((0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.0, 0.0, 1.0))),
    ],
    ids=["left-right", "forbidden", "fixed"],
)
def test_starts_honour_the_structure(transition):
    model = HMM(3, families.Poisson(), transition=transition)
    allowed = transition.concentration(3) > 0
    for point in starts(model, Sequences.from_arrays(COUNTS))[1].values():
        assert ((point["transition"] > 0) == allowed).all()


def test_left_right_states_follow_time():
    model = HMM(3, families.Poisson(), transition=LeftRightTransitions())
    for direction in (1, -1):
        _, found = starts(model, Sequences.from_arrays(COUNTS[::direction].copy()), attempts=1)
        assert found[0, 0]["rate"].tolist() == sorted(found[0, 0]["rate"].tolist(), reverse=direction < 0)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [0.0, 1.0]])
def test_fewer_values_than_states(values):
    bound = HMM(3, families.Poisson()).bind(Sequences.from_arrays(values), with_priors=True)
    for attempt in range(4):
        point = bound.start(Sequences.from_arrays(values), attempt, 0)
        assert torch.isfinite(point["rate"]).all() and point["rate"].shape == (3,)


def test_symbols_in_blocks():
    """Two stretches of unlike composition: the first start finds each."""
    codes = np.concatenate([RNG.choice(4, 3000, p=[0.7, 0.1, 0.1, 0.1]), RNG.choice(4, 3000, p=[0.1, 0.1, 0.1, 0.7])])
    series = Sequences(torch.from_numpy(codes.astype(np.uint8)), torch.tensor([6000]), categories=tuple("ACGT"))
    _, found = starts(HMM(2, families.Categorical()), series, attempts=1)
    share = found[0, 0]["probabilities"][:, 0].sort().values
    assert share[0] < 0.25 and share[1] > 0.55
    assert (found[0, 0]["transition"].diagonal() > 0.9).all()


# ---- the stationary M-step -----------------------------------------------------------------------------------------


def problem(seed: int, states: int = 3, zero: bool = False):
    generator = torch.Generator().manual_seed(seed)
    moves = 20.0 * torch.rand(states, states, generator=generator, dtype=torch.float64)
    first = torch.rand(states, generator=generator, dtype=torch.float64) + 0.1
    if zero:
        moves[0, states - 1] = 0.0
    current = (moves + 5.0) * (moves > 0)
    return first / first.sum(), moves, current / current.sum(-1, keepdim=True)


def objective(matrix: torch.Tensor, first: torch.Tensor, moves: torch.Tensor) -> float:
    """sum moves log A + sum first log delta(A), as written, by the public stationary law."""
    used = moves > 0
    return float((moves[used] * matrix[used].log()).sum() + (first * stationary_law(matrix).log()).sum())


@pytest.mark.parametrize("zero", [False, True])
def test_value_and_gradient(zero):
    """The hand-made gradient against central differences in the logits."""
    first, moves, current = problem(0, zero=zero)
    value, weighted = _objective(current.numpy(), first.numpy(), moves.numpy())
    assert value == pytest.approx(objective(current, first, moves), abs=1e-11)
    free = current > 0
    gradient = weighted - current.numpy() * weighted.sum(1, keepdims=True)
    logits = torch.where(free, current.log(), -torch.inf)
    for i, j in free.nonzero().tolist():
        sides = []
        for sign in (1, -1):
            moved = logits.clone()
            moved[i, j] += sign * 1e-5
            sides.append(objective(moved.softmax(-1), first, moves))
        assert gradient[i, j] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zero", [False, True])
def test_repeated_steps_reach_the_maximum_that_another_optimiser_finds(seed, zero):
    first, moves, current = problem(seed, zero=zero)
    concentration = (current > 0).double()
    candidate = moves / moves.sum(-1, keepdim=True)
    value, matrix = objective(current, first, moves), current
    for _ in range(20):
        matrix = maximise_stationary(first, moves, matrix, candidate, concentration, False)
        assert objective(matrix, first, moves) >= value - 1e-12
        value = objective(matrix, first, moves)
    assert ((matrix > 0) == (current > 0)).all()
    free = current > 0

    def loss(point: np.ndarray) -> float:
        logits = torch.full((3, 3), -torch.inf, dtype=torch.float64)
        logits[free] = torch.from_numpy(point)
        return -objective(logits.softmax(-1), first, moves)

    found = optimize.minimize(
        loss,
        current[free].log().numpy(),
        method="Nelder-Mead",
        options={"maxfev": 20_000, "fatol": 1e-10, "xatol": 1e-8, "adaptive": True},
    )
    assert value >= -found.fun - 1e-6


def test_one_step_of_em_with_a_stationary_start_rises():
    series = Sequences.from_arrays(COUNTS)
    model = HMM(3, families.Poisson(), StationaryInitial()).bind(series)
    point = model.start(series, 0, 0)
    values = []
    for _ in range(6):
        counts = model.expect(point, series)
        values.append(counts.log_likelihood)
        point = model.maximise(point, counts, False, series)
        torch.testing.assert_close(point["initial"], stationary_law(point["transition"]))
    assert np.all(np.diff(values) > 0)
