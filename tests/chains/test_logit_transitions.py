"""Logit transitions with a regression of the emissions, against the sum over all paths written out by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch import Tensor

from probseq import HMM, Design, Fit, ModelError, Season, Sequences, em, families, marginalize, svi
from probseq.chains import FreeTransitions, LogitTransitions, StationaryInitial
from probseq.chains.logit_transitions import SITE, matrices, maximise_logit
from probseq.families import Gaussian, Hurdle, Regression
from probseq.inference.descriptions import describe, rebuild

DESIGN = Design(("a",), (Season(3),))
# Sums of at most 3^5 positive terms, of log-probabilities of order 10: a few hundred roundings of 1e-16.
EXACT = 1e-10


def make(states: int, seed: int = 1) -> tuple[HMM, Sequences, dict[str, Tensor]]:
    """Sequences of 5 and 3 steps, one of them missing, and parameters at random."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    observed = torch.ones(8, dtype=torch.bool)
    observed[2] = False
    values = normal(8)
    values[torch.tensor([1, 6])] = 0.0
    series = Sequences.from_arrays(
        torch.where(observed, values, torch.nan), lengths=[5, 3], covariates=normal(8, 1), covariate_names=["a"]
    )
    emission = Regression(Hurdle(Gaussian()), DESIGN, ("nonzero", "loc"))
    model = HMM(states, emission, transition=LogitTransitions(DESIGN))
    parameters = {"initial": normal(states).softmax(-1), SITE: normal(states, states - 1, 4)}
    parameters |= {name: normal(states, *one.shape) for name, one in emission.parameters().items()}
    parameters["scale"] = parameters["scale"].exp()
    return model, series, parameters


def rows_by_hand(series: Sequences) -> Tensor:
    """(T, P) the design, from its definition."""
    assert series.covariates is not None
    step = torch.cat([torch.arange(int(length)) for length in series.lengths]).double()
    angle = 2 * torch.pi * step / 3
    return torch.stack([torch.ones_like(angle), series.covariates[:, 0], angle.cos(), angle.sin()], 1)


def matrix_by_hand(coefficients: Tensor, row: Tensor) -> Tensor:
    """(K, K) at one design row, entry by entry."""
    states = len(coefficients)
    result = []
    for i in range(states):
        others = [j for j in range(states) if j != i]
        odds = {j: (coefficients[i, place] * row).sum().exp() for place, j in enumerate(others)}
        odds[i] = torch.ones((), dtype=torch.float64)
        result.append(torch.stack([odds[j] / sum(odds.values()) for j in range(states)]))
    return torch.stack(result)


def emission_by_hand(parameters: dict[str, Tensor], y: Tensor, row: Tensor, state: int) -> Tensor:
    wet = torch.sigmoid((parameters["nonzero_coefficients"][state] * row).sum())
    if float(y) == 0:
        return (1 - wet).log()
    loc = (parameters["loc_coefficients"][state] * row).sum()
    return wet.log() + torch.distributions.Normal(loc, parameters["scale"][state]).log_prob(y)


def paths_by_hand(model: HMM, series: Sequences, parameters: dict[str, Tensor]) -> list[dict[tuple[int, ...], Tensor]]:
    """The joint log-probability of every path of each sequence."""
    rows, result = rows_by_hand(series), []
    for start, length in zip(series.offsets.tolist(), series.lengths.tolist(), strict=False):
        moves = [matrix_by_hand(parameters[SITE], rows[t]) for t in range(start, start + length)]
        joint = {}
        for path in itertools.product(range(model.states), repeat=length):
            total = parameters["initial"][path[0]].log()
            for place, state in enumerate(path):
                if place:
                    total = total + moves[place][path[place - 1], state].log()
                if bool(series.step_observed[start + place]):
                    total = total + emission_by_hand(
                        parameters, series.values[start + place], rows[start + place], state
                    )
            joint[path] = total
        result.append(joint)
    return result


@pytest.mark.parametrize("states", [1, 2, 3])
def test_log_prob_and_gradient_are_those_of_the_sum_over_paths(states: int) -> None:
    model, series, parameters = make(states)
    leaves = {name: value.requires_grad_() for name, value in parameters.items() if value.numel()}
    joints = paths_by_hand(model, series, parameters)
    expected = torch.stack([torch.stack(list(joint.values())).logsumexp(0) for joint in joints])
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(parameters, series), expected, rtol=EXACT, atol=EXACT)
    found = model.log_joint(parameters, series, priors=False)
    torch.testing.assert_close(found, expected.sum(), rtol=EXACT, atol=EXACT)
    wanted = torch.autograd.grad(expected.sum(), list(leaves.values()))
    for one, other in zip(torch.autograd.grad(found, list(leaves.values())), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=EXACT, atol=EXACT)


