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
from probseq.families import bernoulli_vectors, checking, missing_entries
from probseq.families.family import Family, Parameter, Parameters, Priors, real, step_name
from probseq.families.symbols import Bernoulli, beta_mode


@dataclass(frozen=True)
class Independent(Family):
    """Vectors whose D entries follow one univariate family, each with parameters of its own: (K, D, *shape).

    Attributes:
        inner: the family of every entry.
    """

    kind = "independent"
    event_dim = 1
    partly_missing = True

    inner: Family

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Family) or self.inner.event_dim:
            raise ModelError(
                f"Independent must wrap a univariate family, got {self.inner!r} at inner; "
                "write Independent(Bernoulli()), say."
            )
        checking.require_plain("Independent", self.inner)

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
        one = self.inner.distribution(**parameters)
        return missing_entries.PartlyObserved(one.to_event(1), missing_entries.score_by_entry, one.support)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        if isinstance(self.inner, Bernoulli):
            return bernoulli_vectors.table(values, parameters["probability"])
        columns = enumerate(values.unbind(-1))
        return sum(column_table(self.inner, x, self._column(parameters, d)) for d, x in columns)  # type: ignore

    def mean(self, parameters: Parameters) -> Tensor:
        return self.inner.mean(parameters)

    def average(self, parameters: Parameters, weights: Tensor) -> Tensor:
        size = next(iter(self.parameters((1,)).values())).shape
        columns = next(iter(parameters.values())).shape[-len(size)]
        return torch.stack([self.inner.average(self._column(parameters, d), weights) for d in range(columns)], -1)

    def variance(self, parameters: Parameters) -> Tensor:
        return self.inner.variance(parameters)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Those of the inner family on each column."""
        columns = [self.inner.priors(column[present(column)]) for column in values.unbind(-1)]
        return {name: _stack([priors[name] for priors in columns]) for name in columns[0]}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        seen = [present(column) for column in values.unbind(-1)]
        columns = [self.inner.expected_log_prob(values[one, d], weights[one]) for d, one in enumerate(seen)]

        def objective(parameters: Parameters) -> Tensor:
            return torch.stack([one(self._column(parameters, d)) for d, one in enumerate(columns)]).sum(0)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        if isinstance(self.inner, Bernoulli):
            ones, total = bernoulli_vectors.counts(values, weights)
            return {"probability": bernoulli_vectors.share(ones, total, current["probability"])}

        def column(d: int, here: Parameters) -> dict[str, Tensor]:
            seen = present(values[:, d])
            return self.inner.maximise(values[seen, d], weights[seen], here)

        return self._each(current, column)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        if isinstance(self.inner, Bernoulli):
            ones, total = bernoulli_vectors.counts(values, weights)
            mode = beta_mode(ones, total, getattr(priors.get("probability"), "base_dist", None))
            return (
                super().maximise_posterior(values, weights, current, priors) if mode is None else {"probability": mode}
            )
        columns = {name: _unstack(prior, values.shape[-1]) for name, prior in priors.items()}
        if any(not one for one in columns.values()):
            return super().maximise_posterior(values, weights, current, priors)

        def column(d: int, here: Parameters) -> dict[str, Tensor]:
            own, seen = {name: one[d] for name, one in columns.items()}, present(values[:, d])
            return self.inner.maximise_posterior(values[seen, d], weights[seen], here, own)

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
            reason = judge(self._column(parameters, d), column[present(column)])
            if reason:
                return f"in column {d}, {reason}"
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        size = next(iter(parameters.values())).shape[1]
        return "; ".join(self.inner.describe(self._column(parameters, d), state, unit) for d in range(size))

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "inner": self.inner.to_json()}


def present(column: Tensor) -> Tensor:
    """(R,) bool: rows of one column that are not missing."""
    return ~column.isnan() if column.is_floating_point() else torch.ones_like(column, dtype=torch.bool)


def column_table(family: Family, column: Tensor, parameters: Parameters) -> Tensor:
    """(..., R, K): the table of one column (R,), zero where it is missing."""
    seen = present(column)
    if bool(seen.all()):
        return family.log_prob(column, parameters)
    table = family.log_prob(column[seen], parameters)
    return table.new_zeros(*table.shape[:-2], len(column), table.shape[-1]).index_copy(-2, seen.nonzero()[:, 0], table)


def _stack(priors: list[TorchDistributionMixin]) -> TorchDistributionMixin:
    """Priors of one kind as a single law of the vector of their values."""
    if isinstance(priors[0], dist.Independent):
        depth = priors[0].reinterpreted_batch_ndims
        return _stack([prior.base_dist for prior in priors]).base_dist.to_event(depth + 1)  # type: ignore
    kind: Any = type(priors[0])
    stacked = {name: torch.stack([getattr(prior, name) for prior in priors]) for name in kind.arg_constraints}
    return kind(**stacked).to_event(1)


def law_of_column(prior: Any, column: int, size: int) -> TorchDistributionMixin | None:
    """The law of one of `size` columns, where `prior` is one for each of them; else None."""
    laws = _unstack(prior, size)
    return laws[column] if laws else None


def _unstack(prior: Any, size: int) -> list[TorchDistributionMixin]:
    """The laws that `_stack` put together; none for a prior of another making."""
    if not isinstance(prior, dist.Independent) or prior.base_dist.batch_shape != (size,):
        return []
    kind, names = type(prior.base_dist), prior.base_dist.arg_constraints
    if not issubclass(kind, (dist.Normal, dist.Gamma, dist.InverseGamma, dist.LogNormal, dist.Beta, dist.Dirichlet)):
        return []
    return [kind(**{name: getattr(prior.base_dist, name)[d] for name in names}) for d in range(size)]
