"""Exponential: p(x) = b exp(-b x) for x >= 0; the waiting time to an event that has no memory.

The weighted sums N and sum w x are all that the data say: ML is N / sum w x, and with the prior b ~ Gamma(c, d) the
mode is (N + c - 1) / (sum w x + d).
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

from probseq.errors import DataError
from probseq.families import checking, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name

REACH = 20.0  # how far beyond the pooled rate the prior begins to fall


@dataclass(frozen=True)
class Exponential(Family):
    """Numbers from 0 on with mean `1 / rate`, and a standard deviation equal to it."""

    kind = "exponential"

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"rate": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return dist.Exponential(parameters["rate"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values, rate = real(values), parameters["rate"].unsqueeze(-2)
        outside = ~(values >= 0)
        table = torch.addcmul(rate.log(), values.masked_fill(outside, 0.0).unsqueeze(-1), rate, value=-1)
        return table.masked_fill(outside.unsqueeze(-1), -math.inf) if bool(outside.any()) else table

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return -torch.expm1(-parameters["rate"] * values.clamp(min=0))

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return torch.exp(-parameters["rate"] * values.clamp(min=0))

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].reciprocal()

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["rate"].square().reciprocal()

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Almost flat up to 20 times the pooled rate, exponential beyond."""
        mean = _typical(real(values))
        return {"rate": dist.Gamma(torch.full_like(mean, 1.1), mean / REACH)}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        values = real(values)
        if bool((weights[~(values >= 0)] > 0).any()):
            return super().expected_log_prob(values, weights)
        total, first = weights.sum(0), values @ weights
        return lambda parameters: total * parameters["rate"].log() - first * parameters["rate"]

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values = real(values)
        total, first = weights.sum(0), values @ weights
        # a state of nothing but zeros has no maximum: it stops at a rate that `degenerate` reports
        highest = torch.clamp(current["rate"], min=float(1 / (scale.FLOOR * _typical(values))))
        rate = (total / torch.where(first > 0, first, 1.0)).minimum(highest)
        found = {"rate": torch.where(first > 0, rate, highest)}
        return numerical.choose(~empty(total), self.parameters(), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        prior = priors.get("rate")
        if type(prior) is not dist.Gamma or bool((prior.concentration < 1).any()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        events = weights.sum(0) + prior.concentration - 1  # type: ignore[attr-defined]
        return {"rate": events / (real(values) @ weights + prior.rate)}  # type: ignore[attr-defined]

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Exponential")
        checking.require_finite(values, observed, columns[0], where)
        remedy = "mark it missing if it is a code for no data, or use a family on the whole line"
        checking.require(values >= 0, values, observed, columns[0], "be >= 0 for Exponential", remedy, where)
        present = checking.require_measured(values, observed, columns[0])
        if bool((present == 0).all()):
            raise DataError(
                f"{columns[0]} must be above 0 at least once for Exponential, got 0 at all {present.numel()} measured "
                "steps; provide more data, or drop this column."
            )

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        mean = float(_typical(real(values)))
        for state, size in enumerate(self.mean(parameters).tolist()):
            if size < scale.COLLAPSED * mean:
                return (
                    f"state {state} has collapsed onto zero: its mean is {size:.3g}, less than a millionth of the "
                    f"data's ({mean:.3g}); use Hurdle(Exponential()), fewer states, or the default priors"
                )
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        return f"mean {amount(self.mean(parameters)[state], unit)}"


def _typical(values: Tensor) -> Tensor:
    """The mean of the data; one where nothing is above zero."""
    return values.clamp(min=0).mean() if bool((values > 0).any()) else values.new_ones(())
