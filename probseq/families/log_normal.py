"""Log-normal: the Gaussian of the logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, scale
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, real, scalar_event, step_name
from probseq.families.gaussian import Gaussian, location_scale_priors
from probseq.families.linear_form import LinearForm, Natural


@dataclass(frozen=True)
class LogNormal(Family):
    """The law of a positive number whose natural log is normal with mean `loc` and standard deviation `scale`."""

    kind = "log-normal"

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"loc": Parameter(constraints.real), "scale": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return dist.LogNormal(parameters["loc"], parameters["scale"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        logs, outside = log_of_positive(values)
        table = Gaussian().log_prob(logs, parameters) - logs.unsqueeze(-1)
        return table if outside is None else table.masked_fill(outside.unsqueeze(-1), -math.inf)

    def linear_form(self, values: Tensor) -> LinearForm | None:
        logs, outside = log_of_positive(values)
        return Gaussian().linear_form(logs) if outside is None else None

    def natural(self, form: LinearForm, parameters: Parameters) -> Natural | None:
        found = Gaussian().natural(form, parameters)
        if found is None:
            return None
        jacobian = np.array([[form.origin], [1.0], [0.0]])  # log p(x) = log p(log x) - log x
        return found - (torch.from_numpy(jacobian) if isinstance(found, Tensor) else jacobian)

    def maximise_sums(
        self, form: LinearForm, sums: Tensor, current: Parameters, priors: Priors | None
    ) -> dict[str, Tensor] | None:
        return Gaussian().maximise_sums(form, sums, current, priors)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return Gaussian()._cdf(values.clamp(min=0).log(), parameters)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return Gaussian()._survival(values.clamp(min=0).log(), parameters)

    def mean(self, parameters: Parameters) -> Tensor:
        return (parameters["loc"] + parameters["scale"].square() / 2).exp()

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["scale"].square().expm1() * self.mean(parameters).square()

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Those of the Gaussian, on the logs."""
        return location_scale_priors(positive_logs(values))

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        inside = values > 0
        logs, kept = positive_logs(values), weights[inside]
        gaussian = Gaussian().expected_log_prob(logs, kept)
        jacobian = logs @ kept
        impossible = torch.where((weights[~inside] > 0).any(0), -math.inf, 0.0)
        return lambda parameters: gaussian(parameters) - jacobian + impossible

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        return Gaussian().maximise(positive_logs(values), weights[values > 0], current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        return Gaussian().maximise_posterior(positive_logs(values), weights[values > 0], current, priors)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "LogNormal")
        checking.require_positive(values, observed, columns[0], "LogNormal", where)
        checking.require_varying(values, observed, columns[0], "LogNormal")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"], positive_logs(values), "standard deviation of the log")

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.within_rounding(self.variance(parameters).sqrt(), real(values))

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        median, mean = parameters["loc"][state].exp(), self.mean(parameters)[state]
        return f"median {amount(median, unit)}, mean {amount(mean, unit)}"


def log_of_positive(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logs (R,), with log 1 standing in for rows outside the support, and where those are (None: nowhere)."""
    values = real(values)
    outside = ~(values > 0)
    if not bool(outside.any()):
        return values.log(), None
    return torch.where(outside, 1.0, values).log(), outside


def positive_logs(values: Tensor) -> Tensor:
    """Logs of the rows that have one."""
    values = real(values)
    return values[values > 0].log()