def test_first_and_second_derivatives() -> None:
    model, series, parameters = make(2)
    leaves = tuple(value.requires_grad_() for value in parameters.values())

    def evidence(*values: Tensor) -> Tensor:
        return model.log_joint(dict(zip(parameters, values, strict=True)), series, priors=False)

    torch.autograd.gradcheck(evidence, leaves)
    torch.autograd.gradgradcheck(evidence, leaves)


@pytest.mark.parametrize("states", [2, 3])
def test_posterior_and_expected_moves(states: int) -> None:
    model, series, parameters = make(states)
    joints = paths_by_hand(model, series, parameters)
    rows, index = DESIGN.rows(series)
    moves = torch.zeros(len(rows), states, states, dtype=torch.float64)
    smoothed = torch.zeros(8, states, dtype=torch.float64)
    best = []
    for start, joint in zip(series.offsets.tolist(), joints, strict=False):
        total = torch.stack(list(joint.values())).logsumexp(0)
        best += max(joint, key=lambda path: float(joint[path]))
        for path, value in joint.items():
            chance = float((value - total).exp())
            for place, state in enumerate(path):
                smoothed[start + place, state] += chance
                if place:
                    moves[int(index[start + place]), path[place - 1], state] += chance
    found = model.posterior(parameters, series)
    torch.testing.assert_close(found.smoothed, smoothed, rtol=EXACT, atol=EXACT)
    assert found.viterbi.tolist() == best
    torch.testing.assert_close(model.expect(parameters, series).chain.moves, moves, rtol=EXACT, atol=EXACT)


def test_the_program_scores_the_same() -> None:
    model, series, parameters = make(2)
    bound = model.bind(series, with_priors=True)
    import pyro
    from pyro import poutine

    trace = poutine.trace(pyro.condition(marginalize(bound.program), parameters)).get_trace(series)
    expected = bound.log_joint(parameters, series, priors=True)
    torch.testing.assert_close(trace.log_prob_sum(), expected, rtol=EXACT, atol=EXACT)


def test_draws_are_a_leading_dimension() -> None:
    model, series, first = make(3, seed=1)
    second = make(3, seed=2)[2]
    both = {name: torch.stack([first[name], second[name]]) for name in first}
    expected = torch.stack([model.log_prob(first, series), model.log_prob(second, series)])
    torch.testing.assert_close(model.log_prob(both, series), expected, rtol=EXACT, atol=EXACT)


