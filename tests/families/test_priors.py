"""Default priors: proper, weak, on the data's scale, and usable by Pyro's guides and samplers."""

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.infer.mcmc.util import initialize_model
from pyro.optim import Adam
from scipy import stats

from probseq.families import Gamma, Gaussian, InverseWishartCholesky, MultivariateGaussian, Poisson
from probseq.families.inverse_wishart import CholeskyFactorTransform, cholesky_factor

F64 = torch.float64


def program(case, priors, values):
    """A mixture-free program: each state's parameters, and rows that know their state."""
    declared = case.family.parameters(case.event_shape)
    state = torch.arange(len(values)) % 3

    def model():
        drawn = {}
        for name, prior in priors.items():
            law = prior if declared[name].shared else prior.expand([3]).to_event(1)
            value = pyro.sample(name, law)
            drawn[name] = value if declared[name].shared else value[state]
        with pyro.plate("step", len(values)):
            pyro.sample("y", case.family.distribution(**drawn), obs=values)

    return model


def test_priors_are_one_states_and_proper(case):
    values = case.sample(30, seed=1)
    priors = case.family.priors(values)
    declared = case.family.parameters(case.event_shape)
    assert list(priors) == list(declared)
    torch.manual_seed(0)
    for name, prior in priors.items():
        assert prior.batch_shape == () and tuple(prior.event_shape) == declared[name].shape, name
        draws = prior.sample((500,))
        assert draws.dtype == F64 and bool(declared[name].constraint.check(draws).all()), name
        assert bool(torch.isfinite(prior.log_prob(draws)).all()), name
        assert bool(declared[name].constraint.check(prior.mean)), name


def test_priors_follow_the_unit_of_the_data():
    """Ten times the values: ten times the location and scale, a tenth of the rate, the same shape."""
    torch.manual_seed(0)
    values = torch.rand(50, dtype=F64) + 0.5
    small, large = Gaussian().priors(values), Gaussian().priors(10 * values)
    assert float(large["loc"].scale) == pytest.approx(10 * float(small["loc"].scale))
    assert float(large["scale"].mean) == pytest.approx(10 * float(small["scale"].mean))
    small, large = Gamma().priors(values), Gamma().priors(10 * values)
    assert float(large["concentration"].mean) == pytest.approx(float(small["concentration"].mean))
    assert float(large["rate"].mean) == pytest.approx(float(small["rate"].mean) / 10)


