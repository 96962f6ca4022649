"""Autoregressive families: their laws by hand, sums over all paths, weighted least squares, and what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from probseq import HMM, DataError, ModelError, Sequences, em, families, marginalize
from probseq.chains import FreeInitial, HigherOrderTransitions, StationaryInitial
from probseq.families import Autoregression, DeviationAutoregression

EXACT = 1e-10  # sums of a few hundred terms of order one

FAMILIES = {
    "switching": Autoregression(2),
    "one lag": Autoregression(1),
    "shared coefficients": Autoregression(2, shared=("coefficients",)),
    "shared scale": Autoregression(1, shared=("scale",)),
    "shared intercept": Autoregression(2, shared=("intercept",)),
    "only the scale": Autoregression(1, shared=("intercept", "coefficients")),
    "only the intercept": Autoregression(2, shared=("coefficients", "scale")),
    "hamilton": DeviationAutoregression(1),
    "hamilton of order two": DeviationAutoregression(2),
    "all switch": DeviationAutoregression(2, shared=()),
    "scales switch": DeviationAutoregression(1, shared=("coefficients",)),
    "coefficients switch": DeviationAutoregression(1, shared=("scale",)),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def some_parameters(family, states: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, parameter in family.parameters().items():
        shape = parameter.shape if parameter.shared else (states, *parameter.shape)
        value = 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)
        found[name] = value.exp() if name == "scale" else value
    return found


def some_rows(family, rows: int = 30, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Rows (R, 1 + p) of a series, and weights for each code."""
    rng = np.random.default_rng(seed)
    values = 3.0 + rng.normal(size=rows + family.order).cumsum() * 0.7
    columns = [values[family.order - lag : len(values) - lag] for lag in range(family.order + 1)]
    weights = rng.gamma(1.0, size=(rows, 2**family.memory))
    return torch.from_numpy(np.stack(columns, 1)), torch.from_numpy(weights)


def law_by_hand(family, parameters: dict[str, Tensor], row: list[float], states: tuple[int, ...]) -> float:
    """log p(y | lags, states z_t, z_{t-1}, ...), from the definition."""

    def own(name: str) -> Tensor:
        return parameters[name] if name in family.shared else parameters[name][states[0]]

    lags = row[1:]
    if isinstance(family, DeviationAutoregression):
        loc = parameters["loc"][states[0]]
        for lag, value in enumerate(lags):
            loc = loc + own("coefficients")[lag] * (value - parameters["loc"][states[1 + lag]])
    else:
        loc = own("intercept") + sum(own("coefficients")[lag] * value for lag, value in enumerate(lags))
    return float(torch.distributions.Normal(loc, own("scale")).log_prob(torch.tensor(row[0], dtype=torch.float64)))


def test_the_table_is_the_law_by_hand(family):
    rows, _ = some_rows(family, 5)
    parameters = some_parameters(family, 3)
    table = family.log_prob(rows, parameters)
    assert table.shape == (5, 3**family.memory)
    for r, code in itertools.product(range(5), range(3**family.memory)):
        states = tuple(code // 3**back % 3 for back in range(family.memory))
        assert float(table[r, code]) == pytest.approx(law_by_hand(family, parameters, rows[r].tolist(), states))


def test_draws_of_the_parameters_and_gradients(family):
    rows, weights = some_rows(family, 4)
    draws = [some_parameters(family, seed=seed) for seed in range(3)]
    together = family.log_prob(rows, {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]})
    torch.testing.assert_close(together, torch.stack([family.log_prob(rows, draw) for draw in draws]))
    names = list(draws[0])
    leaves = [draws[0][name].requires_grad_() for name in names]

    def table(*values: Tensor) -> Tensor:
        return family.log_prob(rows, dict(zip(names, values, strict=True)))

    def expected(*values: Tensor) -> Tensor:
        return family.expected_log_prob(rows, weights)(dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(table, leaves) and torch.autograd.gradgradcheck(table, leaves)
    assert torch.autograd.gradcheck(expected, leaves)
    torch.testing.assert_close(expected(*leaves), (weights * table(*leaves)).sum(0))


def ragged() -> Sequences:
    """Two sequences with gaps: four steps have a score at one lag, two at two lags."""
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=5), rng.normal(size=2)]
    parts[0][1] = np.nan
    return Sequences.from_arrays(parts)


