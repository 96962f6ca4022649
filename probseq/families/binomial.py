"""Binomial: x successes out of a fixed number of trials n, each with chance p; p(x) = C(n, x) p^x (1 - p)^(n - x).

ML is sum w x / (n N); with the prior p ~ Beta(a, b) the mode is (sum w x + a - 1) / (n N + a + b - 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import ModelError
from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, scalar_event, step_name
from probseq.families.poisson import counts_or_zero
from probseq.families.special import safe_log, safe_log1m
from probseq.families.symbols import beta_mode, probability_prior


class ExactBinomial(dist.Binomial):
    """Binomial whose log_prob is exact at probability zero and one, with its cumulative distribution."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_density(value, self.probs, self.total_count)

    def cdf(self, value: Tensor) -> Tensor:
        return _tail(value, self.probs, self.total_count, upper=False)


@dataclass(frozen=True)
class Binomial(Family):
    """Successes, 0 .. `trials`, each with chance `probability`.

    Attributes:
        trials: n, the same at every step; a count out of a varying total is a row of two counts for `Multinomial`.
    """

    kind = "binomial"
    trials: int

    def __post_init__(self) -> None:
        if not isinstance(self.trials, int) or self.trials < 1:
            raise ModelError(
                f"trials must be a whole number >= 1, got {self.trials!r} at Binomial; give the number of trials."
            )

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.trials}"

    @property
    def discrete(self) -> bool:
        return True

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"probability": Parameter(constraints.unit_interval)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return ExactBinomial(self.trials, parameters["probability"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        counts, _ = counts_or_zero(values)
        outside = (counts != real(values)) | (counts > self.trials)
        counts = torch.where(outside, 0.0, counts)
        trials = counts.new_tensor(float(self.trials))
        table = log_density(counts.unsqueeze(-1), parameters["probability"].unsqueeze(-2), trials)
        return table.masked_fill(outside.unsqueeze(-1), -math.inf) if bool(outside.any()) else table

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _tail(values, parameters["probability"], values.new_tensor(float(self.trials)), upper=False)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _tail(values, parameters["probability"], values.new_tensor(float(self.trials)), upper=True)

    def mean(self, parameters: Parameters) -> Tensor:
        return self.trials * parameters["probability"]

    def variance(self, parameters: Parameters) -> Tensor:
        return self.trials * parameters["probability"] * (1 - parameters["probability"])

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of a success and a tenth of a failure."""
        return {"probability": probability_prior(real(values))}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        total = self.trials * weights.sum(0)
        probability = (real(values) @ weights) / torch.where(empty(total), 1.0, total)
        return numerical.choose(~empty(total), self.parameters(), {"probability": probability.clamp(0, 1)}, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        mode = beta_mode(real(values) @ weights, self.trials * weights.sum(0), priors.get("probability"))
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
        checking.require_one_column(values, columns, "Binomial")
        checking.require_counts(values, observed, columns[0], "Binomial", where)
        rule = f"be at most the number of trials, {self.trials}"
        remedy = "give Binomial the number of trials of the data, or use Poisson"
        checking.require(values <= self.trials, values, observed, columns[0], rule, remedy, where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        share = 100 * float(parameters["probability"][state])
        return f"{share:.3g}% successes, mean count {amount(self.mean(parameters)[state], unit)} of {self.trials}"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "trials": self.trials}


def log_density(value: Tensor, probability: Tensor, trials: Tensor) -> Tensor:
    """log p(value), elementwise under broadcasting, for counts up to `trials`."""
    failures = trials - value
    ways = torch.lgamma(trials + 1) - torch.lgamma(value + 1) - torch.lgamma(failures + 1)
    successes = torch.where(value > 0, value * safe_log(probability), 0.0)
    return ways + successes + torch.where(failures > 0, failures * safe_log1m(probability), 0.0)


def _tail(values: Tensor, probability: Tensor, trials: Tensor, upper: bool) -> Tensor:
    """P(X <= values), or P(X > values): the regularised incomplete beta function (Abramowitz & Stegun 26.5.24)."""
    from scipy.special import betainc, betaincc

    x, p, n = torch.broadcast_tensors(values.floor(), probability, trials)
    inside = torch.minimum(x.clamp(min=0), n - 1)
    arguments = (part.cpu().numpy() for part in (inside + 1, n - inside, p))
    share = torch.from_numpy((betainc if upper else betaincc)(*arguments)).to(values.device)
    below, above = (1.0, 0.0) if upper else (0.0, 1.0)
    return torch.where(x < 0, below, torch.where(x >= n, above, share))
