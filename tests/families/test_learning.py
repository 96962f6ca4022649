"""The M-steps: at a stationary point, better than any neighbour, never downhill, and the same by two routes."""

import numpy as np
import pytest
import torch
from torch.distributions import biject_to

from probseq.families import Family, numerical

F64 = torch.float64


def objective(case, values, weights, priors=None):
    """(K,) by the table itself, not by the sufficient statistics that the M-steps use."""

    def function(parameters):
        table = case.family.log_prob(values, parameters)
        total = torch.where(weights > 0, weights * table, 0.0).sum(0)
        if priors is None:
            return total
        declared = case.family.parameters(case.event_shape)
        return total + numerical.log_prior(priors, parameters, declared, weights.shape[1])

    return function


def free_gradients(case, function, parameters):
    """Gradients in unconstrained coordinates, which are zero at an inner optimum even on a simplex."""
    declared = case.family.parameters(case.event_shape)
    transforms = {name: biject_to(declared[name].constraint) for name in parameters}
    free = {name: transforms[name].inv(value).detach().requires_grad_() for name, value in parameters.items()}
    total = function({name: transforms[name](u) for name, u in free.items()}).sum()
    return dict(zip(free, torch.autograd.grad(total, list(free.values())), strict=True))


def nearby(case, parameters, generator):
    """Parameters a little away, of every state."""
    declared = case.family.parameters(case.event_shape)
    moved = {}
    for name, value in parameters.items():
        transform = biject_to(declared[name].constraint)
        u = transform.inv(value)
        moved[name] = transform(u + 0.1 * torch.randn(u.shape, dtype=F64, generator=generator))
    return moved


def settled(case, step):
    """What an M-step finds; of a mixture, whose M-step is one of EM, what 600 of them find."""
    found = step(case.parameters)
    for _ in range(600 if case.family.kind == "mixture" else 0):
        found = step(found)
    return found


def assert_stationary(case, function, found, weight):
    for name, gradient in free_gradients(case, function, found).items():
        if name == "df":  # a state of light tails stops at the cap, where the likelihood still rises by 1e-5
            gradient = torch.where(found["df"] == 1e5, 0.0, gradient)
        # 1e-8 a unit of weight: a Newton step from there moves a parameter by 1e-8 of its scale
        slack = 1e-5 if case.family.kind == "mixture" else 1e-8  # EM comes close by a constant factor a step
        assert float(gradient.abs().max()) <= slack * (1 + weight), name


def test_maximise_finds_a_maximum(case, weighted):
    values, weights = weighted
    function = objective(case, values, weights)
    found = settled(case, lambda point: case.family.maximise(values, weights, point))
    assert_stationary(case, function, found, float(weights.sum()))
    top = function(found)
    assert bool((top >= function(case.parameters) - 1e-10 * top.abs()).all())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = function(nearby(case, found, generator))
        assert float(other.sum()) <= float(top.sum()) + 1e-9
        assert case.label == "tied" or bool((other <= top + 1e-9).all())


def test_maximise_posterior_finds_a_maximum(case, weighted):
    values, weights = weighted
    priors = case.family.priors(values)
    function = objective(case, values, weights, priors)
    found = settled(case, lambda point: case.family.maximise_posterior(values, weights, point, priors))
    assert_stationary(case, function, found, float(weights.sum()))
    top = function(found)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert float(function(nearby(case, found, generator)).sum()) <= float(top.sum()) + 1e-9


def test_closed_form_posterior_mode_equals_the_numerical_one(case, weighted):
    values, weights = weighted
    priors = case.family.priors(values)
    found = settled(case, lambda point: case.family.maximise_posterior(values, weights, point, priors))
    start = found if case.family.kind == "mixture" else case.parameters  # which has several modes
    numeric = Family.maximise_posterior(case.family, values, weights, start, priors)
    function = objective(case, values, weights, priors)
    assert float(function(found).sum()) == pytest.approx(float(function(numeric).sum()), rel=1e-9)
    for name, value in found.items():
        # L-BFGS (tied covariance, wide Bernoulli) leaves the last digits open
        np.testing.assert_allclose(numeric[name], value, rtol=2e-4, atol=1e-5)


def test_sufficient_statistics_say_the_same_as_the_table(case, weighted):
    values, weights = weighted
    for parameters in (case.parameters, case.family.maximise(values, weights, case.parameters)):
        by_sums = case.family.expected_log_prob(values, weights)(parameters)
        np.testing.assert_allclose(by_sums, objective(case, values, weights)(parameters), rtol=1e-9, atol=1e-9)


def test_an_empty_state_keeps_its_parameters_and_gets_its_prior_mode(case, weighted):
    values, weights = weighted
    found = case.family.maximise(values, weights, case.parameters)
    declared = case.family.parameters(case.event_shape)
    for name, value in found.items():
        if not declared[name].shared:
            assert torch.equal(value[2], case.parameters[name][2]), name
        assert bool(torch.isfinite(value).all())
    priors = case.family.priors(values)
    mode = case.family.maximise_posterior(values, weights, case.parameters, priors)
    function = objective(case, values, 0 * weights, priors)
    gradients = free_gradients(case, function, mode)
    for name, gradient in gradients.items():
        if not declared[name].shared:
            assert float(gradient[2].abs().max()) <= 1e-8, name


def test_maximise_never_goes_down_from_where_it_stands(case):
    """From its own answer, and from bad starts, with rows drawn from one state only."""
    values = case.sample(15, seed=9)
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(len(values), 3, dtype=F64, generator=generator).square()
    function, priors = objective(case, values, weights), case.family.priors(values)
    posterior = objective(case, values, weights, priors)
    current = case.parameters
    for _ in range(4):
        for target, step in (
            (function, case.family.maximise(values, weights, current)),
            (posterior, case.family.maximise_posterior(values, weights, current, priors)),
        ):
            before, after = target(current), target(step)
            # sums of 45 terms round at 1e-13 of their size
            assert float((after - before).sum()) >= -1e-11 * (1 + float(before.abs().sum()))
        current = nearby(case, step, generator)


def test_weights_count_rows(case):
    """A row with weight three is the row three times."""
    values = case.sample(10, seed=2)
    times = torch.arange(len(values)) % 3 + 1
    once = torch.ones(len(values), 3, dtype=F64) * times.unsqueeze(1)
    copied = values.repeat_interleave(times, 0)
    first = case.family.maximise(values, once, case.parameters)
    second = case.family.maximise(copied, torch.ones(len(copied), 3, dtype=F64), case.parameters)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-7, atol=1e-9)


def test_pooled_is_the_single_state_fit_repeated(case):
    values = case.sample(30, seed=4)
    start = case.family.pooled(values, 2)
    declared = case.family.parameters(case.event_shape)
    assert {n: v.shape for n, v in start.items()} == {
        n: torch.Size(one.shape if one.shared else (2, *one.shape)) for n, one in declared.items()
    }
    table = case.family.log_prob(values, start)
    assert bool(torch.isfinite(table).all()) and torch.equal(table[:, 0], table[:, 1])
    truth = case.family.log_prob(values, case.parameters).sum(0).max()
    assert float(table[:, 0].sum()) >= float(truth) - 1e-9
