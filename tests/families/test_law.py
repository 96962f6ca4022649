"""Each family's law against scipy, against itself, and against the definition of a law."""

import numpy as np
import pyro
import pytest
import torch
from scipy.integrate import quad
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import biject_to

F64 = torch.float64


def grid(case, count=41):
    """Rows in the support, including zero where it belongs."""
    rng = np.random.default_rng(0)
    if case.family.discrete:
        points = np.arange(case.low, min(case.high, 60) + 1)
    else:
        points = np.linspace(max(case.low, -8), min(case.high, 12), count)
        points = np.concatenate([[0.0], points[points != 0]]) if "nonzero" in case.parameters else points
        points = np.concatenate([[0.0], points]) if "inflation" in case.parameters else points
    if case.columns:
        return torch.tensor(rng.choice(points, (count, case.columns)), dtype=F64)
    return torch.tensor(points, dtype=F64)


def test_table_equals_scipy(case):
    values = grid(case)
    table = case.family.log_prob(values, case.parameters)
    assert table.shape == (len(values), 3) and table.dtype == F64 and table.is_contiguous()
    for k in range(3):
        expected = case.log_prob(values.numpy(), case.state(k))
        # scipy's own log pmf carries errors of 1e-13 or so
        np.testing.assert_allclose(table[:, k], expected, rtol=1e-11, atol=1e-11)


def test_distribution_equals_table(case):
    values = grid(case)
    law = case.family.distribution(**case.parameters)
    rows = values.unsqueeze(1)
    np.testing.assert_allclose(
        law.log_prob(rows), case.family.log_prob(values, case.parameters), rtol=1e-11, atol=1e-11
    )


def test_a_batch_of_draws_gives_a_batch_of_tables(case):
    values = grid(case)
    doubled = {name: torch.stack([value, value * 1.0]) for name, value in case.parameters.items()}
    tables = case.family.log_prob(values, doubled)
    table = case.family.log_prob(values, case.parameters)
    assert tables.shape == (2, *table.shape)
    np.testing.assert_allclose(tables[1], table, rtol=1e-13)


def test_law_adds_up_to_one(case):
    if case.columns:
        pytest.skip("equality with scipy covers vectors")
    for k in range(3):
        one = {name: value[k : k + 1] for name, value in case.parameters.items()}

        def density(x, one=one):
            return float(case.family.log_prob(torch.tensor([x], dtype=F64), one).exp())

        if case.family.discrete:
            total = sum(density(float(x)) for x in range(int(case.low), int(case.high) + 1))
        else:
            atom = density(0.0) if case.family.kind in ("hurdle", "zero-inflated") else 0.0
            centre = float(case.family.mean(one)) / (1 - atom)
            pieces = [case.low, centre / 4, centre, 3 * centre + 1, case.high]
            pieces = sorted(x for x in pieces if case.low <= x <= case.high)
            total = atom + sum(quad(density, a, b, limit=200)[0] for a, b in zip(pieces, pieces[1:], strict=False))
        # the grid's ends leave out 1e-7 of the heaviest tail (gamma at 0, Student's t with 3.5 df)
        assert total == pytest.approx(1, abs=2e-7)


def test_cdf_equals_scipy(case):
    if case.cdf is None:
        pytest.skip("covered by test_cdf_adds_up_the_law")
    values = grid(case)
    table = case.family.cdf(values, case.parameters)
    for k in range(3):
        np.testing.assert_allclose(table[:, k], case.cdf(values.numpy(), case.state(k)), rtol=1e-10, atol=1e-300)


