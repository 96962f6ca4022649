"""Full conditionals against closed forms and quadrature: with one state, or all states known, the posterior is known.

Draws are compared by a Kolmogorov-Smirnov test at a fixed seed; slice-sampled ones are thinned until they are all but
independent. A right sampler fails one test in a thousand seeds, and the seed is fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from probseq import HMM, Sequences, families, gibbs
from probseq.chains import ForbiddenTransitions, StationaryInitial, StickyTransitions, TiedTransitions

LEAST = 1e-3
"""The p-value below which a test fails."""


def draws_of(model: HMM, series: Sequences, thin: int = 1):
    """Draws and priors' numbers as numpy arrays."""
    fit = gibbs(model, series, chains=2, draws=1000, tune=50, thin=thin, seed=1)
    return {name: value.numpy() for name, value in fit.draws.items()}, fit.model.priors


def agree(draws: np.ndarray, law) -> None:
    assert stats.kstest(draws, law if callable(law) else law.cdf).pvalue > LEAST


def marginal(points: np.ndarray, log_density: np.ndarray):
    """The cdf of a density on a fine grid, by the trapezium rule."""
    density = np.exp(log_density - log_density.max())
    steps = np.diff(points) * (density[1:] + density[:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum(steps)])
    return lambda x: np.interp(x, points, below / below[-1])


def one_state(family, values) -> tuple[HMM, Sequences, np.ndarray]:
    """A model of one state, the values with a missing step between them, and the values."""
    x = np.asarray(values, dtype=np.float64)
    gap = np.full((1, *x.shape[1:]), np.nan)
    return HMM(1, family), Sequences.from_arrays(np.concatenate([x[:3], gap, x[3:]])), x


COUNTS = [3, 0, 2, 5, 1, 1, 0, 4]
POSITIVE = [0.3, 2.1, 0.7, 1.4, 3.3, 0.9, 1.1]


def test_a_poisson_rate() -> None:
    model, series, x = one_state(families.Poisson(), COUNTS)
    draws, priors = draws_of(model, series)
    prior = priors["rate"]
    agree(draws["rate"][:, 0], stats.gamma(prior.concentration + x.sum(), scale=1 / (prior.rate + len(x))))


def test_an_exponential_rate() -> None:
    model, series, x = one_state(families.Exponential(), POSITIVE)
    draws, priors = draws_of(model, series)
    prior = priors["rate"]
    agree(draws["rate"][:, 0], stats.gamma(prior.concentration + len(x), scale=1 / (prior.rate + x.sum())))


@pytest.mark.parametrize(
    "family, values, ones, others",
    [
        (families.Bernoulli(), [1, 0, 0, 1, 1, 1], 4, 2),
        (families.Binomial(5), COUNTS, 16, 24),
        (families.Geometric(), COUNTS, 8, 16),
    ],
    ids=["bernoulli", "binomial", "geometric"],
)
def test_a_probability(family, values, ones: int, others: int) -> None:
    model, series, _ = one_state(family, values)
    draws, _ = draws_of(model, series)
    agree(draws["probability"][:, 0], stats.beta(1.1 + ones, 1.1 + others))


def test_probabilities_of_symbols_and_of_rows_of_counts() -> None:
    symbols, series, _ = one_state(families.Categorical(3), [0, 2, 2, 1, 2])
    draws, _ = draws_of(symbols, series)
    for m, count in enumerate((1, 1, 3)):
        agree(draws["probabilities"][:, 0, m], stats.beta(1.1 + count, 2.2 + 5 - count))
    rows, series, x = one_state(families.Multinomial(), [[1, 2, 0], [0, 4, 1], [2, 0, 0], [1, 1, 1]])
    draws, _ = draws_of(rows, series)
    for m, count in enumerate(x.sum(0)):
        agree(draws["probabilities"][:, 0, m], stats.beta(1.1 + count, 2.2 + x.sum() - count))


def test_a_gaussian_by_quadrature() -> None:
    """On a grid of 600 x 600, log scales evenly spaced; twice as many change no p-value in its third digit."""
    model, series, x = one_state(families.Gaussian(), POSITIVE)
    draws, priors = draws_of(model, series, thin=3)
    loc, scale = np.linspace(-4, 6, 600), np.exp(np.linspace(-3, 4, 600))
    table = stats.norm.logpdf(x[:, None, None], loc[:, None], scale).sum(0)
    table += stats.norm(float(priors["loc"].loc), float(priors["loc"].scale)).logpdf(loc)[:, None]
    table += stats.invgamma(float(priors["scale"].concentration), scale=float(priors["scale"].rate)).logpdf(scale)
    agree(draws["loc"][:, 0], marginal(loc, logsumexp(table + np.log(scale), axis=1)))
    agree(draws["scale"][:, 0], marginal(scale, logsumexp(table, axis=0)))