@pytest.mark.parametrize("guide_type", [AutoNormal, AutoDelta, AutoMultivariateNormal])
def test_priors_work_in_autoguides(case, guide_type):
    values = case.sample(10, seed=1)
    model = program(case, case.family.priors(values), values)
    pyro.set_rng_seed(0)
    torch.set_default_dtype(F64)  # autoguides make their own parameters in the default type
    try:
        svi = SVI(model, guide_type(model), Adam({"lr": 0.01}), Trace_ELBO())
        losses = [svi.step() for _ in range(4)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(np.isfinite(losses))


def test_priors_have_a_potential_for_nuts(case):
    values = case.sample(10, seed=1)
    model = program(case, case.family.priors(values), values)
    pyro.set_rng_seed(0)
    start, potential, *_ = initialize_model(model)
    free = {name: value.detach().requires_grad_() for name, value in start.items()}
    gradients = torch.autograd.grad(potential(free), list(free.values()))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


def test_priors_are_weak(case):
    """With 600 rows a state the posterior mode is within half a standard error or so of maximum likelihood.

    The measure is the log-likelihood given up: half a squared standard error is 0.5 nats a parameter.
    """
    values = case.sample(600, seed=8)
    table = case.family.log_prob(values, case.parameters)
    weights = torch.softmax(table, 1)
    likelihood = case.family.expected_log_prob(values, weights)
    best = case.family.maximise(values, weights, case.parameters)
    mode = case.family.maximise_posterior(values, weights, case.parameters, case.family.priors(values))
    given_up = float((likelihood(best) - likelihood(mode)).sum())
    assert 0 <= given_up <= 0.125 * case.family.n_parameters(3, case.event_shape)


def test_no_gaussian_collapse_under_the_prior():
    """One state holding twenty equal values keeps a scale; by hand (n + 3) s^2 - b s = 0 gives s = b / (n + 3)."""
    values = torch.cat([torch.zeros(20, dtype=F64), torch.linspace(-3, 3, 30, dtype=F64)])
    weights = torch.zeros(50, 1, dtype=F64)
    weights[:20] = 1
    priors = Gaussian().priors(values)
    start = Gaussian().pooled(values, 1)
    found = Gaussian().maximise_posterior(values, weights, start, priors)
    # the mean of the values is zero, so that loc = 0 exactly and no squares are left
    assert float(found["scale"]) == pytest.approx(float(priors["scale"].rate) / 23, rel=1e-9)
    assert Gaussian().degenerate(found, values) is None


def test_poisson_mode_is_the_conjugate_one():
    values = torch.tensor([0.0, 0.0, 3.0, 5.0], dtype=F64)
    weights = torch.ones(4, 1, dtype=F64)
    found = Poisson().maximise_posterior(values, weights, {"rate": torch.ones(1, dtype=F64)}, Poisson().priors(values))
    assert float(found["rate"]) == pytest.approx((8 + 0.1) / (4 + 1 / 5), rel=1e-14)


def test_inverse_wishart_equals_scipy():
    scale_tril = torch.tensor([[1.0, 0, 0], [0.5, 2.0, 0], [-0.3, 0.1, 0.7]], dtype=F64)
    prior = InverseWishartCholesky(torch.tensor(6.5, dtype=F64), scale_tril)
    torch.manual_seed(0)
    factor = prior.sample((4,))
    covariance = factor @ factor.mT
    expected = [stats.invwishart.logpdf(one.numpy(), 6.5, (scale_tril @ scale_tril.T).numpy()) for one in covariance]
    order = torch.arange(1, 4)
    jacobian = 3 * np.log(2) + ((4 - order) * factor.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    np.testing.assert_allclose(prior.log_prob(factor), torch.tensor(expected) + jacobian, rtol=1e-12)


def test_inverse_wishart_samples_have_the_mean():
    scale_tril = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=F64)
    prior = InverseWishartCholesky(torch.tensor([9.0, 12.0], dtype=F64), scale_tril)
    torch.manual_seed(0)
    factor = prior.sample((40_000,))
    assert factor.shape == (40_000, 2, 2, 2) and prior.batch_shape == (2,)
    expected = scale_tril @ scale_tril.T / torch.tensor([6.0, 9.0], dtype=F64)[:, None, None]
    # a standard error of the mean covariance is about 0.5% of its diagonal here
    np.testing.assert_allclose((factor @ factor.mT).mean(0), expected, rtol=0.03, atol=0.01)
    np.testing.assert_allclose(factor.mean(0), prior.mean, rtol=0.03, atol=0.01)
    assert prior.expand([3, 2]).sample().shape == (3, 2, 2, 2)


def test_cholesky_factor_bijection():
    transform = CholeskyFactorTransform()
    x = torch.randn(5, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
    y = transform(x)
    assert bool(cholesky_factor.check(y).all()) and y.shape == transform.forward_shape(x.shape)
    assert transform.inverse_shape(y.shape) == x.shape
    np.testing.assert_allclose(transform.inv(y), x, atol=1e-15)
    rows, columns = torch.tril_indices(3, 3)
    full = torch.autograd.functional.jacobian(lambda u: transform(u)[rows, columns], x[0])
    expected = torch.linalg.slogdet(full).logabsdet
    assert float(transform.log_abs_det_jacobian(x[0], y[0])) == pytest.approx(float(expected), abs=1e-12)


def test_a_prior_of_another_kind_is_maximised_numerically():
    import pyro.distributions as dist

    values = torch.tensor([1.0, 2.0, 4.0], dtype=F64)
    weights = torch.ones(3, 1, dtype=F64)
    priors = {"rate": dist.LogNormal(torch.tensor(0.0, dtype=F64), torch.tensor(0.1, dtype=F64))}
    found = Poisson().maximise_posterior(values, weights, {"rate": torch.ones(1, dtype=F64)}, priors)
    rate = found["rate"].requires_grad_()
    (slope,) = torch.autograd.grad((7 * rate.log() - 3 * rate + priors["rate"].log_prob(rate)).sum(), rate)
    assert abs(float(slope)) < 1e-8 and float(rate.detach()) < 1.3
    tied = MultivariateGaussian("diagonal")
    rows = torch.randn(40, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    flat = tied.maximise_posterior(rows, torch.ones(40, 1, dtype=F64), tied.pooled(rows, 1), {})
    np.testing.assert_allclose(flat["scale"][0], rows.std(0, correction=0), rtol=1e-8)
