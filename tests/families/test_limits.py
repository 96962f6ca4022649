"""The edges: limits of one law in another, collapse, cancellation, zeros only, exact zeros and ones."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from probseq.families import (
    Bernoulli,
    Categorical,
    Gamma,
    Gaussian,
    Hurdle,
    LogNormal,
    Mixture,
    MultivariateGaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflated,
)
from probseq.families.special import lgamma_increment, log1mexp, log_minus_digamma

F64 = torch.float64


def t(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def ones(count: int, states: int = 1) -> torch.Tensor:
    return torch.ones(count, states, dtype=F64)


def test_negative_binomial_of_underdispersed_counts_is_poisson():
    values = t(4.0, 5, 5, 6, 5, 4, 6, 5)
    start = {"mean": t(3.0), "concentration": t(2.0)}
    found = NegativeBinomial().maximise(values, ones(8), start)
    assert float(found["mean"]) == pytest.approx(5.0) and float(found["concentration"]) >= 1e8
    poisson = Poisson().log_prob(values, {"rate": t(5.0)})
    np.testing.assert_allclose(NegativeBinomial().log_prob(values, found), poisson, atol=2e-8)
    reason = NegativeBinomial().at_limit(found, values)
    assert reason is not None and reason.startswith("state 0 is Poisson") and "use Poisson()" in reason
    mode = NegativeBinomial().maximise_posterior(values, ones(8), start, NegativeBinomial().priors(values))
    assert float(mode["concentration"]) < 1e4 and NegativeBinomial().at_limit(mode, values) is None
    assert NegativeBinomial().degenerate(found, values) is None  # bounded: the fit stands


def test_negative_binomial_keeps_its_digits_towards_poisson():
    """NB = Poisson + O(1/r): log p differs by ((x - m)^2 - x) / (2 r) to first order."""
    x, m = t(0.0, 3.0, 12.0), 4.0
    r = 1e9
    table = NegativeBinomial().log_prob(x, {"mean": t(m), "concentration": t(r)})[:, 0]
    poisson = torch.tensor(stats.poisson.logpmf(x.numpy(), m))
    np.testing.assert_allclose(table - poisson, ((x - m).square() - x) / (2 * r), atol=1e-13)


def test_negative_binomial_state_of_zeros():
    values, weights = t(0.0, 0, 0, 7), t([1.0], [1.0], [1.0], [0.0])
    found = NegativeBinomial().maximise(values, weights, {"mean": t(3.0), "concentration": t(2.0)})
    assert float(found["mean"]) == 0 and float(found["concentration"]) == 2.0
    table = NegativeBinomial().log_prob(values, found)
    assert table[:3].tolist() == [[0.0]] * 3 and float(table[3]) == -math.inf


def test_student_t_of_light_tails_is_gaussian():
    values = torch.linspace(-1, 1, 50, dtype=F64)
    start = {"df": t(5.0), "loc": t(1.0), "scale": t(1.0)}
    found = StudentT().maximise(values, ones(50), start)
    gaussian = Gaussian().maximise(values, ones(50), {"loc": t(1.0), "scale": t(1.0)})
    assert float(found["df"]) == 1e5
    np.testing.assert_allclose(found["scale"], gaussian["scale"], rtol=1e-4)
    assert "is Gaussian" in str(StudentT().at_limit(found, values)) and StudentT().degenerate(found, values) is None


def test_student_t_recovers_scipys_fit():
    values = torch.tensor(stats.t.rvs(4, 2.0, 1.5, size=400, random_state=0))
    found = StudentT().maximise(values, ones(400), {"df": t(20.0), "loc": t(0.0), "scale": t(5.0)})
    df, loc, scale = stats.t.fit(values.numpy())
    np.testing.assert_allclose([found["df"][0], found["loc"][0], found["scale"][0]], [df, loc, scale], rtol=2e-3)
    ours = float(StudentT().log_prob(values, found).sum())
    assert ours >= stats.t.logpdf(values.numpy(), df, loc, scale).sum() - 1e-9


def test_gamma_equals_scipys_fit():
    values = torch.tensor(stats.gamma.rvs(0.7, scale=5, size=300, random_state=0))
    found = Gamma().maximise(values, ones(300), {"concentration": t(1.0), "rate": t(1.0)})
    shape, _, scale = stats.gamma.fit(values.numpy(), floc=0)
    np.testing.assert_allclose([found["concentration"][0], 1 / found["rate"][0]], [shape, scale], rtol=1e-8)


@pytest.mark.parametrize("shape", [1e-3, 0.1, 1.0, 50.0, 1e4, 1e6])
def test_gamma_newton_solves_its_equation(shape):
    """log a - digamma(a) = log(mean) - mean(log), solved to 1e-12 of a: the right side comes from two values."""
    from scipy.optimize import brentq
    from scipy.special import digamma

    gap = float(log_minus_digamma(t(shape)))
    # two equally likely values e^-d, e^d have the gap log cosh d
    d = float(np.arccosh(np.exp(gap))) if gap < 500 else gap + math.log(2)
    values = t(-d, d).exp() if d < 300 else t(-600.0, 600.0).exp()
    found = float(Gamma().maximise(values, ones(2), {"concentration": t(1.0), "rate": t(1.0)})["concentration"])
    gap = float(values.mean().log() - values.log().mean())
    if shape <= 50:  # beyond, scipy's log a - digamma(a) has lost the digits to be an oracle
        expected = brentq(lambda a: np.log(a) - digamma(a) - gap, found / 2, found * 2, xtol=1e-300, rtol=1e-14)
        assert found == pytest.approx(expected, rel=1e-12)
    else:
        assert found == pytest.approx(shape, rel=1e-9)


def test_gaussian_moments_survive_a_large_offset():
    """Raw sums of squares at 1e9 +- 1 have no digit left; numpy's two-pass variance is the oracle."""
    rng = np.random.default_rng(0)
    values = torch.tensor(1e9 + rng.normal(size=1000))
    weights = torch.tensor(rng.random((1000, 2)))
    found = Gaussian().maximise(values, weights, {"loc": t(0.0, 0), "scale": t(1.0, 1)})
    for k in range(2):
        mean = np.average(values, weights=weights[:, k])
        variance = np.average((values.numpy() - mean) ** 2, weights=weights[:, k])
        assert float(found["loc"][k]) == pytest.approx(mean, rel=1e-15)
        assert float(found["scale"][k]) == pytest.approx(variance**0.5, rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_gaussian_gradient_equals_the_formula_near_and_far(offset):
    """d/dloc = sum d (x - loc) / scale^2, d/dscale = sum d ((x - loc)^2 / scale^2 - 1) / scale, whatever the route."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-offset, 1, 200), rng.normal(offset, 1, 200)])
    d = rng.normal(size=(400, 2))
    loc, scale = t(-offset - 0.3, offset + 0.1).requires_grad_(), t(1.2, 0.7).requires_grad_()
    table = Gaussian().log_prob(torch.tensor(x), {"loc": loc, "scale": scale})
    by_loc, by_scale = torch.autograd.grad((table * torch.tensor(d)).sum(), [loc, scale])
    z = (x[:, None] - loc.detach().numpy()) / scale.detach().numpy()
    np.testing.assert_allclose(by_loc, (d * z).sum(0) / scale.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(by_scale, (d * (z**2 - 1)).sum(0) / scale.detach().numpy(), rtol=1e-9)


def test_gaussian_moments_survive_narrow_states_far_apart():
    rng = np.random.default_rng(0)
    values = torch.tensor(np.concatenate([rng.normal(-1e4, 1e-2, 500), rng.normal(1e4, 1e-2, 500)]))
    weights = torch.zeros(1000, 2, dtype=F64)
    weights[:500, 0] = weights[500:, 1] = 1
    found = Gaussian().maximise(values, weights, {"loc": t(-1.0, 1), "scale": t(1.0, 1)})
    np.testing.assert_allclose(found["scale"], [values[:500].numpy().std(), values[500:].numpy().std()], rtol=1e-6)


@pytest.mark.parametrize("family", [Gaussian(), LogNormal(), StudentT(), Gamma()], ids=lambda f: f.name)
def test_a_collapsed_state_is_finite_and_reported(family):
    """All weight of state 1 on one repeated value: maximum likelihood has no end, the answer has one."""
    rng = np.random.default_rng(0)
    values = torch.tensor(np.concatenate([rng.gamma(2.0, 2.0, 40).round(3) + 0.001, [2.0] * 5]))
    weights = torch.zeros(45, 2, dtype=F64)
    weights[:40, 0] = weights[40:, 1] = 1
    found = family.maximise(values, weights, family.pooled(values, 2))
    assert bool(torch.isfinite(family.log_prob(values, found)).all())
    reason = family.degenerate(found, values)
    assert reason is not None and reason.startswith("state 1 has collapsed")
    mode = family.maximise_posterior(values, weights, family.pooled(values, 2), family.priors(values))
    assert family.degenerate(mode, values) is None


def test_a_scale_below_the_rounding_is_reported():
    values = t(0.0, 0.1, 0.2, 0.1, 3.0, 1.5)
    reason = Gaussian().at_limit({"loc": t(0.1, 1), "scale": t(0.02, 1)}, values)
    assert reason is not None and "the rounding of the data (0.0289)" in reason  # 0.1 / sqrt(12)
    assert Gaussian().at_limit({"loc": t(0.1, 1), "scale": t(0.03, 1)}, values) is None
    assert Gaussian().degenerate({"loc": t(0.1, 1), "scale": t(0.02, 1)}, values) is None


def test_covariances_equal_numpys():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3)) + 100, rng.random((50, 2))
    means = [np.average(values, axis=0, weights=weights[:, k]) for k in range(2)]
    scatters = [(values - means[k]).T @ np.diag(weights[:, k]) @ (values - means[k]) for k in range(2)]
    totals = weights.sum(0)
    rows, w = torch.tensor(values), torch.tensor(weights)

    def fit(kind):
        family = MultivariateGaussian(kind)
        return family.maximise(rows, w, family.pooled(rows, 2))

    tied = fit("tied")["scale_tril"]
    np.testing.assert_allclose(tied @ tied.mT, sum(scatters) / totals.sum(), rtol=1e-10)
    full = fit("full")["scale_tril"]
    diagonal, spherical = fit("diagonal")["scale"], fit("spherical")["scale"]
    for k in range(2):
        covariance = scatters[k] / totals[k]
        np.testing.assert_allclose(full[k] @ full[k].T, covariance, rtol=1e-10)
        np.testing.assert_allclose(diagonal[k] ** 2, covariance.diagonal(), rtol=1e-10)
        np.testing.assert_allclose(spherical[k] ** 2, covariance.trace() / 3, rtol=1e-10)
        np.testing.assert_allclose(fit("full")["loc"][k], means[k], rtol=1e-13)


@pytest.mark.parametrize("kind", ["full", "tied", "diagonal", "spherical"])
def test_a_singular_covariance_is_finite_and_reported(kind):
    line = torch.linspace(0, 1, 20, dtype=F64)
    values = torch.stack([line, 2 * line], 1) if kind in ("full", "tied") else torch.stack([line, line**2], 1)
    weights = torch.zeros(20, 2, dtype=F64)
    weights[:, 0] = 1
    weights[3, :] = t(0.0, 1.0)
    if kind == "spherical" or kind == "diagonal":
        assert MultivariateGaussian(kind).priors(values)
    family = MultivariateGaussian(kind)
    found = family.maximise(values, weights, family.pooled(values, 2))
    assert bool(torch.isfinite(family.log_prob(values, found)).all())
    assert "has collapsed" in str(family.degenerate(found, values))
    mode = family.maximise_posterior(values, weights, family.pooled(values, 2), family.priors(values))
    assert family.degenerate(mode, values) is None


def test_a_dry_state_of_a_hurdle_is_reported():
    values = t(0.0, 0, 1.0, 3.0)
    weights = t([0.0, 1], [0, 1], [1, 0], [1, 0])
    family = Hurdle(Gamma())
    start = {"nonzero": t(0.5, 0.5), "concentration": t(1.0, 2.0), "rate": t(1.0, 3.0)}
    found = family.maximise(values, weights, start)
    assert found["nonzero"].tolist() == [1.0, 0.0] and float(found["concentration"][1]) == 2.0
    assert family.log_prob(values, found)[:, 1].tolist() == [0.0, 0.0, -math.inf, -math.inf]
    assert "state 1 is zero throughout" in str(family.at_limit(found, values))
    assert family.degenerate(found, values) is None  # a dry state is a good fit
    mode = family.maximise_posterior(values, weights, start, family.priors(values))
    assert family.at_limit(mode, values) is None


def test_zero_inflation_stops_at_zero():
    """Fewer zeros than Poisson has: the best inflation is none, and the rate is Poisson's."""
    values = t(1.0, 2, 3, 2, 1, 4, 0, 2)
    start = {"inflation": t(0.3), "rate": t(1.0)}
    found = ZeroInflated(Poisson()).maximise(values, ones(8), start)
    assert float(found["inflation"]) == 0 and float(found["rate"]) == pytest.approx(15 / 8)
    again = ZeroInflated(Poisson()).maximise(values, ones(8), found)
    assert float(again["rate"]) == pytest.approx(15 / 8)
    mode = ZeroInflated(Poisson()).maximise_posterior(values, ones(8), start, ZeroInflated(Poisson()).priors(values))
    assert 0 < float(mode["inflation"]) < 0.2


def test_zero_truncated_counts_of_ones_stay_finite():
    values = t(0.0, 1, 1, 1)
    found = Hurdle(Poisson()).maximise(values, ones(4), {"nonzero": t(0.5), "rate": t(2.0)})
    table = Hurdle(Poisson()).log_prob(values, found)
    assert float(found["nonzero"]) == 0.75 and 0 < float(found["rate"]) < 1e-6
    np.testing.assert_allclose(table[:, 0], np.log([0.25, 0.75, 0.75, 0.75]), atol=1e-6)
    assert "at their limit" in str(Hurdle(Poisson()).at_limit(found, values))


def test_an_infinite_density_is_that_of_a_mixture_too():
    """A gamma law of shape below one has it at zero; half of it, beside a finite or infinite half, is infinite."""
    zero = torch.zeros(1, dtype=torch.float64)
    for shapes in ([0.5, 0.5], [0.5, 2.0]):
        law = Mixture(Gamma(), 2).distribution(weights=t(0.5, 0.5), concentration=t(*shapes), rate=t(1.0, 1.0))
        assert law.log_prob(zero).tolist() == [math.inf]


def test_exact_zero_and_one_are_legal():
    found = Bernoulli().maximise(t(1.0, 1.0), ones(2), {"probability": t(0.5)})
    assert found["probability"].tolist() == [1.0]
    p = found["probability"].requires_grad_()
    table = Bernoulli().log_prob(t(0.0, 1.0), {"probability": p})
    assert table[:, 0].tolist() == [-math.inf, 0.0]
    law = Bernoulli().distribution(probability=p)
    assert law.log_prob(t(0.0, 1.0)).tolist() == [-math.inf, 0.0]
    counts = t([3.0], [0.0])  # weight of each row
    (slope,) = torch.autograd.grad(torch.where(counts.flip(0) > 0, counts.flip(0) * table, 0.0).sum(), p)
    assert bool(torch.isfinite(slope).all())
    shares = Categorical(3).maximise(t(0.0, 2.0, 2.0), ones(3), {"probabilities": t([0.2, 0.3, 0.5])})
    np.testing.assert_allclose(shares["probabilities"], [[1 / 3, 0, 2 / 3]])
    law = Categorical(3).distribution(probabilities=shares["probabilities"])
    assert float(law.log_prob(torch.tensor(1))) == -math.inf
    rate = Poisson().maximise(t(0.0, 0.0), ones(2), {"rate": t(1.0)})["rate"]
    assert Poisson().log_prob(t(0.0, 2.0), {"rate": rate})[:, 0].tolist() == [0.0, -math.inf]


def test_special_functions_equal_their_definitions_in_high_precision():
    """mpmath with 40 digits."""
    from mpmath import digamma, exp, log, loggamma, mp, mpf

    mp.dps = 40
    for z in (0.01, 1.5, 31.9, 32.1, 1e4, 1e9):
        for x in (0.0, 0.5, 3.0, 100.0):
            expected = float(loggamma(mpf(z) + mpf(x)) - loggamma(mpf(z)))
            assert float(lgamma_increment(t(z), t(x))) == pytest.approx(expected, rel=1e-13, abs=1e-13)
        expected = float(log(mpf(z)) - digamma(mpf(z)))
        assert float(log_minus_digamma(t(z))) == pytest.approx(expected, rel=1e-13)
    for a in (-1e-12, -0.1, -0.7, -5.0, -50.0):
        assert float(log1mexp(t(a))) == pytest.approx(float(log(1 - exp(mpf(a)))), rel=1e-14)
    assert float(log1mexp(t(0.0))) == -math.inf


def edges(values: torch.Tensor, weights: torch.Tensor):
    """Rows and weights that an EM iteration can come to, however unlucky."""
    first = torch.zeros_like(weights)
    first[1] = 1
    yield "no weight", values, 0 * weights
    yield "tiny weight", values, 1e-200 * weights
    yield "denormal weight", values, 1e-310 * weights
    yield "one row", values, first
    yield "a single row", values[1:2], weights[1:2]
    yield "no rows", values[:0], weights[:0]
    yield "zeros only", 0 * values, weights
    yield "huge values", (1e6 * values).floor(), weights


def test_no_edge_gives_nan_or_goes_down(case):
    values = case.sample(10, seed=3)
    weights = torch.rand(30, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    symbols = case.family.name in ("bernoulli", "categorical", "independent-bernoulli", "binomial-7")
    positive = case.family.name in ("gamma", "log-normal", "beta")
    for name, rows, w in edges(values, weights):
        if (symbols and name == "huge values") or (positive and name in ("zeros only", "huge values")):
            continue  # outside the support, which `check` refuses
        start, priors = case.parameters, case.family.priors(rows)
        target = case.family.expected_log_prob(rows, w)
        for found in (
            case.family.maximise(rows, w, start),
            case.family.maximise_posterior(rows, w, start, priors),
        ):
            assert all(bool(torch.isfinite(value).all()) for value in found.values()), name
            assert not bool(torch.isnan(target(found)).any()), name
            for judge in (case.family.degenerate, case.family.at_limit):
                assert judge(found, rows) is None or isinstance(judge(found, rows), str)
        found = case.family.maximise(rows, w, start)
        before = target(start).sum()
        assert float(target(found).sum() - before) >= -1e-10 * (1 + float(before.abs())), name
