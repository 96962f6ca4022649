"""Pyro distributions with an extra chance of exactly zero.

`HurdleDistribution`: zero with chance 1 - nonzero, otherwise a draw of the inner law given that it is not zero.
`ZeroInflatedDistribution`: zero with chance inflation, otherwise a draw of the inner law, which may be zero too.

Around a continuous law the density is against (a point mass at 0) + (Lebesgue measure), and both are the same
law with inflation = 1 - nonzero. Around a law of vectors, zero means that every entry is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families.special import log1mexp, safe_log, safe_log1m

MAX_REJECTIONS = 5
Cdf = Callable[[Tensor, Tensor | None], Tensor]


class _ZeroLaw(TorchDistribution):
    """What the two laws share: a chance, an inner law, and the way to look at the zeros.

    Args:
        chance: `nonzero` or `inflation`, of the batch shape.
        inner: the law around which the zero is put.
        cdf: P(inner <= value), for inner laws that have none in torch; with a mask as its second argument, `value` is
            for those places of a full batch alone. Drawing zero-truncated counts needs it.
    """

    has_rsample = False

    def __init__(
        self, chance: Tensor, inner: TorchDistributionMixin, cdf: Cdf | None = None, validate_args: bool | None = None
    ) -> None:
        batch_shape = torch.broadcast_shapes(chance.shape, inner.batch_shape)
        self._chance = chance.expand(batch_shape)
        self.inner = inner.expand(batch_shape)
        self._inner_cdf = cdf
        super().__init__(batch_shape, inner.event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """That of the inner law with zero added."""
        inner = self.inner.support
        if isinstance(inner, constraints.greater_than):
            return constraints.greater_than_eq(inner.lower_bound) if inner.lower_bound == 0 else inner
        return inner

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(type(self), _instance)
        batch_shape = torch.Size(batch_shape)
        new._chance = self._chance.expand(batch_shape)
        new.inner = self.inner.expand(batch_shape)
        new._inner_cdf = self._inner_cdf
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def _counts(self) -> bool:
        return self.inner.support.is_discrete

    def _zero(self, value: Tensor) -> Tensor:
        zero = value == 0
        return zero.all(-1) if self.event_shape else zero

    def _events(self, mask: Tensor) -> Tensor:
        return mask.unsqueeze(-1) if self.event_shape else mask

    def _inner_log_prob(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Where the value is zero, and the inner log_prob with one standing in there, so that gradients stay finite."""
        zero = self._zero(value)
        return zero, self.inner.log_prob(torch.where(self._events(zero), torch.ones_like(value), value))

    def _inner_log_zero(self) -> Tensor:
        """log P(inner = 0), for a law of counts."""
        example = self._chance
        return self.inner.log_prob(torch.zeros(self.batch_shape, dtype=example.dtype, device=example.device))

    def _inner_cdf_at(self, value: Tensor, at: Tensor | None = None) -> Tensor:
        return self._inner_cdf(value, at) if self._inner_cdf is not None else self.inner.cdf(value)

    def _draw_inner(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return self.inner.sample(sample_shape)

    def _keep(self, sample_shape: torch.Size, chance: Tensor, drawn: Tensor) -> Tensor:
        kept = (
            torch.rand(self._extended_shape(sample_shape)[: drawn.dim() - self.event_dim], dtype=chance.dtype) < chance
        )
        return torch.where(self._events(kept.to(drawn.device)), drawn, torch.zeros_like(drawn))


class HurdleDistribution(_ZeroLaw):
    """Zero with chance 1 - nonzero, else the inner law given nonzero (a law of counts is zero-truncated)."""

    arg_constraints = {"nonzero": constraints.unit_interval}  # type: ignore

    @property
    def nonzero(self) -> Tensor:
        """Chance of a value other than zero."""
        return self._chance

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        zero, inner = self._inner_log_prob(value)
        if self._counts:
            inner = inner - log1mexp(self._inner_log_zero())
        return torch.where(zero, safe_log1m(self.nonzero), safe_log(self.nonzero) + inner)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        sample_shape = torch.Size(sample_shape)
        drawn = self._draw_truncated(sample_shape) if self._counts else self._draw_inner(sample_shape)
        return self._keep(sample_shape, self.nonzero, drawn)

    def cdf(self, value: Tensor) -> Tensor:
        inner = self._inner_cdf_at(value)
        if self._counts:
            none = self._inner_log_zero().exp()
            inner = (inner - none).clamp(min=0) / (1 - none)
        return self.nonzero * inner + torch.where(value >= 0, 1 - self.nonzero, 0.0)

    @property
    def _scaled(self) -> Tensor:
        """nonzero, over the chance that the inner law is not zero."""
        if not self._counts:
            return self.nonzero
        return self.nonzero / -torch.expm1(self._inner_log_zero())

    @property
    def mean(self) -> Tensor:
        return self._events(self._scaled) * self.inner.mean

    @property
    def variance(self) -> Tensor:
        square = self.inner.variance + self.inner.mean.square()
        return self._events(self._scaled) * square - self.mean.square()

    def _draw_truncated(self, sample_shape: torch.Size) -> Tensor:
        """Redraw zeros a few times; what is zero still, where zero is likely, is drawn by inverting the cdf."""
        drawn = self._draw_inner(sample_shape)
        for _ in range(MAX_REJECTIONS):
            if not bool((drawn == 0).any()):
                return drawn
            drawn = torch.where(drawn == 0, self._draw_inner(sample_shape), drawn)
        zero = drawn == 0
        none = self._inner_log_zero().exp().expand(zero.shape)[zero]
        drawn[zero] = self._invert(none + (1 - none) * torch.rand_like(none), zero)
        return drawn

    def _invert(self, goal: Tensor, at: Tensor) -> Tensor:
        """The smallest count >= 1 whose inner cdf, with the parameters `at` these places, reaches `goal`."""
        high = torch.ones_like(goal)
        while bool((short := (self._inner_cdf_at(high, at) < goal) & (high < 2.0**52)).any()):
            high = torch.where(short, 2 * high, high)
        low = torch.where(high > 1, high / 2, 0.0)
        while bool((high - low > 1).any()):
            middle = ((low + high) / 2).floor()
            reached = self._inner_cdf_at(middle, at) >= goal
            high, low = torch.where(reached, middle, high), torch.where(reached, low, middle)
        return high


class ZeroInflatedDistribution(_ZeroLaw):
    """Zero with chance inflation, else the inner law, which may be zero as well."""

    arg_constraints = {"inflation": constraints.unit_interval}  # type: ignore

    @property
    def inflation(self) -> Tensor:
        """Chance of a zero that the inner law has no part in."""
        return self._chance

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        zero, inner = self._inner_log_prob(value)
        none = safe_log(self.inflation)
        if self._counts:
            none = torch.logaddexp(none, safe_log1m(self.inflation) + self._inner_log_zero())
        return torch.where(zero, none, safe_log1m(self.inflation) + inner)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        sample_shape = torch.Size(sample_shape)
        return self._keep(sample_shape, 1 - self.inflation, self._draw_inner(sample_shape))

    def cdf(self, value: Tensor) -> Tensor:
        return (1 - self.inflation) * self._inner_cdf_at(value) + torch.where(value >= 0, self.inflation, 0.0)

    @property
    def mean(self) -> Tensor:
        return self._events(1 - self.inflation) * self.inner.mean

    @property
    def variance(self) -> Tensor:
        square = self.inner.variance + self.inner.mean.square()
        return self._events(1 - self.inflation) * square - self.mean.square()
