"""Products of random numbers and of random matrices: why the log of a long product drifts, and spreads, linearly.

A gradient that passes T steps is multiplied T times. The logarithm of a product of independent numbers is a sum,

    log |a_1 a_2 ... a_T| = sum_t log |a_t|        mean T E log |a|,   variance T Var log |a|

so the product is about log-normal, and of all products of one length most are far smaller than the mean product. With
random matrices the same holds for the length of a vector (Furstenberg & Kesten 1960): log |A_T ... A_1 v| / T tends to
the largest Lyapunov exponent, and the variance grows linearly too. For n by n matrices of independent Gaussian entries
of standard deviation sigma the direction of the vector does not matter, each step multiplies by sigma times a chi of n
degrees of freedom, and all exponents are known (Newman 1986, "The distribution of Lyapunov exponents"):

    lambda_k = log sigma + (log 2 + digamma((n - k + 1) / 2)) / 2        variance per step trigamma(n / 2) / 4

At n = 1 this is the product of numbers. Entries of variance 1/n, the usual initialisation, keep the mean square of a
vector's length, and yet its logarithm drifts to -infinity, at about -1 / (2 n) a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Growth:
    """How the logarithm of a product spreads with its length, over R replicates.

    Attributes:
        mean: (T,) of the logarithm of products of length 1..T, nats.
        variance: (T,) unbiased, nats squared.
        drift: the mean's growth per factor: the mean at T over T.
        spread: the variance's growth per factor: a line through the origin, by least squares.
    """

    mean: np.ndarray
    variance: np.ndarray
    drift: float
    spread: float


def log_products(factors: Tensor) -> Tensor:
    """log |a_1 ... a_t| for every t.

    Args:
        factors: (R, T) numbers, R products of T.

    Returns:
        (R, T) nats.

    >>> log_products(torch.tensor([[2.0, -0.5, 4.0]])).exp().tolist()
    [[2.0, 1.0, 4.0]]
    """
    return factors.abs().log().cumsum(-1)


def log_lengths(matrices: Tensor, vector: Tensor) -> Tensor:
    """log |A_t ... A_1 v| - log |v| for every t, rescaled at each step.

    Args:
        matrices: (R, T, n, n), R products of T.
        vector: v (n,), not zero.

    Returns:
        (R, T) nats.
    """
    direction = (vector / vector.norm()).expand(len(matrices), -1)
    logs = []
    for matrix in matrices.unbind(1):
        direction = (matrix @ direction.unsqueeze(-1)).squeeze(-1)
        length = direction.norm(dim=-1, keepdim=True)
        direction = direction / torch.where(length > 0, length, torch.ones_like(length))
        logs.append(length.squeeze(-1).log())
    return torch.stack(logs, dim=1).cumsum(1)


def lyapunov_exponents(matrices: Tensor) -> Tensor:
    """The n mean rates at which a product stretches, by re-orthogonalising at each step (Benettin et al. 1980).

    Args:
        matrices: (T, n, n), the first on the right of the product; of a cell, `step_jacobians` of one sequence.

    Returns:
        (n,) nats per factor, as the columns of the orthogonal frame come out: greatest first when T is large.
    """
    frame = torch.eye(matrices.shape[-1]).to(matrices)
    total = matrices.new_zeros(matrices.shape[-1])
    for matrix in matrices:
        frame, stretch = torch.linalg.qr(matrix @ frame)
        total = total + stretch.diagonal().abs().log()
    return total / len(matrices)


def growth(logs: Tensor) -> Growth:
    """Mean and variance of the logarithm by length, of `log_products` or `log_lengths` (R, T), and their rates."""
    mean, variance = logs.mean(0).double().numpy(), logs.var(0).double().numpy()
    lengths = np.arange(1, len(mean) + 1)
    return Growth(mean, variance, float(mean[-1] / len(mean)), float(lengths @ variance / (lengths @ lengths)))


def gaussian_matrices(size: int, steps: int, replicates: int, deviation: float, seed: int) -> Tensor:
    """(R, T, n, n) float64 independent normal entries of mean zero and this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    shape = (replicates, steps, size, size)
    return deviation * torch.randn(shape, generator=generator, dtype=torch.float64)


def gaussian_exponents(size: int, deviation: float) -> np.ndarray:
    """(n,) nats per factor: the Lyapunov exponents of Gaussian matrices in closed form (Newman 1986)."""
    freedom = size - np.arange(size)
    return np.log(deviation) + (np.log(2) + special.digamma(freedom / 2)) / 2


def gaussian_spread(size: int) -> float:
    """Nats squared per factor: the variance of log (sigma chi_n), whatever sigma."""
    return float(special.polygamma(1, size / 2) / 4)
