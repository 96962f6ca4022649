"""Geometric on 0, 1, 2, ...: p(x) = p (1 - p)^x, the number of failures before the first success; mean (1 - p) / p.

ML is N / (N + sum w x); with the prior p ~ Beta(a, b) the mode is (N + a - 1) / (N + sum w x + a + b - 2).
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

from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name
from probseq.families.poisson import counts_or_zero
from probseq.families.special import safe_log, safe_log1m
from probseq.families.symbols import beta_mode, probability_prior


class ExactGeometric(dist.Geometric):
    """Geometric on 0, 1, 2, ..., exact where the probability is one, with its cumulative distribution."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_density(value, self.probs)

    def cdf(self, value: Tensor) -> Tensor:
        return Geometric()._cdf(value, {"probability": self.probs})


@dataclass(frozen=True)
class Geometric(Family):
    """Counts from 0 on that stop with chance `probability` at each; a probability of one emits nothing but zeros."""

    kind = "geometric"

    @property
    def discrete(self) -> bool:
        return True

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"probability": Parameter(constraints.unit_interval)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return ExactGeometric(parameters["probability"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        counts, outside = counts_or_zero(values)
        table = log_density(counts.unsqueeze(-1), parameters["probability"].unsqueeze(-2))
        return table if outside is None else table.masked_fill(outside.unsqueeze(-1), -math.inf)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return -torch.expm1(_log_survival(values, parameters))

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _log_survival(values, parameters).exp()

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["probability"].reciprocal() - 1

    def variance(self, parameters: Parameters) -> Tensor:
        return self.mean(parameters) / parameters["probability"]

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of a stop and a tenth of a step further."""
        return {"probability": probability_prior(real(values))}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        counts, outside = counts_or_zero(values)
        if outside is not None and bool((weights[outside] > 0).any()):
            return super().expected_log_prob(values, weights)
        total, failures = weights.sum(0), counts @ weights

        def objective(parameters: Parameters) -> Tensor:
            probability = parameters["probability"]
            stops = torch.where(total > 0, total * safe_log(probability), 0.0)
            return stops + torch.where(failures > 0, failures * safe_log1m(probability), 0.0)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        total = weights.sum(0)
        trials = total + real(values) @ weights
        found = {"probability": (total / torch.where(empty(total), 1.0, trials)).clamp(max=1)}
        return numerical.choose(~empty(total), self.parameters(), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        total = weights.sum(0)
        mode = beta_mode(total, total + real(values) @ weights, priors.get("probability"))
        if mode is None:
            return super().maximise_posterior(values, weights, current, priors)
        return {"probability": mode}

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Geometric")
        checking.require_counts(values, observed, columns[0], "Geometric", where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        return f"mean count {amount(self.mean(parameters)[state], unit)}"


def log_density(value: Tensor, probability: Tensor) -> Tensor:
    """log p(value), elementwise under broadcasting, for counts."""
    further = safe_log1m(probability)
    return safe_log(probability) + torch.where(value > 0, value * further, 0.0)


def _log_survival(values: Tensor, parameters: Parameters) -> Tensor:
    """log P(X > value) = (floor(value) + 1) log(1 - p)."""
    steps = values.floor().clamp(min=-1) + 1
    return torch.where(steps > 0, steps * safe_log1m(parameters["probability"]), 0.0)
