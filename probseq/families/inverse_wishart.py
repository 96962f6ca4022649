"""The inverse Wishart law of a covariance, as a law of its Cholesky factor.

If S = L L' ~ InverseWishart(df, C C'), then L has, on the lower triangular matrices with positive diagonal, the density

    p(S) 2^D prod_i L_ii^(D - i + 1)  =  const prod_i L_ii^-(df + i) exp(-|L^-1 C|^2 / 2),    i = 1 .. D,

and L = C B^-T with B upper triangular, B_ii^2 ~ chi^2(df - D + i) and standard normals above the diagonal (Bartlett
1933, with the order of the coordinates reversed). Pyro has no inverse Wishart of its own.

Torch has a constraint for such factors but no bijection onto them, which autoguides and NUTS need: `cholesky_factor`
is the same set, reached from vectors of D (D + 1) / 2 numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform


class _CholeskyFactor(type(constraints.lower_cholesky)):
    """Lower triangular matrices with positive diagonal, as the image of a bijection."""


cholesky_factor = _CholeskyFactor()


class CholeskyFactorTransform(Transform):
    """Vectors (..., D (D + 1) / 2), filling the lower triangle row by row, to Cholesky factors: the diagonal by exp."""

    domain = constraints.real_vector
    codomain = cholesky_factor
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CholeskyFactorTransform)

    __hash__ = Transform.__hash__

    def _call(self, x: Tensor) -> Tensor:
        size = _side(x.shape[-1])
        rows, columns = torch.tril_indices(size, size, device=x.device)
        y = torch.where(rows == columns, torch.where(rows == columns, x, 0.0).exp(), x)
        matrix = x.new_zeros(*x.shape[:-1], size * size)
        return matrix.index_copy(-1, rows * size + columns, y).reshape(*x.shape[:-1], size, size)

    def _inverse(self, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(y.shape[-1], y.shape[-1], device=y.device)
        x = y[..., rows, columns]
        return torch.where(rows == columns, torch.where(rows == columns, x, 1.0).log(), x)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return y.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def forward_shape(self, shape):
        return torch.Size((*shape[:-1], _side(shape[-1]), _side(shape[-1])))

    def inverse_shape(self, shape):
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


def _side(length: int) -> int:
    return (math.isqrt(8 * length + 1) - 1) // 2


@biject_to.register(_CholeskyFactor)
@transform_to.register(_CholeskyFactor)
def _onto_cholesky_factors(constraint: constraints.Constraint) -> Transform:
    return CholeskyFactorTransform()


class InverseWishartCholesky(TorchDistribution):
    """Cholesky factor of an inverse Wishart covariance.

    Args:
        df: degrees of freedom, > D - 1; shape = batch shape.
        scale_tril (..., D, D): Cholesky factor C of the scale matrix; the mean covariance is C C' / (df - D - 1).
    """

    arg_constraints = {"df": constraints.positive, "scale_tril": constraints.lower_cholesky}  # type: ignore
    support = cholesky_factor  # type: ignore

    def __init__(self, df: Tensor, scale_tril: Tensor, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(df.shape, scale_tril.shape[:-2])
        self.df = df.expand(batch_shape)
        self.scale_tril = scale_tril.expand(*batch_shape, *scale_tril.shape[-2:])
        super().__init__(batch_shape, scale_tril.shape[-2:], validate_args=validate_args)
        if bool((self.df <= scale_tril.shape[-1] - 1).any()):
            raise ValueError(f"df must exceed D - 1 = {scale_tril.shape[-1] - 1}, got {df.min().item():g}.")

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(InverseWishartCholesky, _instance)
        new.df = self.df.expand(batch_shape)
        new.scale_tril = self.scale_tril.expand(*batch_shape, *self.event_shape)
        super(InverseWishartCholesky, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def _order(self) -> Tensor:
        """1, ..., D."""
        return torch.arange(1, self.event_shape[-1] + 1, dtype=self.scale_tril.dtype, device=self.scale_tril.device)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        size, df = self.event_shape[-1], self.df
        log_scale = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = df * log_scale - torch.special.multigammaln(df / 2, size) + size * (1 - df / 2) * math.log(2.0)
        powers = ((df.unsqueeze(-1) + self._order) * value.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
        scale_tril, value = torch.broadcast_tensors(self.scale_tril, value)
        whitened = torch.linalg.solve_triangular(value, scale_tril, upper=False)
        return constant - powers - 0.5 * whitened.square().sum((-1, -2))

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            degrees = (self.df.unsqueeze(-1) - shape[-1] + self._order).expand(shape[:-1])
            diagonal = torch.distributions.Chi2(degrees).sample().sqrt()
            upper = torch.randn(shape, dtype=diagonal.dtype, device=diagonal.device).triu(1) + torch.diag_embed(
                diagonal
            )
            scale_tril = self.scale_tril.expand(shape)
            # L = C B^-T solves L B' = C
            return torch.linalg.solve_triangular(upper.mT, scale_tril, upper=False, left=False).tril()

    @property
    def mean(self) -> Tensor:
        """E L = C diag(E 1 / B_ii): off the diagonal the signs of B are symmetric."""
        degrees = self.df.unsqueeze(-1) - self.event_shape[-1] + self._order
        inverse = (torch.lgamma((degrees - 1) / 2) - torch.lgamma(degrees / 2)).exp() / math.sqrt(2.0)
        return self.scale_tril * inverse.unsqueeze(-2)
