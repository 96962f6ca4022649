"""Several columns, independent of each other given the state: 88 piano keys, rain at five stations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import DataError, ModelError
from probseq.families.family import Family, Parameter, Parameters, Priors, real, step_name


@dataclass(frozen=True)
class Independent(Family):
    """Vectors whose D entries follow one univariate family, each with parameters of its own: (K, D, *shape).

    Attributes:
        inner: the family of every entry.
    """

    kind = "independent"
    event_dim = 1

    inner: Family

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Family) or self.inner.event_dim:
            raise ModelError(
                f"Independent must wrap a univariate family, got {self.inner!r} at inner; "
                "write Independent(Bernoulli()), say."
            )

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.inner.name}"

    @property
    def discrete(self) -> bool:
        return self.inner.discrete

    @property
    def closed_form(self) -> bool:
        return self.inner.closed_form

    def bind(self, values: Tensor, categories: int | None = None) -> Family:
        return Independent(self.inner.bind(values, categories))

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        if len(event_shape) != 1:
            raise ModelError(
                f"observations must be vectors for {self.name}, got shape {tuple(event_shape)} at each step; "
                f"give several columns, or use {type(self.inner).__name__} alone."
            )
        return {
            name: Parameter(constraints.independent(one.constraint, 1), (*event_shape, *one.shape))
            for name, one in self.inner.parameters().items()
        }

    def n_parameters(self, states: int, event_shape: tuple[int, ...] = ()) -> int:
        return self.inner.n_parameters(states) * event_shape[0]

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return self.inner.distribution(**parameters).to_event(1)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        columns = enumerate(values.unbind(-1))
        return sum(self.inner.log_prob(column, self._column(parameters, d)) for d, column in columns)  # type: ignore

    def mean(self, parameters: Parameters) -> Tensor:
        return self.inner.mean(parameters)

    def variance(self, parameters: Parameters) -> Tensor:
        return self.inner.variance(parameters)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Those of the inner family on each column."""
        columns = [self.inner.priors(column) for column in values.unbind(-1)]
        return {name: _stack([priors[name] for priors in columns]) for name in columns[0]}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        columns = [self.inner.expected_log_prob(column, weights) for column in values.unbind(-1)]

        def objective(parameters: Parameters) -> Tensor:
            return torch.stack([one(self._column(parameters, d)) for d, one in enumerate(columns)]).sum(0)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        return self._each(current, lambda d, here: self.inner.maximise(values[:, d], weights, here))

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        columns = {name: _unstack(prior, values.shape[-1]) for name, prior in priors.items()}
        if any(not one for one in columns.values()):
            return super().maximise_posterior(values, weights, current, priors)

        def column(d: int, here: Parameters) -> dict[str, Tensor]:
            own = {name: one[d] for name, one in columns.items()}
            return self.inner.maximise_posterior(values[:, d], weights, here, own)

        return self._each(current, column)

    def _each(self, current: Parameters, one: Callable[[int, Parameters], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Work on every column by itself and put the columns together again."""
        size = next(iter(current.values())).shape[1]
        found = [one(d, self._column(current, d)) for d in range(size)]
        return {name: torch.stack([part[name] for part in found], 1) for name in current}

    def _column(self, parameters: Parameters, column: int) -> dict[str, Tensor]:
        """The parameters of one column, (..., K, *shape)."""
        shapes = self.inner.parameters()
        return {name: value.select(-1 - len(shapes[name].shape), column) for name, value in parameters.items()}

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = (),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if values.dim() != 2:
            raise DataError(
                f"observations must be several columns for {self.name}, got shape {tuple(values.shape)} at values; "
                f"give several value columns, or use {type(self.inner).__name__} alone."
            )
        for d in range(values.shape[1]):
            name = columns[d] if d < len(columns) else f"column {d}"
            seen = None if observed is None else (observed if observed.dim() == 1 else observed[:, d])
            self.inner.check(values[:, d], seen, (name,), where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return self._first_reason(self.inner.degenerate, parameters, values)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return self._first_reason(self.inner.at_limit, parameters, values)

    def _first_reason(self, judge: Callable[..., str | None], parameters: Parameters, values: Tensor) -> str | None:
        for d, column in enumerate(real(values).unbind(-1)):
            reason = judge(self._column(parameters, d), column)
            if reason:
                return f"in column {d}, {reason}"
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        size = next(iter(parameters.values())).shape[1]
        return "; ".join(self.inner.describe(self._column(parameters, d), state, unit) for d in range(size))

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "inner": self.inner.to_json()}


def _stack(priors: list[TorchDistributionMixin]) -> TorchDistributionMixin:
    """Priors of one kind as a single law of the vector of their values."""
    kind: Any = type(priors[0])
    stacked = {name: torch.stack([getattr(prior, name) for prior in priors]) for name in kind.arg_constraints}
    return kind(**stacked).to_event(1)


def _unstack(prior: Any, size: int) -> list[TorchDistributionMixin]:
    """The laws that `_stack` put together; none for a prior of another making."""
    if not isinstance(prior, dist.Independent) or prior.base_dist.batch_shape != (size,):
        return []
    kind, names = type(prior.base_dist), prior.base_dist.arg_constraints
    if not issubclass(kind, (dist.Normal, dist.Gamma, dist.InverseGamma, dist.LogNormal, dist.Beta, dist.Dirichlet)):
        return []
    return [kind(**{name: getattr(prior.base_dist, name)[d] for name in names}) for d in range(size)]
