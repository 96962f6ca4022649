"""Dirichlet rows with structural zeros: the prior of a transition matrix in which some moves never happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import StickBreakingTransform, Transform


class SparseSimplex(constraints.Constraint):
    """Matrices (K, M) whose rows sum to one and are zero outside `allowed`."""

    event_dim = 2

    def __init__(self, allowed: Tensor) -> None:
        self.allowed = allowed
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        rows = ((value.sum(-1) - 1.0).abs() < 1e-6) & (value >= 0).all(-1)
        return (rows & ((value == 0) | self.allowed).all(-1)).all(-1)


class SparseStickBreaking(Transform):
    """Unconstrained vector -> `SparseSimplex`: stick-breaking of each row over its allowed entries."""

    domain = constraints.real_vector
    bijective = True

    def __init__(self, allowed: Tensor) -> None:
        super().__init__(cache_size=0)
        self.allowed = allowed
        self.columns = [row.nonzero().squeeze(-1) for row in allowed]
        self.sizes = [len(columns) - 1 for columns in self.columns]
        self.codomain = SparseSimplex(allowed)
        self._stick = StickBreakingTransform()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SparseStickBreaking) and torch.equal(self.allowed, other.allowed)

    def __hash__(self) -> int:
        return id(self)

    def _call(self, x: Tensor) -> Tensor:
        rows = []
        for columns, part in zip(self.columns, x.split(self.sizes, -1), strict=True):
            values: Any = self._stick(part) if len(columns) > 1 else torch.ones_like(x[..., :1].sum(-1, keepdim=True))
            row = torch.zeros(x.shape[:-1] + self.allowed.shape[-1:], dtype=x.dtype)
            rows.append(row.index_copy(-1, columns, values.expand(x.shape[:-1] + values.shape[-1:])))
        return torch.stack(rows, -2)

    def _inverse(self, y: Tensor) -> Tensor:
        parts: Any = [
            self._stick.inv(y[..., i, :][..., columns]) for i, columns in enumerate(self.columns) if len(columns) > 1
        ]
        return torch.cat(parts, -1) if parts else y[..., 0, :0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(x.shape[:-1], dtype=x.dtype)
        for i, (columns, part) in enumerate(zip(self.columns, x.split(self.sizes, -1), strict=True)):
            if len(columns) > 1:
                total = total + self._stick.log_abs_det_jacobian(part, y[..., i, :][..., columns])
        return total

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        return torch.Size(shape[:-1]) + self.allowed.shape

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        return torch.Size(shape[:-2]) + torch.Size([sum(self.sizes)])


@biject_to.register(SparseSimplex)
@transform_to.register(SparseSimplex)
def _sparse_stick_breaking(constraint: Any) -> Transform:
    return SparseStickBreaking(constraint.allowed)


class SparseDirichlet(TorchDistribution):
    """Independent Dirichlet rows over the entries of positive concentration.

    Args:
        concentration: (*batch, K, M); zero means the entry is zero for ever. The zeros are the same in every batch.
    """

    arg_constraints = {"concentration": constraints.independent(constraints.nonnegative, 2)}  # pyright: ignore
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.concentration = concentration
        self.allowed = concentration.reshape((-1,) + concentration.shape[-2:])[0] > 0
        super().__init__(concentration.shape[:-2], concentration.shape[-2:], validate_args=validate_args)

    @property
    def support(self) -> Any:
        return SparseSimplex(self.allowed)

    def expand(self, batch_shape: torch.Size | Sequence[int], _instance: Any = None) -> SparseDirichlet:
        return SparseDirichlet(self.concentration.expand(torch.Size(batch_shape) + self.event_shape), False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (the signature of torch)
        shape = torch.Size(sample_shape) + self.concentration.shape
        safe = torch.where(self.allowed, self.concentration, 1.0).expand(shape)
        drawn = torch._standard_gamma(safe)  # pyright: ignore[reportPrivateImportUsage]
        gamma = torch.where(self.allowed, drawn, 0.0)
        return gamma / gamma.sum(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        safe = torch.where(self.allowed, self.concentration, 1.0)
        kernel = torch.xlogy(safe - 1.0, torch.where(self.allowed, value, 1.0))
        normaliser = torch.where(self.allowed, safe.lgamma(), 0.0).sum(-1)
        total = torch.where(self.allowed, self.concentration, 0.0).sum(-1).lgamma()
        return (kernel.sum(-1) - normaliser + total).sum(-1)
