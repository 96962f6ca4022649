"""Gamma, by its concentration a and rate b: p(x) = b^a x^(a-1) exp(-b x) / Gamma(a); mean a / b.

The weighted sums N, sum w x and sum w log x are all that the data say. With priors a ~ Gamma(p, q) and b ~ Gamma(c, d),
flat ones for maximum likelihood, the best rate for a given concentration is b(a) = (N a + c - 1) / (sum w x + d), and
the slope

    g(a) = N log b(a) - N digamma(a) + sum w log x + (p - 1) / a - q

falls throughout, since trigamma(a) > 1/a. Its root is found by the Newton step in 1/a of Minka (2002), "Estimating a
Gamma distribution", kept within a factor of 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name
from probseq.families.log_normal import log_of_positive
from probseq.families.special import log_minus_digamma

HIGHEST = 1e8  # of an ML concentration: a coefficient of variation of 1e-4, where log_prob still has 7 digits
NARROW = 1e6  # concentrations above it are reported
NEWTON_STEPS = 100
REACH = 20.0  # how far beyond the pooled estimate the priors begin to fall


class Sums(NamedTuple):
    """Weighted sums, each (K,): total, total_x, total_log and gap = log(mean x) - mean(log x) >= 0."""

    total: Tensor
    values: Tensor
    logs: Tensor
    gap: Tensor


@dataclass(frozen=True)
class Gamma(Family):
    """Positive numbers with mean `concentration / rate` and coefficient of variation `concentration ** -0.5`."""

    kind = "gamma"

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"concentration": Parameter(constraints.positive), "rate": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return dist.Gamma(parameters["concentration"], parameters["rate"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        logs, outside = log_of_positive(values)
        shape, rate = parameters["concentration"].unsqueeze(-2), parameters["rate"].unsqueeze(-2)
        constant = shape * rate.log() - torch.lgamma(shape)
        table = torch.addcmul(constant, logs.unsqueeze(-1), shape - 1)
        table = torch.addcmul(table, real(values).unsqueeze(-1), rate, value=-1)
        return table if outside is None else table.masked_fill(outside.unsqueeze(-1), -math.inf)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return torch.special.gammainc(parameters["concentration"], parameters["rate"] * values.clamp(min=0))

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return torch.special.gammaincc(parameters["concentration"], parameters["rate"] * values.clamp(min=0))

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["concentration"] / parameters["rate"]

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["concentration"] / parameters["rate"].square()

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Almost flat up to 20 times the pooled moment estimate of each parameter, exponential beyond.

        A state may so be about 4 times narrower than the whole at no cost, and no state can collapse.
        """
        values = real(values)
        values = values[values > 0] if bool((values > 0).any()) else values.new_ones(1)
        mean, width = values.mean(), scale.spread(values)
        shape = (mean / width).square()
        first, second = torch.full_like(shape, 1.5), torch.full_like(shape, 1.1)
        return {
            "concentration": dist.Gamma(first, 1 / (REACH * shape)),
            "rate": dist.Gamma(second, mean / (REACH * shape)),
        }

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        outside = ~(values > 0)
        if bool((weights[outside] > 0).any()):
            return super().expected_log_prob(values, weights)
        return expected_log_prob(sums(values, weights))

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        data = sums(values, weights)
        found = mode(data)
        highest = torch.clamp(current["concentration"], min=HIGHEST)
        shape = found["concentration"].minimum(highest)
        found = {"concentration": shape, "rate": shape * data.total / data.values}
        return numerical.choose(~empty(data.total), self.parameters(), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        kinds = {name: type(prior) for name, prior in priors.items()}
        known = kinds == {"concentration": dist.Gamma, "rate": dist.Gamma}
        if not known or any(bool((p.concentration < 1).any()) for p in priors.values()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        return mode(sums(values, weights), priors)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Gamma")
        checking.require_positive(values, observed, columns[0], "Gamma", where)
        checking.require_varying(values, observed, columns[0], "Gamma")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, shape in enumerate(parameters["concentration"].tolist()):
            if shape > NARROW:
                return (
                    f"state {state} has collapsed onto one value: its concentration is {shape:.3g}, a spread of "
                    f"{100 * shape**-0.5:.2g}% of its mean; use fewer states, or the default priors"
                )
        return scale.collapsed(self.variance(parameters).sqrt(), real(values))

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.within_rounding(self.variance(parameters).sqrt(), real(values))

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        mean, width = self.mean(parameters)[state], self.variance(parameters)[state].sqrt()
        return f"mean {amount(mean, unit)}, standard deviation {amount(width, unit)}"


def sums(values: Tensor, weights: Tensor) -> Sums:
    """The weighted sums of `values` (R,) under `weights` (R, K); rows outside the support are left out."""
    values = real(values)
    inside = values > 0
    if not bool(inside.all()):
        values, weights = values[inside], weights[inside]
    logs = values.log()
    total, first, log_sum = weights.sum(0), values @ weights, logs @ weights
    safe = torch.where(empty(total), 1.0, total)
    mean = torch.where(empty(total), 1.0, first / safe)
    gap = torch.where(empty(total), 1.0, mean.log() - log_sum / safe)
    if bool((gap < 1e-6).any()):  # the difference of logs has lost its digits: average u - log(1 + u), u = x / mean - 1
        ratio = values.unsqueeze(-1) / mean - 1
        gap = torch.where(gap < 1e-6, ((ratio - ratio.log1p()) * weights).sum(0) / safe, gap)
    return Sums(total, first, log_sum, gap.clamp(min=0))


def expected_log_prob(data: Sums) -> Callable[[Parameters], Tensor]:
    """(K,): sum_r w[r, k] log Gamma(x_r; a_k, b_k), from the sums alone."""

    def objective(parameters: Parameters) -> Tensor:
        shape, rate = parameters["concentration"], parameters["rate"]
        constant = data.total * (shape * rate.log() - torch.lgamma(shape))
        return constant + (shape - 1) * data.logs - rate * data.values

    return objective


def mode(data: Sums, priors: Priors | None = None) -> dict[str, Tensor]:
    """The maximum over (concentration, rate) under Gamma priors of shape >= 1; without priors, of the likelihood.

    A state without weight needs the priors. Without them and without spread the concentration runs to its cap.
    """
    p, q = _gamma_prior(priors, "concentration", data)
    c, d = _gamma_prior(priors, "rate", data)
    weighted = ~empty(data.total)
    total, safe_sum = torch.where(weighted, data.total, 0.0), torch.where(weighted, data.values, 1.0)
    fixed = total * (data.gap + torch.log1p(d / safe_sum)) + q
    gap = data.gap.clamp(min=1e-14)
    shape = (3 - gap + ((gap - 3).square() + 24 * gap).sqrt()) / (12 * gap)  # Minka's start, within 1.5%
    for _ in range(NEWTON_STEPS):
        joint = total * shape + c - 1
        extra = torch.where(weighted, total * torch.log1p((c - 1) / torch.where(weighted, total * shape, 1.0)), 0.0)
        slope = total * log_minus_digamma(shape) + extra + (p - 1) / shape - fixed
        bend = -total * torch.special.polygamma(1, shape) - (p - 1) / shape.square()
        bend = bend + torch.where(weighted, total.square() / torch.where(weighted, joint, 1.0), 0.0)
        change = slope / (shape * bend)  # a / a' - 1 for the new concentration a'
        step = torch.where(change > -1, 1 / (1 + change), REACH).clamp(1 / 8, 8).nan_to_num(nan=1.0)
        shape = (shape * step).clamp(max=10 * HIGHEST)
        if bool(((step - 1).abs() <= 1e-13).all()):
            break
    return {"concentration": shape, "rate": (total * shape + c - 1) / (torch.where(weighted, data.values, 0.0) + d)}


def _gamma_prior(priors: Priors | None, name: str, data: Sums) -> tuple[Tensor, Tensor]:
    if priors is None:
        return torch.ones_like(data.total), torch.zeros_like(data.total)
    return priors[name].concentration, priors[name].rate  # type: ignore[attr-defined]