def test_cdf_adds_up_the_law(case):
    if case.columns:
        with pytest.raises(ValueError, match="cumulative probability must"):
            case.family.cdf(grid(case), case.parameters)
        return
    values = torch.tensor([-3.0, 0.0, 1.0, 2.5, 7.0], dtype=F64)
    below = case.family.cdf(values, case.parameters)
    np.testing.assert_allclose(below + case.family.survival(values, case.parameters), torch.ones(5, 3), atol=1e-13)
    for k in range(3):
        one = {name: value[k : k + 1] for name, value in case.parameters.items()}

        def density(x, one=one):
            return float(case.family.log_prob(torch.tensor([x], dtype=F64), one).exp())

        for i, value in enumerate(values.tolist()):
            if case.family.discrete:
                expected = sum(density(float(x)) for x in range(int(value) + 1)) if value >= 0 else 0.0
                assert below[i, k] == pytest.approx(expected, abs=1e-12)
            elif i > 0:
                previous = float(values[i - 1])
                atom = case.family.kind in ("hurdle", "zero-inflated") and previous < 0 <= value
                nudge = 1e-12 if value == 0 else 0.0  # step round the atom
                end = min(value, case.high) - nudge  # a circular density goes on where its turn has ended
                mass = quad(density, max(previous, case.low), end, limit=200)[0] if end > case.low else 0.0
                expected = mass + (density(0.0) if atom else 0.0)
                # 5e-7: the gamma of shape 0.6 has mass 1e-12^0.6 = 6e-8 left of the quadrature's start
                assert below[i, k] - below[i - 1, k] == pytest.approx(expected, abs=5e-7)


def test_distribution_cdf_equals_family_cdf(case):
    if (
        case.columns
        or case.family.kind in ("categorical", "bernoulli", "poisson")
        or "-poisson" in case.family.name[7:]
    ):
        pytest.skip("torch has no cdf for these")
    law = case.family.distribution(**case.parameters)
    values = grid(case)
    np.testing.assert_allclose(law.cdf(values.unsqueeze(1)), case.family.cdf(values, case.parameters), atol=1e-13)


def test_survival_is_accurate_in_the_tail():
    """P(Z > 12) = 1.8e-33, which 1 - cdf would round to zero (Abramowitz & Stegun 26.2.12 gives 1.776e-33)."""
    from probseq.families import Gaussian, Hurdle

    one = torch.ones(1, dtype=F64)
    values = torch.tensor([12.0], dtype=F64)
    tail = Gaussian().survival(values, {"loc": 0 * one, "scale": one})
    assert float(tail) == pytest.approx(1.7764821120777e-33, rel=1e-10)
    wet = Hurdle(Gaussian()).survival(values, {"nonzero": 0.5 * one, "loc": 0 * one, "scale": one})
    assert float(wet) == pytest.approx(0.5 * float(tail), rel=1e-12)


def test_samples_have_the_moments(case):
    if "von-mises" in case.family.name:
        pytest.skip("circular moments: tests/families/test_circle.py")
    torch.manual_seed(1)
    law = case.family.distribution(**case.parameters)
    draws = law.sample((40_000,)).double()
    mean, variance = case.family.mean(case.parameters), case.family.variance(case.parameters)
    assert draws.shape == (40_000, 3, *case.event_shape)
    # five standard errors of the mean; of the variance, by the draws' own fourth moment, and 4% for heavy tails
    error = 5 * (variance / 40_000).sqrt()
    assert bool(((draws.mean(0) - mean).abs() <= error).all())
    spread = 5 * ((draws - mean).square().var(0) / 40_000).sqrt() + 0.04 * variance
    assert bool(((draws.var(0) - variance).abs() <= spread).all())
    if case.family.kind not in ("categorical", "student-t"):  # torch: the mean of a categorical is NaN
        np.testing.assert_allclose(law.mean.expand(mean.shape), mean, rtol=1e-12)
        np.testing.assert_allclose(law.variance.expand(mean.shape), variance, rtol=1e-12)