@pytest.mark.parametrize("stationary", [False, True])
def test_model_is_the_sum_over_all_paths(family, stationary):
    """Every path of base states, those before the start included, by the law by hand; and the program marginalised."""
    model = HMM(2, family, StationaryInitial() if stationary else FreeInitial())
    series, memory, order = ragged(), family.memory, family.order
    parameters = some_parameters(family)
    parameters["transition"] = torch.tensor([[0.8, 0.2], [0.35, 0.65]], dtype=torch.float64)
    first = torch.arange(1.0, 2**memory + 1).double()
    parameters = model.complete(parameters if stationary else {**parameters, "initial": first / first.sum()})
    expected, start = [], 0
    for length in series.lengths.tolist():
        values, known = series.values[start : start + length], series.step_observed[start : start + length]
        total = 0.0
        for path in itertools.product(range(2), repeat=memory - 1 + length):
            code = sum(state * 2**back for back, state in enumerate(reversed(path[:memory])))
            weight = float(parameters["initial"][code])
            for t in range(memory, len(path)):
                weight *= float(parameters["transition"][path[t - 1], path[t]])
            for t in range(order, length):
                if bool(known[t - order : t + 1].all()):
                    row = [float(values[t - lag]) for lag in range(order + 1)]
                    last = tuple(path[memory - 1 + t - back] for back in range(memory))
                    weight *= float(np.exp(law_by_hand(family, parameters, row, last)))
            total += weight
        expected.append(np.log(total))
        start += length
    found = model.log_prob(parameters, series)
    np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)
    program = marginalize(pyro.condition(model.program, parameters))
    joint = poutine.trace(program).get_trace(series).log_prob_sum()
    wanted = float(model.log_prior(parameters, series)) + float(np.sum(expected))
    assert float(joint) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2], ids=["free moves", "moves of order two"])
def test_vectorised_particles_score_as_each_alone(family, order):
    """Parameters (3, 1, ...) in a plate at dim -2 against one set at a time."""
    rng = np.random.default_rng(0)
    series = Sequences.from_arrays([rng.normal(size=7), rng.normal(size=3)])
    model = HMM(2, family, transition=HigherOrderTransitions(order)).bind(series, with_priors=True)
    pyro.set_rng_seed(0)
    names = list(model.learned(model.start(series, 0, 0)))
    traces = [poutine.trace(poutine.uncondition(model.program)).get_trace(series) for _ in range(3)]
    draws = [{name: trace.nodes[name]["value"] for name in names} for trace in traces]

    def score(program, values: dict[str, Tensor]) -> float:
        read = marginalize(pyro.condition(program, values), max_plate_nesting=2)
        return float(poutine.trace(read).get_trace(series).log_prob_sum())

    def together(data: Sequences) -> Tensor:
        with pyro.plate("particles", 3, dim=-2):
            return model.program(data)

    stacked = {name: torch.stack([draw[name] for draw in draws]).unsqueeze(1) for name in names}
    alone = sum(score(model.program, draw) for draw in draws)
    assert score(together, stacked) == pytest.approx(alone, abs=1e-8)


# ---- learning --------------------------------------------------------------------------------------------------------


def test_the_m_step_never_falls_and_ends_where_the_slope_is_zero(family):
    rows, weights = some_rows(family, 200)
    objective = family.expected_log_prob(rows, weights)
    current = some_parameters(family)
    found = family.maximise(rows, weights, current)
    assert float(objective(found).sum()) >= float(objective(current).sum())
    leaves = {name: value.clone().requires_grad_() for name, value in found.items()}
    slopes = torch.autograd.grad(objective(leaves).sum(), list(leaves.values()))
    for name, slope in zip(leaves, slopes, strict=True):
        # turns stop when one gains less than 1e-12 of an objective near 1e3, so slopes are below 1e-3 of its curvature
        assert float(slope.abs().max()) < 2e-2, name
    again = family.maximise(rows, weights, found)
    assert float(objective(again).sum()) >= float(objective(found).sum()) - 1e-9


