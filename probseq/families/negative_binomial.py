"""Negative binomial counts by mean m and concentration r (the "size"):

    p(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x,    variance m + m^2 / r.

It is Poisson(g) with g ~ Gamma(r, r / m), and Poisson(m) in the limit r -> inf. The weighted mean is the ML mean at any
r, so that only r needs iteration. Its likelihood has a finite maximum exactly when the weighted variance exceeds the
mean (Levin & Reeds 1977, "Compound multinomial likelihood functions are unimodal"); otherwise r goes to a cap, where
the law is Poisson to seven digits, and `at_limit` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, amount, empty, real, scalar_event, step_name
from probseq.families.poisson import count_mean_prior, counts_or_zero
from probseq.families.special import lgamma_increment

CAP = 1e8  # times max(mean, 1): no concentration goes higher
POISSON = 1e-3  # a variance within 0.1% of the mean is reported as Poisson
GRID = 200_000  # counts up to which rows are added up per count before the M-step


class MeanNegativeBinomial(TorchDistribution):
    """Negative binomial by mean and concentration, accurate up to the Poisson limit."""

    arg_constraints = {"mean": constraints.nonnegative, "concentration": constraints.positive}  # type: ignore
    support = constraints.nonnegative_integer  # type: ignore

    def __init__(self, mean: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        self._mean, self.concentration = broadcast_all(mean, concentration)
        super().__init__(self._mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        return self._mean + self._mean.square() / self.concentration

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(MeanNegativeBinomial, _instance)
        new._mean = self._mean.expand(batch_shape)
        new.concentration = self.concentration.expand(batch_shape)
        super(MeanNegativeBinomial, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            r, m = self.concentration.expand(shape), self._mean.expand(shape)
            return torch.poisson(dist.Gamma(r, 1.0).sample() * m / r)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_density(value, self._mean, self.concentration)

    def cdf(self, value: Tensor) -> Tensor:
        return NegativeBinomial()._cdf(value, {"mean": self._mean, "concentration": self.concentration})


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """Counts with mean `mean` and variance `mean + mean^2 / concentration`."""

    kind = "negative-binomial"
    closed_form = False

    @property
    def discrete(self) -> bool:
        return True

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"mean": Parameter(constraints.nonnegative), "concentration": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return MeanNegativeBinomial(parameters["mean"], parameters["concentration"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        counts, outside = counts_or_zero(values)
        table = log_density(
            counts.unsqueeze(-1), parameters["mean"].unsqueeze(-2), parameters["concentration"].unsqueeze(-2)
        )
        return table if outside is None else table.masked_fill(outside.unsqueeze(-1), -math.inf)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _tail(values, parameters, upper=False)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _tail(values, parameters, upper=True)

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["mean"]

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["mean"] + parameters["mean"].square() / parameters["concentration"]

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """mean: as the rate of Poisson. concentration: LogNormal(log 10, 2), 95% from 0.2 (burstier than geometric) to
        500 (all but Poisson); it falls towards both limits."""
        mean = count_mean_prior(real(values))
        ten = torch.full_like(mean.mean, math.log(10.0))
        return {"mean": mean, "concentration": dist.LogNormal(ten, torch.full_like(ten, 2.0))}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        return super().expected_log_prob(*per_count(values, weights))

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        counts, weights = per_count(values, weights)
        total = weights.sum(0)
        safe = torch.where(empty(total), 1.0, total)
        mean = (real(counts) @ weights) / safe
        excess = ((real(counts).unsqueeze(-1) - mean).square() * weights).sum(0) / safe - mean
        objective = super().expected_log_prob(counts, weights)
        cap = CAP * mean.clamp(min=1)
        start = {"concentration": torch.where(excess > 0, mean.square() / excess, cap).clamp(1e-6, 1e6)}
        alive = mean > 0
        safe_mean = torch.where(alive, mean, 1.0)

        def profile(parameters: Parameters) -> Tensor:
            return objective({"mean": safe_mean, **parameters})

        declared = {"concentration": Parameter(constraints.positive)}
        start = numerical.better(profile, declared, start, {"concentration": current["concentration"]})
        size = numerical.maximise(profile, declared, start, total)["concentration"]
        size = torch.where(excess > 0, size.minimum(cap), cap)
        found = {"mean": mean, "concentration": torch.where(alive, size, current["concentration"])}
        return numerical.choose(~empty(total), self.parameters(), found, current)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "NegativeBinomial")
        checking.require_counts(values, observed, columns[0], "NegativeBinomial", where)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        excess = parameters["mean"] / parameters["concentration"]
        for state, share in enumerate(excess.tolist()):
            if share < POISSON and float(parameters["concentration"][state]) > 1:
                size = float(parameters["concentration"][state])
                return (
                    f"state {state} is Poisson: its variance exceeds its mean by only {100 * share:.2g}% "
                    f"(concentration {size:.3g}); use Poisson(), or the default priors"
                )
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        mean, width = self.mean(parameters)[state], self.variance(parameters)[state].sqrt()
        return f"mean count {amount(mean, unit)}, standard deviation {amount(width, unit)}"


def log_density(value: Tensor, mean: Tensor, concentration: Tensor) -> Tensor:
    """log p(value), elementwise under broadcasting, for counts."""
    positive = mean > 0
    log_share = torch.log(torch.where(positive, mean, 1.0)) - torch.log(concentration + mean)
    density = (
        lgamma_increment(concentration, value)
        - torch.lgamma(value + 1)
        + value * log_share
        - concentration * torch.log1p(mean / concentration)
    )
    return density if bool(positive.all()) else density.masked_fill(~positive & (value > 0), -math.inf)


def per_count(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same weights on the distinct counts 0, 1, ..., max, when those are fewer rows; else as given."""
    counts, outside = counts_or_zero(values)
    if outside is not None or counts.numel() == 0 or float(counts.max()) >= min(GRID, counts.numel() - 1):
        return values, weights
    rows = int(counts.max()) + 1
    added = weights.new_zeros(rows, weights.shape[-1]).index_add_(0, counts.long(), weights)
    return torch.arange(rows, dtype=weights.dtype, device=weights.device), added


def _tail(values: Tensor, parameters: Parameters, upper: bool) -> Tensor:
    """P(X <= values), or P(X > values): the regularised incomplete beta function (Abramowitz & Stegun 26.5.26)."""
    from scipy.special import betainc, betaincc

    m, r = parameters["mean"], parameters["concentration"]
    x, m, r = torch.broadcast_tensors(values.floor(), m, r)
    first = x.clamp(min=0) + 1
    if upper:
        inside = torch.from_numpy(betainc(first.cpu().numpy(), r.cpu().numpy(), (m / (r + m)).cpu().numpy()))
    else:
        inside = torch.from_numpy(betaincc(first.cpu().numpy(), r.cpu().numpy(), (m / (r + m)).cpu().numpy()))
    return torch.where(x < 0, 1.0 if upper else 0.0, inside.to(values.device))
