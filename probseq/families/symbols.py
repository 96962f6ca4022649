"""Symbols: Bernoulli (0 or 1) and categorical (codes 0 .. M-1), with closed-form M-steps from weighted counts.

Probabilities may be exactly zero or one; log 0 is -inf here, where torch's own distributions put log(2e-16) instead.
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
from probseq.families.family import Family, Parameter, Parameters, Priors, empty, real, scalar_event, step_name
from probseq.families.special import safe_log, safe_log1m

PRIOR_COUNT = 1.1  # a tenth of an observation of every outcome


class ExactBernoulli(dist.Bernoulli):
    """Bernoulli whose log_prob is exact at probability zero and one."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value > 0, safe_log(self.probs), safe_log1m(self.probs))


class ExactCategorical(dist.Categorical):
    """Categorical whose log_prob is exact at probability zero."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value = value.long().unsqueeze(-1)
        value, logs = torch.broadcast_tensors(value, safe_log(self.probs))
        return logs.gather(-1, value[..., :1]).squeeze(-1)


@dataclass(frozen=True)
class Bernoulli(Family):
    """One with chance `probability`, zero otherwise."""

    kind = "bernoulli"
    nominal = True

    @property
    def discrete(self) -> bool:
        return True

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"probability": Parameter(constraints.unit_interval)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return ExactBernoulli(parameters["probability"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        probability = parameters["probability"]
        return by_code(values, torch.stack([safe_log1m(probability), safe_log(probability)], -2))

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return torch.where(values < 0, 0.0, torch.where(values < 1, 1 - parameters["probability"], 1.0))

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return torch.where(values < 0, 1.0, torch.where(values < 1, parameters["probability"], 0.0))

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["probability"]

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["probability"] * (1 - parameters["probability"])

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of a one and a tenth of a zero."""
        return {"probability": probability_prior(real(values))}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        total = weights.sum(0)
        probability = (real(values) @ weights) / torch.where(empty(total), 1.0, total)
        found = {"probability": probability.clamp(0, 1)}
        return numerical.choose(~empty(total), self.parameters(), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        mode = beta_mode(real(values) @ weights, weights.sum(0), priors.get("probability"))
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
        checking.require_one_column(values, columns, "Bernoulli")
        checking.require_measured(values, observed, columns[0])
        good, remedy = (values == 0) | (values == 1), "code the two outcomes as 0 and 1, or use Categorical or Poisson"
        checking.require(good, values, observed, columns[0], "be 0 or 1 for Bernoulli", remedy, where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        return f"{100 * float(parameters['probability'][state]):.3g}% ones"


@dataclass(frozen=True)
class Categorical(Family):
    """Code m = 0 .. M-1 with chance `probabilities[m]`.

    Attributes:
        categories: M; None leaves it to the data, through `bind`.
    """

    kind = "categorical"
    nominal = True
    categories: int | None = None

    def __post_init__(self) -> None:
        if self.categories is not None and self.categories < 1:
            raise ModelError(
                f"categories must be >= 1, got {self.categories} at Categorical; give the number of symbols."
            )

    @property
    def discrete(self) -> bool:
        return True

    def bind(self, values: Tensor, categories: int | None = None) -> Categorical:
        if self.categories is not None:
            return self
        return Categorical(categories if categories is not None else int(values.max()) + 1)

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        if self.categories is None:
            raise ModelError(
                "categories must be known, got None at Categorical(); give Categorical(4), or bind it to data first."
            )
        return {"probabilities": Parameter(constraints.simplex, (self.categories,))}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return ExactCategorical(parameters["probabilities"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        return by_code(values, safe_log(parameters["probabilities"]).mT)

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            steps = parameters["probabilities"].cumsum(-1).mT
            steps = torch.cat([torch.zeros_like(steps[..., :1, :]), steps], -2)
            codes = (real(values).floor() + 1).clamp(0, steps.shape[-2] - 1).long()
            return steps.index_select(-2, codes)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            above = parameters["probabilities"].flip(-1).cumsum(-1).flip(-1).mT
            above = torch.cat([above, torch.zeros_like(above[..., :1, :])], -2)
            codes = (real(values).floor() + 1).clamp(0, above.shape[-2] - 1).long()
            return above.index_select(-2, codes)

    def mean(self, parameters: Parameters) -> Tensor:
        """(K,): the expected code, which orders states but has no other meaning."""
        probabilities = parameters["probabilities"]
        return probabilities @ _codes(probabilities)

    def variance(self, parameters: Parameters) -> Tensor:
        probabilities = parameters["probabilities"]
        return probabilities @ _codes(probabilities).square() - self.mean(parameters).square()

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of an observation of every symbol."""
        count = self.bind(values).categories or 1
        return {"probabilities": dist.Dirichlet(torch.full((count,), PRIOR_COUNT, dtype=torch.float64))}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        counts = self._counts(values, weights, current["probabilities"].shape[-1])
        total = counts.sum(-1)
        probabilities = counts / torch.where(empty(total), 1.0, total).unsqueeze(-1)
        declared = {"probabilities": Parameter(constraints.simplex, probabilities.shape[-1:])}
        return numerical.choose(~empty(total), declared, {"probabilities": probabilities}, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        prior = priors.get("probabilities")
        if type(prior) is not dist.Dirichlet or bool((prior.concentration < 1).any()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        counts = self._counts(values, weights, current["probabilities"].shape[-1])
        counts = counts + (prior.concentration - 1)  # type: ignore[attr-defined]
        total = counts.sum(-1, keepdim=True)
        if bool((total == 0).any()):  # a flat prior and no data: anywhere will do
            return super().maximise_posterior(values, weights, current, priors)
        return {"probabilities": counts / total}

    def _counts(self, values: Tensor, weights: Tensor, symbols: int) -> Tensor:
        """(K, M): expected number of each symbol from each state."""
        return weights.new_zeros(symbols, weights.shape[-1]).index_add_(0, values.long(), weights).T

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Categorical")
        checking.require_measured(values, observed, columns[0])
        good = (values >= 0) & (values == torch.floor(values))
        remedy = "give codes 0, 1, ..., or use from_fasta or a text column, which are coded on reading"
        checking.require(good, values, observed, columns[0], "be a code 0, 1, ... for Categorical", remedy, where)
        if self.categories is not None:
            rule = f"be below the number of categories, {self.categories}"
            small, remedy = values < self.categories, "give Categorical the number of symbols in the data"
            checking.require(small, values, observed, columns[0], rule, remedy, where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        shares = parameters["probabilities"][state].tolist()
        return ", ".join(f"{100 * share:.3g}% {code}" for code, share in enumerate(shares))

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "categories": self.categories}


def _codes(probabilities: Tensor) -> Tensor:
    """0, ..., M - 1."""
    return torch.arange(probabilities.shape[-1], dtype=probabilities.dtype, device=probabilities.device)


def by_code(values: Tensor, table: Tensor) -> Tensor:
    """Rows of `table` (..., M, K) picked by code (R,): (..., R, K); what is no code is impossible."""
    numbers = real(values)
    symbols = table.shape[-2]
    inside = (numbers >= 0) & (numbers < symbols) & (numbers == numbers.floor())
    if bool(inside.all()):
        return table.index_select(-2, numbers.long())
    picked = table.index_select(-2, torch.where(inside, numbers, 0.0).long())
    return picked.masked_fill(~inside.unsqueeze(-1), -math.inf)


def probability_prior(values: Tensor) -> TorchDistributionMixin:
    """Beta(1.1, 1.1): keeps the posterior mode off 0 and 1, and is worth a fifth of an observation."""
    count = torch.full((), PRIOR_COUNT, dtype=torch.float64, device=values.device)
    return dist.Beta(count, count)


def beta_mode(ones: Tensor, total: Tensor, prior: TorchDistributionMixin | None) -> Tensor | None:
    """(K,): posterior mode of a probability after `ones` of `total`; None unless the prior is a Beta with a mode."""
    if type(prior) is not dist.Beta:
        return None
    first, second = prior.concentration1, prior.concentration0  # type: ignore[attr-defined]
    if bool((first <= 1).any()) or bool((second <= 1).any()):
        return None
    return (ones + first - 1) / (total + first + second - 2)


def refuse_symbols(outer: str, inner: Family) -> None:
    """Refuse to give a law of symbols an extra zero: it has a free probability of zero already."""
    if isinstance(inner, (Bernoulli, Categorical)):
        raise ModelError(
            f"{outer} must wrap a law whose chance of zero is tied to the rest, got {inner.name}; "
            f"use {type(inner).__name__}() alone, which gives zero any probability."
        )
