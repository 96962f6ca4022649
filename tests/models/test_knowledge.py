"""Labels, weights, gaps and fixed parameters: each shows the right answer, found another way."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from scipy import optimize, stats

from probseq import HMM, DataError, ModelError, Sequences, families, marginalize
from probseq.chains import (
    FixedTransitions,
    ForbiddenTransitions,
    Geometric,
    LeftRightTransitions,
    SemiMarkovTransitions,
    StationaryInitial,
)
from probseq.inference import Fit, em, svi

EXACT = {"rtol": 1e-11, "atol": 1e-11}
NAN = math.nan


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


POINT = {
    "initial": tensor([0.3, 0.7]),
    "transition": tensor([[0.8, 0.2], [0.3, 0.7]]),
    "rate": tensor([2.0, 7.0]),
}
COUNTS = [[1.0, 6.0, NAN, 2.0, 9.0], [3.0, 8.0]]
SOFT = tensor([[1, 1], [0.2, 0.9], [0.5, 0.1], [1, 1], [0, 3], [1, 0.5], [1, 1]])


def series(**fields) -> Sequences:
    return replace(Sequences.from_arrays(COUNTS), **fields)


def by_paths(values: list[float], soft: np.ndarray) -> tuple[float, np.ndarray]:
    """log p(x, what is known) and smoothed states (T, K), the sum over all paths."""
    initial, transition, rate = (POINT[name].numpy() for name in POINT)
    total, gamma = 0.0, np.zeros((len(values), 2))
    for path in itertools.product(range(2), repeat=len(values)):
        weight = initial[path[0]] * np.prod([transition[i, j] for i, j in itertools.pairwise(path)])
        for step, (value, state) in enumerate(zip(values, path, strict=True)):
            seen = 1.0 if math.isnan(value) else stats.poisson.pmf(value, rate[state])
            weight *= soft[step, state] * seen
        total += weight
        for step, state in enumerate(path):
            gamma[step, state] += weight
    return math.log(total), gamma / total


@pytest.mark.parametrize(
    "labels",
    [SOFT, torch.tensor([-1, 1, 0, -1, 1, 0, -1]), torch.tensor([1, 1, 0, 1, 1, 0, 0])],
    ids=["soft", "some hard", "all hard"],
)
def test_labels_are_the_sum_over_the_paths_that_they_allow(labels):
    """Evidence and smoothed states, of the model and of its marginalised program."""
    data = series(labels=labels)
    soft = labels if labels.ndim == 2 else torch.cat([torch.ones(1, 2), torch.eye(2)])[labels + 1].double()
    parts = soft.numpy()[:5], soft.numpy()[5:]
    expected = [by_paths(values, part) for values, part in zip(COUNTS, parts, strict=True)]
    model = HMM(2, families.Poisson(), priors=families.Poisson().priors(tensor([1.0, 9.0])))
    posterior = model.posterior(POINT, data)
    torch.testing.assert_close(posterior.log_evidence, tensor([value for value, _ in expected]), **EXACT)
    torch.testing.assert_close(posterior.smoothed, torch.from_numpy(np.concatenate([g for _, g in expected])), **EXACT)
    counts = model.expect(POINT, data)
    assert counts.log_likelihood == pytest.approx(sum(value for value, _ in expected), abs=1e-11)
    torch.testing.assert_close(counts.chain.initial, posterior.smoothed[[0, 5]].sum(0), **EXACT)
    program = pyro.condition(marginalize(model.program), POINT)
    log_prob = pyro.poutine.trace(program).get_trace(data).log_prob_sum()
    log_prior = model.log_prior(POINT, data)
    torch.testing.assert_close(log_prob - log_prior, tensor(sum(value for value, _ in expected)), **EXACT)


def test_all_states_known_is_counting():
    """Of moves, first states, and the mean of each state; not one iteration of luck in it."""
    rng = np.random.default_rng(0)
    states = [rng.integers(3, size=40), rng.integers(3, size=25), rng.integers(3, size=1)]
    values = [rng.poisson(np.array([1.0, 1.5, 2.0])[path]).astype(float) for path in states]
    values[0][7] = NAN
    fit = em(HMM(3, families.Poisson()), Sequences.from_arrays(values, labels=states), seed=1)
    moves = np.zeros((3, 3))
    for path in states:
        np.add.at(moves, (path[:-1], path[1:]), 1.0)
    first = np.bincount([path[0] for path in states], minlength=3) / 3
    flat, path = np.concatenate(values), np.concatenate(states)
    np.testing.assert_allclose(fit.parameters["transition"], moves / moves.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(fit.parameters["initial"], first, atol=1e-12)
    means = [np.nanmean(flat[path == k]) for k in range(3)]
    np.testing.assert_allclose(fit.parameters["rate"], means, rtol=1e-12)
    assert len(fit.attempts) == 1
    decoded = fit.decode(Sequences.from_arrays(values, labels=states))
    assert decoded["state"].tolist() == path.tolist()


def test_labels_keep_the_names_of_states():
    """State 0 is the one with the higher mean, because the labels say so."""
    values = [9.0, 8.0, 1.0, 2.0, 1.0, 9.0, 10.0, 7.0, 0.0, 1.0, 1.0, 8.0]
    labels = [0, -1, 1, -1, -1, -1, -1, -1, -1, -1, 1, -1]
    fit = em(HMM(2, families.Poisson()), Sequences.from_arrays(values, labels=labels), restarts=1)
    assert float(fit.parameters["rate"][0]) > 5 > float(fit.parameters["rate"][1])
    soft = np.where(np.arange(12)[:, None] == 0, [[1.0, 0.01]], 1.0)
    swayed = em(HMM(2, families.Poisson()), Sequences.from_arrays(values, labels=soft), restarts=1)
    assert float(swayed.parameters["rate"][0]) > 5


def test_forecasts_and_filters_honour_labels():
    """The state of the last step is known: the forecast goes on from it."""
    model = HMM(2, families.Poisson())
    data = series(labels=torch.tensor([-1, -1, -1, -1, 0, -1, 1]))
    ahead = model.posterior(POINT, data.future(2)).filtered
    expected = torch.stack([POINT["transition"][0], POINT["transition"][0] @ POINT["transition"]])
    torch.testing.assert_close(ahead[5:7], expected, **EXACT)
    torch.testing.assert_close(ahead[9], POINT["transition"][1], **EXACT)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 2, 0, 0, 0, 0, 0]), r"labels must lie in 0\.\.1.*got 2 at step 1 of sequence 0"),
        (torch.ones(7, 3), "one column for each of the 2 states, got 3 columns"),
    ],
)
def test_labels_that_the_model_has_not(labels, message):
    with pytest.raises(DataError, match=message):
        em(HMM(2, families.Poisson()), series(labels=labels), restarts=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, -2, 0, 0, 0, 0, 0]), "got -2 at step 1"),
        (torch.zeros(7, 2), r"not all zero, got \[0.0, 0.0\] at step 0"),
        (torch.full((7, 2), NAN), "finite"),
        (torch.ones(7, 2, 2), r"got shape \(7, 2, 2\)"),
    ],
)
def test_labels_that_nothing_could_mean(labels, message):
    with pytest.raises(DataError, match=message):
        series(labels=labels)


def test_a_weight_of_two_is_the_sequence_twice():
    values = [[1.0, 6.0, 2.0, 2.0, 9.0, 8.0], [3.0, 8.0, 9.0], [0.0, 1.0, 7.0, 2.0]]
    once = Sequences.from_arrays(values, weights=[2.0, 1.0, 0.0])
    twice = Sequences.from_arrays([values[0], *values[:2]])
    for priors in (False, True):
        model = HMM(2, families.Poisson(), StationaryInitial())
        model = model.bind(twice, with_priors=True)  # the same priors for both
        start = model.start(twice, 0, 0)
        one, two = (em(model, data, priors=priors, start=start) for data in (once, twice))
        assert one.log_likelihood == pytest.approx(two.log_likelihood, abs=1e-8)
        assert one.observations == two.observations
        for name, value in two.parameters.items():  # both flat at the top to 1e-9 nats
            torch.testing.assert_close(one.parameters[name], value, rtol=1e-4, atol=1e-5)


def test_weights_that_count_less_than_one_step():
    """BIC takes the logarithm of one step at least."""
    fit = em(HMM(2, families.Poisson()), series(weights=tensor([1e-3, 1e-3])), restarts=1)
    assert fit.observations == 1 and fit.bic == -2.0 * fit.log_likelihood


def test_ragged_is_each_sequence_by_itself():
    """Evidence and posterior of ragged sequences are those of each alone, whatever stands beside it."""
    data, model = series(), HMM(2, families.Poisson())
    together = model.posterior(POINT, data)
    alone = [model.posterior(POINT, data.take([n])) for n in range(2)]
    torch.testing.assert_close(together.log_evidence, torch.cat([one.log_evidence for one in alone]), **EXACT)
    torch.testing.assert_close(together.smoothed, torch.cat([one.smoothed for one in alone]), **EXACT)


@pytest.mark.slow
def test_missing_at_random_leaves_the_estimates_unbiased():
    """A third of the steps gone, forty times: the mean estimate lies within four standard errors of the truth."""
    truth = {"initial": tensor([0.5, 0.5]), "transition": tensor([[0.9, 0.1], [0.2, 0.8]]), "rate": tensor([2.0, 9.0])}
    model, found = HMM(2, families.Poisson()), []
    whole = em(model, Sequences.from_arrays([1.0, 9.0, 2.0, 8.0]), restarts=1, priors=True)
    fit = Fit(
        **{name: getattr(whole, name) for name in whole.__dataclass_fields__} | {"parameters": truth, "draws": {}}
    )
    fit = replace(fit, draws={name: value.unsqueeze(0) for name, value in truth.items()})
    rng = np.random.default_rng(0)
    for seed in range(40):
        full = fit.simulate(1000, seed=seed)
        gone = replace(full, observed=torch.from_numpy(rng.random(1000) > 1 / 3))
        one = em(model, gone, restarts=1).parameters
        found.append(torch.cat([one["transition"].diagonal(), one["rate"]]).numpy())
    error = np.std(found, 0, ddof=1) / math.sqrt(40)
    expected = np.array([0.9, 0.8, 2.0, 9.0])
    # ML is biased of order 1/T, below a tenth of these errors; rarely would four errors be passed by chance.
    assert (np.abs(np.mean(found, 0) - expected) < 4 * error).all()


FIXED = {
    "rate": {"rate": [2.0, NAN]},
    "both rates": {"rate": [2.0, 8.0]},
    "a move": {"transition": [[NAN, 0.3], [NAN, NAN]]},
    "a row and a rate": {"transition": [[0.6, 0.4], [NAN, NAN]], "rate": [NAN, 8.0]},
    "first": {"initial": [0.25, 0.75]},
}
DATA = [2, 1, 4, 3, 8, 9, 7, 2, 0, 1, 9, 12, 6, 3, 2, 2, 1, 8, 10, 9, 2, 3, 1, 1]


def constrained_maximum(fixed: dict) -> tuple[float, np.ndarray]:
    """The highest log-likelihood with a two-state forward pass in numpy and Nelder-Mead over what is free."""
    known = {name: np.array(value) for name, value in fixed.items()}

    def unpack(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        stays, rate = 1 / (1 + np.exp(-u[:2])), np.exp(u[2:4])
        initial = np.array([1 / (1 + np.exp(-u[4])), 1 / (1 + np.exp(u[4]))])
        matrix = np.array([[stays[0], 1 - stays[0]], [1 - stays[1], stays[1]]])
        given = known.get("transition", np.full((2, 2), NAN))
        for k in range(2):
            if not np.isnan(given[k]).all():
                matrix[k] = np.where(np.isnan(given[k]), 1 - np.nansum(given[k]), given[k])
        given_rate = known.get("rate", np.full(2, NAN))
        return known.get("initial", initial), matrix, np.where(np.isnan(given_rate), rate, given_rate)

    def loss(u: np.ndarray) -> float:
        initial, matrix, rate = unpack(u)
        law, total = initial, 0.0
        for step, value in enumerate(DATA):
            law = (law if step == 0 else law @ matrix) * stats.poisson.pmf(value, rate)
            total += math.log(law.sum())
            law = law / law.sum()
        return -total

    start = np.array([1.0, 1.0, math.log(2.0), math.log(8.0), 3.0])
    options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-9, "fatol": 1e-12}
    best = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
    return -best.fun, np.concatenate([part.reshape(-1) for part in unpack(best.x)[1:]])


@pytest.mark.parametrize("name", FIXED)
def test_fixed_parameters_give_the_constrained_maximum(name):
    data = Sequences.from_arrays([float(value) for value in DATA])
    free = HMM(2, families.Poisson())
    fit = em(HMM(2, families.Poisson(), fixed=FIXED[name]), data, restarts=3)
    highest, where = constrained_maximum(FIXED[name])
    assert fit.log_likelihood == pytest.approx(highest, abs=1e-6)
    found = torch.cat([fit.parameters[part].reshape(-1) for part in ("transition", "rate")])
    np.testing.assert_allclose(found, where, atol=2e-3)  # flat at the top: 1e-6 nats
    for part, value in FIXED[name].items():
        given = ~np.isnan(np.array(value))
        np.testing.assert_array_equal(fit.parameters[part].numpy()[given], np.array(value)[given])
    assert fit.n_parameters == free.n_parameters() - {"rate": 1, "both rates": 2}.get(name, 0) - {
        "a move": 1,
        "a row and a rate": 2,
        "first": 1,
    }.get(name, 0)


@pytest.mark.parametrize(
    ("law", "states", "matrix", "free"),
    [
        (ForbiddenTransitions(((0, 2),)), 3, [[NAN, NAN, 0.0], [NAN] * 3, [NAN] * 3], 5),
        (ForbiddenTransitions(((0, 2),)), 3, [[0.5, NAN, 0.0], [NAN] * 3, [NAN] * 3], 4),
        (ForbiddenTransitions(((0, 2),)), 3, [[0.5, NAN, NAN], [0.2, 0.3, 0.5], [NAN] * 3], 2),
        (LeftRightTransitions(), 2, [[NAN, NAN], [0.0, 1.0]], 1),
        (SemiMarkovTransitions(Geometric()), 3, [[0.0, NAN, NAN], [0.5, 0.0, 0.5], [NAN, NAN, NAN]], 2 + 3),
    ],
)
def test_to_give_what_cannot_be_otherwise_takes_no_parameter_away(law, states, matrix, free):
    """Zeros that the structure has already: the numbers of moves that are left to learn, by hand."""
    model = HMM(states, families.Poisson(), transition=law, fixed={"transition": matrix})
    assert model.n_parameters() == (states - 1) + states + free


@pytest.mark.parametrize(
    ("law", "matrix"),
    [
        (ForbiddenTransitions(((0, 2),)), [[NAN, NAN, 0.3], [NAN] * 3, [NAN] * 3]),
        (LeftRightTransitions(), [[NAN] * 3, [0.3, NAN, NAN], [NAN] * 3]),
        (SemiMarkovTransitions(Geometric()), [[0.3, NAN, NAN], [NAN] * 3, [NAN] * 3]),
    ],
)
def test_no_forbidden_move_can_be_given(law, matrix):
    model = HMM(3, families.Poisson(), transition=law, fixed={"transition": matrix})
    with pytest.raises(ModelError, match="the fixed transition must be 0 or NaN where the structure forbids a move"):
        em(model, series(), restarts=1)


def test_a_fixed_scale_and_a_stationary_first_state():
    """Against a fixed matrix as a law of its own, and a Gaussian whose scale is known."""
    rng = np.random.default_rng(1)
    data = Sequences.from_arrays(np.where(rng.random(80) < 0.5, rng.normal(0, 1, 80), rng.normal(4, 2, 80)))
    matrix = ((0.6, 0.4), (0.5, 0.5))
    by_law = em(HMM(2, families.Gaussian(), StationaryInitial(), FixedTransitions(matrix)), data, restarts=2)
    given = HMM(2, families.Gaussian(), StationaryInitial(), fixed={"transition": matrix})
    by_value = em(given, data, restarts=2)
    assert by_value.log_likelihood == pytest.approx(by_law.log_likelihood, abs=1e-8)
    assert by_value.n_parameters == by_law.n_parameters
    known = em(HMM(2, families.Gaussian(), fixed={"scale": [1.0, NAN]}), data, restarts=2)
    assert float(known.parameters["scale"][0]) == 1.0
    moved = {name: value.clone() for name, value in known.parameters.items()}
    for name, at in (("loc", 0), ("loc", 1), ("scale", 1)):
        for step in (-1e-3, 1e-3):
            other = {**moved, name: moved[name] + step * torch.eye(2, dtype=torch.float64)[at]}
            assert float(known.model.log_joint(other, data, False)) < known.log_likelihood + 1e-9


def test_a_partly_fixed_matrix_with_a_stationary_first_state():
    """No other free entry is better."""
    data = Sequences.from_arrays([float(value) for value in DATA])
    model = HMM(2, families.Poisson(), StationaryInitial(), fixed={"transition": [[0.7, 0.3], [NAN, NAN]]})
    fit = em(model, data, restarts=2)
    stay = float(fit.parameters["transition"][1, 1])
    for other in (stay - 1e-3, stay + 1e-3):
        moves = {"transition": tensor([[0.7, 0.3], [1 - other, other]]), "rate": fit.parameters["rate"]}
        assert float(fit.model.log_joint(fit.model.complete(moves), data, False)) < fit.log_likelihood


def test_svi_does_not_sample_what_is_given(tmp_path):
    """The mode of the marginalised program is EM's with priors; the given rates are no site, and survive storage."""
    data = Sequences.from_arrays([float(value) for value in DATA])
    model = HMM(2, families.Poisson(), fixed={"rate": [2.0, 8.0], "transition": [[NAN, NAN], [0.5, 0.5]]})
    bound = model.bind(data, with_priors=True)
    sites = pyro.poutine.trace(marginalize(bound.program)).get_trace(data).nodes
    assert "rate" not in sites and "transition" in sites
    with pytest.warns(UserWarning, match="did not converge"):
        fit = svi(model, data, steps=30, seed=0)
    assert fit.parameters["rate"].tolist() == [2.0, 8.0] and fit.parameters["transition"][1].tolist() == [0.5, 0.5]
    fit.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit")
    torch.testing.assert_close(loaded.model.fixed["transition"], model.fixed["transition"], equal_nan=True)
    torch.testing.assert_close(loaded.log_prob(data), fit.log_prob(data), rtol=0, atol=0)
    top = em(model, data, priors=True, restarts=1)
    assert float(top.objective[-1]) >= float(bound.log_joint(fit.parameters, data, True)) - 1e-9, (
        "the mode is above whatever SVI found"
    )


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"speed": [1.0, 2.0]}, "must name parameters of the model.*got 'speed'"),
        ({"rate": [1.0]}, r"must have shape \(2,\), got \(1,\)"),
        ({"transition": [[0.9, 0.3], [NAN, NAN]]}, "fixed transition must lie in"),
        ({"transition": [[0.9, NAN], [-0.1, NAN]]}, "fixed transition must lie in"),
        ({"rate": [-1.0, 2.0]}, "fixed rate must lie in"),
    ],
)
def test_what_cannot_be_fixed(fixed, message):
    model = HMM(2, families.Poisson(), fixed=fixed)
    for ask in (lambda: em(model, series(), restarts=1), lambda: model.program(series()), model.n_parameters):
        with pytest.raises(ModelError, match=message):
            ask()


