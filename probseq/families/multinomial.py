"""Multinomial: how a total of n draws falls on D columns, p(x) = n! / prod x_d! prod p_d^x_d, given n = sum x_d.

The law of a row is conditional on its own total, which may differ from row to row. ML is the share of each column in
the weighted counts; with the prior p ~ Dirichlet(a) the mode is that of the counts plus a - 1.
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

from probseq.errors import DataError, ModelError
from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, empty, real, step_name
from probseq.families.special import safe_log

PRIOR_COUNT = 1.1  # a tenth of an observation of every column


class MultinomialRows(TorchDistribution):
    """Rows of counts, given the total of each.

    Args:
        probabilities (..., D): of the columns.
        trials: the total of the rows that are drawn; rows of any total are scored.
    """

    arg_constraints = {"probabilities": constraints.simplex}  # type: ignore
    support = constraints.independent(constraints.nonnegative_integer, 1)  # type: ignore
    has_rsample = False

    def __init__(self, probabilities: Tensor, trials: int, validate_args: bool | None = None) -> None:
        self.probabilities, self.trials = probabilities, trials
        super().__init__(probabilities.shape[:-1], probabilities.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(MultinomialRows, _instance)
        new.probabilities = self.probabilities.expand(*batch_shape, *self.event_shape)
        new.trials = self.trials
        super(MultinomialRows, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            law = torch.distributions.Multinomial(self.trials, self.probabilities, validate_args=False)
            return law.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shares = torch.where(value > 0, value * safe_log(self.probabilities), 0.0).sum(-1)
        return _log_ways(value) + shares

    @property
    def mean(self) -> Tensor:
        return self.trials * self.probabilities

    @property
    def variance(self) -> Tensor:
        return self.trials * self.probabilities * (1 - self.probabilities)


@dataclass(frozen=True)
class Multinomial(Family):
    """Rows of counts that fall on column d with chance `probabilities[d]`, given the total of the row.

    Attributes:
        trials: the total of a row that is simulated or forecast, which the counts of a series do not fix; None takes
            the mean total from the data through `bind`.
    """

    kind = "multinomial"
    event_dim = 1
    trials: int | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and (not isinstance(self.trials, int) or self.trials < 1):
            raise ModelError(
                f"trials must be a whole number >= 1, got {self.trials!r} at Multinomial; give the total of a row."
            )

    @property
    def discrete(self) -> bool:
        return True

    def bind(self, values: Tensor, categories: int | None = None) -> Multinomial:
        if self.trials is not None or values.dim() != 2 or values.shape[0] == 0:
            return self
        return Multinomial(max(1, round(float(real(values).sum(-1).mean()))))

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        if len(event_shape) != 1:
            raise ModelError(
                f"observations must be vectors for {self.name}, got shape {tuple(event_shape)} at each step; "
                "give several columns of counts, or use Poisson or Binomial."
            )
        return {"probabilities": Parameter(constraints.simplex, event_shape)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return MultinomialRows(parameters["probabilities"], 1 if self.trials is None else self.trials)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values = real(values)
        outside = ~((values >= 0) & (values == values.floor()) & torch.isfinite(values)).all(-1)
        counts = torch.where(outside.unsqueeze(-1), 0.0, values)
        probabilities = parameters["probabilities"]
        never = probabilities.detach() <= 0
        table = counts @ torch.where(never, 1.0, probabilities).log().mT + _log_ways(counts).unsqueeze(-1)
        if bool(never.any()):
            table = table.masked_fill(counts @ never.to(counts.dtype).mT > 0, -math.inf)
        return table.masked_fill(outside.unsqueeze(-1), -math.inf) if bool(outside.any()) else table

    def mean(self, parameters: Parameters) -> Tensor:
        """(K, D): expected counts in a row of `trials`; the shares while that is None."""
        return (1 if self.trials is None else self.trials) * parameters["probabilities"]

    def variance(self, parameters: Parameters) -> Tensor:
        return self.mean(parameters) * (1 - parameters["probabilities"])

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of a draw of every column."""
        count = torch.full((values.shape[-1],), PRIOR_COUNT, dtype=torch.float64, device=values.device)
        return {"probabilities": dist.Dirichlet(count)}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        counts = weights.mT @ real(values)
        total = counts.sum(-1)
        found = {"probabilities": counts / torch.where(empty(total), 1.0, total).unsqueeze(-1)}
        return numerical.choose(~empty(total), self.parameters(self._event_shape(values)), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        prior = priors.get("probabilities")
        if type(prior) is not dist.Dirichlet or bool((prior.concentration <= 1).any()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        counts = weights.mT @ real(values) + prior.concentration - 1  # type: ignore[attr-defined]
        return {"probabilities": counts / counts.sum(-1, keepdim=True)}

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = (),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if values.dim() != 2:
            raise DataError(
                f"observations must be several columns for Multinomial, got shape {tuple(values.shape)} at values; "
                "give several columns of counts, or use Poisson or Binomial."
            )
        for d in range(values.shape[1]):
            name = columns[d] if d < len(columns) else f"column {d}"
            seen = None if observed is None else (observed if observed.dim() == 1 else observed[:, d])
            checking.require_counts(values[:, d], seen, name, "Multinomial", where)
        whole = values if observed is None else values[observed if observed.dim() == 1 else observed.all(-1)]
        if whole.numel() and bool((whole == 0).all()):
            raise DataError(
                f"rows must hold a count at least once for Multinomial, got 0 in all of {len(whole)} rows; provide "
                "more data."
            )

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        shares = parameters["probabilities"][state].tolist()
        return ", ".join(f"{100 * share:.3g}% column {d}" for d, share in enumerate(shares))

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "trials": self.trials}


def _log_ways(counts: Tensor) -> Tensor:
    """log of n! / prod x_d!."""
    return torch.lgamma(counts.sum(-1) + 1) - torch.lgamma(counts + 1).sum(-1)
