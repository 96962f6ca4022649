"""Random products against closed forms: sums of logarithms, and Newman's exponents of Gaussian matrices."""

import numpy as np
import pytest
import torch
from scipy import stats

from probseq.recurrent.products import (
    gaussian_exponents,
    gaussian_matrices,
    gaussian_spread,
    growth,
    log_lengths,
    log_products,
    lyapunov_exponents,
)


def test_closed_forms_are_the_moments_of_the_log_of_a_chi_variable() -> None:
    """Integrated numerically with scipy's densities."""
    for size, deviation in ((1, 1.0), (3, 0.7), (10, 10**-0.5)):
        chi = stats.chi(df=size, scale=deviation)
        mean = chi.expect(np.log)
        assert gaussian_exponents(size, deviation)[0] == pytest.approx(mean, abs=1e-7)
        assert gaussian_spread(size) == pytest.approx(chi.expect(lambda x, m=mean: (np.log(x) - m) ** 2), abs=1e-6)


def test_all_exponents_sum_to_the_mean_log_determinant() -> None:
    """|det A| of a Gaussian matrix is a product of independent chi variables of n, n-1, ..., 1 degrees of freedom."""
    matrices = gaussian_matrices(4, 50_000, 1, 0.5, seed=0)[0]
    logs = torch.linalg.slogdet(matrices)[1]
    error = float(logs.std() / len(logs) ** 0.5)
    assert abs(float(logs.mean()) - gaussian_exponents(4, 0.5).sum()) < 4 * error


def test_the_log_of_a_product_of_numbers_drifts_and_spreads_linearly() -> None:
    """Uniform numbers on (0, 1) have logs of mean -1 and variance 1, so the product of T has a gamma's log."""
    draws = torch.rand(4000, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logs = log_products(draws)
    np.testing.assert_allclose(logs[:5].exp().numpy(), np.cumprod(draws[:5].numpy(), axis=1), rtol=1e-10)
    found, lengths = growth(logs), np.arange(1, 101)
    # the standard error of a mean of 4000 is sqrt(T / 4000); of a variance, about T sqrt(2 / 4000) = 0.022 T
    assert (np.abs(found.mean + lengths) < 4 * np.sqrt(lengths / 4000)).all()
    assert found.drift == pytest.approx(-1, abs=4 / np.sqrt(4000 * 100))
    assert found.spread == pytest.approx(1, abs=4 * 0.0224)
    assert (np.abs(found.variance / lengths - 1) < 5 * 0.0224 * 2).all()  # at T = 1 its kurtosis doubles the error


@pytest.mark.parametrize("size", [1, 2, 8])
def test_vectors_under_gaussian_matrices_grow_at_newmans_exponent(size: int) -> None:
    deviation, steps, replicates = size**-0.5, 60, 1500
    matrices = gaussian_matrices(size, steps, replicates, deviation, seed=size)
    logs = log_lengths(matrices, torch.ones(size, dtype=torch.float64))
    direct = torch.ones(size, dtype=torch.float64)
    for matrix in matrices[0, :10]:
        direct = matrix @ direct
    assert float(logs[0, 9]) == pytest.approx(float((direct.norm() / size**0.5).log()), abs=1e-10)
    found, spread = growth(logs), gaussian_spread(size)
    assert found.drift == pytest.approx(gaussian_exponents(size, deviation)[0], abs=4 * (spread / 90_000) ** 0.5)
    assert found.spread == pytest.approx(spread, rel=4 * (2 / replicates) ** 0.5)
    assert found.drift < 0  # although the mean square of the length is kept


def test_the_whole_spectrum_by_orthogonalising_is_newmans() -> None:
    """The standard error of each exponent is at most sqrt(trigamma(1/2) / 4 / 20,000) = 0.008."""
    matrices = gaussian_matrices(4, 20_000, 1, 1.0, seed=3)[0]
    np.testing.assert_allclose(lyapunov_exponents(matrices).numpy(), gaussian_exponents(4, 1.0), atol=0.03)


def test_products_that_end_in_zero_have_no_logarithm() -> None:
    zero = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    assert log_lengths(zero, torch.ones(2, dtype=torch.float64)).tolist() == [[-torch.inf] * 3]
    assert log_products(torch.zeros(1, 2)).tolist() == [[-torch.inf] * 2]