@pytest.mark.parametrize("name", ["gamma", "beta"])
def test_two_shapes_by_quadrature(name: str) -> None:
    values = np.array(POSITIVE) / (1 if name == "gamma" else 4)
    model, series, x = one_state(families.by_name(name), values)
    draws, priors = draws_of(model, series, thin=30)
    first, second = priors
    a, b = np.exp(np.linspace(-5, 7, 700)), np.exp(np.linspace(-5, 7, 700))
    law = stats.gamma(a[:, None], scale=1 / b) if name == "gamma" else stats.beta(a[:, None], b)
    table = sum(law.logpdf(one) for one in x)
    for prior, axis in ((priors[first], a[:, None]), (priors[second], b)):
        table = table + stats.gamma(float(prior.concentration), scale=1 / float(prior.rate)).logpdf(axis)
    agree(draws[first][:, 0], marginal(a, logsumexp(table + np.log(b), axis=1)))
    agree(draws[second][:, 0], marginal(b, logsumexp(table + np.log(a[:, None]), axis=0)))


def test_hurdles() -> None:
    """The truncated Poisson law by quadrature; the truncated geometric one is a geometric of x - 1."""
    model, series, x = one_state(families.Hurdle(families.Poisson()), COUNTS)
    draws, priors = draws_of(model, series, thin=10)
    agree(draws["nonzero"][:, 0], stats.beta(1.1 + 6, 1.1 + 2))
    rate, above = np.exp(np.linspace(-7, 4, 2000)), x[x > 0]
    table = stats.poisson.logpmf(above[:, None], rate).sum(0) - len(above) * np.log(-np.expm1(-rate))
    table += stats.gamma(float(priors["rate"].concentration), scale=1 / float(priors["rate"].rate)).logpdf(rate)
    agree(draws["rate"][:, 0], marginal(rate, table))
    draws, _ = draws_of(one_state(families.Hurdle(families.Geometric()), COUNTS)[0], series)
    agree(draws["probability"][:, 0], stats.beta(1.1 + 6, 1.1 + 10))


def test_a_zero_inflated_law_by_quadrature() -> None:
    model, series, x = one_state(families.ZeroInflated(families.Poisson()), [*COUNTS, 0, 0, 0])
    draws, priors = draws_of(model, series, thin=15)
    share, rate = np.linspace(1e-4, 1 - 1e-4, 500), np.exp(np.linspace(-6, 4, 500))
    counts = stats.poisson.pmf(x[:, None, None], rate) * (1 - share[:, None])
    table = np.log(counts + np.where(x[:, None, None] == 0, share[:, None], 0.0)).sum(0)
    table += stats.beta(1.1, 1.1).logpdf(share)[:, None]
    table += stats.gamma(float(priors["rate"].concentration), scale=1 / float(priors["rate"].rate)).logpdf(rate)
    agree(draws["inflation"][:, 0], marginal(share, logsumexp(table + np.log(rate), axis=1)))
    agree(draws["rate"][:, 0], marginal(rate, logsumexp(table, axis=0)))


ROWS = [[0.1, 2.0], [1.5, 3.9], [-0.4, 1.0], [2.2, 4.0], [0.9, 3.1]]


def test_a_covariance_given_the_mean() -> None:
    """Every direction of an inverse Wishart matrix is inverse gamma, and ratios of determinants are beta."""
    loc, model, series, x = torch.tensor([[0.8, 2.5]]), *one_state(families.MultivariateGaussian(), ROWS)
    draws, priors = draws_of(HMM(1, model.emission, fixed={"loc": loc}), series)
    deviation = x - loc.numpy()
    prior = priors["scale_tril"].scale_tril.numpy()
    scale, df = prior @ prior.T + deviation.T @ deviation, float(priors["scale_tril"].df) + len(x)
    factor = draws["scale_tril"][:, 0]
    covariance = factor @ factor.transpose(0, 2, 1)
    for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, -2.0]):
        along = np.array(direction)
        agree(covariance @ along @ along, stats.invgamma((df - 1) / 2, scale=along @ scale @ along / 2))
    inner = np.linalg.det(covariance) / covariance[:, 0, 0]  # S_22 given S_11, apart from what they share
    agree(inner, stats.invgamma(df / 2, scale=np.linalg.det(scale) / scale[0, 0] / 2))
    slope = covariance[:, 0, 1] / covariance[:, 0, 0]
    spread = np.sqrt(inner / scale[0, 0])
    agree((slope - scale[0, 1] / scale[0, 0]) / spread, stats.norm())


def test_a_mean_given_the_covariance() -> None:
    factor = torch.tensor([[[1.2, 0.0], [0.9, 0.5]]])
    model, series, x = one_state(families.MultivariateGaussian(), ROWS)
    draws, priors = draws_of(HMM(1, model.emission, fixed={"scale_tril": factor}), series)
    inside = np.linalg.inv(factor[0].numpy() @ factor[0].numpy().T)
    outside = np.diag(priors["loc"].base_dist.scale.numpy() ** -2.0)
    covariance = np.linalg.inv(len(x) * inside + outside)
    mean = covariance @ (inside @ x.sum(0) + outside @ priors["loc"].base_dist.loc.numpy())
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (draws["loc"][:, 0] - mean).T)
    agree(whitened.reshape(-1), stats.norm())
    assert abs(np.corrcoef(whitened)[0, 1]) < 4 / len(whitened[0]) ** 0.5  # four standard errors


