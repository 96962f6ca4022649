"""Gaussian observations whose mean adds up over several factors: the emission of a factorial hidden Markov model.

    y_t ~ Normal(loc + sum_m effect_m[z_t^m], scale),    effect_m[0] = 0

where z^m are the parts of the state (Ghahramani and Jordan 1997, equation 3, for one column; there the W^m are fixed up
to a constant, which `loc` takes here). Given the weights of the states it is a linear regression on indicators, so that
the M-step solves the normal equations of as many unknowns as there are effects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import ModelError
from probseq.families import checking, scale
from probseq.families.family import (
    NOTHING,
    Family,
    Parameter,
    Parameters,
    amount,
    real,
    scalar_event,
    step_name,
)
from probseq.families.gaussian import LOG_ROOT_TAU, location_scale_priors, normal_below


@dataclass(frozen=True)
class FactorialGaussian(Family):
    """Normal law whose mean is a sum of one effect of each factor of the state; all states share the scale.

    Goes with `chains.ProductTransitions` of the same sizes. All parameters are shared: `loc` is the mean where every
    factor is in its state 0, `effect` (E,) what each other state of each factor adds, factor by factor.

    Args:
        sizes: states of each factor, at least 2 each; the HMM has their product of states.

    >>> family = FactorialGaussian((2, 2))
    >>> family.mean({"loc": torch.tensor(1.0), "effect": torch.tensor([0.5, 10.0])})
    tensor([ 1.0000,  1.5000, 11.0000, 11.5000])
    """

    sizes: tuple[int, ...]
    kind = "factorial-gaussian"

    def __post_init__(self) -> None:
        sizes = tuple(int(size) for size in self.sizes)
        if not sizes or min(sizes) < 2:
            raise ModelError(f"sizes must give each factor at least two states, got {sizes}; leave out the others.")
        object.__setattr__(self, "sizes", sizes)

    @cached_property
    def indicators(self) -> Tensor:
        """(K, E) which effects each state of the HMM has; the first factor is the least significant digit."""
        states, stride, columns = torch.arange(math.prod(self.sizes)), 1, []
        for size in self.sizes:
            columns += [(states // stride) % size == k for k in range(1, size)]
            stride *= size
        return torch.stack(columns, -1).double()

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {
            "loc": Parameter(constraints.real, shared=True),
            "effect": Parameter(constraints.real, (self.indicators.shape[1],), shared=True),
            "scale": Parameter(constraints.positive, shared=True),
        }

    def mean(self, parameters: Parameters) -> Tensor:
        effect = parameters["effect"]
        return parameters["loc"].unsqueeze(-1) + effect @ self.indicators.mT.to(effect.dtype)

    def variance(self, parameters: Parameters) -> Tensor:
        return self._width(parameters).square().expand(self.mean(parameters).shape)

    def _width(self, parameters: Parameters) -> Tensor:
        """(..., 1)."""
        return parameters["scale"].unsqueeze(-1)

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        """The laws of all states, batch shape (..., K)."""
        return dist.Normal(self.mean(parameters), self._width(parameters))

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        return dist.Normal(Vindex(self.mean(parameters))[..., states[0]], parameters["scale"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        deviation = self._deviation(values, parameters)
        return -0.5 * deviation.square() - self._width(parameters).log().unsqueeze(-2) - LOG_ROOT_TAU

    def _deviation(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., R, K) from the mean of each state, in scales."""
        mean, width = self.mean(parameters).unsqueeze(-2), self._width(parameters).unsqueeze(-2)
        return (real(values).unsqueeze(-1) - mean) / width

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            return normal_below(self._deviation(values, parameters))

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            return normal_below(-self._deviation(values, parameters))

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """As `Gaussian`'s; an effect lies within the range of the data."""
        single: Any = location_scale_priors(real(values))
        reach, count = single["loc"].scale, self.indicators.shape[1]
        effect = dist.Normal(torch.zeros(count, dtype=torch.float64), reach.expand(count)).to_event(1)
        return {"loc": single["loc"], "effect": effect, "scale": single["scale"]}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        """Least squares; of effects that the weights cannot tell apart, the smallest."""
        values, total = real(values), weights.sum(0)
        if float(total.sum()) <= NOTHING:
            return dict(current)
        self._require(weights.shape[-1])
        centre = values.mean()
        columns = torch.cat([torch.ones_like(total).unsqueeze(-1), self.indicators], -1)
        root = total.clamp_min(NOTHING).sqrt()  # K equations stand for all rows: the mean of each state, weighted
        target = torch.where(total > NOTHING, (values - centre) @ weights / total.clamp_min(NOTHING), 0.0)
        found = torch.linalg.lstsq(root.unsqueeze(-1) * columns, (root * target).unsqueeze(-1), driver="gelsd")
        solution = found.solution.squeeze(-1)
        deviation = (values - centre).unsqueeze(-1) - columns @ solution
        width = ((weights * deviation.square()).sum() / total.sum()).sqrt()
        floor = torch.minimum(scale.FLOOR * scale.spread(values), current["scale"])
        return {"loc": centre + solution[0], "effect": solution[1:], "scale": torch.maximum(width, floor)}

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        self._require(states)
        values = real(values)
        effect = torch.zeros(self.indicators.shape[1], dtype=torch.float64)
        return {"loc": values.mean(), "effect": effect, "scale": scale.spread(values)}

    def _require(self, states: int) -> None:
        if states != len(self.indicators):
            raise ModelError(
                f"The states of a model must be the product of the factors' sizes {self.sizes}, "
                f"{len(self.indicators)}, got {states}; give HMM(states={len(self.indicators)})."
            )

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "FactorialGaussian")
        checking.require_finite(values, observed, columns[0], where)
        checking.require_varying(values, observed, columns[0], "FactorialGaussian")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"].reshape(1), real(values))

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        mean, width = self.mean(parameters)[state], parameters["scale"]
        return f"mean {amount(mean, unit)}, standard deviation {amount(width, unit)}"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "sizes": list(self.sizes)}
