"""The Pyro distribution of a finite mixture, p(x) = sum_m w_m f(x; theta_m), exact where a weight is zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from probseq.families.special import safe_log


class MixtureDistribution(TorchDistribution):
    """A draw of one of M laws.

    Args:
        weights (..., M): chance of each component.
        components: their laws; batch shape (..., M).
    """

    arg_constraints = {"weights": constraints.simplex}  # type: ignore
    has_rsample = False

    def __init__(self, weights: Tensor, components: Any, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(weights.shape, components.batch_shape)
        self.weights, self.components = weights.expand(batch_shape), components.expand(batch_shape)
        super().__init__(batch_shape[:-1], components.event_shape, validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # type: ignore[override]
        return self.components.support

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(MixtureDistribution, _instance)
        full = torch.Size((*batch_shape, self.weights.shape[-1]))
        new.weights, new.components = self.weights.expand(full), self.components.expand(full)
        super(MixtureDistribution, new).__init__(full[:-1], self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_sum(safe_log(self.weights) + self.components.log_prob(self._beside(value)))

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            drawn = self.components.sample(sample_shape)
            shape = torch.Size(sample_shape) + self.weights.shape
            chosen = torch.distributions.Categorical(self.weights, validate_args=False).sample(sample_shape)
            chosen = chosen.reshape(*shape[:-1], 1, *[1] * self.event_dim)
            return drawn.gather(len(shape) - 1, chosen.expand(*shape[:-1], 1, *self.event_shape)).squeeze(
                len(shape) - 1
            )

    def cdf(self, value: Tensor) -> Tensor:
        return (self.weights * self.components.cdf(self._beside(value))).sum(-1)

    @property
    def mean(self) -> Tensor:
        return (self._share * self.components.mean).sum(self._axis)

    @property
    def variance(self) -> Tensor:
        means = self.components.mean
        square = (means - self.mean.unsqueeze(self._axis)).square() + self.components.variance
        return (self._share * square).sum(self._axis)

    @property
    def _axis(self) -> int:
        return -1 - self.event_dim

    @property
    def _share(self) -> Tensor:
        return self.weights.reshape(*self.weights.shape, *[1] * self.event_dim)

    def _beside(self, value: Tensor) -> Tensor:
        return value.unsqueeze(self._axis)


def log_sum(terms: Tensor) -> Tensor:
    """log of the sum of exp over the last axis; -inf, with gradient zero, where every term is, and inf where one is."""
    highest = terms.detach().amax(-1, keepdim=True)
    possible = highest.isfinite()
    shifted = torch.where(possible, terms, 0.0) - torch.where(possible, highest, 0.0)
    total = torch.where(possible, highest, 0.0).squeeze(-1) + _safe_exp(shifted).sum(-1).log()
    return torch.where(possible.squeeze(-1), total, highest.squeeze(-1))


def _safe_exp(value: Tensor) -> Tensor:
    """exp, with gradient zero at -inf."""
    finite = value > -math.inf
    return torch.where(finite, torch.where(finite, value, 0.0).exp(), 0.0)
