"""Chains that remember states and families that see earlier observations, against sums over all paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.ops.indexing import Vindex
from scipy import stats
from torch import Tensor
from torch.distributions import constraints

from probseq import HMM, DataError, Sequences, marginalize
from probseq.chains import FixedInitial, FreeInitial, StationaryInitial, stationary_law
from probseq.chains.composite import forget, over_codes, remember, remember_law, unfold
from probseq.context import Context
from probseq.families.family import Family, Parameter
from probseq.inference import em
from probseq.inference.fit import Fit

EXACT = {"rtol": 1e-11, "atol": 1e-11}
NAN = math.nan


@dataclass(frozen=True)
class Echo(Family):
    """y_t ~ Normal(level[z_t] + level[z_{t-1}] / 2 + pull y_{t-1}, 1): two states and one lag behind each value."""

    kind = "echo"
    context = Context(lags=1)
    memory = 2

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        return {"level": Parameter(constraints.real), "pull": Parameter(constraints.real, shared=True)}

    def distribution(self, **parameters: Tensor) -> dist.Normal:
        return dist.Normal(parameters["loc"], 1.0)

    def emission(self, parameters, states, context=None):
        now, before = (Vindex(parameters["level"])[(..., state)] for state in states)
        return self.distribution(loc=now + before / 2 + parameters["pull"] * context[:, 0])

    def log_prob(self, values: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        level = parameters["level"]
        both = (level.unsqueeze(-2) + level.unsqueeze(-1) / 2).flatten(-2)  # z_t is the least significant digit
        loc = both.unsqueeze(-2) + parameters["pull"].unsqueeze(-1).unsqueeze(-1) * values[:, 1:]
        return dist.Normal(loc, 1.0).log_prob(values[:, :1])

    def mean(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return 1.5 * parameters["level"] / (1 - parameters["pull"])

    def variance(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return torch.ones_like(parameters["level"])

    def maximise(self, values, weights, current):
        """Least squares over the rows and codes."""
        states = len(current["level"])
        design = torch.zeros(len(values), states**2, states + 1, dtype=torch.float64)
        for code in range(states**2):
            design[:, code, code % states] += 1.0
            design[:, code, code // states] += 0.5
        design[..., -1] = values[:, 1:]
        root = weights.sqrt().unsqueeze(-1)
        left, right = (design * root).flatten(0, 1), (values[:, :1] * root.squeeze(-1)).flatten().unsqueeze(-1)
        found = torch.linalg.lstsq(left, right, driver="gelsd").solution.squeeze(-1)
        return {"level": found[:-1], "pull": found[-1]}

    def priors(self, values: Tensor) -> dict[str, dist.Normal]:
        one = torch.ones((), dtype=torch.float64)
        return {"level": dist.Normal(0.0 * one, 10.0 * one), "pull": dist.Normal(0.0 * one, one)}

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        level = torch.linspace(-1.0, 1.0, states, dtype=torch.float64)
        return {"level": level, "pull": torch.zeros((), dtype=torch.float64)}

    def check(self, values, observed=None, columns=(), where=str):
        assert values.ndim == 2 and values.shape[1] == 2

    def describe(self, parameters, state, unit=""):
        return "an echo"


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


MATRIX = [[0.7, 0.3], [0.4, 0.6]]
VALUES = [[1.0, 2.5, NAN, 0.5, -1.0], [0.3], [2.0, 1.0]]
SERIES = Sequences.from_arrays(VALUES)
POINT = {
    "initial": tensor([0.1, 0.2, 0.3, 0.4]),
    "transition": tensor(MATRIX),
    "level": tensor([-1.0, 2.0]),
    "pull": tensor(0.4),
}
MODEL = HMM(2, Echo(), priors=Echo().priors(torch.zeros(1)))


def by_paths(values: list[float]) -> tuple[float, np.ndarray, tuple[int, ...]]:
    """log p(x), smoothed states and the best path; a path has one state before the first step."""
    total, gamma, best = 0.0, np.zeros((len(values), 2)), (-1.0, ())
    weights: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(2), repeat=len(values) + 1):
        weight = float(POINT["initial"][path[1] + 2 * path[0]])
        weight *= float(np.prod([MATRIX[i][j] for i, j in itertools.pairwise(path[1:])]))
        for t in range(1, len(values)):
            if not math.isnan(values[t]) and not math.isnan(values[t - 1]):
                level = POINT["level"].tolist()
                loc = level[path[t + 1]] + level[path[t]] / 2 + 0.4 * values[t - 1]
                weight *= stats.norm.pdf(values[t], loc, 1.0)
        total += weight
        weights[path] = weight
        for t, state in enumerate(path[1:]):
            gamma[t, state] += weight
    best = max(weights, key=lambda path: weights[path])[1:]
    return math.log(total), gamma / total, best


def test_answers_are_sums_over_paths_and_in_states():
    expected = [by_paths(values) for values in VALUES]
    posterior = MODEL.posterior(POINT, SERIES)
    assert posterior.states == 2
    torch.testing.assert_close(posterior.log_evidence, tensor([value for value, _, _ in expected]), **EXACT)
    smoothed = torch.from_numpy(np.concatenate([gamma for _, gamma, _ in expected]))
    torch.testing.assert_close(posterior.smoothed, smoothed, **EXACT)
    assert posterior.viterbi.tolist() == [state for _, _, path in expected for state in path]
    torch.testing.assert_close(posterior.pairwise.sum((-1, -2))[:4], torch.ones(4).double(), **EXACT)
    torch.testing.assert_close(posterior.pairwise[0].sum(-1), smoothed[0], **EXACT)
    assert set(posterior.sample(20, seed=0).flatten().tolist()) == {0, 1}


def test_the_program_scores_the_same():
    program = pyro.condition(marginalize(MODEL.program), POINT)
    log_prob = pyro.poutine.trace(program).get_trace(SERIES).log_prob_sum()
    expected = sum(by_paths(values)[0] for values in VALUES)
    torch.testing.assert_close(log_prob - MODEL.log_prior(POINT, SERIES), tensor(expected), **EXACT)


def test_draws_are_a_leading_dim():
    draws = {name: torch.stack([value, value]) for name, value in POINT.items()}
    log_prob = MODEL.log_prob(draws, SERIES)
    torch.testing.assert_close(log_prob, MODEL.log_prob(POINT, SERIES).expand(2, 3), **EXACT)


@pytest.mark.parametrize("initial", [FreeInitial(), StationaryInitial(), FixedInitial((0.25, 0.25, 0.25, 0.25))])
@pytest.mark.parametrize("priors", [False, True])
def test_em_climbs_to_where_the_gradient_is_zero(initial, priors):
    rng = np.random.default_rng(2)
    series = Sequences.from_arrays([rng.normal(2.0 * (rng.random(60) < 0.5), 1.0), rng.normal(size=30)])
    model = HMM(2, Echo(), initial)
    fit = em(model, series, priors=priors, restarts=2, max_iterations=300)
    steps = np.diff(fit.objective.numpy())
    assert (steps > -1e-7).all()
    coordinates = fit.model.coordinates(fit.parameters)
    u = coordinates.pack().requires_grad_()
    (gradient,) = torch.autograd.grad(fit.model.log_joint(coordinates.unpack(u), series, priors), u)
    assert float(gradient.abs().max()) < 0.02  # of 90 steps; L-BFGS ends where the objective is flat to 1e-9
    assert fit.observations == 88  # the first of each sequence has no lag


def test_a_stationary_m_step_counts_the_moves_before_the_start():
    """It never lowers the objective, and its first code follows from its matrix."""
    model = HMM(2, Echo(), StationaryInitial())
    point = model.complete({name: value for name, value in POINT.items() if name != "initial"})
    law = stationary_law(tensor(MATRIX))
    expected = [float(law[before]) * MATRIX[before][now] for before in range(2) for now in range(2)]
    assert point["initial"].tolist() == pytest.approx(expected, abs=1e-14)
    value = -math.inf
    for _ in range(4):
        counts = model.expect(point, SERIES)
        assert counts.log_likelihood >= value - 1e-12
        value, point = counts.log_likelihood, model.maximise(point, counts, False, SERIES)


def fit_at(point: dict[str, Tensor]) -> Fit:
    fit = em(MODEL, Sequences.from_arrays([1.0, 2.0, 0.0, 3.0, 1.0, -2.0]), priors=True, restarts=1)
    return replace(fit, parameters=point, draws={name: value.unsqueeze(0) for name, value in point.items()})


def test_forecasts_with_lags_follow_the_exact_mean():
    """E y_{T+h} by linear recursion over the states, within four standard errors of 2000 futures."""
    fit, horizon = fit_at(POINT), 3
    series = Sequences.from_arrays([[1.0, 2.5, 0.5, -1.0], [2.0, 1.0]])
    found = fit.forecast(series, horizon, seed=1)
    again = fit.forecast(series, horizon, seed=1)
    assert found.equals(again)
    posterior = replace(fit.posterior(series), digit=None).filtered[series.offsets[1:] - 1]  # of codes
    level, matrix = POINT["level"].numpy(), np.array(MATRIX)
    rows = []
    for sequence, last in enumerate((-1.0, 1.0)):
        now = posterior[sequence].numpy().reshape(2, 2).sum(0)
        mean, before = last, now @ level
        for _ in range(horizon):
            now = now @ matrix
            mean = now @ level + before / 2 + 0.4 * mean
            before = now @ level
            rows.append([mean, now[1]])
    expected = np.array(rows)
    np.testing.assert_allclose(found["probability_1"], expected[:, 1], rtol=1e-10)
    spread = (found["q0.95"] - found["q0.05"]) / 3.29
    assert (np.abs(found["mean"] - expected[:, 0]) < 4 * spread / math.sqrt(2000)).all()
    with pytest.raises(DataError, match="must know the last 1 observations"):
        fit.forecast(Sequences.from_arrays([1.0, NAN]), 2)


def test_simulated_series_echo():
    """The regression of each value on its own states and the one before is the law that drew it."""
    drawn = fit_at(POINT).simulate(4000, seed=3, labelled=True)
    assert drawn.labels is not None
    y, z = drawn.values.numpy(), drawn.labels.numpy()
    level = POINT["level"].numpy()
    rest = y[1:] - level[z[1:]] - level[z[:-1]] / 2 - 0.4 * y[:-1]
    assert abs(rest.mean()) < 4 / math.sqrt(4000) and abs(rest.std() - 1) < 4 / math.sqrt(8000)


def test_longer_codes_are_the_same_chain():
    """A matrix of order 1 over codes of 3 states: the law of four states in a row, both ways; counts go back."""
    law, matrix = tensor([0.3, 0.7]), tensor(MATRIX)
    longer = remember(matrix, 2, 1, 3)
    first = remember_law(law, matrix, 2, 1, 3)
    joint = first.unsqueeze(-1) * longer
    for a, b, c, d in itertools.product(range(2), repeat=4):
        expected = float(law[a]) * MATRIX[a][b] * MATRIX[b][c] * MATRIX[c][d]
        assert float(joint[c + 2 * b + 4 * a, d + 2 * c + 4 * b]) == pytest.approx(expected, abs=1e-15)
    counts = torch.rand(8, dtype=torch.float64)
    oldest, since = unfold(counts, 2, 1, 3)
    digits = [(code // 4, code // 2 % 2, code % 2) for code in range(8)]
    for state in range(2):
        expected = sum(float(counts[n]) for n, path in enumerate(digits) if path[0] == state)
        assert float(oldest[state]) == pytest.approx(expected)
    for i, j in itertools.product(range(2), repeat=2):
        moved = sum(float(counts[n]) * list(itertools.pairwise(path)).count((i, j)) for n, path in enumerate(digits))
        assert float(since[i, j]) == pytest.approx(moved)
    torch.testing.assert_close(forget(joint, 2, 1, 3), forget(forget(joint, 2, 2, 3), 2, 1, 2))
    chances = torch.rand(4, 2, dtype=torch.float64)
    assert int((over_codes(chances, 2, 2) > 0).sum()) == 8


@pytest.mark.parametrize("labels", [None, torch.tensor([-1, 0, -1, -1, 1, -1, -1, 1])], ids=["unlabelled", "labelled"])
@pytest.mark.parametrize(
    "fixed", [{}, {"transition": [[NAN, 0.3], [NAN, NAN]], "level": [-1.0, NAN]}], ids=["free", "fixed"]
)
def test_the_log_joint_is_twice_differentiable(labels, fixed):
    """Through codes, lags, labels, a stationary first code, and what is given."""
    model = replace(MODEL, initial=StationaryInitial(), fixed=fixed)
    coordinates = model.coordinates(model.complete({name: POINT[name] for name in ("transition", "level", "pull")}))
    start = coordinates.pack().requires_grad_()
    assert len(start) == (5 if not fixed else 3)
    series = replace(SERIES, labels=labels)

    def joint(u: Tensor) -> Tensor:
        return model.log_joint(coordinates.unpack(u), series, True)

    assert torch.autograd.gradcheck(joint, (start,), rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(joint, (start,), rtol=1e-5, atol=1e-6)