def test_a_vector_that_is_missing_in_part_is_scored_by_what_is_there():
    """Against paths with scipy's marginal normal densities; the program scores the same; EM sees every entry."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4, 2))
    values[1, 0] = values[2, 1] = values[3, 0] = values[3, 1] = NAN
    data = Sequences.from_arrays([values])
    means, factor = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[[1.0, 0.0], [0.5, 1.2]], [[0.7, 0.0], [-0.3, 0.9]]])
    point = {name: POINT[name] for name in ("initial", "transition")}
    point |= {"loc": torch.from_numpy(means), "scale_tril": torch.from_numpy(factor)}
    total = 0.0
    for path in itertools.product(range(2), repeat=4):
        weight = float(POINT["initial"][path[0]])
        weight *= math.prod(float(POINT["transition"][i, j]) for i, j in itertools.pairwise(path))
        for row, state in zip(values, path, strict=True):
            there = ~np.isnan(row)
            if there.any():
                covariance = (factor[state] @ factor[state].T)[np.ix_(there, there)]
                weight *= stats.multivariate_normal.pdf(row[there], means[state][there], covariance)
        total += weight
    full = torch.from_numpy(rng.normal(size=(20, 2)))
    model = HMM(2, families.MultivariateGaussian("full"), priors=families.MultivariateGaussian("full").priors(full))
    torch.testing.assert_close(model.log_prob(point, data), tensor([math.log(total)]), **EXACT)
    program = pyro.condition(marginalize(model.program), point)
    log_prob = pyro.poutine.trace(program).get_trace(data).log_prob_sum() - model.log_prior(point, data)
    torch.testing.assert_close(log_prob, tensor(math.log(total)), **EXACT)
    counts = model.expect(point, data)
    assert float(counts.emission.expected.sum()) == pytest.approx(3.0)  # of four steps, one has nothing
    assert model.expect(model.maximise(point, counts, True, data), data).log_likelihood > -math.inf


def test_the_log_prior_leaves_out_what_is_given_as_the_program_does():
    """A known matrix with zeros has no density; the sites that are left have theirs. Draws may lead."""
    known = tensor([[0.8, 0.2], [0.0, 1.0]])
    model = HMM(2, families.Poisson(), fixed={"transition": known}).bind(series(), with_priors=True)
    point = {**POINT, "transition": known}
    trace = pyro.poutine.trace(pyro.poutine.condition(marginalize(model.program), point)).get_trace(series())
    sites = sum(trace.nodes[name]["fn"].log_prob(POINT[name]) for name in ("initial", "rate"))
    torch.testing.assert_close(model.log_prior(point, series()), sites, **EXACT)
    several = {name: torch.stack([value, value]) for name, value in point.items()}
    torch.testing.assert_close(model.log_prior(several, series()), sites.expand(2), **EXACT)
