"""The von Mises law to all digits: its constant, its estimate, its tails, and that whole turns change nothing."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from probseq import HMM, Sequences, em
from probseq.families import Gaussian, Mixture, Product, VonMises, circle

F64 = torch.float64
CONCENTRATIONS = [1e-6, 0.01, 0.7, 5.0, 29.9, 30.1, 200.0, 1e5, 1e9]


def t(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("k", CONCENTRATIONS)
def test_the_constant_and_the_circular_variance_in_high_precision(k):
    from mpmath import besseli, log, mp, mpf

    mp.dps = 40
    expected = float(log(besseli(0, mpf(k))) - mpf(k)) if k < 1e4 else None
    if expected is None:  # mpmath's own series is too long; Hankel's first terms are exact to 1e-25 here
        expected = -0.5 * math.log(2 * math.pi * k) + math.log1p(1 / (8 * k) + 9 / (128 * k * k))
    assert float(circle.log_bessel(t(k))) == pytest.approx(expected, rel=2e-15, abs=1e-15)
    if k < 1e4:
        spread = float(1 - besseli(1, mpf(k)) / besseli(0, mpf(k)))
        assert float(circle.spread(t(k))) == pytest.approx(spread, rel=3e-14)
    if k < 40:
        assert float(circle.upper_tail(t(1.0), t(k))) == pytest.approx(float(stats.vonmises.sf(1.0, k)), rel=1e-9)


@pytest.mark.parametrize("k", CONCENTRATIONS)
def test_the_concentration_is_found_to_machine_precision(k):
    """The equation I_1 / I_0 = R, solved back: k moves by its relative condition, about 1, times a few roundings."""
    variance = circle.spread(t(k))
    found = circle.concentration_of(variance, 1e14)
    condition = float((variance / k / (1 - variance)).clamp(min=1)) if k >= 1 else 1 / k
    assert float(found) == pytest.approx(k, rel=1e-14 * (1 + condition), abs=1e-15)


def test_tails_keep_their_digits():
    """A narrow von Mises is normal with variance 1 / k in the limit: P(D > 6 sd) = 9.87e-10 (1 + O(1 / k))."""
    k = 1e8
    tail = float(circle.upper_tail(t(6 * k**-0.5), t(k)))
    assert tail == pytest.approx(stats.norm.sf(6), rel=1e-5)
    below = VonMises().cdf(t(3.0 - 6 * k**-0.5), {"loc": t(3.0), "concentration": t(k)})
    assert float(below) == pytest.approx(tail, rel=1e-6)


def test_whole_turns_change_nothing():
    torch.manual_seed(0)
    angles = 6 * torch.rand(40, dtype=F64)
    start = {"loc": t(0.0, 2.0), "concentration": t(1.0, 3.0)}
    weights = torch.rand(40, 2, dtype=F64)
    turned = angles + 2 * math.pi * torch.randint(-3, 4, (40,)).double()
    np.testing.assert_allclose(VonMises().log_prob(turned, start), VonMises().log_prob(angles, start), atol=1e-12)
    first, second = (VonMises().maximise(x, weights, start) for x in (angles, turned))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-12)
    degrees = VonMises(360.0).maximise(torch.rad2deg(angles), weights, start)
    np.testing.assert_allclose(torch.deg2rad(degrees["loc"]), first["loc"], rtol=1e-12)
    np.testing.assert_allclose(degrees["concentration"], first["concentration"], rtol=1e-12)


def test_estimate_is_scipys():
    angles = torch.tensor(stats.vonmises.rvs(3.0, 1.0, size=500, random_state=0))
    found = VonMises().maximise(angles, torch.ones(500, 1, dtype=F64), {"loc": t(0.0), "concentration": t(1.0)})
    k, loc, _ = stats.vonmises.fit(angles.numpy(), fscale=1)
    np.testing.assert_allclose([found["concentration"][0], found["loc"][0]], [k, loc], rtol=1e-6)


def test_draws_have_the_circular_moments_and_stay_in_their_turn():
    torch.manual_seed(0)
    family, parameters = VonMises(360.0, 0.0), {"loc": t(10.0, 200.0), "concentration": t(0.5, 20.0)}
    draws = torch.deg2rad(family.distribution(**parameters).sample((40_000,)))
    assert bool(((draws >= 0) & (draws < 2 * math.pi)).all())
    cosine, sine = draws.cos().mean(0), draws.sin().mean(0)
    # five standard errors of a mean resultant are at most 5 / sqrt(40,000)
    np.testing.assert_allclose(1 - (cosine**2 + sine**2).sqrt(), family.variance(parameters), atol=0.025)
    np.testing.assert_allclose(torch.rad2deg(torch.atan2(sine, cosine)) % 360, family.mean(parameters), atol=5)


def test_a_uniform_state_and_a_collapsed_one_are_reported():
    around = torch.arange(0, 360, 30, dtype=F64)
    family = VonMises(360.0, 0.0)
    weights = torch.ones(12, 2, dtype=F64)
    weights[:, 1] = 0
    weights[3, 1] = 1
    start = {"loc": t(0.0, 0.0), "concentration": t(1.0, 1.0)}
    found = family.maximise(around, weights, start)
    assert "state 0 is uniform around the circle" in str(family.at_limit(found, around))
    assert "state 1 has collapsed onto one value" in str(family.degenerate(found, around))
    mode = family.maximise_posterior(around, weights, start, family.priors(around))
    assert family.degenerate(mode, around) is None


def test_two_winds_across_north_are_told_apart():
    """Regimes around 350 and 170 degrees: 350 and 10 are neighbours, which a law on the line cannot see."""
    rng = np.random.default_rng(0)
    states = np.repeat([0, 1, 0, 1], 50)
    wind = np.rad2deg(rng.vonmises(np.deg2rad([355.0, 170.0])[states], 6.0)) % 360
    fit = em(HMM(2, VonMises(360.0)), Sequences.from_arrays(wind), restarts=2, workers=1)
    away = (fit.parameters["loc"].unsqueeze(1) - t(355.0, 170.0) + 180) % 360 - 180
    # the mean direction of 100 draws with k = 6 has a standard error of 2.4 degrees
    assert bool((away.abs().amin(0) < 8).all())
    path = fit.posterior(Sequences.from_arrays(wind)).viterbi.numpy()
    assert max((path == states).mean(), (path != states).mean()) > 0.98


def test_the_mean_of_a_forecast_is_a_direction():
    """Half 350 and half 10 degrees is north, not south; with a concentration each weighs by its resultant."""
    family = VonMises(360.0, 0.0)
    parameters = {"loc": t([350.0, 10.0]), "concentration": t([5.0, 5.0])}  # one draw
    mean = float(family.average(parameters, t([[0.5, 0.5]])))
    assert (mean + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    mixed = Mixture(family, 2)
    both = {"weights": t([0.5, 0.5]), **parameters}
    assert (float(mixed.mean(both)) + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    length = 1 - float(family.variance({"concentration": t(5.0)}))
    assert float(mixed.variance(both)) == pytest.approx(1 - length * math.cos(math.radians(10)), rel=1e-12)
    pair = Product((family, Gaussian()))
    product = {"x0_loc": parameters["loc"], "x0_concentration": parameters["concentration"]}
    product |= {"x1_loc": t([1.0, 3.0]), "x1_scale": t([1.0, 1.0])}
    found = pair.average(product, t([[0.5, 0.5]]))[0]
    assert (float(found[0]) + 180) % 360 - 180 == pytest.approx(0, abs=1e-9) and float(found[1]) == 2.0
