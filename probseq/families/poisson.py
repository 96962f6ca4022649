"""Poisson counts, with the gamma prior that keeps the posterior mode in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name
from probseq.families.special import safe_log


@dataclass(frozen=True)
class Poisson(Family):
    """Counts with mean and variance `rate`; a rate of zero is legal and emits nothing but zeros."""

    kind = "poisson"

    @property
    def discrete(self) -> bool:
        return True

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"rate": Parameter(constraints.nonnegative)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return dist.Poisson(parameters["rate"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        counts, outside = counts_or_zero(values)
        rate = parameters["rate"].unsqueeze(-2)
        counts = counts.unsqueeze(-1)
        positive = rate > 0
        log_rate = torch.where(positive, rate, 1.0).log()
        table = torch.addcmul(-torch.lgamma(counts + 1) - rate, counts, log_rate)
        if not bool(positive.all()):
            table = table.masked_fill(~positive & (counts > 0), -math.inf)
        return table if outside is None else table.masked_fill(outside.unsqueeze(-1), -math.inf)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        below = torch.special.gammaincc(values.floor().clamp(min=0) + 1, parameters["rate"])
        return torch.where(values < 0, 0.0, below)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        above = torch.special.gammainc(values.floor().clamp(min=0) + 1, parameters["rate"])
        return torch.where(values < 0, 1.0, above)

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["rate"]

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["rate"]

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of an event in 1 / max steps: exponentially small only well beyond the largest count."""
        return {"rate": count_mean_prior(real(values))}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        counts, outside = counts_or_zero(values)
        if outside is not None and bool((weights[outside] > 0).any()):
            return super().expected_log_prob(values, weights)
        total, events, constant = weights.sum(0), counts @ weights, torch.lgamma(counts + 1) @ weights

        def objective(parameters: Parameters) -> Tensor:
            rate = parameters["rate"]
            return torch.where(events > 0, events * safe_log(rate), 0.0) - total * rate - constant

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        total = weights.sum(0)
        rate = (real(values) @ weights) / torch.where(empty(total), 1.0, total)
        return numerical.choose(~empty(total), self.parameters(), {"rate": rate}, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        prior = priors.get("rate")
        if type(prior) is not dist.Gamma or bool((prior.concentration < 1).any()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        events = real(values) @ weights + prior.concentration - 1  # type: ignore[attr-defined]
        return {"rate": events / (weights.sum(0) + prior.rate)}  # type: ignore[attr-defined]

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Poisson")
        checking.require_counts(values, observed, columns[0], "Poisson", where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        return f"mean count {amount(parameters['rate'][state], unit)}"


def counts_or_zero(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Counts (R,) with 0 standing in for what is not one, and where that is (None: nowhere)."""
    values = real(values)
    outside = ~((values >= 0) & (values == values.floor()) & torch.isfinite(values))
    if not bool(outside.any()):
        return values, None
    return torch.where(outside, 0.0, values), outside


def count_mean_prior(values: Tensor) -> TorchDistributionMixin:
    """Gamma(1.1, 1 / max) for the mean of a count: its mode is a tenth of the largest count, its mean 1.1 times it."""
    largest = values.max().clamp(min=1) if values.numel() else values.new_ones(())
    return dist.Gamma(torch.full_like(largest, 1.1), largest.reciprocal())