def test_one_state_is_weighted_least_squares():
    rows, weights = some_rows(Autoregression(2), 50)
    found = Autoregression(2).maximise(rows, weights, some_parameters(Autoregression(2)))
    for k in range(2):
        root = weights[:, k].sqrt().numpy()
        design = np.column_stack([np.ones(50), rows[:, 1:].numpy()]) * root[:, None]
        beta, squares, *_ = np.linalg.lstsq(design, rows[:, 0].numpy() * root)
        assert found["intercept"][k].item() == pytest.approx(beta[0], abs=1e-9)
        np.testing.assert_allclose(found["coefficients"][k], beta[1:], rtol=0, atol=1e-9)
        assert found["scale"][k].item() == pytest.approx(np.sqrt(squares[0] / float(weights[:, k].sum())), abs=1e-9)


@pytest.mark.parametrize("kind", [Autoregression, DeviationAutoregression])
def test_large_values_cost_no_digits(kind):
    """A mean of 1e6 standard deviations: the coefficients are those of the centred series to six digits."""
    family = kind(1)
    rows, weights = some_rows(family, 100)
    start = some_parameters(family)
    far = {**start, "loc": start["loc"] + 1e6} if "loc" in start else start
    near, moved = family.maximise(rows, weights, start), family.maximise(rows + 1e6, weights, far)
    torch.testing.assert_close(moved["coefficients"], near["coefficients"], rtol=0, atol=1e-6)
    torch.testing.assert_close(moved["scale"], near["scale"], rtol=1e-6, atol=0)


def test_a_state_without_weight_keeps_its_parameters(family):
    rows, weights = some_rows(family)
    codes = torch.arange(2**family.memory)
    for back in range(family.memory):
        weights[:, codes // 2**back % 2 == 1] = 0.0  # state 1 is nowhere
    current = some_parameters(family)
    found = family.maximise(rows, weights, current)
    for name, parameter in family.parameters().items():
        if not parameter.shared:
            torch.testing.assert_close(found[name][1], current[name][1])
        assert bool(torch.isfinite(found[name]).all())


def test_the_posterior_mode_is_higher_and_flat(family):
    rows, weights = some_rows(family, 60)
    priors = family.priors(rows)
    objective = family.expected_log_prob(rows, weights)

    def posterior(parameters: dict[str, Tensor]) -> Tensor:
        return objective(parameters).sum() + sum(
            prior.log_prob(parameters[name]).sum() for name, prior in priors.items()
        )

    mode = family.maximise_posterior(rows, weights, some_parameters(family), priors)
    likeliest = family.maximise(rows, weights, some_parameters(family))
    assert float(posterior(mode)) >= float(posterior(likeliest)) - 1e-9
    leaves = {name: value.clone().requires_grad_() for name, value in mode.items()}
    for slope in torch.autograd.grad(posterior(leaves), list(leaves.values())):
        assert float(slope.abs().max()) < 1e-2  # L-BFGS stops at a share of 1e-11 of an objective near 1e3


@pytest.mark.parametrize("priors", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_em_never_falls(family, priors):
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(loc, 1.0, 18) for loc in (0.0, 4.0)])
    values[[7, 30]] = np.nan
    series = Sequences.from_arrays([values, values[:15] + 0.1], weights=[1.0, 2.0])
    fit = em(HMM(2, family), series, priors=priors, restarts=1, tolerance=1e-3)
    assert (fit.objective.diff() >= -1e-9).all()
    assert fit.decode(series)["state"].isin([0, 1]).all()


def test_weight_two_is_the_sequence_twice():
    part = np.random.default_rng(0).normal(size=30)
    one, twice = Sequences.from_arrays([part], weights=[2.0]), Sequences.from_arrays([part, part])
    model = HMM(2, DeviationAutoregression(1))
    start = model.bind(one).start(one, 0, 0)
    ends = [em(model, series, start=start, polished=False, tolerance=1e-6) for series in (one, twice)]
    assert ends[0].log_likelihood == pytest.approx(ends[1].log_likelihood, abs=1e-8)