def known_states(sequences: list[list[int]]) -> Sequences:
    """Sequences whose states are all known; nothing was measured but once."""
    flat = torch.tensor([z for path in sequences for z in path])
    values = torch.arange(len(flat)).double()
    return Sequences(values, torch.tensor([len(path) for path in sequences]), labels=flat)


PATHS = [[0, 0, 1, 1, 1, 0, 0, 2, 2, 0], [1, 1, 2, 0]]


def counts_of(paths: list[list[int]], states: int) -> np.ndarray:
    moves = np.zeros((states, states))
    for path in paths:
        np.add.at(moves, (path[:-1], path[1:]), 1)
    return moves


@pytest.mark.parametrize(
    "law", [StickyTransitions(2.0), ForbiddenTransitions(((2, 1),), prior=0.2)], ids=["sticky", "forbidden"]
)
def test_rows_of_moves_and_the_first_state(law) -> None:
    draws, _ = draws_of(HMM(3, families.Gaussian(), transition=law), known_states(PATHS))
    shape = law.concentration(3).numpy()
    shape = np.where(shape > 0, shape + counts_of(PATHS, 3), 0.0)
    for i, j in np.ndindex(3, 3):
        if shape[i, j] > 0:
            agree(draws["transition"][:, i, j], stats.beta(shape[i, j], shape[i].sum() - shape[i, j]))
        else:
            assert (draws["transition"][:, i, j] == 0).all()
    agree(draws["initial"][:, 0], stats.beta(1.1 + 1, 2.2 + 1))


def test_tied_moves_add_up() -> None:
    law = TiedTransitions(((0, 1, 1), (1, 0, 1), (1, 1, 0)))
    draws, _ = draws_of(HMM(3, families.Gaussian(), transition=law), known_states(PATHS))
    moves = counts_of(PATHS, 3)
    agree(draws["shares"][:, 0, 0], stats.beta(1.1 + np.trace(moves), 1.1 + moves.sum() - np.trace(moves)))


def test_a_stationary_first_state_by_quadrature() -> None:
    paths = [[0, 0, 1, 0], [0, 1], [0], [0], [1]]
    model = HMM(2, families.Gaussian(), initial=StationaryInitial())
    draws, _ = draws_of(model, known_states(paths), thin=10)
    leave = np.linspace(1e-4, 1 - 1e-4, 800)
    p, q = leave[:, None], leave  # of leaving 0, and 1
    law = 4 * np.log(q / (p + q)) + np.log(p / (p + q))
    moves = counts_of(paths, 2)
    table = law + stats.beta(1.1 + moves[0, 1], 1.1 + moves[0, 0]).logpdf(p)
    table = table + stats.beta(1.1 + moves[1, 0], 1.1 + moves[1, 1]).logpdf(q)
    agree(draws["transition"][:, 0, 1], marginal(leave, logsumexp(table, axis=1)))
    agree(draws["transition"][:, 1, 0], marginal(leave, logsumexp(table, axis=0)))
    first = draws["transition"][:, 1, 0] / (draws["transition"][:, 1, 0] + draws["transition"][:, 0, 1])
    np.testing.assert_allclose(draws["initial"][:, 0], first, rtol=1e-12)


def test_coefficients_and_scale_of_an_autoregression() -> None:
    """Given the scale, a normal law of (intercept, coefficients); given them, the scale by quadrature."""
    values = [0.3, 1.9, 0.7, 1.4, 2.3, 0.9, 1.1, 2.2, 1.7]
    series = Sequences.from_arrays(values)
    y, x = np.array(values[2:]), np.column_stack([np.ones(7), values[1:-1], values[:-2]])
    draws, priors = draws_of(HMM(1, families.Autoregression(2), fixed={"scale": torch.tensor([0.5])}), series)
    width = np.array([float(priors["intercept"].scale), 1.0, 1.0])
    covariance = np.linalg.inv(x.T @ x / 0.25 + np.diag(width**-2))
    mean = covariance @ (x.T @ y / 0.25 + np.array([float(priors["intercept"].loc), 0.0, 0.0]) / width**2)
    found = np.column_stack([draws["intercept"], draws["coefficients"][:, 0]])
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (found - mean).T)
    agree(whitened.reshape(-1), stats.norm())
    assert np.abs(np.corrcoef(whitened) - np.eye(3)).max() < 4 / len(found) ** 0.5  # four standard errors
    known = {"intercept": torch.tensor([1.0]), "coefficients": torch.tensor([[0.4, -0.2]])}
    draws, priors = draws_of(HMM(1, families.Autoregression(2), fixed=known), series)
    residual, scale = y - x @ np.array([1.0, 0.4, -0.2]), np.exp(np.linspace(-4, 3, 3000))
    table = stats.norm(0, scale).logpdf(residual[:, None]).sum(0)
    table += stats.invgamma(float(priors["scale"].concentration), scale=float(priors["scale"].rate)).logpdf(scale)
    agree(draws["scale"][:, 0], marginal(scale, table))