def logit_problem(states: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    moves = 5 * torch.rand(20, states, states, generator=generator, dtype=torch.float64)
    rows = torch.cat([torch.ones(20, 1), torch.randn(20, 2, generator=generator)], 1).double()
    return moves, rows, torch.randn(states, states - 1, 3, generator=generator, dtype=torch.float64)


def loss_by_hand(flat: np.ndarray, moves: np.ndarray, rows: np.ndarray, row: int, precision: np.ndarray) -> float:
    """Minus the objective of one row of the matrix."""
    states = moves.shape[1]
    coefficients = flat.reshape(states - 1, -1)
    logits = np.insert(rows @ coefficients.T, row, 0.0, axis=1)
    return -float(
        (moves[:, row] * special.log_softmax(logits, axis=1)).sum() - 0.5 * (precision * coefficients**2).sum()
    )


@pytest.mark.parametrize("states", [2, 3, 4])
@pytest.mark.parametrize("precision", [[0.0, 0.0, 0.0], [0.01, 0.16, 4.0]])
def test_the_m_step_is_scipys_optimum(states: int, precision: list[float]) -> None:
    moves, rows, start = logit_problem(states)
    found = maximise_logit(moves, rows, start, torch.tensor(precision).double())
    for row in range(states):
        arguments = (moves.numpy(), rows.numpy(), row, np.array(precision))
        best = optimize.minimize(loss_by_hand, np.zeros((states - 1) * 3), arguments, "BFGS", options={"gtol": 1e-8})
        assert loss_by_hand(found[row].numpy(), *arguments) <= best.fun + 1e-11 * abs(best.fun)
        # BFGS with numerical slopes stops within 1e-5 of the optimum
        assert found[row].flatten().numpy() == pytest.approx(best.x, abs=1e-4)
        slopes = optimize.approx_fprime(found[row].flatten().numpy(), loss_by_hand, 1e-6, *arguments)
        assert np.abs(slopes).max() < 1e-3


def test_the_m_step_never_goes_down_and_keeps_what_is_never_left() -> None:
    for seed in range(5):
        moves, rows, start = logit_problem(3, seed)
        moves = torch.where(moves < 3.5, 0.0, moves)  # sparse counts: perfect prediction, no finite optimum
        moves[:, 1] = 0.0
        start = 20 * start
        found = maximise_logit(moves, rows, start, torch.zeros(3).double())
        assert bool(found.isfinite().all()) and torch.equal(found[1], start[1])
        for row in range(3):
            arguments = (moves.numpy(), rows.numpy(), row, np.zeros(3))
            assert loss_by_hand(found[row].numpy(), *arguments) <= loss_by_hand(start[row].numpy(), *arguments)


def test_an_empty_design_is_one_free_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    counts = torch.rand(1, 3, 3, generator=generator, dtype=torch.float64)
    found = maximise_logit(counts, torch.ones(1, 1).double(), torch.zeros(3, 2, 1).double(), torch.zeros(1).double())
    matrix = matrices(found, torch.ones(1, 1).double())[0]
    torch.testing.assert_close(matrix, counts[0] / counts[0].sum(1, keepdim=True), rtol=1e-9, atol=1e-12)
    law, stay, jitter = LogitTransitions(), torch.tensor([0.9, 0.8, 0.6]).double(), counts[0] + 0.1
    series = Sequences.from_arrays(torch.zeros(4))
    started = law.tables(law.start(3, stay, jitter, series), series)[0][0]
    free = FreeTransitions().start(3, stay, jitter, series)["transition"]
    torch.testing.assert_close(started, free, rtol=1e-12, atol=1e-12)


def test_relabelled_states_are_the_same_model() -> None:
    model, series, parameters = make(3)
    order = torch.tensor([2, 0, 1])
    moved = {name: value[order] for name, value in parameters.items() if name != SITE}
    moved |= model.transition.relabelled(parameters, order)
    torch.testing.assert_close(model.log_prob(moved, series), model.log_prob(parameters, series), rtol=EXACT, atol=0)


def test_the_law_as_json_and_what_it_refuses() -> None:
    law = LogitTransitions(DESIGN, scale=1.0)
    assert rebuild(json.loads(json.dumps(describe(law)))) == law
    assert law.n_parameters(3) == 24
    model, series, parameters = make(2)
    with pytest.raises(ModelError, match="stationary law must belong to moves that are the same at every step"):
        em(dataclasses.replace(model, initial=StationaryInitial()), series, restarts=1)
    with pytest.raises(ModelError, match="must be asked for with a series"):
        model.transition.tables(parameters, None)
    with pytest.raises(ModelError, match="scale of a prior must be positive"):
        LogitTransitions(DESIGN, scale=0.0)
    with pytest.raises(ModelError, match="must have a design"):
        LogitTransitions("year")  # type: ignore[arg-type]


def simulated(steps: int, seed: int) -> tuple[HMM, Sequences, dict[str, Tensor]]:
    """A two-state Poisson regression with moves that depend on a covariate and a season, and its truth."""
    rng = np.random.default_rng(seed)
    design = Design(("a",), (Season(50),))
    a = rng.normal(size=steps)
    blank = Sequences.from_arrays(np.zeros(steps), covariates=a[:, None], covariate_names=["a"])
    rows, index = design.rows(blank)
    x = rows.numpy()[index]
    truth = {
        SITE: torch.tensor([[[-2.0, 0.8, 0.5, -0.5]], [[-1.5, -0.6, 0.0, 0.7]]]).double(),
        "rate_coefficients": torch.tensor([[0.3, 0.3, 0.0, 0.2], [2.0, -0.2, 0.3, 0.0]]).double(),
    }
    leave = special.expit(x @ truth[SITE][:, 0].numpy().T)
    rate = np.exp(x @ truth["rate_coefficients"].numpy().T)
    state, counts = 0, np.empty(steps)
    for t in range(steps):
        if t and rng.uniform() < leave[t, state]:
            state = 1 - state
        counts[t] = rng.poisson(rate[t, state])
    model = HMM(2, Regression(families.Poisson(), design), transition=LogitTransitions(design))
    return model, dataclasses.replace(blank, values=torch.from_numpy(counts)), truth


def test_em_climbs_to_a_point_without_slope() -> None:
    model, series, _ = simulated(300, seed=1)
    fit = em(model, series, restarts=1, priors=True)
    trace = fit.objective
    assert fit.converged and bool((trace.diff() >= -1e-9 * trace[:-1].abs()).all())
    coordinates = fit.model.coordinates(fit.parameters)
    u = coordinates.pack().requires_grad_()
    (slope,) = torch.autograd.grad(fit.model.log_joint(coordinates.unpack(u), series, priors=True), u)
    free = slope[slope.abs() > 0]
    assert float(free.abs().max()) < 0.02  # of an objective of order 1000, flat in the corner of the first state


@pytest.mark.slow
def test_recovery_of_coefficients() -> None:
    model, series, truth = simulated(20_000, seed=2)
    fit = em(model, series, restarts=1)
    coordinates = fit.model.coordinates(fit.parameters)
    point = coordinates.pack()
    for name, value in truth.items():
        # standard errors are about 0.03 (moves) and 0.01 (rates) at this length; five of them
        bound = 0.15 if name == SITE else 0.05
        assert (fit.parameters[name] - value).abs().max() < bound, name
    assert bool(point.isfinite().all())


# ---- what comes next: simulated and forecast along seasons and covariates ------------------------------------------


def known_fit(model: HMM, series: Sequences, parameters: dict[str, Tensor]) -> Fit:
    """A fit that stands at these parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one iteration does not converge
        fit = em(model, series, start=parameters, max_iterations=1, priors=True, polished=False)
    draws = {name: value.unsqueeze(0) for name, value in parameters.items()}
    return dataclasses.replace(fit, parameters=parameters, draws=draws)


def test_a_forecast_is_the_mixture_over_all_paths_at_the_covariates_to_come() -> None:
    model, series, parameters = make(2)
    ahead = torch.tensor([[0.3], [-1.1], [0.8], [0.0]]).double()
    found = known_fit(model, series, parameters).forecast(series, 2, (0.5,), covariates=ahead.numpy())
    longer = series.future(2, ahead.numpy())
    rows = rows_by_hand(longer)
    joints = paths_by_hand(model, longer, parameters)
    for number, (end, joint) in enumerate(zip(longer.offsets.tolist()[1:], joints, strict=True)):
        total = torch.stack(list(joint.values())).logsumexp(0)
        for back in (2, 1):
            line = found.iloc[2 * number + 2 - back]
            row, mean = rows[end - back], 0.0
            for state in range(2):
                chance = sum(float((value - total).exp()) for path, value in joint.items() if path[-back] == state)
                assert line[f"probability_{state}"] == pytest.approx(chance, abs=1e-10)
                wet = torch.sigmoid((parameters["nonzero_coefficients"][state] * row).sum())
                mean += chance * float(wet * (parameters["loc_coefficients"][state] * row).sum())
            assert line["mean"] == pytest.approx(mean, abs=1e-10)


def test_simulations_follow_the_season_and_the_covariate() -> None:
    """Shares of 20,000 steps at each design row against the chain's own law there, within five standard errors."""
    model, _, parameters = make(2)
    steps = 20_000
    a = np.where(np.arange(steps) % 6 < 3, 0.5, -0.5)
    blank = Sequences.from_arrays(np.zeros(steps), covariates=a[:, None], covariate_names=["a"])
    series = make(2)[1]
    drawn = known_fit(model, series, parameters).simulate(blank, seed=3, labelled=True)
    rows, index = DESIGN.rows(drawn)
    assert drawn.labels is not None
    state, values = drawn.labels.numpy(), drawn.values.numpy()
    for place, row in enumerate(rows):
        matrix = matrix_by_hand(parameters[SITE], row)
        for left in range(2):
            moves = np.flatnonzero((index[1:] == place) & (state[:-1] == left)) + 1
            expected = float(matrix[left, 1])
            error = np.sqrt(expected * (1 - expected) / len(moves))
            assert abs((state[moves] == 1).mean() - expected) < 5 * error
            here = values[(index == place) & (state == left)]
            wet = float(torch.sigmoid((parameters["nonzero_coefficients"][left] * row).sum()))
            assert abs((here != 0).mean() - wet) < 5 * np.sqrt(wet * (1 - wet) / len(here))
            loc, scale = float((parameters["loc_coefficients"][left] * row).sum()), float(parameters["scale"][left])
            assert abs(here[here != 0].mean() - loc) < 5 * scale / np.sqrt((here != 0).sum())


def test_a_saved_fit_scores_the_same(tmp_path) -> None:
    model, series, parameters = make(2)
    fit = known_fit(model, series, parameters)
    again = Fit.load(fit.save(tmp_path / "fit"))
    assert isinstance(fit.model, HMM) and isinstance(again.model, HMM)
    assert dataclasses.replace(again.model, priors={}) == dataclasses.replace(fit.model, priors={})
    assert set(again.model.priors) == set(fit.model.priors)
    assert torch.equal(again.log_prob(series), fit.log_prob(series))


def test_svi_finds_the_mode_that_em_finds() -> None:
    model, series, _ = simulated(300, seed=1)
    mode = em(model, series, restarts=1, priors=True)
    found = svi(model, series, steps=1500, learning_rate=0.05, seed=1)
    for name in (SITE, "rate_coefficients"):  # Adam stops within a few thousandths of a flat mode
        torch.testing.assert_close(found.parameters[name], mode.parameters[name], rtol=0, atol=0.02)