def test_simulated_parameters_are_found():
    rng = np.random.default_rng(4)
    state, values = 0, [0.0, 0.0]
    for _ in range(4000):
        state = 1 - state if rng.random() < 0.02 else state
        values.append((1.0, -2.0)[state] + (0.6, -0.5)[state] * values[-1] + (0.5, 1.5)[state] * rng.normal())
    fit = em(HMM(2, Autoregression(1)), Sequences.from_arrays(values), restarts=2)
    order = torch.argsort(fit.parameters["scale"])
    # 2,000 steps a state: standard errors near 0.02 and 0.06; four of them.
    assert fit.parameters["coefficients"][order, 0].tolist() == pytest.approx([0.6, -0.5], abs=0.08)
    assert fit.parameters["intercept"][order].tolist() == pytest.approx([1.0, -2.0], abs=0.24)
    assert fit.parameters["scale"][order].tolist() == pytest.approx([0.5, 1.5], abs=0.1)


# ---- words and numbers -----------------------------------------------------------------------------------------------


def test_stationary_mean_and_variance():
    """An AR(1): a / (1 - phi) and s^2 / (1 - phi^2); an AR(2) by its autocovariances; an explosive one has neither."""
    one = {"intercept": [1.0, 2.0], "coefficients": [[0.5], [1.2]], "scale": [2.0, 1.0]}
    parameters = {name: torch.tensor(value, dtype=torch.float64) for name, value in one.items()}
    assert Autoregression(1).mean(parameters)[0].item() == pytest.approx(2.0)
    assert Autoregression(1).variance(parameters)[0].item() == pytest.approx(4.0 / 0.75)
    assert bool(
        torch.isnan(Autoregression(1).mean(parameters)[1]) & torch.isnan(Autoregression(1).variance(parameters)[1])
    )
    first, second = 0.5, -0.3
    two = {"loc": [1.0, 2.0], "coefficients": [first, second], "scale": 2.0}
    parameters = {name: torch.tensor(value, dtype=torch.float64) for name, value in two.items()}
    variance = 4.0 * (1 - second) / ((1 + second) * ((1 - second) ** 2 - first**2))  # Hamilton (1994), 3.4.30
    assert DeviationAutoregression(2).variance(parameters).tolist() == pytest.approx([variance, variance])
    assert DeviationAutoregression(2).mean(parameters).tolist() == [1.0, 2.0]


def test_tail_probabilities(family):
    rows, _ = some_rows(family, 6)
    parameters = some_parameters(family)
    below, above = family.cdf(rows, parameters), family.survival(rows, parameters)
    torch.testing.assert_close(below + above, torch.ones_like(below))
    step = torch.zeros_like(rows)
    step[:, 0] = 1e-5
    slope = (family.cdf(rows + step, parameters) - family.cdf(rows - step, parameters)) / 2e-5
    torch.testing.assert_close(slope, family.log_prob(rows, parameters).exp(), rtol=1e-5, atol=1e-8)


def test_described_saved_and_found_by_name(family):
    assert families.from_json(family.to_json()) == family
    assert "standard deviation" in family.describe(some_parameters(family), 1, "%")
    assert families.by_name("deviation-autoregression") == DeviationAutoregression()
    free = family.n_parameters(2)
    assert free == sum(value.numel() for value in some_parameters(family).values())


@pytest.mark.parametrize("kind", [Autoregression, DeviationAutoregression])
def test_refusals(kind):
    with pytest.raises(ModelError, match="order must be an integer of at least 1, got 0"):
        kind(0)
    with pytest.raises(ModelError, match="shared must name parameters among"):
        kind(1, shared=("slope",))
    with pytest.raises(DataError, match="one column"):
        em(HMM(2, kind(1)), Sequences.from_arrays(np.random.default_rng(0).normal(size=(9, 2))))
    with pytest.raises(DataError, match="must vary"):
        em(HMM(2, kind(1)), Sequences.from_arrays(np.ones(9)))
    with pytest.raises(DataError, match="must be measured at least once"):
        em(HMM(2, kind(3)), Sequences.from_arrays([1.0, 2.0]))


def test_something_must_switch():
    with pytest.raises(ModelError, match="shared must leave a parameter that switches"):
        Autoregression(1, shared=("intercept", "coefficients", "scale"))
