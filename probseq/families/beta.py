"""Beta: shares strictly between 0 and 1, p(x) = x^(a-1) (1 - x)^(b-1) / B(a, b); mean a / (a + b).

The weighted sums N, sum w log x and sum w log(1 - x) are all that the data say. The likelihood in (log a, log b) is
climbed by Newton steps from the better of the moment estimate and the current parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, amount, empty, real, scalar_event, step_name
from probseq.families.special import lgamma_increment

HIGHEST = 1e10  # of an ML concentration: a standard deviation of 1e-5 or less
REACH = 20.0  # how far beyond the pooled estimate the priors begin to fall


class TailedBeta(dist.Beta):
    """Beta with its cumulative distribution; draws stay off 0 and 1, to which rounding would take them."""

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        drawn = super().rsample(sample_shape)
        limits = torch.finfo(drawn.dtype)
        return drawn.clamp(limits.tiny, 1 - limits.eps)

    def cdf(self, value: Tensor) -> Tensor:
        return Beta()._cdf(value, {"concentration1": self.concentration1, "concentration0": self.concentration0})


@dataclass(frozen=True)
class Beta(Family):
    """Shares with mean `concentration1 / (concentration1 + concentration0)`, the narrower the larger the two are."""

    kind = "beta"
    closed_form = False

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"concentration1": Parameter(constraints.positive), "concentration0": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return TailedBeta(parameters["concentration1"], parameters["concentration0"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values = real(values)
        outside = ~((values > 0) & (values < 1))
        inside = torch.where(outside, 0.5, values).unsqueeze(-1)
        a, b = parameters["concentration1"].unsqueeze(-2), parameters["concentration0"].unsqueeze(-2)
        table = (a - 1) * inside.log() + (b - 1) * torch.log1p(-inside) - log_beta(a, b)
        return table.masked_fill(outside.unsqueeze(-1), -math.inf) if bool(outside.any()) else table

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _incomplete(values, parameters, upper=False)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _incomplete(values, parameters, upper=True)

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["concentration1"] / (parameters["concentration1"] + parameters["concentration0"])

    def variance(self, parameters: Parameters) -> Tensor:
        mean, total = self.mean(parameters), parameters["concentration1"] + parameters["concentration0"]
        return mean * parameters["concentration0"] / (total * (total + 1))

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Almost flat up to 20 times the pooled moment estimate of each parameter, exponential beyond."""
        values = _inside(real(values))
        a, b = _moment_estimate(values.mean(), scale.spread(values).square())
        shape = torch.full_like(a, 1.5)
        return {
            "concentration1": dist.Gamma(shape, 1 / (REACH * a)),
            "concentration0": dist.Gamma(shape, 1 / (REACH * b)),
        }

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        values = real(values)
        inside = (values > 0) & (values < 1)
        if bool((weights[~inside] > 0).any()):
            return super().expected_log_prob(values, weights)
        values, weights = values[inside], weights[inside]
        total, first, second = weights.sum(0), values.log() @ weights, torch.log1p(-values) @ weights

        def objective(parameters: Parameters) -> Tensor:
            a, b = parameters["concentration1"], parameters["concentration0"]
            return (a - 1) * first + (b - 1) * second - total * log_beta(a, b)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values = real(values)
        total, declared = weights.sum(0), self.parameters()
        likelihood = self.expected_log_prob(values, weights)
        highest = {name: value.clamp(min=HIGHEST) for name, value in current.items()}

        def objective(parameters: Parameters) -> Tensor:
            return likelihood({name: value.minimum(highest[name]) for name, value in parameters.items()})

        safe = torch.where(empty(total), 1.0, total)
        mean = torch.where(empty(total), 0.5, (values @ weights) / safe)
        variance = ((values.unsqueeze(-1) - mean).square() * weights).sum(0) / safe
        a, b = _moment_estimate(mean, variance)
        start = numerical.better(objective, declared, {"concentration1": a, "concentration0": b}, current)
        found = numerical.maximise(objective, declared, start, total)
        found = {name: value.minimum(highest[name]) for name, value in found.items()}
        return numerical.choose(~empty(total), declared, found, current)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Beta")
        checking.require_finite(values, observed, columns[0], where)

        def remedy(value: float) -> str:
            if value == 0:
                return "use Hurdle(Beta()) if a zero is a real outcome, or mark it missing"
            if value == 1:
                return "take (x (n - 1) + 0.5) / n of n values (Smithson & Verkuilen 2006), or mark it missing"
            return "divide by 100 if these are percentages, or use another family"

        good = (values > 0) & (values < 1)
        checking.require(good, values, observed, columns[0], "lie strictly between 0 and 1 for Beta", remedy, where)
        checking.require_varying(values, observed, columns[0], "Beta")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(self.variance(parameters).sqrt(), _inside(real(values)))

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.within_rounding(self.variance(parameters).sqrt(), real(values))

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        mean, width = self.mean(parameters)[state], self.variance(parameters)[state].sqrt()
        return f"mean {amount(mean, unit)}, standard deviation {amount(width, unit)}"


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) = log Gamma(s) + log Gamma(l) - log Gamma(l + s), the smaller one s taken as the increment."""
    swap = a > b
    small, large = torch.where(swap, b, a), torch.where(swap, a, b)
    return torch.lgamma(small) - lgamma_increment(large, small)


def _inside(values: Tensor) -> Tensor:
    """Rows in the support; a half where there are none."""
    inside = (values > 0) & (values < 1)
    return values[inside] if bool(inside.any()) else values.new_full((1,), 0.5)


def _moment_estimate(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Concentrations of this mean and variance, kept within reach where the variance is none or too large."""
    mean = mean.clamp(1e-12, 1 - 1e-12)
    room = mean * (1 - mean)
    total = (room / variance.clamp(min=1e-300) - 1).clamp(1e-3, 1e8)
    return mean * total, (1 - mean) * total


def _incomplete(values: Tensor, parameters: Parameters, upper: bool) -> Tensor:
    from scipy.special import betainc, betaincc

    inside = values.clamp(0, 1)
    parts = torch.broadcast_tensors(parameters["concentration1"], parameters["concentration0"], inside)
    share = (betaincc if upper else betainc)(*(part.cpu().numpy() for part in parts))
    return torch.from_numpy(share).to(values.device)