def test_samples_follow_the_cdf(case):
    if case.columns:
        pytest.skip("univariate laws only")
    torch.manual_seed(2)
    draws = case.family.distribution(**case.parameters).sample((20_000,))
    points = torch.tensor([0.0, 1.0, 3.0, 8.0], dtype=F64)
    expected = case.family.cdf(points, case.parameters)
    share = (draws.unsqueeze(0) <= points[:, None, None]).double().mean(1)
    assert bool(((share - expected).abs() <= 5 * (expected * (1 - expected) / 20_000).sqrt() + 1e-9).all())


def test_twice_differentiable_in_the_parameters(case):
    values = grid(case)[:7]
    declared = case.family.parameters(case.event_shape)
    transforms = {name: biject_to(one.constraint) for name, one in declared.items()}
    names = list(transforms)
    free = [transforms[name].inv(case.parameters[name]).detach().requires_grad_() for name in names]

    def table(*coordinates):
        made = {name: transforms[name](u) for name, u in zip(names, coordinates, strict=True)}
        return case.family.log_prob(values, made)

    assert gradcheck(table, free, rtol=1e-4, atol=1e-6)
    assert gradgradcheck(table, free, rtol=1e-4, atol=1e-5)


def test_outside_the_support_is_impossible_without_nan(case):
    if not case.outside:
        pytest.skip("every value is in the support")
    parameters = {name: value.clone().requires_grad_() for name, value in case.parameters.items()}
    inside = 0.5 if case.family.kind == "beta" else 1.0
    table = case.family.log_prob(torch.tensor([inside, *case.outside], dtype=F64), parameters)
    assert bool((table[1:] == -torch.inf).all()) and bool(torch.isfinite(table[0]).all())
    gradients = torch.autograd.grad(table[1:].sum(), list(parameters.values()), create_graph=True, allow_unused=True)
    assert all(g is None or bool((g == 0).all()) for g in gradients)


def test_whole_numbers_are_taken_as_they_come(case):
    if not case.family.discrete or case.columns:
        pytest.skip("codes and counts only")
    codes = torch.tensor([0, 1, 1], dtype=torch.uint8)
    table = case.family.log_prob(codes, case.parameters)
    assert torch.equal(table, case.family.log_prob(codes.double(), case.parameters))


def test_gradient_is_finite_on_zeros(case):
    """torch.where lets NaN through from the branch not taken; a zero in log x would be one."""
    values = torch.zeros(2, *case.event_shape, dtype=F64)
    parameters = {name: value.clone().requires_grad_() for name, value in case.parameters.items()}
    law = case.family.distribution(**parameters)
    if case.outside and 0.0 in case.outside:
        pytest.skip("zero is not in the support")
    gradients = torch.autograd.grad(law.log_prob(values.unsqueeze(1)).sum(), list(parameters.values()))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


def test_works_in_a_pyro_program(case):
    """Indexing the parameters by state, a plate, obs=, expand and validation."""
    state = torch.tensor([0, 2, 1, 0])
    declared = case.family.parameters(case.event_shape)
    chosen = {n: v if declared[n].shared else v[state] for n, v in case.parameters.items()}
    values = case.sample(5, seed=3)[:4]

    def program():
        with pyro.plate("step", 4):
            return pyro.sample("y", case.family.distribution(**chosen), obs=values)

    trace = pyro.poutine.trace(program).get_trace()
    trace.compute_log_prob()
    expected = case.family.log_prob(values, case.parameters)[torch.arange(4), state]
    np.testing.assert_allclose(trace.nodes["y"]["log_prob"], expected, rtol=1e-11, atol=1e-11)
    law = case.family.distribution(**chosen).expand([5, 4])
    assert law.sample().shape == (5, 4, *case.event_shape) and law.batch_shape == (5, 4)
    with pytest.raises(ValueError, match="support|Expected"):
        law.log_prob(torch.full((5, 4, *case.event_shape), torch.nan, dtype=F64))
    if case.family.kind == "categorical":
        return  # torch divides by the sum first, so that no number is wrong
    with pytest.raises(ValueError, match="constraint|invalid|Expected"):
        case.family.distribution(**{name: value - 100 for name, value in chosen.items()})
