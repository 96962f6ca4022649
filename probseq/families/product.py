"""Products: several columns of different kinds, independent of each other given the state, p(x) = prod_d f_d(x_d).

Temperature, rain and wind direction in one state each have a family of their own; an entry that is missing is left
out of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor
from torch.distributions.constraints import Constraint

from probseq.errors import DataError, ModelError
from probseq.families import checking
from probseq.families.family import Family, Parameter, Parameters, Priors, real, step_name
from probseq.families.independent import column_table, present
from probseq.families.missing_entries import PartlyMissing


class ProductDistribution(TorchDistribution):
    """A vector whose entries have each a law of their own; missing entries, NaN, do not count.

    Args:
        columns: their laws, of one batch shape or shapes that broadcast.
    """

    arg_constraints = {}  # type: ignore
    has_rsample = False

    def __init__(self, columns: Sequence[Any], validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(*(law.batch_shape for law in columns))
        self.columns = [law.expand(batch_shape) for law in columns]
        super().__init__(batch_shape, torch.Size((len(columns),)), validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # type: ignore[override]
        return PartlyMissing(*(law.support for law in self.columns))

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(ProductDistribution, _instance)
        new.columns = [law.expand(torch.Size(batch_shape)) for law in self.columns]
        super(ProductDistribution, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            return torch.stack([law.sample(sample_shape).double() for law in self.columns], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        total = value.new_zeros(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))
        for law, column in zip(self.columns, value.unbind(-1), strict=True):
            missing = column.isnan()
            seen = column[~missing]
            if seen.numel():
                total = total + torch.where(missing, 0.0, law.log_prob(torch.where(missing, seen[0], column)))
        return total

    @property
    def mean(self) -> Tensor:
        return torch.stack([law.mean for law in self.columns], -1)

    @property
    def variance(self) -> Tensor:
        return torch.stack([law.variance for law in self.columns], -1)


@dataclass(frozen=True)
class Product(Family):
    """Vectors of which every column follows a family of its own.

    Attributes:
        families: one univariate family a column, in the order of the columns.
        names: what the columns are called in the names of the parameters; None calls them x0, x1, ...

    >>> from probseq.families import Gaussian, Poisson
    >>> list(Product((Gaussian(), Poisson()), ("wind", "storms")).parameters((2,)))
    ['wind_loc', 'wind_scale', 'storms_rate']
    """

    kind = "product"
    event_dim = 1
    partly_missing = True

    families: tuple[Family, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        if not self.families or not all(isinstance(f, Family) and not f.event_dim for f in self.families):
            raise ModelError(
                f"Product must be of univariate families, one for each column, got {self.families!r} at families; "
                "write Product((Gaussian(), Hurdle(Gamma()))), say."
            )
        for one in self.families:
            checking.require_plain("Product", one)
        if self.names is None:
            return
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) != len(self.families) or not all(str(name).isidentifier() for name in self.names):
            raise ModelError(
                f"names must be one identifier for each of the {len(self.families)} columns, got {self.names!r} at "
                "Product; use letters, digits and _."
            )
        keys = [key for d, one in enumerate(self.families) for key in self._keys(d, one)]
        if len(set(keys)) < len(keys):
            raise ModelError(
                f"names must give every parameter a name of its own, got {self.names!r} at Product; choose others."
            )

    @property
    def name(self) -> str:
        return ",".join(one.name for one in self.families)

    @property
    def discrete(self) -> bool:
        return all(one.discrete for one in self.families)

    @property
    def closed_form(self) -> bool:
        return all(one.closed_form for one in self.families)

    def bind(self, values: Tensor, categories: int | None = None) -> Family:
        if values.dim() != 2 or values.shape[1] != len(self.families):
            return self
        columns = values.unbind(1)
        bound = [one.bind(column[present(column)]) for one, column in zip(self.families, columns, strict=True)]
        return Product(tuple(bound), self.names)

    def event_shape_of(self, parameters: Parameters) -> tuple[int, ...]:
        """As many columns as families."""
        return (len(self.families),)

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        if len(event_shape) != 1:
            raise ModelError(
                f"observations must be vectors for {self.name}, got shape {tuple(event_shape)} at each step; give as "
                "many columns as families."
            )
        return {
            self._key(d, name): parameter
            for d, one in enumerate(self.families)
            for name, parameter in one.parameters().items()
        }

    def n_parameters(self, states: int, event_shape: tuple[int, ...] = ()) -> int:
        return sum(one.n_parameters(states) for one in self.families)

    def _key(self, column: int, name: str) -> str:
        return f"{self._name(column)}_{name}"

    def _name(self, column: int) -> str:
        return f"x{column}" if self.names is None else self.names[column]

    def _keys(self, column: int, family: Family) -> list[str]:
        """The names of one column's parameters; of an unbound categorical, which has none yet, only the prefix."""
        known = getattr(family, "categories", 1) is not None
        return [self._key(column, name) for name in (family.parameters() if known else [""])]

    def _column(self, parameters: Parameters, column: int) -> dict[str, Tensor]:
        """One column's parameters under their own names, of those that are there."""
        names = {name: self._key(column, name) for name in self.families[column].parameters()}
        return {name: parameters[key] for name, key in names.items() if key in parameters}

    def _each(self, work: Callable[[int, Family], dict[str, Any]]) -> dict[str, Any]:
        """The columns' own results under the product's names."""
        return {
            self._key(d, name): value for d, one in enumerate(self.families) for name, value in work(d, one).items()
        }

    # ---- the law ----

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return ProductDistribution(
            [one.distribution(**self._column(parameters, d)) for d, one in enumerate(self.families)]
        )

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        columns = zip(self.families, values.unbind(-1), strict=True)
        tables = [column_table(one, x, self._column(parameters, d)) for d, (one, x) in enumerate(columns)]
        return sum(tables[1:], tables[0])

    def mean(self, parameters: Parameters) -> Tensor:
        """(K, D): that of every column, which is circular for a von Mises."""
        return torch.stack([one.mean(self._column(parameters, d)) for d, one in enumerate(self.families)], -1)

    def average(self, parameters: Parameters, weights: Tensor) -> Tensor:
        parts = [one.average(self._column(parameters, d), weights) for d, one in enumerate(self.families)]
        return torch.stack(parts, -1)

    def variance(self, parameters: Parameters) -> Tensor:
        return torch.stack([one.variance(self._column(parameters, d)) for d, one in enumerate(self.families)], -1)

    # ---- learning ----

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Those of every column's family on that column."""
        return self._each(lambda d, one: one.priors(values[present(values[:, d]), d]))

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        seen = [present(column) for column in values.unbind(-1)]
        parts = [one.expected_log_prob(values[seen[d], d], weights[seen[d]]) for d, one in enumerate(self.families)]

        def objective(parameters: Parameters) -> Tensor:
            return torch.stack([part(self._column(parameters, d)) for d, part in enumerate(parts)]).sum(0)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        def column(d: int, one: Family) -> dict[str, Tensor]:
            seen = present(values[:, d])
            return one.maximise(values[seen, d], weights[seen], self._column(current, d))

        return self._each(column)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        def column(d: int, one: Family) -> dict[str, Tensor]:
            seen, own = present(values[:, d]), self._column(priors, d)  # type: ignore[arg-type]
            return one.maximise_posterior(values[seen, d], weights[seen], self._column(current, d), own)  # type: ignore

        return self._each(column)

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        return self._each(lambda d, one: one.pooled(values[present(values[:, d]), d], states))

    # ---- the data and words ----

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = (),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if values.dim() != 2 or values.shape[1] != len(self.families):
            raise DataError(
                f"observations must be {len(self.families)} columns for {self.name}, got shape "
                f"{tuple(values.shape)} at values; give as many value columns as families."
            )
        for d, one in enumerate(self.families):
            name = columns[d] if d < len(columns) else f"column {d}"
            seen = None if observed is None else (observed if observed.dim() == 1 else observed[:, d])
            one.check(values[:, d], seen, (name,), where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return self._first_reason([one.degenerate for one in self.families], parameters, values)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return self._first_reason([one.at_limit for one in self.families], parameters, values)

    def _first_reason(
        self, judges: list[Callable[..., str | None]], parameters: Parameters, values: Tensor
    ) -> str | None:
        for d, (judge, column) in enumerate(zip(judges, real(values).unbind(-1), strict=True)):
            reason = judge(self._column(parameters, d), column[present(column)])
            if reason:
                return f"in column {self._name(d)}, {reason}"
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        texts = [one.describe(self._column(parameters, d), state) for d, one in enumerate(self.families)]
        return "; ".join(f"{self._name(d)}: {text}" for d, text in enumerate(texts))

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "families": [one.to_json() for one in self.families], "names": self.names}
